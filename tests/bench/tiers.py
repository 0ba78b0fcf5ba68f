"""The figures of the disk policies: what they save, what they write, and whether they are exact."""

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from tests.bench.evaluation import (
    SEEDS,
    Cell,
    evaluate,
    geometric_mean,
    strict_differences,
)
from tests.bench.figures import Figure, figure


def strict() -> Iterator[Figure]:
    """The documented policy against its reference, decision by decision."""
    differing, decided, runs = strict_differences()
    detail = f"of {decided} decisions in {runs} runs, to a reference of 20 lines"
    yield figure("tiers.strict_differences", differing, 0, "lower", detail)


def evaluation() -> Iterator[Figure]:
    """The gain policy against LRU, LFU, GDSF and Sieve on made-up histories."""
    began = time.process_time()
    cells = evaluate()
    took = time.process_time() - began
    yield from _to_best(cells)
    yield from _to_sieve([cell for cell in cells if cell.share == 0.2])
    detail = f"{len(cells)} cells x {len(SEEDS)} seeds, one process"
    yield figure("tiers.evaluation_cpu_s", took, 90, "lower", detail)
    mine = msgspec.json.format(msgspec.json.encode(cells))
    theirs = subprocess.run(
        [sys.executable, "-m", "tests.bench.evaluation"],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    digest = hashlib.sha256(mine).hexdigest()[:12]
    yield figure(
        "tiers.evaluation_same_bytes",
        float(mine == theirs),
        1,
        "higher",
        f"{len(mine)} bytes of JSON, {digest}, twice, with other hash seeds",
    )


def _to_best(cells: list[Cell]) -> Iterator[Figure]:
    saved = {_name(cell): cell.saved_to_best() for cell in cells}
    worst = min(saved, key=saved.__getitem__)
    of_bound = statistics.fmean(cell.of_bound["gain"] for cell in cells)
    detail = f"to the best of four in each cell; {of_bound:.3f} of the offline bound"
    yield figure("tiers.gain_saved_mean", statistics.fmean(saved.values()), 1.0, "higher", detail)
    yield figure("tiers.gain_saved_worst", saved[worst], 0.93, "higher", worst)
    yields = {_name(cell): cell.yield_to_best() for cell in cells}
    lowest = min(yields, key=yields.__getitem__)
    detail = f"geometric mean; the lowest {yields[lowest]:.2f} in {lowest}"
    yield figure("tiers.gain_yield", geometric_mean(list(yields.values())), 3.0, "higher", detail)
    writes = statistics.fmean(cell.writes_to_lru() for cell in cells)
    documented = statistics.fmean(cell.writes["documented"] / cell.writes["lru"] for cell in cells)
    detail = f"to LRU's, mean of the cells; documented {documented:.2f}"
    yield figure("tiers.gain_writes", writes, 0.45, "lower", detail)


def _to_sieve(cells: list[Cell]) -> Iterator[Figure]:
    saved = {_name(cell): cell.saved_to_sieve() for cell in cells}
    worst = min(saved, key=saved.__getitem__)
    mean = statistics.fmean(saved.values())
    yield figure("tiers.sieve_saved_mean", mean, 1.0, "higher", "at a cache of 20 %")
    yield figure("tiers.sieve_saved_worst", saved[worst], 0.95, "higher", worst)


def _name(cell: Cell) -> str:
    return f"{cell.workload} at {cell.share:.0%}"


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "tiers.strict": strict,
    "tiers.evaluation": evaluation,
}
