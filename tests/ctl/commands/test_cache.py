"""`cache` and `rank`: what is asked, what is printed, and in which colour."""

import json
import os
import sys
from pathlib import Path

import pytest

from modelctl.render.cache import cache_text, decisions_text, explained_text, verified_text
from modelctl.render.screen import Screen
from modeld.wire.cache import (
    AskRank,
    CacheChanged,
    CacheDecision,
    CacheReport,
    CacheVerified,
    ChangeCache,
    CopyRow,
    PlanCache,
    RankReport,
    RankRow,
    ShowCache,
    TierRow,
    VerifyCache,
)
from modeld.wire.common import Selector
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon
from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[3]
TERMINAL = Screen(width=100, terminal=True, colour=True)
PLAIN = Screen(width=100, terminal=True)
GB = 1 << 30
COPY = CopyRow(
    copy_id="c",
    model="big",
    copied_bytes=43 * GB,
    total_bytes=100 * GB,
    rate_bytes_per_s=180e6,
    eta_s=340.0,
)
REPORT = CacheReport(
    tiers=(
        TierRow(
            tier="ssd",
            path="/ssd/models",
            total_bytes=1000 * GB,
            free_bytes=120 * GB,
            models=3,
            model_bytes=200 * GB,
        ),
        TierRow(tier="hdd1", path="/hdd1/models", models=40, problem="it is gone"),
    ),
    copies=(COPY,),
    policy="documented",
    copied_bytes=300 * GB,
    expiries=4,
    regretted_expiries=1,
)
CHANGED = CacheChanged(
    decisions=(
        CacheDecision(action="expire", model="old", size_bytes=5 * GB, reason="idle 9.0 d >= 7 d"),
        CacheDecision(action="copy", model="big", size_bytes=8 * GB, reason="3 uses >= 3"),
    )
)
RANKS = RankReport(
    ranks=(
        RankRow(
            name="big",
            id="big.gguf",
            rank=31.0,
            idle_days=1.0,
            terms={"recent_7d": 20.0, "idle": -2.0},
            tiers=("ssd", "hdd1"),
            verdict="big stays on the SSD: it is there",
        ),
        RankRow(name="new", id="n", rank=-1998.0, idle_days=999.0, terms={}),
    ),
    formula="documented",
)


def test_cache_in_a_pipe_has_lines_that_say_what_they_are_about(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """A script can tell tiers from copies by the first field."""
    daemon.on(ShowCache, REPORT)
    result = modelctl("cache")

    assert result.out.splitlines() == [
        "tier\tssd\t1.0 TB\t120 GB\t3\t200 GB\t/ssd/models",
        "tier\thdd1\t-\t-\t40\t0 B\t/hdd1/models",
        "copy\tbig\t43 %\t43.0 GB of 100 GB\t172 MB/s\t5m 40s",
        "wear\tdocumented\t300 GB\t4\t1",
    ]
    assert result.err == "warning: hdd1: it is gone\n"


def test_cache_on_a_terminal_draws_a_bar_and_the_cost(daemon: FakeDaemon, socket_path: str) -> None:
    """How far, how fast, how long yet."""
    daemon.on(ShowCache, REPORT)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}/daemon:{ROOT}/ctl",
        "MODELD_SOCKET": socket_path,
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    with Terminal([sys.executable, "-m", "modelctl", "cache"], environment) as terminal:
        assert terminal.wait() == 0

    assert "\x1b[33mbig\x1b[0m" in terminal.text
    assert "█████████░░░░░░░░░░░  43 %  43.0 GB of 100 GB  172 MB/s  5m 40s" in terminal.text
    assert "300 GB copied so far, 4 copies expired, 1 of them loaded again" in terminal.text


def test_cache_on_a_terminal_says_that_a_copy_is_paused() -> None:
    """A bar that stands still looks like a hang."""
    paused = CopyRow(
        copy_id="c", model="m", copied_bytes=0, total_bytes=9, rate_bytes_per_s=0, paused=True
    )
    report = CacheReport(tiers=(), copies=(paused,), policy="gain")

    assert "paused" in cache_text(report, PLAIN)


def test_cache_in_json_is_the_report(daemon: FakeDaemon, modelctl: Call) -> None:
    """Raw numbers, as the manual has them."""
    daemon.on(ShowCache, REPORT)
    answer = json.loads(modelctl("cache", "show", "--json").out)

    assert answer["copies"][0]["copied_bytes"] == 43 * GB
    assert answer["regretted_expiries"] == 1


def test_plan_asks_for_the_size_that_was_typed(daemon: FakeDaemon, modelctl: Call) -> None:
    """`--free 100g` is a number of bytes for the daemon."""
    daemon.on(PlanCache, CHANGED)
    result = modelctl("cache", "plan", "--free", "100g")

    assert daemon.requests == [PlanCache(free_bytes=100 * GB)]
    assert result.out.splitlines() == [
        "expire\told\t5.0 GB\tidle 9.0 d >= 7 d",
        "copy\tbig\t8.0 GB\t3 uses >= 3",
    ]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (
            "promote tool --dry-run",
            ChangeCache(action="promote", selector=Selector(pattern="tool"), dry_run=True),
        ),
        ("evict -n1 tool", ChangeCache(action="evict", selector=Selector(slot="tool"))),
        ("pause", ChangeCache(action="pause")),
        ("resume big", ChangeCache(action="resume", selector=Selector(pattern="big"))),
        ("cancel -m big", ChangeCache(action="cancel", selector=Selector(pattern="big"))),
    ],
)
def test_change_asks_for_what_was_typed(
    line: str, request_: ChangeCache, daemon: FakeDaemon, modelctl: Call
) -> None:
    """A cancel of one copy that cancels all would be bad."""
    daemon.on(ChangeCache, CHANGED)

    assert modelctl("cache", *line.split()).status == 0
    assert daemon.requests == [request_]


@pytest.mark.parametrize("action", ["promote", "evict"])
def test_change_of_one_model_needs_its_name(
    action: str, daemon: FakeDaemon, modelctl: Call
) -> None:
    """Evicting everything is nothing that anybody asks for."""
    result = modelctl("cache", action)

    assert result.status == 2
    assert f"modelctl cache {action} MODEL" in result.err
    assert not daemon.requests


def test_promote_says_how_to_follow_it(daemon: FakeDaemon, modelctl: Call) -> None:
    """The next command, on the stream for talk."""
    daemon.on(ChangeCache, CHANGED)

    assert modelctl("cache", "promote", "big").err == "how far it is: modelctl cache\n"
    assert not modelctl("cache", "promote", "big", "--json").err


def test_decisions_on_a_terminal_have_a_colour_an_outcome() -> None:
    """S0-13: an expiry is RED; the word stands there too."""
    text = decisions_text(CHANGED, TERMINAL)

    assert text.startswith("\x1b[97;41mEXPIRE\x1b[0m  old  5.0 GB\n        idle 9.0 d >= 7 d\n")
    assert "\x1b[33mCOPY\x1b[0m    big  8.0 GB\n" in text
    assert decisions_text(CacheChanged(decisions=(), dry_run=True), PLAIN) == (
        "nothing would be done\n"
    )


def test_verify_ends_with_1_where_a_copy_is_damaged(daemon: FakeDaemon, modelctl: Call) -> None:
    """A nightly timer must be able to notice."""
    daemon.on(VerifyCache, CacheVerified(intact=("a.gguf",), damaged=("b.gguf",)))
    result = modelctl("cache", "verify")

    assert result.status == 1
    assert result.out == "intact a.gguf\nDAMAGED b.gguf, removed\n"
    assert daemon.headers[0].deadline_ms == 0


def test_verify_of_intact_copies_ends_with_0(daemon: FakeDaemon, modelctl: Call) -> None:
    """The other side of it."""
    daemon.on(VerifyCache, CacheVerified(intact=("a.gguf",)))

    assert modelctl("cache", "verify", "a").status == 0
    assert "no such copy" in verified_text(CacheVerified(), PLAIN)


def test_rank_lists_models_and_explains_them_on_demand(daemon: FakeDaemon, modelctl: Call) -> None:
    """The sum, its terms, and the inequality."""
    daemon.on(AskRank, RANKS)

    assert modelctl("rank").out == "big\t31.0\t1.0 d\tssd+hdd1\nnew\t-1998.0\tnever\t-\n"
    assert modelctl("rank", "--explain").out.splitlines()[0] == (
        "big\t31.0\t1.0 d\tssd+hdd1\t31.0 = 20.0 recent_7d - 2.0 idle"
        "\tbig stays on the SSD: it is there"
    )
    assert json.loads(modelctl("rank", "big", "--json").out)["ranks"][0]["terms"]["idle"] == -2.0
    assert daemon.requests[-1] == AskRank(selector=Selector(pattern="big"))


def test_rank_explained_on_a_terminal_is_a_block_a_model() -> None:
    """A sentence does not fit into a table."""
    assert explained_text(RANKS, PLAIN).splitlines() == [
        "documented formula",
        "big  idle 1.0 d, ssd+hdd1",
        "  31.0 = 20.0 recent_7d - 2.0 idle",
        "  big stays on the SSD: it is there",
        "new  never used, no file",
        "  -1998.0",
    ]
