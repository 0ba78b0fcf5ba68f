"""
Made-up histories of model use, each a function of its name and seed and nothing else.

    g1  zipf       60 models, 120 days, 12 loads a day, Zipf 1, independent of each other
    g2  projects   60 models of which 30 come later, one every 4 days, tried up to 4 times, and 30 %
                   of them adopted; working sets of 3 to 7 for two weeks each, 35 % of the loads
                   copied from the own history, 15 % one-off tests
    g3  scans      g2, and every 15 days a sweep over 25 models
    g4  ecosystem  364 days, 6 loads a day, popularity as in the real pulls of each week
    g5  reversed   g1 with the popular models small, as people who lack memory have it

Loads come in bursts (gamma gaps with a coefficient of variation of 1.5), by day more than by
night, on weekends less.  Sizes are drawn from the real ones, in g1 to g4 whatever the popularity.

These are the workloads that the policy was designed on, rebuilt from their published parameters;
what was not published was chosen so that LRU, LFU, GDSF, Sieve and the offline bound come out as
published.  The gain policy had been run on an earlier version of them, on other seeds.
"""

import json
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from modeld.core.compare import Trace
from modeld.core.replay import Load
from modeld.units import GIB

DATA = Path(__file__).parent / "data"
EPOCH = 1_767_571_200.0
"""A Monday."""
DAY = 86_400.0
GAP_VARIATION = 1.5
HOURS = (
    0.15, 0.08, 0.05, 0.05, 0.05, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 1.0,
    0.8, 0.8, 1.0, 1.0, 0.9, 0.8, 0.7, 0.7, 0.8, 0.7, 0.5, 0.3,
)  # fmt: skip
WEEKEND = 0.6
RAM_BYTES = 32 * GIB


def sizes(rng: random.Random, names: Sequence[str]) -> dict[str, int]:
    """Return a size for each name, drawn from the real ones.  [bytes]"""
    real = [size for _, size in json.loads((DATA / "gguf-sizes.json").read_text())]
    return {name: int(rng.choice(real) * GIB) for name in names}


def arrivals(rng: random.Random, days: int, per_day: float) -> Iterator[float]:
    """Yield the times of loads, `per_day` on a weekday: gamma gaps, thinned by hour and weekday."""
    mean_activity = sum(HOURS) / 24
    shape = 1 / GAP_VARIATION**2
    scale = DAY / per_day * mean_activity / shape
    at = EPOCH
    while True:
        at += rng.gammavariate(shape, scale)
        if at >= EPOCH + days * DAY:
            return
        day, hour = divmod((at - EPOCH) / 3600, 24)
        if rng.random() < HOURS[int(hour)] * (WEEKEND if day % 7 >= 5 else 1.0):
            yield at


def zipf(count: int, alpha: float) -> list[float]:
    """Return the running sums of Zipf weights."""
    return list(accumulate(1 / (place + 1) ** alpha for place in range(count)))


def pick(rng: random.Random, sums: Sequence[float]) -> int:
    """Return an index, by running sums of weights."""
    return min(bisect_left(sums, rng.random() * sums[-1]), len(sums) - 1)


def independent(rng: random.Random, *, popular_small: bool = False) -> Trace:
    """Return g1, or g5."""
    names = [f"m{number:02}" for number in range(60)]
    known = sizes(rng, names)
    rng.shuffle(names)
    if popular_small:  # half of the order by size, half by chance
        chance = {name: place for place, name in enumerate(names)}
        by_size = {name: place for place, name in enumerate(sorted(names, key=known.__getitem__))}
        names.sort(key=lambda name: (chance[name] + by_size[name], name))
    sums = zipf(len(names), 1.0)
    loads = tuple(Load(at, names[pick(rng, sums)]) for at in arrivals(rng, 120, 12))
    return Trace(loads=loads, sizes_bytes=known, ram_bytes=RAM_BYTES)


class _Person:
    """Somebody whose work changes every two weeks."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.pool = [f"m{number:02}" for number in range(30)]
        self.working: list[str] = []
        self.phase_end = EPOCH
        self.history: list[str] = []
        self.new_at = EPOCH + 4 * DAY
        self.tries: list[str] = []
        self.names = list(self.pool)

    def next(self, at: float) -> str:
        """Return what is loaded at `at`."""
        self._new_phase(at)
        self._new_model(at)
        chosen = self._choose()
        self.history.append(chosen)
        return chosen

    def _new_phase(self, at: float) -> None:
        if at < self.phase_end:
            return
        while self.phase_end <= at:
            self.phase_end += self.rng.expovariate(1 / (14 * DAY))
        kept = [one for one in self.working if self.rng.random() < 0.6]
        others = [one for one in self.pool if one not in kept]
        wanted = max(len(kept), self.rng.randint(3, 7))
        self.working = kept + self.rng.sample(others, wanted - len(kept))
        self.rng.shuffle(self.working)

    def _new_model(self, at: float) -> None:
        while at >= self.new_at:
            self.new_at += 4 * DAY
            name = f"n{len(self.names):02}"
            self.names.append(name)
            self.tries += [name] * self.rng.randint(1, 4)
            if self.rng.random() < 0.3:
                self.pool.append(name)
                self.working.insert(self.rng.randrange(len(self.working) + 1), name)

    def _choose(self) -> str:
        if self.tries and self.rng.random() < 0.3:
            return self.tries.pop(0)
        chance = self.rng.random()
        if chance < 0.15:
            return self.rng.choice(self.names)
        if chance < 0.5 and self.history:
            back = 1 + int(self.rng.paretovariate(0.8))  # what is loaded is not loaded again
            return self.history[-min(back, len(self.history))]
        return self.working[pick(self.rng, zipf(len(self.working), 1.2))]


def projects(rng: random.Random, *, sweep_days: float = 0.0) -> Trace:
    """Return g2, or g3 with a sweep every `sweep_days`."""
    person = _Person(rng)
    loads: list[Load] = []
    sweep_at = EPOCH + sweep_days * DAY
    for at in arrivals(rng, 120, 12):
        if sweep_days and at >= sweep_at:
            swept = rng.sample(person.names, 25)
            loads += [Load(sweep_at + 60.0 * place, name) for place, name in enumerate(swept)]
            sweep_at += sweep_days * DAY
        loads.append(Load(at, person.next(at)))
    loads.sort(key=lambda one: one.at)
    return Trace(loads=tuple(loads), sizes_bytes=sizes(rng, person.names), ram_bytes=RAM_BYTES)


def ecosystem(rng: random.Random) -> Trace:
    """Return g4."""
    table = json.loads((DATA / "ollama-weekly-deltas.json").read_text())
    names: list[str] = table["models"]
    known = sizes(rng, names)
    weeks = [list(accumulate(week)) for week in table["weeks"]]
    loads = [
        Load(at, names[pick(rng, weeks[int((at - EPOCH) // (7 * DAY))])])
        for at in arrivals(rng, 364, 6)
    ]
    used = {load.model_id for load in loads}
    return Trace(
        loads=tuple(loads),
        sizes_bytes={name: size for name, size in known.items() if name in used},
        ram_bytes=RAM_BYTES,
    )


GENERATORS: dict[str, Callable[[random.Random], Trace]] = {
    "g1": independent,
    "g2": projects,
    "g3": lambda rng: projects(rng, sweep_days=15),
    "g4": ecosystem,
    "g5": lambda rng: independent(rng, popular_small=True),
}


def generate(name: str, seed: int) -> Trace:
    """Return the history of that name and seed."""
    return GENERATORS[name](random.Random(f"{name}-{seed}"))
