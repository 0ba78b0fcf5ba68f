"""`stats`: what is asked, and what people and programs get."""

import json

from modelctl.render.screen import Screen
from modelctl.render.usage import stats_text
from modeld.wire.common import Selector
from modeld.wire.usage import AskUsage, UsageReport, UsageRow
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

TERMINAL = Screen(width=100, terminal=True)
ROW = UsageRow(
    name="coder",
    id="qwen/coder",
    requests=1200,
    failed=3,
    hits=1140,
    hit_rate=0.95,
    prompt_tokens=1_234_567,
    cached_tokens=1_000_000,
    generated_tokens=45_678,
    tokens_per_s=41.27,
    first_token_p50_s=0.0421,
    first_token_p95_s=2.5,
    swaps=7,
    mean_swap_s=1.2,
)
IDLE = UsageRow(name="idle", id="idle", swaps=1)
REPORT = UsageReport(models=(ROW, IDLE), total=ROW, cache_strategy="ram", loaded_models=("coder",))


def test_stats_are_a_table_for_people() -> None:
    """Everything at a glance, in units that need no counting of digits."""
    lines = stats_text(REPORT, TERMINAL, header=False).splitlines()

    assert lines[0].split()[:4] == ["NAME", "REQUESTS", "FAILED", "READY"]
    assert lines[1].split() == [
        "coder", "1200", "3", "95", "%", "1.23M", "45.7K", "41.3", "42", "ms", "2.5", "s", "7",
        "1.2", "s",
    ]  # fmt: skip
    assert lines[2].split() == ["idle", "0", "0", "-", "0", "0", "-", "-", "-", "1", "-"]
    assert lines[3] == (
        "2 models, 1200 requests, 95 % of them to a model that was ready, "
        "7 swaps in 1.2 s on average"
    )


def test_stats_fit_a_narrow_terminal() -> None:
    """What matters less goes first."""
    lines = stats_text(REPORT, Screen(width=60, terminal=True), header=False).splitlines()

    assert all(len(line) <= 60 for line in lines[:3])
    assert "TOK/S" in lines[0]


def test_stats_say_that_there_were_no_requests() -> None:
    """An empty screen is a riddle."""
    empty = UsageReport(models=(), total=UsageRow(), cache_strategy="ram", loaded_models=())

    assert stats_text(empty, TERMINAL, header=False) == "no requests yet\n"
    assert not stats_text(empty, Screen(), header=False)


def test_stats_in_a_pipe_are_raw_numbers(daemon: FakeDaemon, modelctl: Call) -> None:
    """Programs can't read 1.23M."""
    daemon.on(AskUsage, REPORT)
    line = modelctl("stats").out.splitlines()[0].split("\t")

    assert line == [
        "coder", "1200", "3", "0.95", "1234567", "45678", "41.3", "0.0421", "2.5", "7", "1.2",
    ]  # fmt: skip


def test_stats_of_one_model_ask_for_it_alone(daemon: FakeDaemon, modelctl: Call) -> None:
    """And JSON has what nobody knows as null."""
    daemon.on(
        AskUsage,
        UsageReport(models=(IDLE,), total=IDLE, cache_strategy="ssd", loaded_models=()),
    )
    answer = json.loads(modelctl("stats", "--json", "idle").out)

    assert daemon.requests[-1] == AskUsage(selector=Selector(pattern="idle"))
    assert answer["models"][0]["hit_rate"] is None
    assert answer["cache_strategy"] == "ssd"


def test_stats_quiet_are_names(daemon: FakeDaemon, modelctl: Call) -> None:
    """For a loop in a shell."""
    daemon.on(AskUsage, REPORT)

    assert modelctl("stats", "-q").out == "coder\nidle\n"
