"""`units`: bytes and durations, to and from the words people use."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.units import (
    format_bytes,
    format_duration,
    parse_bytes,
    parse_duration,
    parse_keep_alive,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1000", 1000), ("1k", 1024), ("4.7g", 5046586572), ("512 MiB", 536870912),
     ("2TB", 2 * 1024**4)],
)  # fmt: skip
def test_size_is_read_in_powers_of_1024(text: str, count: int) -> None:
    """`30g` means the same on the command line, in scenarios and in the configuration."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "g", "-1", "1x", "1 2", "1e9", "0x10"])
def test_size_that_is_none_is_refused(text: str) -> None:
    """A guess here fills a disk."""
    with pytest.raises(ValueError, match="not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (460_000, "449 KB"), (5 * 1024**3, "5.0 GB"),
     (1000 * 1024**2, "1.0 GB"), (2 * 1024**4, "2.0 TB")],
)  # fmt: skip
def test_size_is_shown_in_at_most_three_digits(count: int, text: str) -> None:
    """Columns stay narrow."""
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("250ms", 0.25), ("1M", 2592000)],
)
def test_duration_is_read_in_the_words_people_use(text: str, seconds: float) -> None:
    """Minutes and months differ by their case, as in scenarios."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 m", "1h x", "-5m", "5q"])
def test_duration_that_is_none_is_refused(text: str) -> None:
    """`5 minutes` must not become 5 seconds."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (14.8, "15 s"), (252, "4m 12s"), (3600, "1h"), (273_600, "3d 4h")],
)
def test_duration_is_shown_in_at_most_two_units(seconds: float, text: str) -> None:
    """Nobody needs the seconds of a day."""
    assert format_duration(seconds) == text


@given(st.integers(0, 2**60))
def test_shown_size_is_close_to_what_it_came_from(count: int) -> None:
    """Rounding must not change the order of things."""
    assert abs(parse_bytes(format_bytes(count)) - count) <= max(count * 0.06, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("300", 300), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400),
     ("500ms", 0.5), ("-1", -1), ("-1m", -60), ("+2s", 2), (".5s", 0.5), ("10\u00b5s", 1e-5)],
)  # fmt: skip
def test_keep_alive_is_read_in_all_its_forms(text: str, seconds: float) -> None:
    """Ollama's clients use every one of them."""
    assert parse_keep_alive(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-", "m", "soon", "5 m", "1 2", "5m3", "--1", "1e3", "9" * 99]
)
def test_keep_alive_that_is_none_is_refused(text: str) -> None:
    """A model that stays by a guess costs somebody memory."""
    with pytest.raises(ValueError, match="is no duration"):
        parse_keep_alive(text)


@given(st.text("0123456789.-+hmsn\u00b5 x\u0663", max_size=12))
def test_keep_alive_is_a_duration_or_refused(text: str) -> None:
    """Never a bug: clients write it."""
    with contextlib.suppress(ValueError):
        assert isinstance(parse_keep_alive(text), float)
