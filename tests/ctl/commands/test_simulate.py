"""`simulate`: where the scenario comes from, what is printed, and how it ends."""

import json
from pathlib import Path

import pytest

from modelctl.render.screen import Screen
from modelctl.render.simulate import report_text
from modeld.wire.simulate import (
    EventRow,
    ListScenarios,
    PolicyRow,
    Scenarios,
    Simulate,
    SimulationReport,
    SimulationSummary,
)
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

GB = 1 << 30
SUMMARY = SimulationSummary(
    uses=4,
    from_ssd=1,
    copies=1,
    copied_bytes=40 * GB,
    expiries=1,
    failed=0,
    seconds_waited=600.0,
    seconds_saved=200.0,
    residents=("big",),
)
REPORT = SimulationReport(
    scenario="simple",
    description="three uses",
    policy="documented",
    ssd_bytes=100 * GB,
    seconds=172800.0,
    events=(
        EventRow(at_s=0, tag="EXPIRE", outcome="expire", model="old", message="old goes"),
        EventRow(at_s=90000, tag="COPY→SSD", outcome="copy", model="big", message="copy big"),
        EventRow(at_s=90060, tag="TRIGGER", outcome="keep", model="big", message="big is used"),
    ),
    summary=SUMMARY,
)
UNMET = SimulationReport(scenario="s", summary=SUMMARY, expects=True, unmet=("a is on the SSD",))


def test_simulate_prints_events_and_figures_plainly_in_a_pipe(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """S0-38: no colours off a terminal; S0-41: the tags."""
    daemon.on(Simulate, REPORT)
    lines = modelctl("simulate", "simple").out.splitlines()

    assert lines[:4] == [
        "simple: three uses",
        "day 0 00:00\t[EXPIRE]\told goes",
        "day 1 01:00\t[COPY→SSD]\tcopy big",
        "day 1 01:01\t[TRIGGER]\tbig is used",
    ]
    assert "1 of 4 uses from the SSD, 3m 20s saved, 10m waited" in lines
    assert daemon.requests == [Simulate(name="simple")]


def test_simulate_on_a_terminal_is_green_yellow_and_red() -> None:
    """S0-38."""
    text = report_text(REPORT, Screen(terminal=True, colour=True))

    assert "\x1b[97;41m[EXPIRE]\x1b[0m" in text
    assert "\x1b[33m[COPY→SSD]\x1b[0m" in text
    assert "\x1b[32m[TRIGGER]\x1b[0m" in text
    assert "at the end: \x1b[32mbig\x1b[0m" in text


@pytest.mark.parametrize("pattern", ["a:8g=0s/1h,1d", '["0s", "1h"]'])
def test_simulate_sends_a_pattern_as_it_is(
    pattern: str, daemon: FakeDaemon, modelctl: Call
) -> None:
    """S0-37 and S0-41: both syntaxes."""
    daemon.on(Simulate, REPORT)
    modelctl("sim", pattern)

    assert daemon.requests == [Simulate(text=pattern)]


def test_simulate_reads_the_users_own_scenario_first(
    daemon: FakeDaemon, modelctl: Call, tmp_path: Path
) -> None:
    """S0-39: `~/.config/modeld/scenarios` wins over a name that modeld knows."""
    folder = tmp_path / ".config" / "modeld" / "scenarios"
    folder.mkdir(parents=True)
    (folder / "simple.json").write_text('["0s"]')
    daemon.on(Simulate, REPORT)
    modelctl("simulate", "simple", HOME=str(tmp_path))

    assert daemon.requests == [Simulate(text='["0s"]', form="json", title="simple.json")]


def test_simulate_reads_a_file(daemon: FakeDaemon, modelctl: Call, tmp_path: Path) -> None:
    """A scenario that lies anywhere."""
    path = tmp_path / "mine.toml"
    path.write_text('pattern = "a:8g=0s"')
    daemon.on(Simulate, REPORT)
    modelctl("simulate", str(path))

    assert daemon.requests == [Simulate(text='pattern = "a:8g=0s"', form="toml", title="mine.toml")]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"x" * 200_001])
def test_simulate_refuses_a_file_that_is_no_scenario(
    content: bytes | None, modelctl: Call, tmp_path: Path
) -> None:
    """Missing, empty, binary, too long: a sentence and status 2."""
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    result = modelctl("simulate", str(path))

    assert result.status == 2
    assert "bad.toml" in result.err


def test_simulate_passes_on_every_option(daemon: FakeDaemon, modelctl: Call) -> None:
    """`--policy` is one more setting."""
    daemon.on(Simulate, REPORT)
    line = "--history --policy gain --what-if promote_min_uses=2 --what-if precache=false"
    modelctl("simulate", *line.split(), "--sim-ssd-free", "50g", "--compare")

    assert daemon.requests == [
        Simulate(
            history=True,
            changes={"promote_min_uses": "2", "precache": "false", "policy": "gain"},
            ssd_free_bytes=50 * GB,
            compare=True,
        )
    ]


@pytest.mark.parametrize("line", ["simple --history", "simple --what-if nothing"])
def test_simulate_refuses_what_makes_no_sense(line: str, modelctl: Call) -> None:
    """Before anything is asked."""
    assert modelctl("simulate", *line.split()).status == 2


def test_simulate_ends_with_1_where_an_expectation_fails(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """S0-40: scenarios are tests of somebody's own settings."""
    daemon.on(Simulate, UNMET)
    result = modelctl("simulate", "s")

    assert result.status == 1
    assert "NOT AS EXPECTED a is on the SSD\n" in result.out
    assert modelctl("simulate", "s", "--json").status == 1


def test_simulate_compares_policies_in_a_table(daemon: FakeDaemon, modelctl: Call) -> None:
    """Which one suits me?"""
    row = PolicyRow(
        policy="gain",
        saved_s=3600.0,
        saved_s_per_gb=7.25,
        written_bytes=500 * GB,
        written_gb_per_day=2.5,
        expiries=3,
        regretted_expiries=1,
        of_bound=0.72,
    )
    report = SimulationReport(scenario="s", summary=SUMMARY, comparison=(row,))
    daemon.on(Simulate, report)
    out = modelctl("simulate", "s", "--compare").out

    assert "gain\t1h\t7.25 s\t2.5\t500 GB\t3\t1\t72 %\n" in out


def test_simulate_writes_the_picture(daemon: FakeDaemon, modelctl: Call, tmp_path: Path) -> None:
    """And says why where it can't."""
    daemon.on(Simulate, SimulationReport(scenario="s", summary=SUMMARY, picture="<svg/>"))
    path = tmp_path / "out.svg"

    assert modelctl("simulate", "s", "--svg", str(path)).status == 0
    assert path.read_text() == "<svg/>"
    assert modelctl("simulate", "s", "--svg", str(tmp_path)).status == 2


def test_simulate_without_a_scenario_lists_them(
    daemon: FakeDaemon, modelctl: Call, tmp_path: Path
) -> None:
    """Those that modeld brings, and one's own."""
    folder = tmp_path / "modeld" / "scenarios"
    folder.mkdir(parents=True)
    (folder / "mine.toml").touch()
    daemon.on(ListScenarios, Scenarios(scenarios={"builtin1": "old against new"}))
    result = modelctl("simulate", XDG_CONFIG_HOME=str(tmp_path))

    assert result.out == f"builtin1\told against new\nmine\tin {folder}\n"
    assert set(json.loads(modelctl("simulate", "--json").out)["scenarios"]) == {"builtin1"}
