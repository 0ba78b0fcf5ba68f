"""Time, two kinds of it, from the machine."""

import time


class SystemClock:
    """The `Clock` port."""

    def now(self) -> float:
        """Return the wall clock.  [unix s]"""
        return time.time()

    def monotonic(self) -> float:
        """Return time that never jumps.  [s]"""
        return time.monotonic()
