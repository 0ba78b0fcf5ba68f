"""A policy that is compared with badly written others looks better than it is."""

import json
import os
import random
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.baselines import BASELINES
from modeld.core.compare import Trace, bound, compare, page_cache_hits, play
from modeld.core.replay import Load, Rules
from modeld.core.tiers import CachePolicy, Speeds
from modeld.units import GIB

SPEEDS = Speeds()
ORACLES = {"lru": "LRU", "sieve": "Sieve"}
"""Those whose libcachesim namesakes have the same rules; its LFU forgets, its GDSF refuses."""


def _loads(names: str) -> tuple[Load, ...]:
    return tuple(Load(3600.0 * place, name) for place, name in enumerate(names))


def _trace(names: str, ram_gb: int = 0) -> Trace:
    sizes = dict.fromkeys(names, 10 * GIB)
    return Trace(loads=_loads(names), sizes_bytes=sizes, ram_bytes=ram_gb * GIB)


def _hits(policy: str, names: str, rooms: int) -> str:
    trace = _trace(names)
    cache = BASELINES[policy](trace.sizes_bytes, rooms * 10 * GIB)
    return "".join("x" if cache.access(load).hit else "." for load in trace.loads)


@pytest.mark.parametrize(
    ("policy", "names", "hits"),
    [
        ("lru", "abcab", "....."),
        ("lru", "abaca", "..x.x"),
        ("lfu", "aabcba", ".x...x"),
        ("gdsf-cost", "aaabcd", ".xx..."),
        ("sieve", "abacad", "..x.x."),
        ("sieve", "aabbcdab", ".x.x...."),
    ],
)
def test_textbook_cache_does_what_the_book_says(policy: str, names: str, hits: str) -> None:
    """Two places, worked out by hand."""
    assert _hits(policy, names, 2) == hits


def test_gdsf_prefers_the_small() -> None:
    """Frequency by size: what makes it the wrong rule for models."""
    sizes = {"small": 1, "large": 9, "new": 5}
    cache = BASELINES["gdsf"](sizes, 10)
    for place, name in enumerate(("large", "small", "new")):
        access = cache.access(Load(float(place), name))

    assert access.expired == ("large",)


@pytest.mark.parametrize("policy", BASELINES)
def test_model_that_is_larger_than_the_ssd_passes_by(policy: str) -> None:
    """It must not empty the SSD for nothing."""
    cache = BASELINES[policy]({"a": 5, "huge": 11}, 10)
    cache.access(Load(0.0, "a"))

    assert cache.access(Load(1.0, "huge")).expired == ()
    assert cache.access(Load(2.0, "a")).hit


def test_page_cache_serves_what_it_still_has() -> None:
    """Whatever disk holds it."""
    assert page_cache_hits(_trace("aabcab", ram_gb=20)) == [
        False, True, False, False, False, False,
    ]  # fmt: skip


def test_outcome_counts_seconds_bytes_and_regrets() -> None:
    """By hand: two places, LRU."""
    trace = _trace("abcaa")
    lru = BASELINES["lru"](trace.sizes_bytes, 20 * GIB)
    outcome = play("lru", lru, trace, page_cache_hits(trace), speeds=SPEEDS)

    assert outcome.saved_s == pytest.approx(10 / 0.18 - 10 / 2.5)
    assert outcome.uncached_s == pytest.approx(5 * 10 / 0.18)
    assert (outcome.written_bytes, outcome.expiries, outcome.regretted) == (40 * GIB, 2, 1)


@given(st.text("abcdef", min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 30))
def test_nobody_exceeds_the_offline_bound(names: str, rooms: int, ram_gb: int) -> None:
    """A bound that can be passed is none; the documented policy may not prefetch here."""
    trace = _trace(names, ram_gb)
    policy = CachePolicy(ssd_min_free_bytes=0, precache=False)
    outcomes = compare(trace, rooms * 10 * GIB, Rules(policy=policy))
    most = bound(trace, rooms * 10 * GIB, page_cache_hits(trace), speeds=SPEEDS)

    assert all(one.saved_s <= most + 1e-6 for one in outcomes)


def test_floor_of_the_policy_is_nobodys() -> None:
    """All get the same room."""
    policy = CachePolicy(ssd_min_free_bytes=30 * GIB)
    outcomes = compare(_trace("ababab"), 40 * GIB, Rules(policy=policy))

    assert all(one.written_bytes % (10 * GIB) == 0 for one in outcomes)
    assert next(one for one in outcomes if one.name == "lru").saved_s == 0.0


ORACLE = """
import json, sys
import libcachesim as lcs
name, room, sizes, names = json.load(sys.stdin)
cache = getattr(lcs, name)(cache_size=room)
hits = ""
for number, one in enumerate(names):
    request = lcs.Request(obj_id=ord(one), obj_size=sizes[one], clock_time=number)
    hits += "x" if cache.get(request) else "."
print(hits)
"""


@pytest.mark.parametrize("policy", ORACLES)
def test_textbook_cache_agrees_with_libcachesim(policy: str) -> None:
    """An implementation that others wrote; `LIBCACHESIM_PYTHON` names a Python that has it."""
    python = os.environ.get("LIBCACHESIM_PYTHON", "")
    if not python:
        pytest.skip(
            "LIBCACHESIM_PYTHON names no Python with libcachesim (GPL, so not a dependency)"
        )
    rng = random.Random(policy)
    names = [rng.choice("aaaabbbcccddefghijklmnop") for _ in range(3000)]
    sizes = {name: rng.randint(5, 40) for name in sorted(set(names))}
    cache = BASELINES[policy](sizes, 120)
    mine = "".join("x" if cache.access(load).hit else "." for load in _loads("".join(names)))
    theirs = subprocess.run(
        [python, "-c", ORACLE],
        input=json.dumps([ORACLES[policy], 120, sizes, names]),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    assert mine == theirs
