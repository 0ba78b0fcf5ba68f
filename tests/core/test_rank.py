"""The rank decides what is taken and what is expired, so its numbers are fixed by vectors."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.config import schema
from modeld.core.entities import Header, Location, Model, ModelStats
from modeld.core.rank import (
    Weights,
    documented,
    idle_days,
    legacy,
    rank_terms,
    use_weight,
)
from modeld.core.stats import moment

NOW = 1_763_640_000.0
DAY = 86_400.0
WEIGHTS = Weights(recent_7d=10, recent_30d=3, total=0.5, recency_days=7, idle_day=2)


def _stats(
    ages_days: Sequence[float], total: int = 0, runtimes: Sequence[float] = ()
) -> ModelStats:
    stamps = tuple(moment(NOW - age * DAY) for age in sorted(ages_days, reverse=True))
    return ModelStats(
        total_uses=total or len(stamps),
        last_used=stamps[-1] if stamps else None,
        use_timestamps=stamps,
        use_runtimes_seconds=tuple(runtimes),
    )


VECTORS = [
    ([0.5, 0.5, 0.5], 3, 46.0, 2.0),
    ([60.0], 80, -80.0, -40.0),
    ([1.0, 1.0], 2, 31.0, 0.0),
    ([10.0] * 5, 40, 15.0, 20.0),
    ([0.0], 1, 20.5, 1.0),
]
"""S0-23: ages of the uses that are known, total uses, rank, legacy rank."""


@pytest.mark.parametrize(("ages", "total", "rank", "_legacy"), VECTORS)
def test_documented_rank_matches_the_vectors(
    ages: list[float], total: int, rank: float, _legacy: float
) -> None:
    """S0-22, S0-23."""
    assert documented(_stats(ages, total), NOW, WEIGHTS).rank == pytest.approx(rank)


@pytest.mark.parametrize(("ages", "total", "_rank", "rank"), VECTORS)
def test_legacy_rank_matches_the_vectors(
    ages: list[float], total: int, _rank: float, rank: float
) -> None:
    """S0-21, S0-23."""
    assert legacy(_stats(ages, total), NOW).rank == pytest.approx(rank)


def test_new_frequent_use_beats_old_heavy_use() -> None:
    """S0-23: what the whole formula is for."""
    fresh, old = _stats([0.1, 1.0, 2.0], 3), _stats([45.0] * 50, 200)

    assert documented(fresh, NOW, WEIGHTS).rank > documented(old, NOW, WEIGHTS).rank


@pytest.mark.parametrize(("age", "points"), [(7.0, 13.0), (7.001, 3.0), (30.0, 3.0), (30.001, 0.0)])
def test_windows_include_their_border(age: float, points: float) -> None:
    """S0-22: 7 days are inside 30 days, and both borders count."""
    terms = documented(_stats([age]), NOW, WEIGHTS).points

    assert terms["recent_7d"] + terms["recent_30d"] == points


def test_points_add_up_to_the_rank() -> None:
    """What is shown as the reason must be the reason."""
    found = documented(_stats([0.3, 9.0, 40.0], 12, [30.0, 4000.0]), NOW, WEIGHTS)

    assert sum(found.points.values()) == found.rank


def test_model_that_was_never_used_is_idle_for_999_days() -> None:
    """S0-21: llama-pack's number for never."""
    assert documented(ModelStats(), NOW, WEIGHTS).rank == -2 * 999.0
    assert legacy(ModelStats(), NOW).idle_days == 999.0


@pytest.mark.parametrize(
    ("runtime", "weight"), [(0.0, 1.0), (600.0, 1.0), (30.0, 0.4), (28800.0, 2.7), (3600.0, 1.8723)]
)
def test_use_weight_grows_with_run_time_inside_bounds(runtime: float, weight: float) -> None:
    """tiers.md A6: unknown counts 1; neither a blink nor a week of running rules everything."""
    assert use_weight(runtime) == pytest.approx(weight, abs=1e-3)


def test_eight_hours_a_day_beat_twenty_short_tries() -> None:
    """S0-25, tiers.md A6: 189 points against 80 for the last 7 days."""
    long = documented(_stats([0.1] * 7, runtimes=[28_800.0] * 7), NOW, WEIGHTS)
    short = documented(_stats([0.1] * 20, runtimes=[30.0] * 20), NOW, WEIGHTS)

    assert long.points["recent_7d"] == pytest.approx(189.0)
    assert short.points["recent_7d"] == pytest.approx(80.0)
    assert long.rank > short.rank


def test_runtime_weight_off_counts_every_use_once() -> None:
    """`rank.runtime_weight = false` is the exact formula of the documents."""
    stats = _stats([0.5] * 3, runtimes=[30.0, 28_800.0, 5.0])

    assert documented(stats, NOW, WEIGHTS, runtime_weight=False).rank == pytest.approx(46.0)


def test_run_times_belong_to_the_last_uses() -> None:
    """A file from before run times were kept has fewer of them than timestamps."""
    found = documented(_stats([20.0, 0.0], runtimes=[28_800.0]), NOW, WEIGHTS)

    assert found.points["recent_7d"] == pytest.approx(27.0)
    assert found.points["recent_30d"] == pytest.approx(3 * 3.7)


def test_future_times_count_as_now() -> None:
    """B8: a clock that was set back must not make anything look better than just used."""
    ahead = documented(_stats([-3650.0]), NOW, WEIGHTS)

    assert ahead.rank == documented(_stats([0.0]), NOW, WEIGHTS).rank
    assert idle_days(_stats([-3650.0]), NOW) == 0.0


def _model(model_id: str, mtime_ns: int) -> Model:
    location = Location(tier="ssd", path="/m", shard_paths=("/m",), size_bytes=1, mtime_ns=mtime_ns)
    return Model(id=model_id, name=model_id, size_bytes=1, header=Header(), locations=(location,))


def test_rank_terms_ranks_every_model() -> None:
    """Also those that were never used."""
    models = {"a": (_stats([0.0]), _model("a", 1)), "b": (ModelStats(), _model("b", 2))}

    found = rank_terms(models, now=NOW, weights=WEIGHTS)

    assert {one: terms.rank for one, terms in found.items()} == {"a": 20.5, "b": -1998.0}


def test_rank_terms_legacy_prefers_newer_files_by_half_a_point() -> None:
    """S0-21: the newest file gets 0.5, the oldest nothing, the rest in proportion."""
    times = (("a", 100), ("b", 150), ("c", 200))
    models = {name: (ModelStats(), _model(name, time)) for name, time in times}

    found = rank_terms(models, now=NOW, weights=WEIGHTS, formula="legacy")

    assert [found[name].points["newer_file"] for name in "abc"] == [0.0, 0.25, 0.5]


def test_rank_terms_of_one_file_and_of_none() -> None:
    """No division by zero where all files are equally old."""
    one = {"a": (ModelStats(), _model("a", 5))}

    assert rank_terms({}, now=NOW, weights=WEIGHTS, formula="legacy") == {}
    found = rank_terms(one, now=NOW, weights=WEIGHTS, formula="legacy")
    assert found["a"].points["newer_file"] == 0


def test_weights_are_those_of_the_configuration() -> None:
    """The configuration's table is copied by field name."""
    assert Weights(**msgspec.structs.asdict(schema.Weights())) == WEIGHTS


@given(
    st.lists(st.floats(-1e5, 1e5), max_size=30),
    st.lists(st.floats(0, 1e7), max_size=40),
    st.floats(-1e9, 4e9),
)
def test_any_history_has_a_finite_rank(
    ages: list[float], runtimes: list[float], now: float
) -> None:
    """B8: the order must exist whatever the clock did."""
    found = documented(_stats(ages, runtimes=runtimes), now, WEIGHTS)

    assert abs(found.rank) < float("inf")
    assert found.idle_days >= 0
