"""
Heads that were read before: a client, or a server, begins most of its messages with the same bytes.

What such a head means is looked up by its bytes, less the digits of its Content-Length, instead of
being parsed again: that is a fifth of what a short request costs.  Kept are only heads that llhttp
has read, and that were found in order; looked up are only those that came whole, in one read.  A
head whose bytes differ from a kept one in those digits alone can't mean anything else: whatever
could be wrong with it is in the bytes that are compared.
"""

import re
from typing import Final, Generic, TypeVar

Meaning = TypeVar("Meaning")

MAX_HEADS = 256
MAX_HEAD_BYTES = 2048
"""Of a head that is kept; the SDKs' have 500 to 1,000."""
_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,9})\r\n")


class KnownHeads(Generic[Meaning]):
    """What the newest of them mean."""

    def __init__(self) -> None:
        self._meanings: dict[bytes, Meaning] = {}

    def find(self, data: bytes) -> tuple[Meaning, int, int] | None:
        """Return what a head means, its body's length and where that begins; None if unknown."""
        cut = _cut(data)
        if cut is None:
            return None
        key, length, body_at = cut
        meaning = self._meanings.get(key)
        return None if meaning is None else (meaning, length, body_at)

    def keep(self, data: bytes, meaning: Meaning) -> None:
        """Remember what the head means that these bytes begin with, if it can be found again."""
        cut = _cut(data)
        if cut is None:
            return
        if len(self._meanings) >= MAX_HEADS:
            del self._meanings[next(iter(self._meanings))]
        self._meanings[cut[0]] = meaning


def _cut(data: bytes) -> tuple[bytes, int, int] | None:
    """Return a head without its length, that length, and where the body begins."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    found = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
    if found is None:
        return None
    start, stop = found.span(1)
    return data[:start] + data[stop:end], int(data[start:stop]), end + 4
