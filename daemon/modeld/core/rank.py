"""
What a model is worth: the order in which matches are taken and copies are expired.

    documented  10 r7 + 3 r30 + 0.5 total + max(0, 7 - idle) - 2 idle       (S0-22; the weights
                                                                            are configuration)
    legacy      total - 2 idle, and up to 0.5 for a newer file              (S0-21, llama-pack's)

r7 and r30 are the uses of the last 7 and 30 days, the border included, so that a use of this week
counts in both; idle is the days since the last use, 999 for a model that was never used.  In the
documented formula a use counts w = (run time / 10 min) ^ 0.35, between 0.4 and 2.7, for a long use
tells more of the next one than a short one; 1 while it runs, where it is unknown, and everywhere
with `runtime_weight` off.  The exponent was fitted to how often real sessions of a given length
were followed by another within a week.

Times that lie in the future count as now: a clock that was set back must not promote anything.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from modeld.core.entities import Model, ModelStats

DAY_SECONDS = 86_400.0
RECENT_DAYS = 7
LONGER_DAYS = 30
NEVER_IDLE_DAYS = 999.0
"""How long a model that was never used counts as idle."""
USUAL_RUNTIME_SECONDS = 600.0
RUNTIME_EXPONENT = 0.35
MIN_USE_WEIGHT = 0.4
MAX_USE_WEIGHT = 2.7
LEGACY_IDLE_DAY = 2.0
LEGACY_NEWEST = 0.5
Formula = Literal["documented", "legacy"]


class Weights(Struct, frozen=True, kw_only=True):
    """The terms of the documented formula, as in the configuration's `rank.weights`."""

    recent_7d: float
    recent_30d: float
    total: float
    recency_days: float
    idle_day: float


class RankTerms(Struct, frozen=True):
    """A rank, and what it is made of."""

    rank: float
    points: dict[str, float]
    """Term -> points; they add up to the rank."""
    idle_days: float


def use_weight(runtime_seconds: float) -> float:
    """Return what one use counts; 1 for a run time of 0, which is unknown or not over."""
    if runtime_seconds <= 0:
        return 1.0
    weight = (runtime_seconds / USUAL_RUNTIME_SECONDS) ** RUNTIME_EXPONENT
    return float(min(max(weight, MIN_USE_WEIGHT), MAX_USE_WEIGHT))


def idle_days(stats: ModelStats, now: float) -> float:
    """Return the days since the last use, 999 without one.  [days] `now`: [unix s]."""
    times = [one.timestamp() for one in (*stats.use_timestamps[-1:], stats.last_used) if one]
    return max(0.0, now - max(times)) / DAY_SECONDS if times else NEVER_IDLE_DAYS


def documented(
    stats: ModelStats, now: float, weights: Weights, *, runtime_weight: bool = True
) -> RankTerms:
    """
    Return the rank by the documented formula.

    Args:
        stats: What is remembered of the model.
        now: [unix s]
        weights: The points of each term.
        runtime_weight: Whether a long use counts more than a short one.
    """
    ages = [max(0.0, now - one.timestamp()) / DAY_SECONDS for one in stats.use_timestamps]
    counts = [1.0] * len(ages)
    if runtime_weight:
        known = stats.use_runtimes_seconds[-len(ages) :] if ages else ()
        counts[len(ages) - len(known) :] = map(use_weight, known)
    uses = list(zip(ages, counts, strict=True))
    forgotten = max(0, stats.total_uses - len(uses))
    idle = idle_days(stats, now)
    return _sum(
        {
            "recent_7d": weights.recent_7d * sum(w for age, w in uses if age <= RECENT_DAYS),
            "recent_30d": weights.recent_30d * sum(w for age, w in uses if age <= LONGER_DAYS),
            "total": weights.total * (forgotten + sum(counts)),
            "recency": max(0.0, weights.recency_days - idle),
            "idle": -weights.idle_day * idle,
        },
        idle,
    )


def legacy(stats: ModelStats, now: float, newness: float = 0.0) -> RankTerms:
    """
    Return the rank as llama-pack had it.

    Args:
        stats: What is remembered of the model.
        now: [unix s]
        newness: 0 for the oldest file of all models, 1 for the newest.
    """
    idle = idle_days(stats, now)
    return _sum(
        {
            "total": float(max(stats.total_uses, len(stats.use_timestamps))),
            "idle": -LEGACY_IDLE_DAY * idle,
            "newer_file": LEGACY_NEWEST * newness,
        },
        idle,
    )


def rank_terms(
    models: Mapping[str, tuple[ModelStats, Model]],
    *,
    now: float,
    weights: Weights,
    formula: Formula = "documented",
    runtime_weight: bool = True,
) -> dict[str, RankTerms]:
    """
    Return the rank of every model, by id.

    Args:
        models: What is remembered of each, and its files.
        now: [unix s]
        weights: Of the documented formula.
        formula: Which of the two.
        runtime_weight: Whether a long use counts more than a short one.
    """
    if formula == "legacy":
        newness = _newness(models)
        return {one: legacy(stats, now, newness[one]) for one, (stats, _) in models.items()}
    # most of thousands were never used, and are worth the same
    never = documented(_UNUSED, now, weights, runtime_weight=runtime_weight)
    return {
        one: never
        if stats == _UNUSED
        else documented(stats, now, weights, runtime_weight=runtime_weight)
        for one, (stats, _) in models.items()
    }


_UNUSED = ModelStats()


def _newness(models: Mapping[str, tuple[ModelStats, Model]]) -> dict[str, float]:
    """Return where each file's modification time lies between the oldest and the newest, 0..1."""
    times = {one: model.location.mtime_ns for one, (_, model) in models.items()}
    oldest, newest = min(times.values(), default=0), max(times.values(), default=0)
    span = newest - oldest
    return {one: (time - oldest) / span if span else 0.0 for one, time in times.items()}


def _sum(points: dict[str, float], idle: float) -> RankTerms:
    return RankTerms(sum(points.values()), points, idle)
