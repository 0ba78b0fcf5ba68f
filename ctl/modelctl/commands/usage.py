"""`stats`: what requests cost."""

from modelctl.render import usage as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.wire.usage import AskUsage, UsageReport


def stats(session: Session) -> int:
    """Tell what the requests to each model cost, or to one."""
    reply = session.ask(AskUsage(selector=session.selector()), UsageReport)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{row.name}\n" for row in reply.models))
    else:
        session.print(view.stats_text(reply, session.screen, header=session.verbose))
    return 0
