"""
What has to go so that a model can be loaded, and why.

A decision: (what is wanted, what runs, what is promised, what there is) -> the servers to stop,
in order, or the reason why not.  It stops nothing, and asks for no memory figure that it was
not given.

The ladder, as in the requirements S4-01..07 and S0-34:

1. A model larger than the budget is refused before anything is touched.
2. The model's own other server goes, whoever holds the wanted port, and for an operator who
   replaces, every other server that is not pinned.
3. What is left is held against both limits, memory first, then the count.
4. Where they do not hold: an operator is refused; `--force` and the gateway make room by least
   recent use among servers that are ready, unpinned and have nothing in flight.
5. Where that is not enough, the gateway waits for what is busy, and everybody else is refused.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct

from modeld.core.entities import Origin, Server, ServerState
from modeld.core.fit import Budget, booked_bytes, gigabytes
from modeld.errors import Busy, DoesNotFit, ModeldError, Pinned, TooManyLoaded

LEAVING = frozenset({ServerState.DRAINING, ServerState.STOPPING, ServerState.KILLING})
"""On their way out: their memory comes back without anybody deciding it again."""


class Want(Struct, frozen=True, kw_only=True):
    """The load that is planned."""

    model_id: str
    name: str
    need_bytes: int
    port: int = 0
    origin: Origin = Origin.OPERATOR
    replace: bool = False
    force: bool = False
    force_pinned: bool = False
    by_program: bool = False
    """It is nobody's slip: the throttle does not count it."""


class Victim(Struct, frozen=True):
    """A server that has to go, and why."""

    server_id: str
    name: str
    reason: str


class Plan(Struct, frozen=True, kw_only=True):
    """What to do before the start."""

    victims: tuple[Victim, ...]
    leaving: tuple[str, ...]
    """Servers on their way out already, to be waited for."""
    available_bytes: int
    """When all those are gone."""
    reason: str
    """The inequality that decided."""


def plan_load(want: Want, servers: Sequence[Server], pins: Collection[str], budget: Budget) -> Plan:
    """
    Return what has to be stopped before `want` can start.

    Raises:
        DoesNotFit: No order of unloading frees enough memory.
        TooManyLoaded: The count limit stands, and nothing may be unloaded.
        Pinned: What is in the way is pinned.
        Busy: What could go has requests in flight; later it may be possible.
    """
    if want.need_bytes > budget.memory_bytes:
        raise DoesNotFit(
            f"Insufficient RAM: need {gigabytes(want.need_bytes)}, "
            f"have {gigabytes(budget.memory_bytes)} available",
            hint="it is larger than the whole budget: choose a smaller model, quantisation "
            "or context, or raise memory.limit_gb",
            need_bytes=want.need_bytes,
            available_bytes=budget.memory_bytes,
        )
    here = [server for server in servers if server.state is not ServerState.GONE]
    leaving = [server for server in here if server.state in LEAVING]
    staying = [server for server in here if server.state not in LEAVING]
    victims = _in_the_way(want, staying, pins)
    gone = {victim.server_id for victim in victims}
    staying = [server for server in staying if server.id not in gone]
    if _problem(want, staying, budget) is not None:
        victims += _make_room(want, staying, pins, budget)
        gone = {victim.server_id for victim in victims}
        staying = [server for server in staying if server.id not in gone]
    available = budget.memory_bytes - booked_bytes(staying)
    return Plan(
        victims=tuple(victims),
        leaving=_to_wait_for(want, staying, leaving, budget),
        available_bytes=available,
        reason=f"need {gigabytes(want.need_bytes)} <= {gigabytes(available)} available, "
        f"{len(staying)} + 1 <= {budget.max_loaded} loaded",
    )


def can_load(
    name: str, need_bytes: int, servers: Sequence[Server], budget: Budget
) -> tuple[bool, str]:
    """
    Return whether a model fits beside all that runs, and the reason in the words of S4-01.

    The caller has found out already that the model is known and not loaded.
    """
    here = [server for server in servers if server.state is not ServerState.GONE]
    want = Want(model_id="", name=name, need_bytes=need_bytes)
    problem = _problem(want, here, budget)
    return (True, "Model can be loaded") if problem is None else (False, problem.message)


def _in_the_way(want: Want, staying: Sequence[Server], pins: Collection[str]) -> list[Victim]:
    """Return the servers that go whatever the memory: step 2 of the ladder."""
    victims = []
    for server in staying:
        pinned = server.record.model_id in pins and not want.force_pinned
        if server.state is ServerState.UNREAPABLE:
            continue  # nothing ends it: its memory counts, and its port is the engine's to refuse
        if server.record.model_id == want.model_id:
            reason = "the same model, with other arguments or another file"
        elif want.port and server.record.port == want.port:
            if pinned:
                raise Pinned(
                    f"port {want.port} is held by {server.record.model_name}, which is pinned",
                    hint=f"modelctl unpin {server.record.model_name}, or --force-pinned",
                    port=want.port,
                )
            reason = f"it holds port {want.port}"
        elif want.replace and not pinned:
            reason = f"replaced by {want.name} (--nokill keeps it)"
        else:
            continue
        victims.append(Victim(server.id, server.record.model_name, reason))
    return victims


def _to_wait_for(
    want: Want, staying: Sequence[Server], leaving: Sequence[Server], budget: Budget
) -> tuple[str, ...]:
    """Return the servers whose end has to be awaited: all that leave, if there is no room else."""
    in_the_way = any(
        server.record.model_id == want.model_id or (want.port and server.record.port == want.port)
        for server in leaving
    )
    if not in_the_way and _problem(want, [*staying, *leaving], budget) is None:
        return ()
    return tuple(server.id for server in leaving)


def _problem(want: Want, staying: Sequence[Server], budget: Budget) -> ModeldError | None:
    """Return the limit that does not hold beside `staying`, memory first; None when both do."""
    available = max(0, budget.memory_bytes - booked_bytes(tuple(staying)))
    if want.need_bytes > available:
        return DoesNotFit(
            f"Insufficient RAM: need {gigabytes(want.need_bytes)}, "
            f"have {gigabytes(available)} available",
            hint=f"modelctl load --force {want.name} unloads the least recently used",
            need_bytes=want.need_bytes,
            available_bytes=available,
        )
    if len(staying) >= budget.max_loaded:
        return TooManyLoaded(
            f"Max concurrent models ({budget.max_loaded}) reached",
            hint=f"modelctl load --force {want.name} unloads the least recently used; "
            "models.max_concurrent_loaded is the limit",
            loaded=len(staying),
            limit=budget.max_loaded,
        )
    return None


def _make_room(
    want: Want, staying: Sequence[Server], pins: Collection[str], budget: Budget
) -> list[Victim]:
    """Return victims by least recent use until both limits hold: steps 4 and 5 of the ladder."""
    problem = _problem(want, staying, budget)
    assert problem is not None
    if want.origin is Origin.OPERATOR and not want.force:
        raise problem
    left = list(staying)
    victims: list[Victim] = []
    for server in sorted(staying, key=lambda each: each.last_used_at):
        if not _may_go(server, pins, want):
            continue
        victims.append(
            Victim(server.id, server.record.model_name, f"least recently used; {problem.message}")
        )
        left.remove(server)
        if _problem(want, left, budget) is None:
            return victims
    raise _why_not(want, left, pins, budget)


def _may_go(server: Server, pins: Collection[str], want: Want) -> bool:
    """Whether a server may be unloaded for another: idle, ready, and not pinned."""
    pinned = server.record.model_id in pins and not want.force_pinned
    return server.state is ServerState.READY and server.in_flight == 0 and not pinned


def _why_not(
    want: Want, left: Sequence[Server], pins: Collection[str], budget: Budget
) -> ModeldError:
    """Return the error for what is left when everything that may go is gone."""
    problem = _problem(want, left, budget)
    assert problem is not None
    waiting = [each for each in left if each.state is not ServerState.UNREAPABLE]
    unpinned = [each for each in waiting if each.record.model_id not in pins or want.force_pinned]
    if _problem(want, [each for each in left if each not in unpinned], budget) is None:
        names = ", ".join(each.record.model_name for each in unpinned)
        return Busy(
            f"{problem.message}; {names} can't be unloaded now: busy or loading",
            hint="try again when it is idle",
            retry_after_s=1,
        )
    if _problem(want, [each for each in left if each not in waiting], budget) is None:
        names = ", ".join(each.record.model_name for each in waiting if each not in unpinned)
        return Pinned(f"{problem.message}; {names} is pinned", hint="unpin it, or --force-pinned")
    return problem
