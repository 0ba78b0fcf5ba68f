"""The simulator has to tell what the daemon would do: its scenarios run here, with the verdicts."""

import ast
import xml.dom.minidom
from pathlib import Path

import pytest
from msgspec.structs import replace

import modeld.core.simulate as module
from modeld.core.compare import Trace, compare
from modeld.core.entities import State
from modeld.core.replay import Rules
from modeld.core.scenario import Expectation, Scenario, parse_file, parse_pattern
from modeld.core.simulate import BEGINNING, Run, Tag, history, loads_of, simulate
from modeld.core.stats import count_runtime, count_use
from modeld.core.tiers import CachePolicy
from modeld.core.timeline import svg
from modeld.units import GIB

SCENARIOS = sorted((Path(__file__).parents[2] / "etc" / "scenarios").glob("*.toml"))
RULES = Rules(policy=CachePolicy(ssd_min_free_bytes=0))
PRESSURE = "a:60g=0s/1h,1h,2h; b:60g=10d/1h,11d,12d,12d1h"


def _run(pattern: str, rules: Rules = RULES, **changes: object) -> Run:
    return simulate(replace(parse_pattern(pattern, {}), **changes), rules)


def _tags(run: Run) -> list[Tag]:
    return [event.tag for event in run.events]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_comes_out_as_it_says(path: Path) -> None:
    """S0-40: they are the policy, told as stories."""
    scenario = parse_file(path.read_text(), path.stem, {}, toml=True)
    assert scenario.expect is not None
    assert scenario.description

    assert simulate(scenario, Rules()).unmet == ()


def test_scenarios_that_are_documented_are_there() -> None:
    """S0-39, S0-41."""
    assert {path.stem for path in SCENARIOS} >= {
        "builtin1", "old-heavy-vs-new-frequent", "simple", "daily_work", "rapid_switch",
        "cache_pressure",
    }  # fmt: skip


def test_events_have_their_tags_in_order() -> None:
    """S0-41: somebody reads them from top to bottom."""
    tags = _tags(_run(PRESSURE))

    assert tags[:1] == [Tag.INFO]
    first = tags.index(Tag.NEED_SPACE)
    assert tags[first - 1 : first + 3] == [Tag.TRIGGER, Tag.NEED_SPACE, Tag.EXPIRE, Tag.COPY]
    assert str(Tag.COPY) == "COPY→SSD"


def test_room_that_cannot_be_made_is_a_failure() -> None:
    """S0-12: and the model is served from the slow disk."""
    run = _run("a:60g=0s/1h,1h,2h; b:60g=1d/1h,26h,27h")

    assert run.summary.failed == 1
    assert [event.model for event in run.events if event.tag is Tag.FAILED] == ["b"]


def test_copy_takes_its_time() -> None:
    """A use while the copy is under way comes from the slow disk still."""
    run = _run("a:60g=0s/1s,1m,2m,3m,1h")

    assert run.summary.from_ssd == 1
    done = next(event for event in run.events if event.message == "a is on the SSD now")
    assert done.at == pytest.approx(120 + 60 / 0.18)


def test_running_model_is_not_expired() -> None:
    """S0-14: its run lasts as long as the pattern says."""
    pattern = PRESSURE.replace("2h;", "2h/30d;")

    assert _run(pattern).summary.expiries == 0
    assert _run(PRESSURE).summary.expiries == 1


def test_run_time_counts_when_a_server_has_ended() -> None:
    """An hour counts more than a minute, in the simulator as in the daemon."""
    ranks = []
    for took in ("1m", "1h"):
        uses = [event for event in _run(f"a:1g=0s/{took},1d").events if event.tag is Tag.TRIGGER]
        ranks.append(uses[-1].numbers["rank"])

    assert ranks[0] < ranks[1]


def test_simulation_is_the_same_every_time() -> None:
    """No clock, no chance."""
    assert _run(PRESSURE) == _run(PRESSURE)


def test_verdict_names_what_did_not_come_true() -> None:
    """It decides the exit status."""
    expect = Expectation(on_ssd=("a",), not_on_ssd=("b",), copied=("a",), expired=(), failed=3)
    run = _run(PRESSURE, expect=expect)

    assert not run.met
    assert run.unmet == (
        "a is not on the SSD",
        "b is on the SSD",
        "copied: a, b; expected: a",
        "expired: a; expected: none",
        "failed 0 times; expected: 3",
    )
    assert _run(PRESSURE).met


def test_what_if_of_a_scenario_wins_over_the_rules() -> None:
    """`--what-if promote_min_uses=1`."""
    pattern = "a:1g=0s,1d"

    assert _run(pattern).summary.copies == 0
    assert _run(pattern, changes={"promote_min_uses": "1"}).summary.copies == 1
    assert _run(pattern, changes={"policy": "gain"}, ssd_free_bytes=0).summary.failed == 2


def test_history_is_replayed_from_the_state() -> None:
    """Uses and run times come from stats.json; what is gone from the disks is left out."""
    state = State(pins=("a",))
    for number, at in enumerate((0.0, 3600.0, 86_400.0)):
        state = count_use(state, "a", 1.76e9 + at)
        state = count_runtime(
            state, "a", f"s{number}", seconds=60.0 + number, closed=True, started_at=1.76e9 + at
        )
    state = count_use(state, "gone", 1.76e9)
    scenario = history(state, {"a": GIB, "never-used": GIB}, 50 * GIB)

    (model,) = scenario.models
    assert [(one.at, one.seconds) for one in model.uses] == [(0, 60), (3600, 61), (86_400, 62)]
    assert model.pinned
    assert simulate(scenario, RULES).summary.copies == 1


def test_history_that_is_empty_can_be_run() -> None:
    """A new user tries it first."""
    run = simulate(history(State(), {"a": GIB}, GIB), RULES)

    assert (run.summary.uses, run.seconds) == (0, 0.0)
    assert svg(run)


def test_policies_are_compared_on_a_scenario() -> None:
    """The table of `modelctl simulate`."""
    scenario = parse_pattern(PRESSURE, {})
    sizes = {one.name: one.size_bytes for one in scenario.models}
    outcomes = compare(Trace(loads=loads_of(scenario), sizes_bytes=sizes), 100 * GIB, RULES)

    by_name = {one.name: one for one in outcomes}
    assert list(by_name) == ["lru", "lfu", "gdsf", "gdsf-cost", "sieve", "documented", "gain"]
    assert by_name["lru"].written_bytes == 120 * GIB
    assert all(0 <= one.of_bound <= 1 for one in outcomes)


def test_timeline_is_a_picture_of_every_stay() -> None:
    """Valid XML, with names escaped, and no need of anything else."""
    run = _run("<a&b>:60g=0s/1h,1h,2h; b:60g=10d/1h,11d,12d,12d1h")
    document = xml.dom.minidom.parseString(svg(run))

    titles = [one.firstChild.data for one in document.getElementsByTagName("title")]
    assert any(one.startswith("<a&b>: expired after 11d") for one in titles)
    assert any(one.startswith("b: kept for") for one in titles)
    assert len(document.getElementsByTagName("circle")) == run.summary.uses


def test_simulator_asks_the_daemons_own_functions() -> None:
    """S0-40: a second implementation would tell another story one day."""
    text = Path(module.__file__).with_name("replay.py").read_text()
    imported = {
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert {"rank", "stats", "decide", "precache"} <= imported


def test_scenario_loads_keep_the_order_of_time() -> None:
    """Models are listed one by one, and used in turn."""
    scenario: Scenario = parse_pattern("b:1g=0s,2s; a:1g=1s,2s", {})

    assert [(one.at - BEGINNING, one.model_id) for one in loads_of(scenario)] == [
        (0, "b"), (1, "a"), (2, "a"), (2, "b"),
    ]  # fmt: skip
