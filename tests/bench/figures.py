"""What a figure is, and how times are compared so that a noisy machine does not lie."""

import statistics
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Better = Literal["lower", "higher"]


class Figure(Struct, frozen=True, kw_only=True):
    """One measured promise."""

    name: str
    value: float
    bar: float
    better: Better
    met: bool
    detail: str

    def line(self) -> str:
        """Return its line of the table."""
        sign = "<=" if self.better == "lower" else ">="
        bar, met = f"{sign} {self.bar:g}", "yes" if self.met else "NO"
        return f"{self.name:<34}{self.value:>12.3f}  {bar:<10}{met:<6}{self.detail}"


def figure(name: str, value: float, bar: float, better: Better, detail: str) -> Figure:
    """Return a figure that knows whether its bar is met."""
    met = value <= bar if better == "lower" else value >= bar
    return Figure(name=name, value=value, bar=bar, better=better, met=met, detail=detail)


def interleaved(
    first: Callable[[], float], second: Callable[[], float], rounds: int, warmup: int = 2
) -> tuple[list[float], list[float]]:
    """
    Return what both measured, in turn, A B A B: a machine that slows down slows both.

    Args:
        first: Returns one measurement.
        second: The same, of what it is compared with.
        rounds: How many of each are kept.
        warmup: How many of each are thrown away first.
    """
    firsts, seconds = [], []
    for number in range(warmup + rounds):
        pair = first(), second()
        if number >= warmup:
            firsts.append(pair[0])
            seconds.append(pair[1])
    return firsts, seconds


def median_ratio(firsts: list[float], seconds: list[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(firsts) / statistics.median(seconds)


def milliseconds(values: list[float]) -> str:
    """Return the median of seconds in milliseconds."""
    return f"{statistics.median(values) * 1000:.2f} ms"
