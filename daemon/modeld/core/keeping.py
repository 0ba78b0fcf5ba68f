"""
How long an idle server stays loaded, and which have stayed long enough.

A decision: (what requests and the configuration say, how long a server has been idle) -> stay, or
the reason to go, with the inequality that decided.  It stops nothing and reads no clock: all times
are monotonic, so that no change of the wall clock unloads anything.

The ladder; the first that says something counts:

1. Pinned models and those of `keep_alive.models` stay.
2. `keep_alive` of the last request that had one; negative for ever, 0 until it is answered.
   A request without one leaves it as it is, as Ollama does.
3. `keep_alive` of the model's own entry in the configuration.
4. `models.auto_unload_idle = false`: it stays.
5. `keep_alive.strategy`: 30 min, 2 min (and a copy on the SSD), or until it has answered.
6. `models.idle_timeout_seconds`.

What starts, loads, leaves or answers a request is not idle.  A server that has answered nothing
yet is not unloaded for a keep-alive of 0 within the first half minute: somebody loaded it in order
to ask it.  As long, or as long as it may be idle where that is less, is granted to one that a new
daemon took over: its clients were cut off meanwhile.
"""

import math

from msgspec import Struct

from modeld.core.entities import Server, ServerState

STRATEGY_SECONDS = {"ram": 1800.0, "ssd": 120.0, "none": 0.0}
"""S3-14."""
COPYING_STRATEGY = "ssd"
"""It unloads soon, and so wants every model where the next load of it is quick (S3-19)."""
LONGEST_SECONDS = 1e9
"""Whoever says more means for ever, and no clock shows it."""
UNUSED_SECONDS = 30.0
"""How long a server is left to whoever had it loaded, or lost it to a restart of modeld."""


class Policy(Struct, frozen=True, kw_only=True):
    """What the configuration says of all models."""

    auto_unload: bool = True
    idle_timeout_seconds: float = 300.0
    strategy: str = ""


class Stay(Struct, frozen=True):
    """How long a server may be idle."""

    seconds: float
    """Infinite for ever."""
    source: str
    """What says so."""

    @property
    def is_endless(self) -> bool:
        """Whether no time is too long."""
        return math.isinf(self.seconds)


def stay(
    policy: Policy, *, held_by: str = "", requested: float | None = None, own: float | None = None
) -> Stay:
    """
    Return how long a server may be idle.

    Args:
        policy: What holds for all models.
        held_by: What keeps its model loaded whatever requests say; empty where nothing does.
        requested: [s] What its last request with a `keep_alive` said; None where none had one.
        own: [s] What its entry says; None where it says nothing.
    """
    if held_by:
        return Stay(math.inf, held_by)
    if requested is not None:
        return Stay(_or_endless(requested), "keep_alive of its last request")
    if own is not None:
        return Stay(_or_endless(own), "keep_alive of its entry")
    if not policy.auto_unload:
        return Stay(math.inf, "models.auto_unload_idle is false")
    if policy.strategy:
        return Stay(STRATEGY_SECONDS[policy.strategy], f"keep_alive.strategy {policy.strategy}")
    return Stay(policy.idle_timeout_seconds, "models.idle_timeout_seconds")


def copy_wanted_because(strategy: str) -> str:
    """Return why a model that loads from a slow tier is to have a copy; empty for its use alone."""
    wants = strategy == COPYING_STRATEGY
    return f"keep_alive.strategy {strategy} wants a copy" if wants else ""


def left(server: Server, stays: Stay, now: float) -> float:
    """
    Return how much longer a server stays if nobody asks it.  [s]

    Below 0 it is over time; infinite where it stays, or isn't idle.

    Args:
        server: As it is.
        stays: How long it may be idle.
        now: [monotonic s]
    """
    if server.state is not ServerState.READY or server.in_flight:
        return math.inf
    idle_until = server.last_used_at + stays.seconds
    if stays.seconds == 0 and not is_used(server):
        idle_until = server.last_used_at + UNUSED_SECONDS
    granted_until = server.ready_at + min(stays.seconds, UNUSED_SECONDS)
    return max(idle_until, granted_until) - now


def why_due(server: Server, stays: Stay, now: float) -> str:
    """Return why a server has to go now; empty while it may stay."""
    rest = left(server, stays, now)
    idle = max(0.0, now - server.last_used_at)
    if stays.seconds == 0 and is_used(server) and rest <= 0:
        return f"idle {_above(idle)} s >= 0 s ({stays.source})"
    if rest >= 0:
        return ""
    limit = stays.seconds or UNUSED_SECONDS
    unused = "" if stays.seconds else ", and it was not used"
    return f"idle {_above(idle)} s > {limit:g} s ({stays.source}{unused})"


def is_used(server: Server) -> bool:
    """Whether a server has answered anything since it was ready."""
    return server.asked_at > 0


def _or_endless(seconds: float) -> float:
    return seconds if 0 <= seconds <= LONGEST_SECONDS else math.inf


def _above(seconds: float) -> str:
    """Return `seconds` rounded up, so that what is longer than a limit looks longer too."""
    return f"{math.ceil(seconds * 10) / 10:g}"
