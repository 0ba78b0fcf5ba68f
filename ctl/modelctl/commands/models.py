"""Commands that only look: `ps`, `list`, `show`, `status`."""

from modelctl.render import models as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.errors import ErrorCode, exit_status
from modeld.wire.models import (
    AskStatus,
    ListModels,
    Models,
    Ps,
    Servers,
    Show,
    Shown,
    StatusReport,
)


def ps(session: Session) -> int:
    """List the servers."""
    reply = session.ask(Ps(), Servers)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{server.name}\n" for server in reply.servers))
    else:
        session.print(view.ps_text(reply, session.screen, verbose=session.verbose))
        if not session.screen.terminal:
            for failed in reply.failed:
                session.warn(f"{failed.name} {view.failed_text(failed)}")
    return 0


def list_models(session: Session) -> int:
    """List the models on the disks."""
    request = ListModels(patterns=session.options.pattern, refresh=session.options.refresh)
    reply = session.ask(request, Models)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{model.name}\n" for model in reply.models))
    else:
        text = view.list_text(reply, session.screen, now=session.now, verbose=session.verbose)
        session.print(text)
        for warning in view.list_warnings(reply):
            session.warn(warning)
        if not reply.models and not session.options.pattern and not reply.scanning:
            session.hint("modelctl config set storage.ssd_path FOLDER says where models are")
    return 0


def show(session: Session) -> int:
    """Tell everything about one model."""
    reply = session.ask(Show(selector=session.require_selector()), Shown)
    if session.json:
        session.print_json(body(reply))
        return 0
    session.print(view.show_text(reply, session.screen, now=session.now))
    if session.verbose:
        session.print(view.header_text(reply, session.screen))
    return 0


def status(session: Session) -> int:
    """Tell how everything is, or, with a model, whether it is loaded."""
    selector = session.selector()
    reply = session.ask(AskStatus(selector=selector), StatusReport)
    if selector is None:
        if session.json:
            fields = body(reply)
            for key in ("exists", "loaded", "last_used"):
                fields.pop(key)
            session.print_json(fields)
        else:
            session.print(view.status_text(reply, session.screen))
            for warning in reply.warnings:
                session.warn(warning)
        return 0
    name = selector.pattern or selector.nickname or f"@{selector.slot}"
    if session.json:
        session.print_json(
            {
                "model": name,
                "exists": bool(reply.exists),
                "loaded": bool(reply.loaded),
                "lastUsed": reply.last_used,
            }
        )
    elif not session.quiet:
        session.print(view.one_status_text(name, reply, session.screen, now=session.now))
    if not reply.exists:
        return exit_status(ErrorCode.UNKNOWN_MODEL)
    return 0 if reply.loaded else exit_status(ErrorCode.INACTIVE)
