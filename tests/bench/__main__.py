"""
Run the benchmarks, print a table, write `build/bench.json`.

    python -m tests.bench [NAME ...]

A name picks the figures that begin with it (`core.`, `gateway.one_token`).  The exit status is 0
whatever is met: a figure informs, a test decides.  A figure that can't be measured here says why.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.bench import (
    copying,
    core,
    gateway,
    holds,
    keeping,
    memory,
    passing,
    routing,
    systemd,
    tiers,
)
from tests.bench.figures import Figure

OUTPUT = Path("build/bench.json")
BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    **core.BENCHES,
    **holds.BENCHES,
    **gateway.BENCHES,
    **passing.BENCHES,
    **systemd.BENCHES,
    **copying.BENCHES,
    **tiers.BENCHES,
    **routing.BENCHES,
    **memory.BENCHES,
    **keeping.BENCHES,
}


def main(names: list[str]) -> int:
    """Run the benchmarks that fit `names`; return 0."""
    chosen = {
        name: bench
        for name, bench in BENCHES.items()
        if not names or any(name.startswith(word) or word.startswith(name) for word in names)
    }
    if not chosen:
        print(f"no such figure; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    print(f"{'FIGURE':<34}{'VALUE':>12}  {'BAR':<10}{'MET':<6}DETAIL", flush=True)
    for name, bench in chosen.items():
        began = time.monotonic()
        try:
            for figure in bench():
                figures.append(figure)
                print(figure.line(), flush=True)
        except Exception as error:  # noqa: BLE001 (one figure must not hide the others)
            traceback.print_exc()
            print(f"{name:<34}{'-':>12}  {'':<10}{'no':<6}not measured: {error!r}", flush=True)
        print(f"  ({name}: {time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_bytes(msgspec.json.format(msgspec.json.encode({"figures": figures})))
    met = sum(figure.met for figure in figures)
    print(f"\n{met} of {len(figures)} bars met; {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
