"""
How fast a copy may go, and how fast it goes.

Arithmetic over a clock that is handed in: no sleeping, no threads, no files.
"""

SMOOTHING_SECONDS = 3.0
"""A rate is that of about the last three seconds: steady enough to read, quick to follow."""
BURST_SECONDS = 0.25
"""What a bucket holds at most, so that a pause is not made up for in one go."""


class Bucket:
    """A token bucket of bytes; it may go into debt for one chunk, which is then waited for."""

    def __init__(self, rate_bytes_per_s: float, now: float) -> None:
        self.rate = rate_bytes_per_s
        self._tokens = 0.0
        self._at = now

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait before the next chunk; 0 for not at all."""
        if self.rate <= 0:
            return 0.0
        self._fill(now)
        return max(0.0, -self._tokens / self.rate)

    def take(self, size_bytes: int, now: float) -> None:
        """Pay for a chunk."""
        if self.rate > 0:
            self._fill(now)
            self._tokens -= size_bytes

    def _fill(self, now: float) -> None:
        elapsed = max(0.0, now - self._at)
        self._at = now
        self._tokens = min(self._tokens + elapsed * self.rate, self.rate * BURST_SECONDS)


class RateMeter:
    """The smoothed rate of something that counts bytes upwards."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._count = 0
        self._weight = 0.0
        self._rate = 0.0

    def rate(self, count_bytes: int, now: float) -> float:
        """Return the rate at `now`, when `count_bytes` are done.  [bytes/s]"""
        elapsed = now - self._at
        if elapsed > 0:
            keep = 2.0 ** (-elapsed / SMOOTHING_SECONDS)
            self._rate = self._rate * keep + (count_bytes - self._count) / elapsed * (1 - keep)
            self._weight = self._weight * keep + (1 - keep)
            self._at, self._count = now, count_bytes
        # divided by the weights so far: the first figures are right, not near zero
        return self._rate / self._weight if self._weight else 0.0
