"""
The evaluation of the disk policies: workloads x cache sizes x seeds, all policies on each.

    python -m tests.bench.evaluation        prints all outcomes as JSON, the same on every run

Every policy gets an empty SSD with the room of 10, 20 or 40 % of all models' bytes, all of it to
be used, and copies that take no time.  A cell is one workload at one cache size; its figures are
means over its seeds.  The policies' numbers were chosen on seeds from 100 on, never on these.
"""

import math
import statistics
import sys
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from modeld.core.compare import Outcome, Trace, compare
from modeld.core.replay import Rules, VirtualSsd
from modeld.core.tiers import CachePolicy
from tests.bench.generators import GENERATORS, generate
from tests.support.documented_policy import decisions

WORKLOADS = ("g1", "g2", "g3", "g4")
SHARES = (0.1, 0.2, 0.4)
SEEDS = (0, 1, 2, 3, 4)
FOUR = ("lru", "lfu", "gdsf", "gdsf-cost")
POLICY = CachePolicy(ssd_min_free_bytes=0)


class Cell(Struct, frozen=True):
    """One workload at one cache size: policy -> mean over the seeds."""

    workload: str
    share: float
    saved: dict[str, float]
    """Of the stall without an SSD."""
    yields: dict[str, float]
    """[s/GB]"""
    writes: dict[str, float]
    """[GB/day]"""
    of_bound: dict[str, float]

    def saved_to_best(self) -> float:
        """Return what gain saves, to the best of the four baselines."""
        return self.saved["gain"] / max(self.saved[name] for name in FOUR)

    def yield_to_best(self) -> float:
        """Return what gain saves a written GB, to the best of the four."""
        return self.yields["gain"] / max(self.yields[name] for name in FOUR)

    def writes_to_lru(self) -> float:
        """Return what gain writes, to LRU."""
        return self.writes["gain"] / self.writes["lru"]

    def saved_to_sieve(self) -> float:
        """Return what gain saves, to Sieve."""
        return self.saved["gain"] / self.saved["sieve"]


def evaluate(
    workloads: Sequence[str] = WORKLOADS,
    seeds: Sequence[int] = SEEDS,
    policy: CachePolicy = POLICY,
) -> list[Cell]:
    """Return all cells."""
    rules = Rules(policy=policy)
    cells: dict[tuple[str, float], list[list[Outcome]]] = {}
    for workload in workloads:
        for seed in seeds:
            trace = generate(workload, seed)
            for share in SHARES:
                outcomes = compare(trace, room_of(trace, share), rules)
                cells.setdefault((workload, share), []).append(outcomes)
    return [_cell(workload, share, runs) for (workload, share), runs in cells.items()]


def room_of(trace: Trace, share: float) -> int:
    """Return a share of all bytes."""
    return int(share * sum(trace.sizes_bytes.values()))


def _cell(workload: str, share: float, runs: list[list[Outcome]]) -> Cell:
    def means(figure: Callable[[Outcome], float]) -> dict[str, float]:
        by_policy: dict[str, list[float]] = {}
        for run in runs:
            for outcome in run:
                by_policy.setdefault(outcome.name, []).append(figure(outcome))
        return {name: statistics.fmean(values) for name, values in by_policy.items()}

    return Cell(
        workload,
        share,
        saved=means(lambda one: one.saved_s / one.uncached_s),
        yields=means(lambda one: one.yield_s_per_gb),
        writes=means(lambda one: one.written_gb_a_day),
        of_bound=means(lambda one: one.of_bound),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, values)))


def strict_differences() -> tuple[int, int, int]:
    """Return how often the policy decides otherwise than its reference; decisions, and runs."""
    rules = Rules(policy=replace(POLICY, policy="documented"), instant=True)
    differing = decided = runs = 0
    for workload in GENERATORS:
        for seed in SEEDS:
            trace = generate(workload, seed)
            for share in SHARES:
                room = room_of(trace, share)
                ssd = VirtualSsd(trace.sizes_bytes, room, rules)
                loads = [(load.at, load.model_id) for load in trace.loads]
                for load, wanted in zip(
                    trace.loads, decisions(loads, trace.sizes_bytes, room), strict=True
                ):
                    access = ssd.access(load)
                    differing += (access.written, access.expired) != wanted
                    decided += 1
                runs += 1
    return differing, decided, runs


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(evaluate())))
