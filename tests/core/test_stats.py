"""Use and run time decide what stays on the fast disk: counted once, kept small, never lost."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.entities import ModelStats, State
from modeld.core.shapes import Measurement
from modeld.core.stats import (
    MAX_CLOSED_SERVERS,
    MAX_MODELS,
    count_runtime,
    count_use,
    forget_servers,
    moment,
    note_load,
    remember_memory,
    store_arguments,
)

NOON = 1_763_640_000.0


def _close(state: State, server_id: str, seconds: float, started_at: float = 0.0) -> State:
    return count_runtime(state, "m", server_id, seconds=seconds, closed=True, started_at=started_at)


def test_use_appends_a_timestamp() -> None:
    """S0-26: UTC, whole seconds."""
    stats = count_use(State(), "m", NOON + 0.7).models["m"]

    assert stats.use_timestamps == (datetime(2025, 11, 20, 12, tzinfo=UTC),)
    assert stats.last_used == stats.use_timestamps[0]
    assert stats.total_uses == 1


def test_use_keeps_the_last_hundred() -> None:
    """S0-26: the file must not grow with every load."""
    state = State()
    for second in range(105):
        state = count_use(state, "m", NOON + second)
    stats = state.models["m"]

    assert stats.total_uses == 105
    assert len(stats.use_timestamps) == len(stats.use_runtimes_seconds) == 100
    assert stats.use_timestamps[0] == moment(NOON + 5)


def test_runtime_is_added_once_for_each_server() -> None:
    """S0-24: a restart of modeld reports the same end again."""
    state = _close(count_use(State(), "m", NOON), "s1", 60.0)

    assert _close(state, "s1", 60.0) is state
    assert state.models["m"].total_runtime_seconds == 60.0
    assert state.models["m"].last_runtime_seconds == 60.0
    assert state.models["m"].use_runtimes_seconds == (60.0,)


def test_runtime_so_far_is_part_of_the_whole() -> None:
    """D8: heartbeats and the end count the same time, not twice."""
    state = count_use(State(), "m", NOON)
    for seconds in (60.0, 120.0, 90.0):
        state = count_runtime(state, "m", "s", seconds=seconds, closed=False)

    assert state.models["m"].total_runtime_seconds == 120.0
    assert state.models["m"].use_runtimes_seconds == (0.0,)
    assert _close(state, "s", 150.0).models["m"].total_runtime_seconds == 150.0
    assert _close(state, "s", 150.0).counted_seconds == {}


def test_runtime_so_far_changes_nothing_when_there_is_no_more_of_it() -> None:
    """Without news there is nothing to write."""
    state = count_runtime(State(), "m", "s", seconds=60.0, closed=False)

    assert count_runtime(state, "m", "s", seconds=60.0, closed=False) is state


@pytest.mark.parametrize("seconds", [-5.0, float("nan"), float("inf"), 0.0])
def test_runtime_that_makes_no_sense_counts_as_none(seconds: float) -> None:
    """S0-24, B8: a clock that jumped must not take time away, nor give infinitely much."""
    assert _close(State(), "s", seconds).models["m"].total_runtime_seconds == 0.0


def test_runtime_fills_the_use_that_the_server_was_started_for() -> None:
    """A server may end after the next load of its model began."""
    state = count_use(count_use(State(), "m", NOON), "m", NOON + 500)
    state = _close(state, "first", 499.0, started_at=NOON + 1)

    assert state.models["m"].use_runtimes_seconds == (499.0, 0.0)


def test_runtime_fills_the_last_open_use_without_a_start() -> None:
    """Older ones are open because their end was never seen."""
    state = count_use(count_use(State(), "m", NOON), "m", NOON + 500)

    assert _close(state, "s", 7.0).models["m"].use_runtimes_seconds == (0.0, 7.0)


def test_runtime_survives_a_file_that_somebody_edited() -> None:
    """Lists of unequal length are no reason to lose or crash."""
    stats = ModelStats(use_timestamps=(moment(NOON),) * 2, use_runtimes_seconds=(1.0, 2.0, 3.0))
    state = _close(State(models={"m": stats}), "s", 9.0)

    assert state.models["m"].use_runtimes_seconds == (2.0, 3.0)
    assert count_use(state, "m", NOON).models["m"].use_runtimes_seconds == (2.0, 3.0, 0.0)


def test_closed_servers_have_an_end() -> None:
    """The list is there for the last restart, not for ever."""
    state = State()
    for number in range(MAX_CLOSED_SERVERS + 5):
        state = _close(state, f"s{number}", 1.0)

    assert len(state.closed_servers) == MAX_CLOSED_SERVERS
    assert state.closed_servers[-1] == f"s{MAX_CLOSED_SERVERS + 4}"


def test_forget_servers_drops_counts_of_those_that_vanished() -> None:
    """A server that was never closed would leave its count behind."""
    state = count_runtime(State(), "m", "s", seconds=60.0, closed=False)

    assert forget_servers(state, ["s"]) is state
    assert forget_servers(state, []).counted_seconds == {}


def test_models_have_an_end_and_named_ones_stay() -> None:
    """D7: the longest unused makes room, never one with a name."""
    models = {
        f"m{number}": ModelStats(last_used=moment(NOON + number)) for number in range(MAX_MODELS)
    }
    state = count_use(State(models=models, nicknames={"old": "m0"}), "new", NOON)

    assert len(state.models) == MAX_MODELS
    assert "m0" in state.models
    assert "m1" not in state.models


def test_load_is_noted_by_port() -> None:
    """S0-28: each port has its own clock."""
    state = note_load(note_load(State(), "gateway", NOON), "8081", NOON + 1)

    assert state.last_loads == {"gateway": moment(NOON), "8081": moment(NOON + 1)}


def test_loads_have_an_end() -> None:
    """A script over all ports must not fill the file."""
    state = State()
    for port in range(300):
        state = note_load(state, str(port), NOON + port)

    assert len(state.last_loads) == 256
    assert "299" in state.last_loads


def seen(memory: int, tokens: int = 8192, **settings: object) -> Measurement:
    """Return what a server was seen to take."""
    return Measurement(
        **{"file_mark": "1:1", "context_tokens": tokens, "memory_bytes": memory} | settings  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("measured", [0, -1, 1000, 1009])
def test_memory_that_is_no_news_changes_nothing(measured: int) -> None:
    """Resident memory wavers; each wave is not a write."""
    state = remember_memory(State(), "m", seen(1000))

    assert remember_memory(state, "m", seen(measured)) is state


def test_memory_is_the_most_that_was_seen_of_each_device() -> None:
    """Pages of an idle server leave memory, and come back with the next request."""
    state = remember_memory(State(), "m", seen(1000, gpu_bytes=(10, 20)))
    state = remember_memory(state, "m", seen(500, gpu_bytes=(30, 5)))

    assert state.models["m"].measured == (seen(1000, gpu_bytes=(30, 20)),)


@pytest.mark.parametrize(
    "other",
    [seen(500, 4096), seen(500, file_mark="2:1"), seen(500, arguments="key_type=q8_0")],
)
def test_memory_of_another_context_file_or_arguments_is_measured_anew(other: Measurement) -> None:
    """A smaller cache needs less: an old peak would refuse loads for ever."""
    state = remember_memory(remember_memory(State(), "m", seen(1000)), "m", other)

    assert state.models["m"].measured == (seen(1000), other)


def test_memory_of_a_few_loads_is_remembered_and_no_more() -> None:
    """The state file stays small, whatever contexts somebody tries."""
    state = State()
    for tokens in range(10):
        state = remember_memory(state, "m", seen(1000, tokens))

    assert [each.context_tokens for each in state.models["m"].measured] == [6, 7, 8, 9]


def test_arguments_are_stored_once() -> None:
    """The same `--store` twice is no write."""
    state = store_arguments(State(), "m", ("-c", "4096"))

    assert state.models["m"].arguments == ("-c", "4096")
    assert store_arguments(state, "m", ("-c", "4096")) is state


@pytest.mark.parametrize("now", [-1e12, 1e15, 0.0])
def test_moment_of_a_broken_clock_is_still_a_date(now: float) -> None:
    """B8: the daemon outlives a clock set to the year 50000."""
    assert moment(now).tzinfo is UTC


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.floats(-1e9, 1e9), st.booleans()), max_size=20
    )
)
def test_total_runtime_never_falls(steps: list[tuple[str, float, bool]]) -> None:
    """Whatever is reported in whatever order, time that was counted stays counted."""
    state, total = State(), 0.0
    for server_id, seconds, closed in steps:
        state = count_runtime(state, "m", server_id, seconds=seconds, closed=closed)
        now = state.models.get("m", ModelStats()).total_runtime_seconds
        assert now >= total
        total = now
