"""Forecasts that are never held against what came true would mislead for ever."""

import pytest

from modeld.core.calibration import (
    HORIZON_SECONDS,
    MAX_FACTOR,
    MAX_LEARNED_USES,
    MIN_SAMPLES,
    Calibration,
    bucket_of,
    expected_loads,
    forecast,
    learn,
    observe,
)
from modeld.core.entities import ModelStats, State
from modeld.core.rank import documented
from modeld.core.replay import DOCUMENTED_WEIGHTS
from modeld.core.stats import count_use

NOW = 1_767_571_200.0
DAY = 86_400.0


def _learned(gap_days: float, uses: int) -> Calibration:
    state, calibration = State(), Calibration()
    for number in range(uses):
        now = NOW + number * gap_days * DAY
        state = count_use(state, "a", now)
        stats = state.models["a"]
        rank = documented(stats, now, DOCUMENTED_WEIGHTS).rank
        fresh = forecast("a", stats.total_uses, rank, now)
        calibration = observe(calibration, state.models, fresh)
    return calibration


def test_rank_forecasts_loads_and_never_less_than_none() -> None:
    """43 points are a load a week."""
    assert (expected_loads(43.0), expected_loads(-80.0)) == (1.0, 0.0)


@pytest.mark.parametrize(("uses", "bucket"), [(1, 0), (2, 1), (3, 1), (4, 2), (9, 2), (10, 3)])
def test_uses_have_classes(uses: int, bucket: int) -> None:
    """1, 2-3, 4-9, 10 and more."""
    assert bucket_of(uses) == bucket


def test_nothing_is_corrected_before_there_is_experience() -> None:
    """A handful of uses proves nothing."""
    few = _learned(1.0, MIN_SAMPLES)

    assert few.samples < MIN_SAMPLES
    assert few.factor(20) == 1.0


def test_forecasts_that_were_too_high_are_lowered() -> None:
    """A model that is used every 10 days is never loaded within the next 7."""
    calibration = _learned(10.0, 80)

    assert calibration.real_loads == (0.0, 0.0, 0.0, 0.0)
    assert calibration.factor(20) < 0.1


def test_forecasts_that_were_too_low_are_raised_so_far() -> None:
    """One good week must not fill the SSD."""
    calibration = _learned(0.05, 1000)

    assert calibration.factor(20) <= MAX_FACTOR
    assert calibration.real_loads[3] > calibration.forecast_loads[3] / 2


def test_forecast_comes_due_after_its_week() -> None:
    """Before that nobody knows."""
    state = count_use(State(), "a", NOW)
    calibration = observe(Calibration(), state.models, forecast("a", 1, 20.5, NOW))
    state = count_use(state, "a", NOW + DAY)
    soon = forecast("a", 2, 40.0, NOW + HORIZON_SECONDS - 1)
    assert observe(calibration, state.models, soon).samples == 0

    due = observe(calibration, state.models, forecast("a", 2, 40.0, NOW + HORIZON_SECONDS))
    assert (due.samples, due.real_loads[0]) == (1, 1.0)
    assert due.forecast_loads[0] == pytest.approx(20.5 / 43)


def test_history_teaches_the_same_as_having_been_there() -> None:
    """The daemon learns from its state when it starts."""
    state, calibration = State(), Calibration()
    for number in range(90):
        now = NOW + number * 0.7 * DAY
        state = count_use(state, "ab"[number % 3 == 0], now)
        stats = state.models["ab"[number % 3 == 0]]
        rank = documented(stats, float(int(now)), DOCUMENTED_WEIGHTS).rank
        fresh = forecast("ab"[number % 3 == 0], stats.total_uses, rank, float(int(now)))
        calibration = observe(calibration, state.models, fresh)

    def rank_of(stats: ModelStats, now: float) -> float:
        return documented(stats, now, DOCUMENTED_WEIGHTS).rank

    learned = learn(state.models, rank_of)
    assert learned.samples == calibration.samples > MIN_SAMPLES
    assert learned.real_loads == calibration.real_loads
    assert learned.forecast_loads == pytest.approx(calibration.forecast_loads)


def test_only_the_last_uses_of_a_long_history_are_learned_from() -> None:
    """The daemon does it when it starts, and must not be late for that."""
    state = State()
    for number in range(30 * 100):
        state = count_use(state, f"m{number % 30}", NOW + number * 3600.0)

    assert learn(state.models, lambda _stats, _now: 20.0).samples <= MAX_LEARNED_USES
