"""Commands about the daemon itself: `logs`, `events`, `wait`, `reload`, `version`."""

import time
from typing import NoReturn

from msgspec import msgpack

from modelctl import __version__
from modelctl.client import wait_for_listener
from modelctl.render import daemon as view
from modelctl.render.answer import body
from modelctl.render.screen import clean, mark
from modelctl.session import Session
from modeld.errors import TimedOut, Unavailable, Usage
from modeld.wire.codec import VERSION
from modeld.wire.daemon import (
    AskLogs,
    AskVersion,
    Happened,
    Logs,
    Reload,
    Reloaded,
    Subscribe,
    VersionReport,
)
from modeld.wire.load import Done, Wait

LINES = 50
LOOK_AGAIN_S = 0.5
FOLLOWED_LINES = 500
"""How many lines each look asks for: more than a server writes between two."""
DAEMON_WAIT_S = 30.0


def logs(session: Session) -> int:
    """Print the last log lines, and go on as more come."""
    selector = session.selector()
    wanted = LINES if session.options.lines is None else session.options.lines
    follow = session.options.follow
    ask = AskLogs(selector=selector, lines=FOLLOWED_LINES if follow else max(1, wanted))
    reply = session.ask(ask, Logs)
    shown = reply.lines[max(0, len(reply.lines) - wanted) :]
    if follow:
        session.streaming = session.json
        _print_lines(session, shown)
        _follow(session, ask, reply.lines)
    elif session.json:
        session.print_json({"lines": shown, "source": reply.source})
    else:
        session.print(view.log_text(shown, session.screen))
        if session.verbose:
            session.say(f"more: {reply.source}\n")
    return 0


def _follow(session: Session, ask: AskLogs, seen: tuple[str, ...]) -> NoReturn:
    """Look again and again; works wherever the lines are kept, with a journal or without."""
    while True:
        time.sleep(LOOK_AGAIN_S)
        now = session.ask(ask, Logs).lines
        fresh = unseen(seen, now)
        if seen and len(fresh) == FOLLOWED_LINES:
            session.say("... lines came faster than they could be read here\n")
        _print_lines(session, fresh)
        seen = now


def unseen(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """
    Return the lines of `now` that came after those of `before`.

    Both are the last lines of one log, at most `FOLLOWED_LINES`.  The longest end of `before` that
    `now` begins with was seen already; where there is none, the log began anew or ran away.
    """
    for start in range(len(before)):
        tail = before[start:]
        if now[: len(tail)] == tail:
            return now[len(tail) :]
    return now


def _print_lines(session: Session, lines: tuple[str, ...]) -> None:
    if session.json:
        for line in lines:
            session.print_item("line", {"line": line})
    else:
        session.print(view.log_text(lines, session.screen))
        session.flush()


def events(session: Session) -> int:
    """Print what modeld does, as it happens."""
    request = Subscribe(backlog=session.options.lines or 0, follow=not session.options.no_follow)
    session.streaming = session.json
    decoder: msgpack.Decoder[Happened | Done] = msgpack.Decoder(Happened | Done)
    for event in session.client.stream(request, decoder, timeout_s=session.timeout_s):
        if isinstance(event, Done):
            return 0
        if session.json:
            session.print_item("event", body(event))
        else:
            session.print(view.event_text(event, session.screen, verbose=session.verbose))
            session.flush()
    return 0


def wait(session: Session) -> int:
    """Wait until a model is ready or gone, or, without one, until modeld answers."""
    selector = session.selector()
    if selector is None:
        if session.options.until:
            raise Usage("--for needs a model", hint="modelctl wait MODEL --for gone")
        return _wait_for_daemon(session)
    reply = session.ask(Wait(selector=selector, until=session.options.until or "ready"), Done)
    if session.json:
        session.print_json(body(reply))
    elif not session.quiet and reply.message:
        session.print(f"{mark('●', 'success', session.screen)}{clean(reply.message)}\n")
    return 0


def _wait_for_daemon(session: Session) -> int:
    timeout_s = session.timeout_or(DAEMON_WAIT_S)
    began_at = session.surroundings.clock()
    try:
        wait_for_listener(session.socket_path, session.surroundings.uid, timeout_s)
    except Unavailable as error:
        raise TimedOut(
            f"{error.message}, for {timeout_s:g} s", hint=error.hint, timeout_s=timeout_s
        ) from error
    left_s = max(1.0, timeout_s - (session.surroundings.clock() - began_at))
    reply = session.client.ask(AskVersion(), msgpack.Decoder(VersionReport), timeout_s=left_s)
    if session.json:
        session.print_json({"message": "modeld answers", "version": reply.version})
    elif not session.quiet:
        dot = mark("●", "success", session.screen)
        session.print(f"{dot}modeld {clean(reply.version)} answers\n")
    return 0


def reload(session: Session) -> int:
    """Have the configuration read again."""
    reply = session.ask(Reload(), Reloaded)
    if session.json:
        session.print_json(body(reply))
        return 0
    if not session.quiet:
        session.print(view.reloaded_text(reply, session.screen))
    for warning in reply.warnings:
        session.warn(warning)
    session.warn_of_restart(reply.needs_restart)
    return 0


def version(session: Session) -> int:
    """Print the versions of both sides; of this one alone for `--version`."""
    own: dict[str, object] = {"version": __version__, "protocol": VERSION}
    if session.options.version:
        if session.json:
            session.print_json({"modelctl": own})
        else:
            session.print(f"modelctl {__version__}\n")
        return 0
    try:
        reply = session.ask(AskVersion(), VersionReport)
    except Unavailable:
        reply = None
    if session.json:
        session.print_json({"modelctl": own, "modeld": None if reply is None else body(reply)})
    else:
        session.print(view.version_text(__version__, VERSION, reply, session.screen))
    return 0
