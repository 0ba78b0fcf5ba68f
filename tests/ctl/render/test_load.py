"""Text of `load`, `unload`, `can-load`, names and daemon commands."""

import os
import time
from collections.abc import Iterator

import pytest

from modelctl.render.daemon import event_text, log_text, reloaded_text, version_text
from modelctl.render.load import (
    candidates_text,
    loaded_text,
    planned_text,
    unloaded_text,
    verdict_text,
)
from modelctl.render.names import named_text, names_text
from modelctl.render.screen import Screen
from modeld.wire.daemon import Happened, Reloaded, VersionReport
from modeld.wire.load import Candidate, Loaded, Planned, Step, Unloaded, Verdict
from modeld.wire.names import Named

GIB = 1 << 30
TERMINAL = Screen(width=100, terminal=True)
COLOURED = Screen(width=100, terminal=True, colour=True)
PIPE = Screen()


@pytest.fixture
def utc() -> Iterator[None]:
    """Local time that is the same everywhere."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def test_loaded_says_the_sentence_and_then_the_facts() -> None:
    """The sentence alone is what most people read."""
    reply = Loaded(
        model="m",
        server_id="s",
        address="127.0.0.1:8080",
        seconds=14.8,
        message="m is ready in 14.8 s",
        memory_bytes=int(5.6 * GIB),
        context_tokens=8192,
        tier="ssd",
        unloaded=("big",),
        names=("nickname tiny added",),
    )

    assert loaded_text(reply, TERMINAL) == (
        "● m is ready in 14.8 s\n"
        "  5.6 GB of memory, context 8192, from ssd, http://127.0.0.1:8080\n"
        "  unloaded big\n"
        "  nickname tiny added\n"
    )


def test_loaded_keeps_the_wording_of_an_idempotent_load() -> None:
    """S0-29: this sentence is interface."""
    text = "Model already running on host:port 127.0.0.1:8080 with same args."
    reply = Loaded(model="m", server_id="s", address="", seconds=0, message=text, already=True)

    assert loaded_text(reply, PIPE) == f"{text}\n"


def test_candidates_are_listed_with_ranks_the_taken_one_marked() -> None:
    """S0-31: several matches, the highest rank is used, and all are told."""
    text = candidates_text(
        (Candidate(model="a", rank=46), Candidate(model="b", rank=-3.5)), TERMINAL
    )

    assert text.splitlines()[1:] == ["  →     46.0  a", "        -3.5  b"]


def test_planned_shows_steps_and_the_inequality() -> None:
    """A dry run answers why, not only what."""
    reply = Planned(
        model="m",
        steps=(
            Step(action="stop", model="big", reason="replaced"),
            Step(action="start", model="m", reason="5.6 GB"),
        ),
        reason="5.6 GB <= 16.0 GB",
        argv=("llama-server", "-m", "a b"),
    )

    assert planned_text(reply, TERMINAL, verbose=False) == (
        "STEP   MODEL  WHY\nstop   big    replaced\nstart  m      5.6 GB\n\n5.6 GB <= 16.0 GB\n"
    )
    assert planned_text(reply, PIPE, verbose=False) == "stop\tbig\treplaced\nstart\tm\t5.6 GB\n"
    assert planned_text(reply, PIPE, verbose=True).endswith("llama-server -m 'a b'\n")


def test_unloaded_names_what_is_gone_and_what_stayed() -> None:
    """`--all` leaves pinned models, and must say so."""
    reply = Unloaded(models=("a", "b"), freed_bytes=GIB, kept=("p",))

    assert unloaded_text(reply, PIPE) == (
        "unloaded a\nunloaded b, 1.0 GB freed\n  kept p, which is pinned\n"
    )
    assert unloaded_text(Unloaded(models=()), PIPE) == "nothing was loaded\n"
    idle = unloaded_text(Unloaded(models=()), PIPE, idle=True)
    assert idle == "nothing has been idle for longer than its time\n"
    assert unloaded_text(Unloaded(models=(), kept=("p",)), PIPE) == (
        "nothing was unloaded\n  kept p, which is pinned\n"
    )


def test_verdict_is_the_reason_alone_in_a_pipe() -> None:
    """S4-01: these texts are interface."""
    reason = "Insufficient RAM: need 12.0GB, have 4.5GB available"

    assert verdict_text(Verdict(can_load=False, reason=reason), PIPE) == f"{reason}\n"
    assert verdict_text(Verdict(can_load=True, reason="yes"), TERMINAL) == "● yes\n"
    told = Verdict(can_load=True, reason="yes", need_bytes=GIB, need_source="measured")
    assert verdict_text(told, PIPE) == "yes\n"
    assert verdict_text(told, TERMINAL) == "● yes\n  needs 1.0 GB (measured)\n"


def test_named_tells_each_change_or_that_there_was_none() -> None:
    """Silence would leave the doubt whether the name was kept."""
    assert named_text(Named(model="m", changes=("a added", "b removed")), PIPE) == (
        "a added\nb removed\n"
    )
    assert "so already" in named_text(Named(model="m", changes=()), PIPE)


def test_names_are_listed_in_alphabetical_order() -> None:
    """Two calls can be compared."""
    names = {"b": "m2", "a": "m1"}

    assert names_text("NICK", names, PIPE) == "a\tm1\nb\tm2\n"
    assert names_text("NICK", names, TERMINAL) == "NICK  MODEL\na     m1\nb     m2\n"
    assert names_text("SLOT", {}, TERMINAL) == "no slots\n"
    assert names_text("NICK", {}, TERMINAL) == "no nicknames\n"


EVENT = Happened(
    event="ready",
    message="m is ready\x1b[2J",
    at="2026-11-21T02:25:04.123Z",
    priority=5,
    fields={"MODELD_MODEL": "m"},
)


def test_event_line_on_a_terminal_has_local_time(utc: None) -> None:
    """It stands beside other logs in the same terminal."""
    assert event_text(EVENT, TERMINAL, verbose=False) == (
        "Nov 21 02:25:04  ready             m is ready\\x1b[2J\n"
    )


def test_event_line_in_a_pipe_has_the_exact_moment_and_priority() -> None:
    """Scripts sort by it."""
    assert event_text(EVENT, PIPE, verbose=True) == (
        "2026-11-21T02:25:04.123Z\t5\tready\tm is ready\\x1b[2J MODELD_MODEL=m\n"
    )


def test_event_line_tells_that_events_were_missed(utc: None) -> None:
    """A gap that is not told is a lie."""
    gap = Happened(event="ready", message="m", at=EVENT.at, missed=3)

    assert event_text(gap, TERMINAL, verbose=False).startswith("3 events were missed here\n")


@pytest.mark.parametrize(("priority", "code"), [(3, "97;41"), (4, "33"), (5, "32"), (6, "94")])
def test_event_line_is_coloured_by_priority(priority: int, code: str, utc: None) -> None:
    """S0-47: errors white on red, warnings yellow, success green, info blue."""
    event = Happened(event="word", message="m", at=EVENT.at, priority=priority)

    assert f"\x1b[{code}mword\x1b[0m" in event_text(event, COLOURED, verbose=False)


def test_log_lines_are_cleaned_on_a_terminal_and_left_alone_in_a_pipe() -> None:
    """llama-server prints what clients send it."""
    assert log_text(("a\tb\x1b[2J",), TERMINAL) == "a\tb\\x1b[2J\n"
    assert log_text(("a\x1b[1mb",), PIPE) == "a\x1b[1mb\n"


def test_reloaded_tells_what_has_changed() -> None:
    """An edit that did nothing is found at once."""
    assert reloaded_text(Reloaded(changed=("a: 1 -> 2",), kept=("m",)), PIPE) == (
        "a: 1 -> 2\n  m goes on as it was\n"
    )
    assert reloaded_text(Reloaded(changed=()), PIPE) == "nothing has changed\n"


def test_version_tells_both_sides() -> None:
    """A mismatch is the first suspicion in a report."""
    report = VersionReport(
        version="0.2", protocol=1, python="3.11", engine="/l", engine_version="b1"
    )

    assert version_text("0.1", 1, report, PIPE) == (
        "modelctl 0.1 (protocol 1)\nmodeld 0.2 (protocol 1, Python 3.11)\nllama-server /l b1\n"
    )
    assert version_text("0.1", 1, None, PIPE).endswith("modeld is not running\n")
