"""How far a copy is, told a few times a second at most."""

import threading
from collections.abc import Callable

from modeld.core.events import CopyMoved
from modeld.host.copy.pace import RateMeter

EVENTS_PER_SECOND = 5

Tell = Callable[[CopyMoved], None]


class Progress:
    """Counts what is read and what is written; the two happen in different threads."""

    def __init__(
        self, copy_id: str, total_bytes: int, tell: Tell, clock: Callable[[], float]
    ) -> None:
        self._copy_id = copy_id
        self._total = total_bytes
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._meter = RateMeter(clock())
        self._next = 0.0
        self._copied = 0
        self._read = 0
        self._is_kept = True

    def read(self, size_bytes: int, *, kept: bool) -> None:
        """Note that a chunk was read, and whether its pages stay."""
        with self._lock:
            self._read += size_bytes
            self._is_kept = self._is_kept and kept
            # The server behind the tee waits for the last byte: it is told at once.
            self._say(now=self._is_kept and self._read >= self._total)

    def wrote(self, size_bytes: int) -> None:
        """Note that a chunk was written."""
        with self._lock:
            self._copied += size_bytes
            self._say(now=False)

    def done(self) -> None:
        """Tell the last state, at once."""
        with self._lock:
            self._say(now=True)

    def _say(self, *, now: bool) -> None:
        at = self._clock()
        if now or at >= self._next:
            self._next = at + 1 / EVENTS_PER_SECOND
            self._tell(
                CopyMoved(
                    copy_id=self._copy_id,
                    copied_bytes=self._copied,
                    total_bytes=self._total,
                    rate_bytes_per_s=self._meter.rate(self._copied, at),
                    read_bytes=self._read if self._is_kept else 0,
                )
            )
