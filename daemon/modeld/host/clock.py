"""Time, two kinds of it, from the machine."""

import time


class SystemClock:
    """The `Clock` port; no methods of its own, for the gateway asks several times a request."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
