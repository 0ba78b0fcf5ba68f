"""Commands about names and pins: `nick`, `slot`, `pin`, `unpin`."""

from modelctl.render import names as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.wire.common import Names, Selector
from modeld.wire.names import AllNames, ChangeNames, ListNames, Named, Pin


def nick_set(session: Session) -> int:
    """Make a nickname the only one of a model."""
    options = session.options
    return _change(
        session, options.model, Names(set_nickname=options.nick, move=bool(options.move))
    )


def nick_add(session: Session) -> int:
    """Add nicknames to a model."""
    options = session.options
    return _change(
        session, options.model, Names(add_nicknames=options.nick, move=bool(options.move))
    )


def nick_rm(session: Session) -> int:
    """Take nicknames away, from one model or from whoever has them."""
    return _change(session, session.options.model, Names(delete_nicknames=session.options.nick))


def nick_list(session: Session) -> int:
    """List the nicknames."""
    reply = session.ask(ListNames(), AllNames)
    return _list(session, "NICK", "nicknames", reply.nicknames)


def slot_set(session: Session) -> int:
    """Make a model the one holder of a slot."""
    return _change(session, session.options.model, Names(set_slot=session.options.slot))


def slot_clear(session: Session) -> int:
    """Leave a slot empty."""
    return _change(session, "", Names(clear_slot=session.options.slot))


def slot_list(session: Session) -> int:
    """List the slots."""
    reply = session.ask(ListNames(), AllNames)
    return _list(session, "SLOT", "slots", reply.slots)


def pin(session: Session) -> int:
    """Promise never to unload a model."""
    return _show(session, session.ask(Pin(selector=session.require_selector(), pinned=True), Named))


def unpin(session: Session) -> int:
    """Take that promise back."""
    return _show(
        session, session.ask(Pin(selector=session.require_selector(), pinned=False), Named)
    )


def _change(session: Session, pattern: str, change: Names) -> int:
    selector = Selector(pattern=pattern) if pattern else None
    return _show(session, session.ask(ChangeNames(selector=selector, change=change), Named))


def _show(session: Session, reply: Named) -> int:
    if session.json:
        session.print_json(body(reply))
    elif not session.quiet:
        session.print(view.named_text(reply, session.screen))
    return 0


def _list(session: Session, title: str, key: str, names: dict[str, str]) -> int:
    if session.json:
        session.print_json({key: names})
    elif session.quiet:
        session.print("".join(f"{name}\n" for name in sorted(names)))
    else:
        session.print(view.names_text(title, names, session.screen, header=session.verbose))
    return 0
