r"""
The life of one llama-server: everything about its states and transitions is in this file.

    STARTING -> LOADING -> READY -> DRAINING -> STOPPING -> KILLING -> UNREAPABLE
        \__________\________\__________\__________\__________\__________\___-> GONE

A server is STARTING from the moment its launch record is decided on, LOADING while its process
exists and does not answer, READY when `/health` does.  DRAINING finishes what is in flight and
gets nothing new.  STOPPING was asked politely, KILLING was not; what survives SIGKILL is
UNREAPABLE: a dead disk or driver holds it, and its memory stays booked.  GONE is the end.

Every state but READY and UNREAPABLE has a deadline, so none is for ever: the table has a cell
for it.  All cells are filled; "nothing" is an action too.  A pair that cannot happen raises.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import Server, ServerState


class Trigger(StrEnum):
    """What can happen to a server."""

    STARTED = "started"
    """Its process exists."""
    PROGRESS = "progress"
    """A sign that loading goes on."""
    HEALTHY = "healthy"
    DRAIN = "drain"
    """It is to stop when idle."""
    IDLE = "idle"
    """Its last request ended."""
    STOP = "stop"
    """It is to stop now."""
    STALLED = "stalled"
    """It has requests and moves none of them."""
    EXITED = "exited"
    DEADLINE = "deadline"


class Action(StrEnum):
    """What has to be done about it."""

    WATCH = "watch"
    STOP = "stop"
    KILL = "kill"
    FORGET = "forget"


class Limits(Struct, frozen=True, kw_only=True):
    """How long each state may last.  [s]"""

    start_stall_seconds: float
    drain_seconds: float
    stop_grace_seconds: float
    kill_seconds: float = 10.0
    """After SIGKILL a process is gone, or held by the kernel (reliability: 10 s)."""


class Transition(Struct, frozen=True):
    """Where a server goes, and what is done on the way."""

    state: ServerState
    actions: tuple[Action, ...] = ()


_S, _T, _A = ServerState, Trigger, Action

# fmt: off
TABLE: dict[ServerState, dict[Trigger, Transition]] = {
    _S.STARTING: {
        _T.STARTED:  Transition(_S.LOADING, (_A.WATCH,)),
        _T.PROGRESS: Transition(_S.STARTING),
        _T.HEALTHY:  Transition(_S.STARTING),
        _T.DRAIN:    Transition(_S.STOPPING, (_A.STOP,)),
        _T.IDLE:     Transition(_S.STARTING),
        _T.STOP:     Transition(_S.STOPPING, (_A.STOP,)),
        _T.STALLED:  Transition(_S.KILLING, (_A.KILL,)),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.KILLING, (_A.KILL,)),
    },
    _S.LOADING: {
        _T.STARTED:  Transition(_S.LOADING),
        _T.PROGRESS: Transition(_S.LOADING),
        _T.HEALTHY:  Transition(_S.READY),
        _T.DRAIN:    Transition(_S.STOPPING, (_A.STOP,)),
        _T.IDLE:     Transition(_S.LOADING),
        _T.STOP:     Transition(_S.STOPPING, (_A.STOP,)),
        _T.STALLED:  Transition(_S.KILLING, (_A.KILL,)),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.KILLING, (_A.KILL,)),
    },
    _S.READY: {
        _T.STARTED:  Transition(_S.READY),
        _T.PROGRESS: Transition(_S.READY),
        _T.HEALTHY:  Transition(_S.READY),
        _T.DRAIN:    Transition(_S.DRAINING),
        _T.IDLE:     Transition(_S.READY),
        _T.STOP:     Transition(_S.STOPPING, (_A.STOP,)),
        _T.STALLED:  Transition(_S.STOPPING, (_A.STOP,)),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.READY),
    },
    _S.DRAINING: {
        _T.STARTED:  Transition(_S.DRAINING),
        _T.PROGRESS: Transition(_S.DRAINING),
        _T.HEALTHY:  Transition(_S.DRAINING),
        _T.DRAIN:    Transition(_S.DRAINING),
        _T.IDLE:     Transition(_S.STOPPING, (_A.STOP,)),
        _T.STOP:     Transition(_S.STOPPING, (_A.STOP,)),
        _T.STALLED:  Transition(_S.STOPPING, (_A.STOP,)),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.STOPPING, (_A.STOP,)),
    },
    _S.STOPPING: {
        _T.STARTED:  Transition(_S.STOPPING, (_A.STOP,)),  # told to stop before it was there
        _T.PROGRESS: Transition(_S.STOPPING),
        _T.HEALTHY:  Transition(_S.STOPPING),
        _T.DRAIN:    Transition(_S.STOPPING),
        _T.IDLE:     Transition(_S.STOPPING),
        _T.STOP:     Transition(_S.STOPPING),
        _T.STALLED:  Transition(_S.STOPPING),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.KILLING, (_A.KILL,)),
    },
    _S.KILLING: {
        _T.STARTED:  Transition(_S.KILLING, (_A.KILL,)),
        _T.PROGRESS: Transition(_S.KILLING),
        _T.HEALTHY:  Transition(_S.KILLING),
        _T.DRAIN:    Transition(_S.KILLING),
        _T.IDLE:     Transition(_S.KILLING),
        _T.STOP:     Transition(_S.KILLING),
        _T.STALLED:  Transition(_S.KILLING),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.UNREAPABLE),
    },
    _S.UNREAPABLE: {
        _T.STARTED:  Transition(_S.UNREAPABLE),
        _T.PROGRESS: Transition(_S.UNREAPABLE),
        _T.HEALTHY:  Transition(_S.UNREAPABLE),
        _T.DRAIN:    Transition(_S.UNREAPABLE),
        _T.IDLE:     Transition(_S.UNREAPABLE),
        _T.STOP:     Transition(_S.KILLING, (_A.KILL,)),  # somebody asks again: try again
        _T.STALLED:  Transition(_S.UNREAPABLE),
        _T.EXITED:   Transition(_S.GONE, (_A.FORGET,)),
        _T.DEADLINE: Transition(_S.UNREAPABLE),
    },
}
# fmt: on


def step(
    server: Server, trigger: Trigger, monotonic: float, limits: Limits
) -> tuple[Server, tuple[Action, ...]]:
    """
    Return the server after `trigger`, and what has to be done.

    Args:
        server: As it is.
        trigger: What happened.
        monotonic: [s] Now, for the next deadline.
        limits: How long each state may last.

    Raises:
        KeyError: The server is GONE; nothing can happen to it any more.
    """
    transition = TABLE[server.state][trigger]
    moved = transition.state is not server.state
    if not moved and trigger not in (Trigger.PROGRESS, Trigger.DEADLINE):
        return server, transition.actions
    if not moved and trigger is Trigger.PROGRESS and server.state is not ServerState.LOADING:
        return server, transition.actions
    deadline = _deadline(transition.state, monotonic, limits)
    return replace(server, state=transition.state, deadline=deadline), transition.actions


def first_deadline(monotonic: float, limits: Limits) -> float:
    """Return when a server that is started now has to show a process.  [monotonic s]"""
    return _deadline(ServerState.STARTING, monotonic, limits)


def _deadline(state: ServerState, monotonic: float, limits: Limits) -> float:
    """Return when `state`, entered now, has lasted too long; 0 for never."""
    match state:
        case ServerState.STARTING | ServerState.LOADING:
            return monotonic + limits.start_stall_seconds
        case ServerState.DRAINING:
            return monotonic + limits.drain_seconds
        case ServerState.STOPPING:
            return monotonic + limits.stop_grace_seconds
        case ServerState.KILLING:
            return monotonic + limits.kill_seconds
        case ServerState.READY | ServerState.UNREAPABLE | ServerState.GONE:
            return 0.0
