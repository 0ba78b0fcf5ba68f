"""
What holds whatever happens to models and their servers, counted over many generated days.

The days of `tests.support.keeping_script`, from seeds: programs, people, deaths, changes of the
configuration, on a clock of their own.
"""

from collections.abc import Callable, Iterator

from tests.bench.figures import Figure, figure
from tests.support.keeping_script import generated, trial_of

DAYS = 1000
REQUESTS_A_DAY = 100
FIRST_SEED = 10_000
"""Others than the suite's."""


def violations() -> Iterator[Figure]:
    """Count limits exceeded, promises broken and programs left waiting."""
    requests = answered = refused = 0
    found: list[str] = []
    for seed in range(FIRST_SEED, FIRST_SEED + DAYS):
        trial = trial_of(*generated(seed, REQUESTS_A_DAY))
        requests += trial.requests
        answered += trial.answered
        refused += trial.refused
        found += trial.violations
    detail = f"{requests} requests in {DAYS} days, {answered} answered"
    if found:
        detail += f"; the first: {found[0]}"
    yield figure("keeping.violations", len(found), 0, "lower", detail)


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {"keeping.violations": violations}
