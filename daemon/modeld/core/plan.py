"""
What has to go so that a model can be loaded, and why.

A decision: (what is wanted, what runs, what is promised, what there is) -> the servers to stop,
in order, or the reason why not.  It stops nothing, and asks for no memory figure that it was
not given.

The ladder, as in the requirements S4-01..07 and S0-34:

1. A model larger than the budget is refused before anything is touched.
2. The model's own other server goes, whoever holds the wanted port, and for an operator who
   replaces, every other server that is not pinned.
3. What is left is held against all limits: memory first, then each GPU's, then the count.
4. Where they do not hold: an operator is refused; `--force` and the gateway make room by least
   recent use among servers that are ready, unpinned and have nothing in flight, and that hold
   some of what is short.
5. Where that is not enough, the gateway waits for what is busy, and everybody else is refused.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct

from modeld.core.entities import Origin, Server, ServerState
from modeld.core.fit import Budget, gigabytes
from modeld.errors import Busy, DoesNotFit, ModeldError, Pinned, TooManyLoaded
from modeld.units import GIB

LEAVING = frozenset({ServerState.DRAINING, ServerState.STOPPING, ServerState.KILLING})
"""On their way out: their memory comes back without anybody deciding it again."""


class Want(Struct, frozen=True, kw_only=True):
    """The load that is planned."""

    model_id: str
    name: str
    need_bytes: int
    need_gpu_bytes: tuple[int, ...] = ()
    """On each GPU."""
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
    too_large = _lack(want, _Room(budget, ()))
    if too_large is not None:
        raise DoesNotFit(
            too_large.message,
            hint="it is larger than the whole budget: choose a smaller model, quantisation "
            "or context, or raise memory.limit_gb",
            **too_large.numbers,
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
    room = _Room(budget, staying)
    on_gpus = "".join(
        f"{gigabytes(need)} <= {gigabytes(free)} on GPU {index}, "
        for index, (need, free) in enumerate(zip(want.need_gpu_bytes, room.gpu_bytes, strict=False))
        if need
    )
    return Plan(
        victims=tuple(victims),
        leaving=_to_wait_for(want, staying, leaving, budget),
        available_bytes=room.memory_bytes,
        reason=f"need {gigabytes(want.need_bytes)} <= {gigabytes(room.memory_bytes)} available, "
        f"{on_gpus}{len(staying)} + 1 <= {budget.max_loaded} loaded",
    )


def can_load(want: Want, servers: Sequence[Server], budget: Budget) -> tuple[bool, str]:
    """
    Return whether a model fits beside all that runs, and the reason in the words of S4-01.

    The caller has found out already that the model is known and not loaded.
    """
    here = [server for server in servers if server.state is not ServerState.GONE]
    problem = _problem(want, here, budget)
    return (True, "Model can be loaded") if problem is None else (False, problem.message)


class _Room:
    """What is left of each limit beside some servers; it grows as they go."""

    def __init__(self, budget: Budget, servers: Sequence[Server]) -> None:
        self.limit = budget.max_loaded
        self.loaded = len(servers)
        self.memory_bytes = budget.memory_bytes
        self.gpu_bytes = list(budget.gpu_bytes)
        for server in servers:
            self._count(server, -1)

    def free(self, server: Server) -> None:
        """Count a server as gone."""
        self.loaded -= 1
        self._count(server, 1)

    def helps(self, server: Server, want: Want) -> bool:
        """Whether a server holds something that `want` lacks."""
        if self.loaded >= self.limit:
            return True
        if want.need_bytes > self.memory_bytes and server.booked_bytes:
            return True
        gpus = zip(want.need_gpu_bytes, self.gpu_bytes, server.booked_gpu_bytes, strict=False)
        return any(need > room and held for need, room, held in gpus)

    def _count(self, server: Server, sign: int) -> None:
        self.memory_bytes += sign * server.booked_bytes
        for index, held in enumerate(server.booked_gpu_bytes[: len(self.gpu_bytes)]):
            self.gpu_bytes[index] += sign * held


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
    """Return the limit that does not hold beside `staying`; None when all do."""
    return _shortage(want, _Room(budget, staying))


def _shortage(want: Want, room: _Room) -> ModeldError | None:
    """Return the first limit that does not hold: memory, a GPU's memory, the count."""
    lack = _lack(want, room)
    if lack is not None:
        return lack
    if room.loaded >= room.limit:
        return TooManyLoaded(
            f"Max concurrent models ({room.limit}) reached",
            hint=f"modelctl load --force {want.name} unloads the least recently used; "
            "models.max_concurrent_loaded is the limit",
            loaded=room.loaded,
            limit=room.limit,
        )
    return None


def _short(need: int, have: int) -> str:
    """Return both in the words of S4-01; finer where they would look the same."""
    told = gigabytes(need), gigabytes(have)
    if told[0] == told[1]:
        told = f"{need / GIB:.3f}GB", f"{have / GIB:.3f}GB"
    return f"need {told[0]}, have {told[1]}"


def _lack(want: Want, room: _Room) -> DoesNotFit | None:
    """Return which memory is short, in the words of S4-01; None when none is."""
    hint = f"modelctl load --force {want.name} unloads the least recently used"
    available = max(0, room.memory_bytes)
    if want.need_bytes > available:
        return DoesNotFit(
            f"Insufficient RAM: {_short(want.need_bytes, available)} available",
            hint=hint,
            need_bytes=want.need_bytes,
            available_bytes=available,
        )
    # a GPU that nobody can ask for its size has no limit
    for index, (need, room_bytes) in enumerate(
        zip(want.need_gpu_bytes, room.gpu_bytes, strict=False)
    ):
        free = max(0, room_bytes)
        if need > free:
            return DoesNotFit(
                f"Insufficient VRAM: {_short(need, free)} available on GPU {index}",
                hint=hint,
                need_bytes=need,
                available_bytes=free,
                gpu=index,
            )
    return None


def _make_room(
    want: Want, staying: Sequence[Server], pins: Collection[str], budget: Budget
) -> list[Victim]:
    """Return victims by least recent use until all limits hold: steps 4 and 5 of the ladder."""
    room = _Room(budget, staying)
    problem = _shortage(want, room)
    assert problem is not None
    if want.origin is Origin.OPERATOR and not want.force:
        raise problem
    left = list(staying)
    victims: list[Victim] = []
    for server in sorted(staying, key=lambda each: each.last_used_at):
        if not _may_go(server, pins, want) or not room.helps(server, want):
            continue
        reason = f"least recently used; {problem.message}"
        victims.append(Victim(server.id, server.record.model_name, reason))
        left.remove(server)
        room.free(server)
        if _shortage(want, room) is None:
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
        pinned = [each.record.model_name for each in waiting if each not in unpinned]
        are, them = ("is", "it") if len(pinned) == 1 else ("are", "one")
        return Pinned(
            f"{problem.message}; {', '.join(pinned)} {are} pinned",
            hint=f"unpin {them}, or --force-pinned",
        )
    return problem
