"""
Refused loads in the journal: each at once, and no flood where a program asks again and again.

What an operator asked for is always told: they do not ask a hundred times a minute.
"""

from modeld.core.entities import Origin
from modeld.core.plan import Want
from modeld.errors import ErrorCode, ModeldError
from modeld.supervisor.world import World

REPEAT_SECONDS = 60.0
"""Between two tellings that a program's load is refused for the same reason."""
MAX_REMEMBERED = 256


class Refusals:
    """Tells of loads that were given up."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        """Model and reason -> when that was told last, and how often it was not told since."""

    def note(self, want: Want, error: ModeldError) -> None:
        """Record that a load came to nothing, unless that was told a moment ago."""
        is_failure = error.code is ErrorCode.SERVER_FAILED
        silent = 0
        if want.origin is Origin.GATEWAY and not is_failure:
            key = want.model_id, error.message
            now = self._world.ports.clock.monotonic()
            told_at, silent = self._told.get(key, (now - REPEAT_SECONDS, 0))
            if now - told_at < REPEAT_SECONDS:
                self._told[key] = told_at, silent + 1
                return
            if key not in self._told and len(self._told) >= MAX_REMEMBERED:
                self._told.clear()
            self._told[key] = now, 0
        times = f" ({silent} times more in between)" if silent else ""
        self._world.ports.journal.record(
            "load-failed" if is_failure else "load-refused",
            f"{want.name} is not loaded: {error.message}{times}",
            priority=4,
            model=want.name,
            code=str(error.code),
        )
