"""
From ranks to loads: how often a model will be loaded in the next 7 days, learned from the past.

The rank says max(0, rank) / 43 loads; the constant was fitted on generated histories with the
documented weights.  How right that is depends on how many uses a model had so far: people come
back to what they used often, and rarely to what they tried once.  So every forecast waits 7 days,
is compared with what came true, and each class of uses so far gets its own correction

    (2 + real loads) / (2 + forecast loads),  at most 2.2

which stays 1 until 50 forecasts have come due.  Arithmetic on values: the caller keeps the
`Calibration`, and can rebuild it from the state with `learn`.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import ModelStats

POINTS_PER_LOAD = 43.0
HORIZON_SECONDS = 7 * 86_400.0
BUCKETS = ("1", "2-3", "4-9", "10+")
"""Uses so far."""
_LAST_USE = (1, 3, 9)
PRIOR_LOADS = 2.0
MAX_FACTOR = 2.2
"""More would let one lucky week fill the SSD."""
MIN_SAMPLES = 50
MAX_PENDING = 10_000
MAX_LEARNED_USES = 2_000
"""The last ones of a history, which `learn` goes through in a tenth of a second."""


class Forecast(Struct, frozen=True):
    """One that has not come due."""

    at: float
    """[unix s]"""
    model_id: str
    bucket: int
    loads: float


class Calibration(Struct, frozen=True, kw_only=True):
    """What was forecast and what came true, by uses so far."""

    pending: tuple[Forecast, ...] = ()
    forecast_loads: tuple[float, ...] = (0.0,) * len(BUCKETS)
    real_loads: tuple[float, ...] = (0.0,) * len(BUCKETS)
    samples: int = 0

    def factor(self, uses: int) -> float:
        """Return what to multiply the forecast of a model with so many uses with."""
        if self.samples < MIN_SAMPLES:
            return 1.0
        bucket = bucket_of(uses)
        real, expected = self.real_loads[bucket], self.forecast_loads[bucket]
        return min(MAX_FACTOR, (PRIOR_LOADS + real) / (PRIOR_LOADS + expected))


def expected_loads(rank: float) -> float:
    """Return the loads that a rank forecasts for the next 7 days."""
    return max(0.0, rank) / POINTS_PER_LOAD


def bucket_of(uses: int) -> int:
    """Return the class of a model with so many uses, an index into `BUCKETS`."""
    return sum(uses > last for last in _LAST_USE)


def forecast(model_id: str, uses: int, rank: float, now: float) -> Forecast:
    """Return what is expected of a model that is used now for the `uses`-th time."""
    return Forecast(now, model_id, bucket_of(uses), expected_loads(rank))


def observe(
    calibration: Calibration, models: Mapping[str, ModelStats], fresh: Forecast
) -> Calibration:
    """
    Return the calibration after one more use: what has come due counted, the new forecast kept.

    Args:
        calibration: As it was.
        models: What is remembered of each.
        fresh: The forecast of what is used now; none may be older than the one before it.
    """
    pending, now = calibration.pending, fresh.at
    due = 0
    while due < len(pending) and pending[due].at + HORIZON_SECONDS <= now:
        due += 1
    kept = (*pending[due:], fresh)[-MAX_PENDING:]
    if not due:
        return replace(calibration, pending=kept)
    expected, real = list(calibration.forecast_loads), list(calibration.real_loads)
    for one in pending[:due]:
        expected[one.bucket] += one.loads
        real[one.bucket] += _uses_after(models.get(one.model_id), one.at)
    return Calibration(
        pending=kept,
        forecast_loads=tuple(expected),
        real_loads=tuple(real),
        samples=calibration.samples + due,
    )


def learn(
    models: Mapping[str, ModelStats], rank_of: Callable[[ModelStats, float], float]
) -> Calibration:
    """
    Return the calibration that a daemon with this history would have.

    Args:
        models: What is remembered of each.
        rank_of: (what was remembered then, [unix s] then) -> rank.
    """
    uses = sorted(
        (stamp.timestamp(), model_id, position)
        for model_id, stats in models.items()
        for position, stamp in enumerate(stats.use_timestamps)
    )[-MAX_LEARNED_USES:]
    calibration = Calibration()
    for now, model_id, position in uses:
        then = _as_it_was(models[model_id], position)
        fresh = forecast(model_id, then.total_uses, rank_of(then, now), now)
        calibration = observe(calibration, models, fresh)
    return calibration


def _as_it_was(stats: ModelStats, position: int) -> ModelStats:
    """Return the statistics as they were right after the use at `position`."""
    stamps = stats.use_timestamps[: position + 1]
    later = len(stats.use_timestamps) - len(stamps)
    return replace(
        stats,
        use_timestamps=stamps,
        use_runtimes_seconds=stats.use_runtimes_seconds[: position + 1],
        last_used=stamps[-1],
        total_uses=max(len(stamps), stats.total_uses - later),
    )


def _uses_after(stats: ModelStats | None, at: float) -> int:
    """Return the uses within the 7 days after `at`, that at `at` itself not counted."""
    if stats is None:
        return 0
    times = [stamp.timestamp() for stamp in stats.use_timestamps]
    return bisect_right(times, at + HORIZON_SECONDS) - bisect_right(times, at)
