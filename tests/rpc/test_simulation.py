"""`rpc.simulation`: what would become of a scenario, without holding up the loop."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modeld.core.entities import ModelStats, State
from modeld.core.replay import Rules
from modeld.errors import Busy, UnknownName, Usage
from modeld.host.scenarios import ScenarioFolders
from modeld.rpc.simulation import MAX_EVENTS, MAX_USES, Known, Simulations, report
from modeld.wire.simulate import Simulate, SimulationReport

SCENARIOS = Path(__file__).parents[2] / "etc" / "scenarios"
GB = 1 << 30
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
STATE = State(
    models={"a": ModelStats(use_timestamps=tuple(BEGAN + timedelta(days=n) for n in range(3)))}
)
KNOWN = Known(
    rules=Rules(),
    state=STATE,
    sizes_bytes={"a": 8 * GB},
    names={"a": 8 * GB, "tool": 8 * GB},
    ssd_bytes=200 * GB,
)
LIBRARY = ScenarioFolders([SCENARIOS])


def run(**ask: object) -> SimulationReport:
    """Simulate at once."""
    return report(Simulate(**ask), KNOWN, LIBRARY)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIBRARY.names())
def test_scenario_that_modeld_brings_meets_its_expectations(name: str) -> None:
    """S0-40: they are promises about the policy, and examples that people copy."""
    assert run(name=name).unmet == ()


def test_scenarios_that_modeld_brings_are_those_of_the_brief() -> None:
    """S0-39 and S0-41."""
    names = set(LIBRARY.names())

    assert {"builtin1", "simple", "daily_work", "rapid_switch", "cache_pressure"} <= names


def test_report_tells_outcomes_of_uses_copies_and_expiries() -> None:
    """S0-38: green, yellow and red are these three words."""
    outcomes = {one.outcome for one in run(name="builtin1").events}

    assert {"keep", "copy", "expire"} <= outcomes


def test_pattern_may_name_a_model_that_exists_without_its_size() -> None:
    """S0-41, and S0-06: by its nickname too."""
    found = run(text="tool=0s/1h,1d,2d,3d")

    assert found.summary.uses == 4
    assert found.summary.copied_bytes == 8 * GB


def test_history_plays_what_is_remembered_on_an_empty_ssd() -> None:
    """The person's own weeks, not an invented one."""
    found = run(history=True)

    assert (found.scenario, found.summary.uses, found.ssd_bytes) == ("history", 3, 200 * GB)


def test_history_without_any_use_says_so() -> None:
    """An empty table would look like a bug."""
    with pytest.raises(Usage, match="no use of any model"):
        report(Simulate(history=True), _empty(), LIBRARY)


def _empty() -> Known:
    return Known(rules=Rules(), state=State(), sizes_bytes={}, names={}, ssd_bytes=0)


def test_changes_of_the_question_win_over_those_of_the_scenario() -> None:
    """`--what-if` is asked of a scenario that has settings of its own."""
    found = run(name="builtin1", changes={"policy": "gain", "promote_min_uses": "5"})

    assert found.policy == "gain"


def test_change_of_an_unknown_setting_is_refused() -> None:
    """A misspelt `--what-if` must not be an answer to another question."""
    with pytest.raises(Usage, match="no setting is called 'promote'"):
        run(name="builtin1", changes={"promote": "5"})


def test_free_space_of_the_question_wins() -> None:
    """`--ssd-free`."""
    assert run(text="a:8g=0s,1d", ssd_free_bytes=50 * GB).ssd_bytes == 50 * GB


def test_comparison_has_every_policy() -> None:
    """The four baselines and ours."""
    policies = {row.policy for row in run(name="daily_work", compare=True).comparison}

    assert {"lru", "lfu", "gdsf", "sieve", "documented", "gain"} <= policies


def test_picture_is_drawn_only_where_it_is_wanted() -> None:
    """It is most of the answer's bytes."""
    assert run(name="simple", picture=True).picture.startswith("<svg")
    assert not run(name="simple").picture


def test_events_beyond_the_limit_are_left_out_and_counted() -> None:
    """The answer must stay below what a client takes."""
    uses = ",".join(f"{n}m/1s" for n in range(MAX_EVENTS))
    found = run(text=f"a:8g={uses}")

    assert len(found.events) == MAX_EVENTS
    assert found.events_left_out > 0


def test_scenario_with_too_many_uses_is_refused() -> None:
    """It would take minutes of a core that models need."""
    uses = ",".join(["0s"] * (MAX_USES + 1))

    with pytest.raises(Usage, match=f"{MAX_USES + 1} uses"):
        run(text=f"a:8g={uses}")


@pytest.mark.parametrize("ask", [{}, {"name": "simple", "history": True}])
def test_question_about_no_scenario_or_several_is_refused(ask: dict[str, object]) -> None:
    """Which of them would be meant?"""
    with pytest.raises(Usage, match="one scenario"):
        run(**ask)


@pytest.mark.parametrize("name", ["nonsense", "../modeld", "/etc/passwd", ".hidden"])
def test_unknown_scenario_is_refused_with_the_names_there_are(name: str) -> None:
    """And no name leads out of the folder."""
    with pytest.raises(UnknownName) as caught:
        run(name=name)

    assert "builtin1" in caught.value.hint


class _Slow:
    """A library that answers when the test lets it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.gate = threading.Event()

    def names(self) -> list[str]:
        """Wait, then have none."""
        self.asked.set()
        assert self.gate.wait(10)
        return []

    def text(self, name: str) -> str | None:
        """Have none."""
        assert name
        return None


def test_simulation_holds_up_nothing_and_a_second_one_is_refused() -> None:
    """The loop serves on meanwhile; a crowd of simulations would starve the models."""

    async def body() -> None:
        library = _Slow()
        simulations = Simulations(library)
        first = asyncio.create_task(simulations.scenarios(KNOWN))
        await asyncio.to_thread(library.asked.wait, 10)
        with pytest.raises(Busy):
            await simulations.simulate(Simulate(text="a=0s"), KNOWN)
        library.gate.set()

        assert (await first).scenarios == {}
        assert (await simulations.simulate(Simulate(text="a=0s"), KNOWN)).summary.uses == 1

    asyncio.run(body())


def test_simulation_that_nobody_waits_for_any_more_ends_and_makes_room() -> None:
    """Ctrl-C in modelctl must not leave modeld busy for ever."""

    async def body() -> None:
        library = _Slow()
        simulations = Simulations(library)
        first = asyncio.create_task(simulations.scenarios(KNOWN))
        await asyncio.to_thread(library.asked.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(Busy):
            await simulations.scenarios(KNOWN)
        library.gate.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    await simulations.scenarios(KNOWN)
                except Busy:
                    await asyncio.sleep(0.01)
                else:
                    return

    asyncio.run(body())


def test_simulation_with_a_mistake_fails_for_who_asked() -> None:
    """The error crosses the thread."""

    async def body() -> None:
        simulations = Simulations(LIBRARY)
        for _ in range(2):
            with pytest.raises(Usage):
                await simulations.simulate(Simulate(text="nonsense"), KNOWN)

    asyncio.run(body())
