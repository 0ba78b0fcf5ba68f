"""
Steps over the bytes of a GGUF header, and never past their end.

The bytes come from strangers.  No length is believed before it is compared with the file;
arrays are stepped over, by arithmetic where their elements have a size; nothing is copied but
keys and names.  What the values mean is not known here.

Source: the format as ggml's gguf.cpp reads it, versions 2 and 3, little endian.
"""

from struct import Struct as Layout
from struct import error as LayoutError  # noqa: N812  (it is an exception's name)
from typing import NamedTuple

MAX_HEADER_BYTES = 256 * 1024**2
MAX_KEY_BYTES = 64 * 1024
MAX_STRING_BYTES = 1024**2
MAX_NAMES_BYTES = 16 * 1024**2
"""Of all keys and tensor names together; these are the only ones that are kept."""
MAX_STEPS = 4 * 1024**2
"""Strings in arrays, of all arrays together.  The largest vocabularies, with their merges, have a
million; stepping over four takes a third of a second."""

U32, U64 = Layout("<I"), Layout("<Q")
_ARRAY_START = Layout("<IQ")

BOOLEAN, STRING, ARRAY = 7, 8, 9
INTEGERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}
"""GGUF's value types that are whole numbers, as the struct module writes them."""
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each value type that has a size; the others are strings and arrays."""


class BadGguf(ValueError):
    """The bytes are not a GGUF that llama.cpp could load; the message says why."""


class Field(NamedTuple):
    """Where one value lies."""

    kind: int
    """Of the value, or of each element of an array."""
    offset: int
    size: int
    """Elements of an array, bytes of a string, 1 for a number."""
    is_array: bool


class Cursor:
    """A place in the header that never moves past its end."""

    __slots__ = ("file_bytes", "names_bytes", "offset", "steps", "view")

    def __init__(self, view: memoryview, file_bytes: int) -> None:
        self.view = view[: min(file_bytes, MAX_HEADER_BYTES)]
        self.file_bytes = file_bytes
        self.offset = 0
        self.names_bytes = 0
        self.steps = 0

    @property
    def left(self) -> int:
        """Bytes that are left of the file."""
        return self.file_bytes - self.offset

    def skip(self, count: int) -> int:
        """Step over `count` bytes and return where they begin."""
        start = self.offset
        if count > len(self.view) - start:
            raise self.short(count)
        self.offset = start + count
        return start

    def short(self, count: int) -> BadGguf:
        """Return the complaint that `count` bytes from here on are too many."""
        if count > self.left:
            return BadGguf(
                f"it ends inside its header: {count} more bytes are needed after byte"
                f" {self.offset}, and {self.left} are left"
            )
        return BadGguf(f"its header is longer than {len(self.view)} bytes")

    def take(self, layout: Layout) -> tuple[int, ...]:
        """Return the numbers that lie here, and step over them."""
        return layout.unpack_from(self.view, self.skip(layout.size))

    def name(self, what: str) -> bytes:
        """Return the key or tensor name that lies here."""
        (length,) = self.take(U64)
        if length > MAX_KEY_BYTES:
            raise BadGguf(f"a {what} of {length} bytes; {MAX_KEY_BYTES} are the most")
        self.names_bytes += length
        if self.names_bytes > MAX_NAMES_BYTES:
            raise BadGguf(f"more than {MAX_NAMES_BYTES} bytes of keys and names")
        start = self.skip(length)
        return bytes(self.view[start : start + length])

    def field(self, key: bytes) -> Field:
        """Return where the value lies that begins here, and step over it."""
        (kind,) = self.take(U32)
        if kind == STRING:
            (length,) = self.take(U64)
            if length > MAX_STRING_BYTES:
                raise BadGguf(
                    f"{quoted(key)} has {length} bytes of text; {MAX_STRING_BYTES} are the most"
                )
            return Field(STRING, self.skip(length), length, False)
        if kind == ARRAY:
            return self.array(key)
        if kind not in _SIZES:
            raise BadGguf(f"{quoted(key)} has the unknown type {kind}")
        return Field(kind, self.skip(_SIZES[kind]), 1, False)

    def array(self, key: bytes) -> Field:
        """Return where the array lies that begins here, and step over it."""
        kind, count = self.take(_ARRAY_START)
        start = self.offset
        if kind in _SIZES:
            self.skip(count * _SIZES[kind])
        elif kind == STRING:
            self.skip_strings(key, count)
        elif kind == ARRAY:
            raise BadGguf(f"{quoted(key)} is an array of arrays, which llama.cpp does not read")
        else:
            raise BadGguf(f"{quoted(key)} is an array of the unknown type {kind}")
        return Field(kind, start, count, True)

    def skip_strings(self, key: bytes, count: int) -> None:
        """Step over `count` strings."""
        if 8 * count > self.left:
            raise self.short(8 * count)
        self.steps += count
        if self.steps > MAX_STEPS:
            raise BadGguf(f"more than {MAX_STEPS} strings in arrays")
        # The one loop that may run a million times: only locals, one check, no call but this.
        view, offset, unpack = self.view, self.offset, U64.unpack_from
        try:
            for _ in range(count):
                (length,) = unpack(view, offset)
                if length > MAX_STRING_BYTES:
                    raise BadGguf(
                        f"{quoted(key)} has a string of {length} bytes;"
                        f" {MAX_STRING_BYTES} are the most"
                    )
                offset += 8 + length
        except LayoutError:
            raise self.short(offset + 8 - self.offset) from None
        self.skip(offset - self.offset)


def quoted(name: bytes) -> str:
    """Return a key or a name that a stranger chose, fit for a sentence."""
    text = name[:256].decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in text)[:64]
