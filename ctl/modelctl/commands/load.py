"""Commands that start and stop servers: `load`, `unload`, `can-load`."""

from msgspec import msgpack

from modelctl.client import LEAVE_MS, new_id
from modelctl.errors import Refusal
from modelctl.progress import REDRAW_S, Json, Live, Plain, Silent, Sink, Writer
from modelctl.render import load as view
from modelctl.render.answer import body, failure_fields, labelled
from modelctl.render.names import named_text
from modelctl.session import Session
from modeld.errors import STATUSES, ErrorCode, Usage
from modeld.wire.codec import Progress
from modeld.wire.common import Names, Selector
from modeld.wire.load import (
    Cancel,
    CanLoad,
    Done,
    Load,
    Loaded,
    Planned,
    Unload,
    Unloaded,
    Verdict,
)
from modeld.wire.names import Named

CANCEL_TIMEOUT_S = 10.0
"""A load is given up within the grace that its server has to stop."""


def load(session: Session) -> int:
    """Make a model ready, change its names, or tell what that would take."""
    request = _request(session)
    if session.options.dry_run:
        return _plan(session, request)
    if session.options.no_load:
        return _change_names(session, request)
    session.streaming = session.options.progress == "json"
    client, request_id, writer = session.client, new_id(), _writer(session)
    steps = client.exchange(
        request,
        msgpack.Decoder(Loaded),
        timeout_s=session.timeout_s,
        request_id=request_id,
        tick_s=REDRAW_S if isinstance(writer, Live) else 0,
    )
    try:
        for step in steps:
            if step is None:
                writer.tick()
            elif isinstance(step, Loaded):
                writer.finish()
                return _loaded(session, step)
            else:
                writer.step(step)
                if session.options.no_wait and step.phase != "queue":
                    writer.finish()
                    return _begun(session, request.selector, step)
    except KeyboardInterrupt:
        writer.finish()
        if session.options.cancel_on_interrupt:
            return _cancel(session, request_id)
        client.close(linger_ms=LEAVE_MS)
        return _left(session, "detached", f"the load goes on; {_wait_command(request.selector)}")
    finally:
        writer.finish()
    raise AssertionError("an exchange ends with a reply or raises")


def _request(session: Session) -> Load:
    """Return the request that the options spell out."""
    options = session.options
    names = Names(
        set_nickname=options.nickname,
        add_nicknames=options.nickadd,
        delete_nicknames=options.nickdel,
        set_slot=options.nick1,
        move=options.move,
    )
    if options.no_load and names in {Names(), Names(move=True)}:
        raise Usage("--no-load only changes names, and no change is given", hint="--nickname NICK")
    if options.store and options.rest is None:
        raise Usage("--store keeps the arguments after --, and there are none")
    return Load(
        selector=session.require_selector(),
        port=options.port or 0,
        arguments=options.rest,
        store=options.store,
        keep_others=True if options.nokill else None,
        force=options.force,
        force_pinned=options.force_pinned,
        pin=options.pin,
        keep_alive_seconds=options.keep_alive,
        names=names,
        names_only=options.no_load,
        dry_run=options.dry_run,
    )


def _writer(session: Session) -> Writer:
    """Return how progress is shown."""
    out = session.surroundings
    how = session.options.progress or "auto"
    if how == "json":
        return Json(Sink(session.print_now, lambda: session.screen, out.clock))
    if session.quiet or how == "none":
        return Silent()
    sink = Sink(session.say, lambda: out.screen_of(out.stderr), out.clock)
    screen = sink.screen()
    if how == "auto" and screen.terminal and not screen.dumb:
        return Live(sink)
    # A program that reads JSON wants no talk beside it unless it asks.
    return Silent() if how == "auto" and session.json else Plain(sink)


def _plan(session: Session, request: Load) -> int:
    reply = session.ask(request, Planned)
    if session.json:
        session.print_json(body(reply))
        return 0
    if len(reply.candidates) > 1:
        session.say(view.candidates_text(reply.candidates, session.talk_screen))
    session.print(view.planned_text(reply, session.screen, verbose=session.verbose))
    for warning in reply.warnings:
        session.warn(warning)
    return 0


def _change_names(session: Session, request: Load) -> int:
    reply = session.ask(request, Named)
    if session.json:
        session.print_json(body(reply))
    elif not session.quiet:
        session.print(named_text(reply, session.screen))
    return 0


def _loaded(session: Session, reply: Loaded) -> int:
    if session.streaming:
        session.print_item("loaded", {"ok": True, **body(reply)})
    elif session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print(f"{reply.model}\n")
    else:
        if len(reply.candidates) > 1:
            session.say(view.candidates_text(reply.candidates, session.talk_screen))
        session.print(view.loaded_text(reply, session.screen))
        for warning in reply.warnings:
            session.warn(warning)
    return 0


def _begun(session: Session, selector: Selector, step: Progress) -> int:
    """Tell that the load goes on by itself."""
    name = step.model or words(selector)
    if session.streaming:
        session.print_item("begun", {"ok": True, "model": name, "phase": step.phase})
    elif session.json:
        session.print_json({"model": name, "phase": step.phase})
    elif session.quiet:
        session.print(f"{name}\n")
    else:
        session.print(f"{name} is being loaded; {_wait_command(selector)}\n")
    return 0


def _cancel(session: Session, load_id: str) -> int:
    """Have the load given up, and wait until it is."""
    try:
        session.client.ask(
            Cancel(load_id=load_id), msgpack.Decoder(Done), timeout_s=CANCEL_TIMEOUT_S
        )
    except Refusal as refusal:
        if refusal.word != ErrorCode.INACTIVE:
            raise
        return _left(session, "too late", "the load was over already; modelctl ps")
    return _left(session, "cancelled", "the load was given up")


def _left(session: Session, label: str, message: str) -> int:
    """Tell what becomes of a load that somebody turned away from."""
    if session.json:
        fields = failure_fields(ErrorCode.CANCELLED, f"{label}: {message}", "", {})
        session.print_json(fields, ok=False)
    session.complain(labelled(label, "warning", message, session.talk_screen))
    return STATUSES[ErrorCode.CANCELLED].exit_status


def words(selector: Selector) -> str:
    """Return a selector as people would type it where only one word is taken."""
    return selector.pattern or selector.nickname or f"@{selector.slot}"


def _wait_command(selector: Selector) -> str:
    from shlex import quote

    return f"modelctl wait {quote(words(selector))}"


def unload(session: Session) -> int:
    """Stop servers, and wait until they are gone."""
    options = session.options
    selectors = [Selector(pattern=word) for word in (*options.positional, options.model) if word]
    if options.nick:
        selectors.append(Selector(nickname=options.nick))
    if options.slot:
        selectors.append(Selector(slot=options.slot))
    ways = bool(selectors) + options.everything + options.idle
    if not ways:
        raise Usage("which models?", hint="modelctl unload MODEL..., or --all, or --idle")
    if ways > 1:
        raise Usage("MODEL, --all and --idle contradict each other", hint="give one of them")
    request = Unload(
        selectors=tuple(selectors),
        everything=options.everything,
        force_pinned=options.force_pinned,
        now=options.now,
        idle=options.idle,
    )
    reply = session.ask(request, Unloaded)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{model}\n" for model in reply.models))
    else:
        session.print(view.unloaded_text(reply, session.screen, idle=options.idle))
    return 0


def can_load(session: Session) -> int:
    """Tell whether a model could be loaded now, and why; 1 for no."""
    reply = session.ask(CanLoad(selector=session.require_selector()), Verdict)
    if session.json:
        session.print_json(body(reply))
    elif not session.quiet:
        session.print(view.verdict_text(reply, session.screen))
    return 0 if reply.can_load else 1
