"""
Whether an operator may load again already.

Two loads on one port must lie a configured time apart (S0-27), so that a script that loops cannot
make the disk thrash.  What runs already is not loaded again and never comes here; neither do the
gateway's own loads.
"""

import math
from datetime import datetime

from modeld.errors import Throttled


def check(last: datetime | float | None, now: float, min_reload_seconds: int) -> None:
    """
    Check that enough time has passed since the last load on this port.

    A last load in the future means that the clock was set back; it holds nobody up, since it
    might do so for years.

    Args:
        last: [unix s] The last load; None for none.
        now: [unix s]
        min_reload_seconds: [s] The time between; 0 for no throttle.

    Raises:
        Throttled: Not yet; `retry_after_s` says how many whole seconds are left.
    """
    if last is None:
        return
    elapsed = now - (last.timestamp() if isinstance(last, datetime) else last)
    left_seconds = math.ceil(min_reload_seconds - elapsed)
    if elapsed >= 0 and left_seconds > 0:
        raise Throttled(
            f"Too soon to reload. Wait {left_seconds}s.",
            hint="reload.min_reload_seconds sets the time between two loads",
            retry_after_s=left_seconds,
        )
