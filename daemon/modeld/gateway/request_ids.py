"""
Ids for requests that models answer, so that a client's log and modeld's can be laid side by side.

A client's own id is taken where it is short and plain, and can neither end a header's line early
nor make a mess of a log; all others get a number behind a prefix that each start draws anew.
Ids are for people: nothing is looked up by them, and that they differ is not relied upon.
"""

import itertools
import os
import re
from collections.abc import Mapping
from typing import Final

HEADER: Final = b"x-request-id"
PREFIX_BYTES = 4
_PLAIN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """Gives ids, one after the other."""

    __slots__ = ("_next", "_prefix")

    def __init__(self, prefix: bytes = b"") -> None:
        """Put `prefix` before each number, or one that is drawn now."""
        self._prefix = prefix or os.urandom(PREFIX_BYTES).hex().encode("ascii")
        self._next = itertools.count(1).__next__

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the id of a request with these headers."""
        given = headers.get(HEADER)
        if given is not None and _PLAIN.fullmatch(given):
            return given
        return b"%b-%d" % (self._prefix, self._next())
