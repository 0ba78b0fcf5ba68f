"""The throttle keeps a looping script off the disk, and never anybody for long."""

from datetime import UTC, datetime

import pytest

from modeld.core.throttle import check
from modeld.errors import Throttled


@pytest.mark.parametrize(
    ("elapsed", "left"), [(0.0, 30), (0.1, 30), (1.0, 29), (17.5, 13), (29.0, 1), (29.999, 1)]
)
def test_throttle_says_how_many_whole_seconds_are_left(elapsed: float, left: int) -> None:
    """S0-27: exactly this message, rounded up, never 0."""
    with pytest.raises(Throttled) as caught:
        check(1000.0, 1000.0 + elapsed, 30)

    assert str(caught.value) == f"Too soon to reload. Wait {left}s."
    assert caught.value.numbers == {"retry_after_s": left}


@pytest.mark.parametrize("elapsed", [30.0, 31.0, 1e9])
def test_throttle_lets_a_later_load_pass(elapsed: float) -> None:
    """S0-27: the border itself is late enough."""
    check(1000.0, 1000.0 + elapsed, 30)


def test_throttle_lets_the_first_load_pass() -> None:
    """There is nothing to be too soon after."""
    check(None, 1000.0, 30)


def test_throttle_of_zero_seconds_is_none() -> None:
    """S0-28."""
    check(1000.0, 1000.0, 0)


@pytest.mark.parametrize("ahead", [0.5, 29.0, 1e9])
def test_throttle_ignores_a_last_load_in_the_future(ahead: float) -> None:
    """B8: a clock that was set back would throttle for years."""
    check(1000.0 + ahead, 1000.0, 30)


def test_throttle_reads_what_the_state_file_keeps() -> None:
    """The state has dates, the clock has numbers."""
    with pytest.raises(Throttled):
        check(datetime.fromtimestamp(1000, tz=UTC), 1001.0, 30)
