"""`core.usage`: sums of what requests cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core import usage
from modeld.core.usage import FIRST_TOKEN_SECONDS, Figures, Histogram, Tally, Totals


def tally(*figures: Figures) -> Tally:
    """Return the sums of these requests."""
    sums = usage.tally()
    for each in figures:
        sums.count(each)
    return sums


def test_tally_adds_up_tokens_times_and_hits() -> None:
    """A figure that is lost here is lost for everybody."""
    sums = tally(
        Figures(prompt_tokens=9, cached_tokens=8, generated_tokens=5, seconds=1.0),
        Figures(prompt_tokens=1, generated_tokens=2, was_ready=False, waited_seconds=2.0),
    )

    assert (sums.requests, sums.hits, sums.failed) == (2, 1, 0)
    assert (sums.prompt_tokens, sums.cached_tokens, sums.generated_tokens) == (10, 8, 7)
    assert (sums.seconds, sums.waited_seconds) == (1.0, 2.0)


def test_tally_takes_rates_only_of_tokens_whose_time_is_known() -> None:
    """Tokens without a time would make every model look faster than it is."""
    sums = tally(
        Figures(generated_tokens=11, generation_seconds=2.0), Figures(generated_tokens=1000)
    )

    assert usage.tokens_per_second(usage.plus(None, sums)) == 5.0


def test_tally_counts_failures_by_class_and_leaves_clients_who_left_out() -> None:
    """Whoever closes a window is no failure of the model."""
    sums = tally(Figures(failure="left"), Figures(failure="server"), Figures(failure="server"))

    assert sums.failed == 2
    assert sums.failures == {"left": 1, "server": 2}


def test_tallies_do_not_share_their_sums() -> None:
    """A default that is shared would mix models."""
    first, second = usage.tally(), usage.tally()
    first.count(Figures(failure="load", first_token_seconds=1.0))

    assert (second.failures, sum(second.first_token.counts), len(second.recent)) == ({}, 0, 0)


def test_tally_keeps_a_bounded_number_of_times() -> None:
    """A daemon that runs for months must not grow with its requests."""
    sums = tally(*[Figures(first_token_seconds=1.0 + n) for n in range(usage.MAX_RECENT + 50)])

    assert len(sums.recent) == usage.MAX_RECENT
    assert sum(sums.first_token.counts) == usage.MAX_RECENT + 50


def test_merged_tallies_are_the_sum_of_both() -> None:
    """Models beyond the bound are told of together."""
    one = tally(Figures(prompt_tokens=3, first_token_seconds=0.2, failure="busy"))
    one.count_load(2.0, is_swap=True)
    other = tally(Figures(prompt_tokens=4, first_token_seconds=7.0, failure="busy"))
    other.count_load(1.0, is_swap=False)
    other.failed_loads = 3

    one.merge(other)

    assert (one.requests, one.prompt_tokens, one.failures) == (2, 7, {"busy": 2})
    assert (one.loads, one.swaps, one.swap_seconds, one.failed_loads) == (2, 1, 2.0, 3)
    assert (sum(one.first_token.counts), one.first_token.total) == (2, 7.2)
    assert list(one.recent) == [0.2, 7.0]


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_histogram_counts_each_value_once_in_its_class(values: list[float]) -> None:
    """Prometheus takes a value that equals a bound for one below it."""
    histogram = Histogram(FIRST_TOKEN_SECONDS)
    for value in values:
        histogram.add(value)

    below = 0
    for bound, count in zip((*FIRST_TOKEN_SECONDS, math.inf), histogram.counts, strict=True):
        below += count
        assert below == sum(value <= bound for value in values)
    assert histogram.total == pytest.approx(sum(values))


def test_kept_sums_are_what_was_kept_and_what_came_since() -> None:
    """Counting goes on over a restart."""
    before = {"a": Totals(requests=5, swaps=1), "b": Totals(requests=2)}
    since = {"a": tally(Figures()), "c": tally(Figures(), Figures())}

    found = usage.kept(before, since)

    assert {one: each.requests for one, each in found.items()} == {"a": 6, "b": 2, "c": 2}
    assert found["a"].swaps == 1


def test_kept_sums_drop_the_models_with_the_fewest_requests_beyond_the_bound() -> None:
    """The state file has to stay small for ever."""
    before = {f"m{n}": Totals(requests=n) for n in range(usage.MAX_MODELS + 2)}

    found = usage.kept(before, {})

    assert len(found) == usage.MAX_MODELS
    assert "m0" not in found
    assert "m2" in found


def test_rates_are_unknown_without_requests() -> None:
    """0 % would say that all of them waited."""
    nothing = usage.together([])

    assert usage.hit_rate(nothing) is None
    assert usage.mean_swap_seconds(nothing) is None
    assert usage.tokens_per_second(nothing) is None
    assert usage.percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("fraction", "value"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.95, 4.0), (1.0, 4.0)]
)
def test_percentile_is_the_nearest_rank(fraction: float, value: float) -> None:
    """A value that was measured, none between two."""
    assert usage.percentile([4.0, 1.0, 3.0, 2.0], fraction) == value
