"""
What is remembered of each model's use: how often, when, for how long, with how much memory.

Arithmetic on `State`: each function returns a new one, or the same one where nothing changes, so
that the caller knows whether there is anything to save.  Run time is counted per server, never
twice for the same one, whichever way and however often its end is reported.  Everything has a
cap, so that the state file stays small for ever.  Nothing is judged here; see `rank`.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import zip_longest

from msgspec.structs import replace

from modeld.core.entities import ModelStats, State
from modeld.core.shapes import Measurement

MAX_TIMESTAMPS = 100
"""S0-26: so recent counts saturate there."""
MAX_MODELS = 10_000
MAX_CLOSED_SERVERS = 64
MAX_LAST_LOADS = 256
MAX_MEASUREMENTS = 4
"""Of each model: loads with other contexts or arguments need other memory."""
REGRET_SECONDS = 7 * 86_400.0
"""An expired model that is loaded again within it was expired too early."""
MEMORY_STEP = 0.01
"""Measured memory that differs by less is the same: not worth a write."""


def moment(now: float) -> datetime:
    """
    Return `now` [unix s] as it is kept: UTC, whole seconds, inside what a date can say.

    A broken clock must not end the daemon, so a time before 1970 or after 9999 is clamped.
    """
    return datetime.fromtimestamp(_sane(now) // 1, tz=UTC)


def count_use(state: State, model_id: str, now: float) -> State:
    """
    Return the state with one more load of the model.

    Args:
        state: As it was.
        model_id: What was loaded.
        now: [unix s] When.
    """
    stats = state.models.get(model_id, ModelStats())
    stamp = moment(now)
    return _with(
        state,
        model_id,
        replace(
            stats,
            total_uses=stats.total_uses + 1,
            last_used=stamp,
            use_timestamps=(*stats.use_timestamps, stamp)[-MAX_TIMESTAMPS:],
            use_runtimes_seconds=(*_runtimes(stats), 0.0)[-MAX_TIMESTAMPS:],
        ),
    )


def count_runtime(
    state: State,
    model_id: str,
    server_id: str,
    *,
    seconds: float,
    closed: bool,
    started_at: float = 0.0,
) -> State:
    """
    Return the state with the run time of one server, as far as it was not counted before.

    Called now and then while the server runs, so that a crash of the machine loses only the time
    since the last call, and once with its end.  A server that was closed is never counted again.

    Args:
        state: As it was.
        model_id: What the server serves.
        server_id: Which server.
        seconds: [s] Since its start, all of it; less than 0 counts as 0.
        closed: Whether it has ended.
        started_at: [unix s] Which of the model's uses it was: the nearest one still open.
            Without it, the last one still open.
    """
    seconds = _seconds(seconds)
    more = seconds - state.counted_seconds.get(server_id, 0.0)
    if server_id in state.closed_servers or (more <= 0 and not closed):
        return state
    stats = state.models.get(model_id, ModelStats())
    total = round(stats.total_runtime_seconds + max(more, 0.0), 3)
    if not closed:
        state = replace(state, counted_seconds={**state.counted_seconds, server_id: seconds})
        return _with(state, model_id, replace(stats, total_runtime_seconds=total))
    stats = replace(
        stats,
        total_runtime_seconds=total,
        last_runtime_seconds=seconds,
        use_runtimes_seconds=_close_use(stats, seconds, started_at),
    )
    return replace(
        _with(state, model_id, stats),
        closed_servers=(*state.closed_servers, server_id)[-MAX_CLOSED_SERVERS:],
        counted_seconds=_without(state.counted_seconds, server_id),
    )


def forget_servers(state: State, living: Iterable[str]) -> State:
    """Return the state without counts of servers that are neither living nor closed properly."""
    keep = set(living)
    counted = {one: seconds for one, seconds in state.counted_seconds.items() if one in keep}
    return state if counted == state.counted_seconds else replace(state, counted_seconds=counted)


def note_load(state: State, port: str, now: float) -> State:
    """
    Return the state with an operator's load on `port`: where the throttle's clock starts.

    Args:
        state: As it was.
        port: `gateway`, or a number.
        now: [unix s] When.
    """
    # to the microsecond: a second cut off would let the next load come a second early
    loads = {**state.last_loads, port: datetime.fromtimestamp(_sane(now), tz=UTC)}
    if len(loads) > MAX_LAST_LOADS:
        del loads[min(loads, key=loads.__getitem__)]
    return replace(state, last_loads=loads)


def remember_memory(state: State, model_id: str, seen: Measurement) -> State:
    """
    Return the state with the memory that a server of the model was seen to use.

    One measurement is kept for each file, context and set of arguments, of the last few.  The
    most counts: pages of an idle server leave memory and come back with the next request.
    """
    stats = state.models.get(model_id, ModelStats())
    before = next((each for each in stats.measured if _is_same_load(each, seen)), None)
    if seen.memory_bytes <= 0:
        return state
    if before is not None:
        gpus = zip_longest(before.gpu_bytes, seen.gpu_bytes, fillvalue=0)
        pairs = [(before.memory_bytes, seen.memory_bytes), *gpus]
        if not any(new - old > old * MEMORY_STEP for old, new in pairs):
            return state
        most = [max(pair) for pair in pairs]
        seen = replace(seen, memory_bytes=most[0], gpu_bytes=tuple(most[1:]))
    others = [each for each in stats.measured if not _is_same_load(each, seen)]
    kept = (*others, seen)[-MAX_MEASUREMENTS:]
    size = seen.file_mark.partition(":")[0]
    stats = replace(
        stats,
        measured_bytes=seen.memory_bytes,
        measured_file_bytes=int(size) if size.isdecimal() else 0,
        measured_context_tokens=seen.context_tokens,
        measured=kept,
    )
    return _with(state, model_id, stats)


def _is_same_load(one: Measurement, other: Measurement) -> bool:
    """Whether two measurements are of the same file, context and arguments."""
    left = (one.file_mark, one.context_tokens, one.arguments)
    return left == (other.file_mark, other.context_tokens, other.arguments)


def uses_within(stats: ModelStats, days: float, now: float) -> int:
    """
    Return the uses of the last `days`, the border included; the future counts as now.

    Args:
        stats: What is remembered of the model.
        days: [days]
        now: [unix s]
    """
    since = now - days * 86_400.0
    return sum(stamp.timestamp() >= since for stamp in stats.use_timestamps)


def store_arguments(state: State, model_id: str, arguments: tuple[str, ...]) -> State:
    """Return the state with llama-server arguments kept for the model (`load --store`)."""
    stats = state.models.get(model_id, ModelStats())
    if stats.arguments == arguments:
        return state
    return _with(state, model_id, replace(stats, arguments=arguments))


def note_copy(state: State, size_bytes: int) -> State:
    """Return the state with one more copy to the SSD."""
    wear = state.wear
    return replace(
        state,
        wear=replace(wear, copied_bytes=wear.copied_bytes + size_bytes, copies=wear.copies + 1),
    )


def note_expiry(state: State, model_id: str, now: float) -> State:
    """Return the state with a model's expiry from the SSD.  `now`: [unix s]."""
    wear = state.wear
    week_ago = now - REGRET_SECONDS
    kept = {one: at for one, at in wear.expired_at.items() if at.timestamp() >= week_ago}
    return replace(
        state,
        wear=replace(wear, expiries=wear.expiries + 1, expired_at={**kept, model_id: moment(now)}),
    )


def note_regret(state: State, model_id: str, now: float) -> State:
    """Return the state after a load of a model: was its expiry a mistake?  `now`: [unix s]."""
    wear = state.wear
    at = wear.expired_at.get(model_id)
    if at is None:
        return state
    left = {one: when for one, when in wear.expired_at.items() if one != model_id}
    regretted = wear.regretted_expiries + (now - at.timestamp() <= REGRET_SECONDS)
    return replace(state, wear=replace(wear, expired_at=left, regretted_expiries=regretted))


def take_back_arguments(state: State, before: State) -> State:
    """Return the state with the kept arguments that `before` had: the disk refused the others."""
    models = {
        model_id: replace(stats, arguments=before.models.get(model_id, ModelStats()).arguments)
        for model_id, stats in state.models.items()
    }
    return replace(state, models=models)


def _sane(now: float) -> float:
    return min(max(now, 0.0), 253_402_300_799.0)


def _seconds(seconds: float) -> float:
    return round(max(seconds, 0.0), 3) if math.isfinite(seconds) else 0.0


def _runtimes(stats: ModelStats) -> tuple[float, ...]:
    """Return one run time a timestamp, whatever a person did to the file; 0 where unknown."""
    missing = len(stats.use_timestamps) - len(stats.use_runtimes_seconds)
    if missing >= 0:
        return (0.0,) * missing + stats.use_runtimes_seconds
    return stats.use_runtimes_seconds[-len(stats.use_timestamps) :] if stats.use_timestamps else ()


def _close_use(stats: ModelStats, seconds: float, started_at: float) -> tuple[float, ...]:
    """Return the run times with `seconds` for the use that is still open."""
    runtimes = list(_runtimes(stats))
    still_open = [position for position, runtime in enumerate(runtimes) if not runtime]
    if still_open:
        position = still_open[-1]
        if started_at:
            times = [one.timestamp() for one in stats.use_timestamps]
            position = min(still_open, key=lambda one: abs(times[one] - started_at))
        runtimes[position] = seconds
    return tuple(runtimes)


def _without(counted: dict[str, float], server_id: str) -> dict[str, float]:
    return {one: seconds for one, seconds in counted.items() if one != server_id}


def _with(state: State, model_id: str, stats: ModelStats) -> State:
    """Return the state with these statistics; the longest unused nameless model makes room."""
    models = {**state.models, model_id: stats}
    if len(models) > MAX_MODELS:
        named = {*state.nicknames.values(), *state.slots.values(), *state.pins, model_id}
        last = [one for one in models if one not in named] or [
            one for one in models if one != model_id
        ]
        del models[min(last, key=lambda one: _last_used(models[one]))]
    return replace(state, models=models)


def _last_used(stats: ModelStats) -> float:
    return stats.last_used.timestamp() if stats.last_used else 0.0
