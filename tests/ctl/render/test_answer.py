"""The JSON envelope, errors and common words."""

import json

import pytest

from modelctl.render.answer import (
    ago,
    encode,
    encode_item,
    failure_fields,
    failure_text,
    parameters,
    percent,
    state_cell,
)
from modelctl.render.screen import Screen
from modeld.core.entities import ServerState
from modeld.errors import STATUSES, ErrorCode

NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z


def test_encode_wraps_every_answer_in_one_envelope() -> None:
    """A program looks at `ok` before anything else."""
    assert json.loads(encode({"a": 1})) == {"v": 1, "ok": True, "a": 1}
    assert "\n" not in encode({"a": {"b": [1, 2]}})


def test_encode_item_names_its_type() -> None:
    """Streams mix progress, results and failures."""
    assert json.loads(encode_item("event", {"a": 1})) == {"v": 1, "type": "event", "a": 1}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_failure_carries_code_exit_status_and_numbers(code: ErrorCode) -> None:
    """The exit status in JSON is the one that the process ends with."""
    error = failure_fields(code, "m", "h", {"retry_after_s": 38})["error"]

    assert error == {
        "code": str(code),
        "exit": STATUSES[code].exit_status,
        "message": "m",
        "hint": "h",
        "retry_after_s": 38,
    }


def test_failure_of_an_unknown_code_is_an_ordinary_failure() -> None:
    """A newer daemon may know more ways to fail."""
    fields = failure_fields("on_fire", "m", "", {})

    assert '"exit":1' in encode(fields, ok=False)


def test_failure_can_not_be_made_to_lie_about_its_code() -> None:
    """Numbers come from elsewhere; they must not replace the fixed keys."""
    assert failure_fields("busy", "m", "", {"exit": 0, "code": "ok"})["error"] == {
        "code": "busy",
        "exit": 75,
        "message": "m",
        "hint": "",
    }


def test_failure_text_sets_further_lines_below_the_first() -> None:
    """A sum of several lines is one error."""
    assert failure_text("a\nb", "do this", Screen()) == "error: a\n       b\nhint: do this\n"


def test_failure_text_is_cleaned() -> None:
    """Messages quote file names."""
    assert failure_text("no \x1b[2J", "", Screen()) == "error: no \\x1b[2J\n"


@pytest.mark.parametrize("state", list(ServerState))
def test_state_cell_tells_every_state_by_symbol_and_word(state: ServerState) -> None:
    """Colour alone says nothing to many people and to every pipe."""
    cell = state_cell(state)

    assert cell.symbol
    assert cell.text == cell.bare == state
    assert cell.style != "plain"


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-11-21T11:59:30Z", "30 s ago"),
        ("2026-11-21T11:55:30Z", "4m ago"),
        ("2026-11-20T06:00:00Z", "1d ago"),
        ("2026-11-21T12:00:09+00:00", "0 s ago"),
        ("", "never"),
        ("yesterday", "never"),
    ],
)
def test_ago_names_one_unit(moment: str, words: str) -> None:
    """A column of ages is skimmed, not read."""
    assert ago(moment, NOON) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, ""),
        (224_928, "225K"),
        (5_000_000, "5.00M"),
        (270_000_000, "0.27B"),
        (7_240_000_000, "7.24B"),
        (70_600_000_000, "70.6B"),
        (405_000_000_000, "405B"),
        (12, "12.0"),
    ],
)
def test_parameters_have_three_figures(count: int, words: str) -> None:
    """S0-43: `%.2fB` below 10, `%.1fB` below 100, else `%.0fB`."""
    assert parameters(count) == words


@pytest.mark.parametrize(
    ("fraction", "words"), [(0.0, "0 %"), (0.999, "99 %"), (1.0, "100 %"), (1.2, "100 %")]
)
def test_percent_says_100_only_at_the_end(fraction: float, words: str) -> None:
    """A 100 % that goes on for a minute is a lie."""
    assert percent(fraction) == words
