"""
What requests cost, and what the models gave for it: counted by model.

Pure sums of what the gateway measured and what the servers themselves reported.  Nothing here
reads an answer, and nothing is guessed where a server did not say.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

FIRST_TOKEN_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes that times to the first token are counted in; one more is open."""
SWAP_SECONDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""The same for swaps."""
MAX_RECENT = 200
"""Times to the first token that percentiles are taken of (S2-15)."""
MAX_MODELS = 10_000
"""Of which sums are kept."""
FAILURES = ("busy", "left", "load", "refused", "server")
"""
How requests fail: too many wait; the client left; the model could not be loaded; the server
refused the request; the server failed, or its answer broke off.
"""


class Figures(Struct, frozen=True, kw_only=True, gc=False):
    """What one request to a model cost."""

    model_id: str = ""
    waited_seconds: float = 0.0
    """For its model to be loaded."""
    was_ready: bool = True
    """Whether the model was loaded when it came; false where its server was never asked."""
    first_token_seconds: float = 0.0
    """
    From the request's sending to the first token: the first byte of a stream, or the end without
    the time that the server says it generated.  0 where nobody can tell.
    """
    seconds: float = 0.0
    """From the request's coming to the answer's end."""
    prompt_tokens: int = 0
    """As the server's final report says, cached ones included; 0 where it says nothing."""
    cached_tokens: int = 0
    generated_tokens: int = 0
    generation_seconds: float = 0.0
    """For all generated tokens but the first, which comes with the prompt."""
    failure: str = ""
    """One of `FAILURES`; empty for none."""

    @property
    def is_failed(self) -> bool:
        """Whether it failed, other than by its client's leaving."""
        return self.failure not in {"", "left"}


class Totals(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sums of one model, as the state keeps them."""

    requests: int = 0
    failed: int = 0
    hits: int = 0
    """Requests whose model was loaded when they came."""
    seconds: float = 0.0
    """Of all requests."""
    waited_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    timed_tokens: int = 0
    """Those that took `generation_seconds`."""
    generation_seconds: float = 0.0
    swaps: int = 0
    """Loads that a program asked for."""
    swap_seconds: float = 0.0
    """From the asking until the model was ready."""


class Histogram:
    """How many values fell into each class."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value; one that equals a bound belongs below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: "Histogram") -> None:
        """Count all of another's."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Tally(Struct, kw_only=True):
    """The sums of one model since modeld started, in the making."""

    requests: int = 0
    failed: int = 0
    hits: int = 0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    timed_tokens: int = 0
    generation_seconds: float = 0.0
    swaps: int = 0
    swap_seconds: float = 0.0
    loads: int = 0
    """All of them, whoever asked."""
    failed_loads: int = 0
    failures: dict[str, int] = {}
    """By class."""
    first_token: Histogram
    recent: deque[float]
    """The last times to the first token.  [s]"""

    def count(self, figures: Figures) -> None:
        """Count a request."""
        self.requests += 1
        self.hits += figures.was_ready
        self.seconds += figures.seconds
        self.waited_seconds += figures.waited_seconds
        self.prompt_tokens += figures.prompt_tokens
        self.cached_tokens += figures.cached_tokens
        self.generated_tokens += figures.generated_tokens
        if figures.generation_seconds > 0:
            self.timed_tokens += max(0, figures.generated_tokens - 1)
            self.generation_seconds += figures.generation_seconds
        if figures.first_token_seconds > 0:
            self.first_token.add(figures.first_token_seconds)
            self.recent.append(figures.first_token_seconds)
        if figures.failure:
            self.failed += figures.is_failed
            self.failures[figures.failure] = self.failures.get(figures.failure, 0) + 1

    def count_load(self, seconds: float, *, is_swap: bool) -> None:
        """Count a load that made the model ready.  `seconds`: since it was asked for."""
        self.loads += 1
        if is_swap:
            self.swaps += 1
            self.swap_seconds += seconds

    def merge(self, other: "Tally") -> None:
        """Count all of another's."""
        for name in (*_SUMS, "loads", "failed_loads"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for kind, count in other.failures.items():
            self.failures[kind] = self.failures.get(kind, 0) + count
        self.first_token.merge(other.first_token)
        self.recent.extend(other.recent)


_SUMS = Totals.__struct_fields__


def tally() -> Tally:
    """Return an empty one."""
    return Tally(
        failures={}, first_token=Histogram(FIRST_TOKEN_SECONDS), recent=deque(maxlen=MAX_RECENT)
    )


def plus(before: Totals | None, since: Tally) -> Totals:
    """Return the sums of what was kept and what came since."""
    before = before or Totals()
    sums = {name: getattr(before, name) + getattr(since, name) for name in _SUMS}
    return Totals(**sums)


def kept(before: Mapping[str, Totals], since: Mapping[str, Tally]) -> dict[str, Totals]:
    """
    Return the sums of all models to keep; those with the fewest requests go where it is too many.

    Args:
        before: By model id, as they were kept when modeld started.
        since: By model id, what came since.
    """
    totals = {**before, **{one: plus(before.get(one), each) for one, each in since.items()}}
    if len(totals) <= MAX_MODELS:
        return totals
    most = sorted(totals, key=lambda one: totals[one].requests, reverse=True)
    return {one: totals[one] for one in most[:MAX_MODELS]}


def together(totals: Iterable[Totals]) -> Totals:
    """Return the sums of several models."""
    found = tuple(totals)
    return Totals(**{name: sum(getattr(one, name) for one in found) for name in _SUMS})


def hit_rate(totals: Totals) -> float | None:
    """Return the part of the requests whose model was loaded already; None without any."""
    return totals.hits / totals.requests if totals.requests else None


def mean_swap_seconds(totals: Totals) -> float | None:
    """Return how long a swap took on average; None without any."""
    return totals.swap_seconds / totals.swaps if totals.swaps else None


def tokens_per_second(totals: Totals) -> float | None:
    """Return how fast one request is answered; None where no server said how long it took."""
    if not totals.timed_tokens or not totals.generation_seconds:
        return None
    return totals.timed_tokens / totals.generation_seconds


def percentile(values: Iterable[float], fraction: float) -> float | None:
    """Return the value that this part of the others does not exceed (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -int(-fraction * len(ordered) // 1) - 1))]
