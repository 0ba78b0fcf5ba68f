"""The command `env`: where other programs find the gateway that runs now."""

from modelctl.render import env as view
from modelctl.session import Session
from modeld.errors import Unavailable
from modeld.wire.models import AskStatus, StatusReport


def env(session: Session) -> int:
    """Print the variables that point other programs at the gateway."""
    reply = session.ask(AskStatus(), StatusReport)
    if not reply.gateway:
        raise Unavailable("modeld has no gateway", hint="set gateway.listen, and restart modeld")
    served = view.served(reply.families)
    families = [each for each in view.FAMILIES if getattr(session.options, each)] or served
    unserved = [each for each in families if each not in served]
    if unserved:
        raise Unavailable(
            f"modeld serves no clients of {' or '.join(unserved)}", hint="see gateway.compat"
        )
    plain = view.variables(reply.gateway, families)
    keys = view.key_variables(families, has_keys=bool(reply.key_file))
    if session.json:
        if not reply.key_file:
            plain |= dict.fromkeys(keys, view.PLACEHOLDER)
            keys = ()
        session.print_json({"variables": plain, "key_variables": keys, "key_file": reply.key_file})
        return 0
    session.print(view.env_text(plain, keys, reply.key_file, _shell(session)))
    return 0


def _shell(session: Session) -> str:
    used = session.surroundings.environment.get("SHELL", "")
    return session.options.shell or ("fish" if used.endswith("fish") else "sh")
