"""Buckets of tokens, by their arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.gateway.rate import Rates


def test_bucket_gives_its_burst_and_then_one_for_each_interval() -> None:
    """What `rate_burst` and `rate_limit_per_minute` promise."""
    rates = Rates(per_minute=60, burst=3)

    assert [rates.take("a", 100.0) for _ in range(3)] == [0, 0, 0]
    assert rates.take("a", 100.0) == pytest.approx(1.0)
    assert rates.take("a", 100.4) == pytest.approx(0.6)
    assert rates.take("a", 101.0) == 0
    assert rates.take("a", 101.0) == pytest.approx(1.0)


def test_bucket_is_full_again_after_a_pause_and_no_fuller() -> None:
    """An idle hour is no right to a flood."""
    rates = Rates(per_minute=60, burst=2)
    for _ in range(2):
        rates.take("a", 0.0)

    assert [rates.take("a", 3600.0) > 0 for _ in range(3)] == [False, False, True]


def test_refused_request_costs_no_token() -> None:
    """A client that keeps asking gets its turn all the same."""
    rates = Rates(per_minute=60, burst=1)
    rates.take("a", 0.0)
    for hundredth in range(99):
        assert rates.take("a", hundredth / 100) > 0

    assert rates.take("a", 1.0) == 0


def test_buckets_of_clients_are_their_own() -> None:
    """One in a loop must not starve the others."""
    rates = Rates(per_minute=1, burst=1)
    rates.take("a", 0.0)

    assert rates.take("a", 0.0) > 0
    assert rates.take("b", 0.0) == 0


def test_newcomers_share_a_bucket_when_the_table_is_full() -> None:
    """Whoever comes under a thousand names gets no thousand buckets, nor anybody's fresh one."""
    rates = Rates(per_minute=60, burst=1, max_clients=3)
    for name in ("a", "b", "c"):
        assert rates.take(name, 0.0) == 0

    assert rates.take("d", 0.0) == 0
    assert rates.take("e", 0.0) > 0
    assert rates.take("a", 0.0) > 0
    assert rates.take("f", 5.0) == 0
    assert rates.take("g", 5.0) == 0


@given(
    pauses=st.lists(st.floats(0, 5), max_size=60),
    per_minute=st.integers(1, 600),
    burst=st.integers(1, 20),
)
def test_bucket_never_gives_more_than_it_may(
    pauses: list[float], per_minute: int, burst: int
) -> None:
    """In any time t: the burst, and what came back meanwhile."""
    rates = Rates(per_minute, burst)
    now = given_out = 0.0
    for pause in pauses:
        now += pause
        wait = rates.take("a", now)
        given_out += wait == 0
        assert wait <= 60 / per_minute + 1e-5
        assert given_out <= burst + now * per_minute / 60 + 1e-6


@given(names=st.lists(st.text(max_size=3), max_size=200), size=st.integers(1, 8))
def test_table_never_grows_beyond_its_bound(names: list[str], size: int) -> None:
    """Its length is chosen by strangers otherwise."""
    rates = Rates(per_minute=60, burst=2, max_clients=size)
    for moment, name in enumerate(names):
        rates.take(name, moment / 50)

    assert len(rates._full_at) <= size + 1
