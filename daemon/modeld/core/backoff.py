"""
When a server that died may be started again, and when it is given up.

The waits double from 1 s to 60 s, a little unevenly, so that several do not start as one.  Five
deaths in ten minutes are enough: then the model has FAILED until somebody asks for it.  Ten
healthy minutes forgive everything.  Whoever is killed for want of memory is not started again by
itself: the same size would die the same death.
"""

import re
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import Exit

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
WINDOW_SECONDS = 600.0
MAX_DEATHS = 5
_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|unable to allocate|cannot allocate memory|bad_alloc"
    r"|cudamalloc failed|erroroutofdevicememory|ggml_assert\(.*alloc",
    re.IGNORECASE,
)
"""What llama.cpp, its back ends and the C++ library print when memory ends."""


def ran_out_of_memory(ended: Exit) -> bool:
    """Whether a process died for want of memory, as the kernel or its own last words tell."""
    return ended.how == "oom-kill" or any(map(_OUT_OF_MEMORY.search, ended.lines))


class Deaths(Struct, frozen=True, kw_only=True):
    """The recent deaths of one model's servers."""

    at: tuple[float, ...]
    """[monotonic s] Oldest first."""
    cause: str
    """Of the last."""
    retry_at: float
    """[monotonic s] Before it nothing but an operator starts the model again."""
    given_up: bool = False
    """Too many deaths: FAILED."""
    restart: bool = False
    """Whether modeld starts it again by itself when the time comes."""

    def without_restart(self) -> "Deaths":
        """Return the same tally for a model that is being started again."""
        return replace(self, restart=False)


def after_death(
    deaths: Deaths | None, now: float, healthy_seconds: float, *, cause: str, restart: bool
) -> Deaths:
    """
    Return the tally after one more death.

    Args:
        deaths: Before it; None for none.
        now: [monotonic s] The moment of death.
        healthy_seconds: [s] How long this server was ready.
        cause: One sentence.
        restart: Whether it ran well, so that starting it again is worth a try.
    """
    earlier = deaths.at if deaths is not None and healthy_seconds < WINDOW_SECONDS else ()
    at = (*(each for each in earlier if now - each < WINDOW_SECONDS), now)
    if len(at) >= MAX_DEATHS:
        return Deaths(at=at, cause=cause, retry_at=now + WINDOW_SECONDS, given_up=True)
    wait = min(FIRST_WAIT_SECONDS * 2 ** (len(at) - 1), LONGEST_WAIT_SECONDS)
    # up to a quarter more, the same for the same cause and count: no dice in a decision
    uneven = 1 + (crc32(f"{cause}{len(at)}".encode()) % 256) / 1024
    return Deaths(at=at, cause=cause, retry_at=now + wait * uneven, restart=restart)
