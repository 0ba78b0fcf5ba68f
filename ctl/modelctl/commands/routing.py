"""`route`: which model would answer, and which profiles a model suits."""

from modelctl.render import routing as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.errors import ErrorCode, Usage, exit_status
from modeld.wire.common import Selector
from modeld.wire.routing import MAX_TEXT_LETTERS, AskRoute, AskSuits, Routed, Suits


def route(session: Session) -> int:
    """Tell which model would answer, or whether a model suits."""
    if session.options.check:
        return _check(session)
    options = session.options
    text = " ".join(options.text) if options.text else None
    if text is not None and len(text) > MAX_TEXT_LETTERS:
        raise Usage(f"TEXT has {len(text)} letters", hint=f"at most {MAX_TEXT_LETTERS} are taken")
    request = AskRoute(
        text=text,
        profile=options.profile,
        capabilities=options.capability,
        explain=options.explain,
    )
    reply = session.ask(request, Routed)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print(f"{reply.model}\n")
    else:
        explain = options.explain or session.verbose
        session.print(view.routed_text(reply, session.screen, explain=explain))
        for warning in reply.warnings:
            session.warn(warning)
    return 0 if reply.model else exit_status(ErrorCode.UNKNOWN_MODEL)


def _check(session: Session) -> int:
    options = session.options
    if options.text:
        raise Usage("--check looks at a model, not at a text", hint="leave TEXT out")
    request = AskSuits(
        selector=Selector(pattern=options.check),
        profile=options.profile,
        capabilities=options.capability,
    )
    reply = session.ask(request, Suits)
    if session.json:
        session.print_json(body(reply))
    elif not session.quiet:
        session.print(view.suits_text(reply, session.screen))
    return 0 if reply.suits else 1
