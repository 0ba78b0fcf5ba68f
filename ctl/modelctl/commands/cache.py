"""Commands about the tiers: `cache show`, `plan`, `promote`, `evict`, ... and `rank`."""

from modelctl.render import cache as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.errors import ErrorCode, exit_status
from modeld.wire.cache import (
    AskRank,
    CacheChanged,
    CacheReport,
    CacheVerified,
    ChangeCache,
    PlanCache,
    RankReport,
    ShowCache,
    VerifyCache,
)

DAMAGED = exit_status(ErrorCode.SERVER_FAILED)
"""1, as of every check that fails."""


def show(session: Session) -> int:
    """Tell what lies where, and which copies are under way."""
    reply = session.ask(ShowCache(), CacheReport)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{copy.model}\n" for copy in reply.copies))
    else:
        session.print(view.cache_text(reply, session.screen))
        for tier in reply.tiers:
            if tier.problem:
                session.warn(f"{tier.tier}: {tier.problem}")
    return 0


def plan(session: Session) -> int:
    """Tell what would be expired and copied."""
    request = PlanCache(free_bytes=session.options.free or 0)
    return _decided(session, session.ask(request, CacheChanged))


def promote(session: Session) -> int:
    """Copy a model to the SSD."""
    return _change_one(session, "promote")


def evict(session: Session) -> int:
    """Remove a copy from the SSD."""
    return _change_one(session, "evict")


def pause(session: Session) -> int:
    """Hold copies back."""
    return _steer(session, "pause")


def resume(session: Session) -> int:
    """Let copies go on."""
    return _steer(session, "resume")


def cancel(session: Session) -> int:
    """Give copies up."""
    return _steer(session, "cancel")


def verify(session: Session) -> int:
    """Read copies again; 1 where one is not what it was."""
    reply = session.ask(VerifyCache(selector=session.selector()), CacheVerified)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{path}\n" for path in reply.damaged))
    else:
        session.print(view.verified_text(reply, session.screen))
        if reply.error:
            session.warn(reply.error)
    return DAMAGED if reply.damaged or reply.error else 0


def rank(session: Session) -> int:
    """List the models by rank, and tell why if that is wanted."""
    reply = session.ask(AskRank(selector=session.selector()), RankReport)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{row.name}\n" for row in reply.ranks))
    elif session.options.explain:
        session.print(view.explained_text(reply, session.screen))
    else:
        session.print(view.rank_text(reply, session.screen, header=session.verbose))
    return 0


def _change_one(session: Session, action: str) -> int:
    request = ChangeCache(
        action=action, selector=session.require_selector(), dry_run=session.options.dry_run
    )
    reply = session.ask(request, CacheChanged)
    status = _decided(session, reply)
    copied = any(one.action == "copy" for one in reply.decisions)
    if copied and not reply.dry_run and not session.json:
        session.say("how far it is: modelctl cache\n")
    return status


def _steer(session: Session, action: str) -> int:
    request = ChangeCache(action=action, selector=session.selector())
    return _decided(session, session.ask(request, CacheChanged))


def _decided(session: Session, reply: CacheChanged) -> int:
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{one.model}\n" for one in reply.decisions))
    else:
        session.print(view.decisions_text(reply, session.screen))
    return 0
