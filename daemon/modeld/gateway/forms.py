"""
Forms with files, read as strictly as JSON is: one way to cut the bytes, or none.

Only what has to be known is taken out, the short fields; the bytes themselves go on to the server
as they came.  So nothing may be in them that another reader could cut differently: a preamble, an
epilogue, bare line feeds, a delimiter that goes on, a name twice, headers that nobody needs.
Nothing is decoded but the fields' texts, and nothing is written anywhere.  No I/O.

Source: RFC 7578, RFC 2046 5.1.
"""

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from modeld.gateway.http import Body, Problem

MAX_PARTS = 32
MAX_PART_HEAD_BYTES = 4096
MAX_TEXT_BYTES = 64 * 1024
"""Of a field that is no file: a prompt at most."""
_TYPE: Final = re.compile(
    rb"multipart/form-data *; *boundary=(\"?)([0-9A-Za-z'+_.-]{1,70})\1",
    re.IGNORECASE,
)
_DISPOSITION: Final = re.compile(
    rb"form-data; name=\"([0-9A-Za-z_.-]{1,64}(?:\[\])?)\""
    rb"((?:; filename=\"[^\"\\\x00-\x1f\x7f]{0,255}\")?"
    rb"(?:; filename\*=utf-8''[0-9A-Za-z%!#$&+.^_`|~-]{0,765})?)",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(rb"([A-Za-z-]{1,40}): ?([\x20-\x7e\x80-\xff]*)")
_HEADERS: Final = frozenset(
    (b"content-disposition", b"content-type", b"content-length", b"content-transfer-encoding")
)


class Form(Struct, frozen=True, kw_only=True):
    """A form that was read."""

    content_type: str
    """As it is passed on; made anew from the boundary alone."""
    texts: dict[str, tuple[str, ...]]
    """Field -> its values."""
    files: tuple[str, ...]
    """The fields that are files."""

    def text(self, name: str) -> str:
        """
        Return the value of a field that is given once at most; empty where it is not given.

        Raises:
            Problem: 400, it is given twice, or as a file.
        """
        values = self.texts.get(name, ())
        if len(values) > 1 or name in self.files:
            raise Problem(400, f"the form has more than one text for '{name}'")
        return values[0] if values else ""


def read(content_type: bytes, body: Body) -> Form:
    """
    Return what a form says.

    Raises:
        Problem: 415, it is none; 400, it is not one that has a single meaning.
    """
    match = _TYPE.fullmatch(content_type)
    if match is None:
        raise Problem(415, "the Content-Type must be multipart/form-data with a boundary")
    boundary: bytes = match[2]
    texts: dict[str, tuple[str, ...]] = {}
    files: list[str] = []
    for start, end in _parts(boundary, body):
        name, is_file, begin = _head(body, start, end)
        if is_file:
            files.append(name)
        else:
            texts[name] = (*texts.get(name, ()), _text(name, body, begin, end))
    if len(set(files)) != len(files):
        raise Problem(400, "a form may have each of its files once")
    return Form(
        content_type=f"multipart/form-data; boundary={boundary.decode('ascii')}",
        texts=texts,
        files=tuple(files),
    )


def _parts(boundary: bytes, body: Body) -> Iterator[tuple[int, int]]:
    """Give where each part begins and ends, without its delimiters."""
    delimiter = b"\r\n--" + boundary
    if not body.startswith(delimiter[2:]):
        raise Problem(400, "the form does not begin with its boundary")
    position = len(delimiter) - 2
    for number in range(1, MAX_PARTS + 2):
        after = bytes(body[position : position + 4])
        if after in {b"--", b"--\r\n"} and position + len(after) == len(body):
            if body.count(delimiter[2:]) != number:
                raise Problem(400, "the boundary is inside a part of the form")
            return
        if not after.startswith(b"\r\n"):
            raise Problem(400, "a boundary of the form goes on, or something is after the last")
        end = body.find(delimiter, position)
        if end < 0:
            raise Problem(400, "the form does not end with its boundary")
        yield position + 2, end
        position = end + len(delimiter)
    raise Problem(400, f"a form may have {MAX_PARTS} parts")


def _head(body: Body, start: int, end: int) -> tuple[str, bool, int]:
    """Return a part's name, whether it is a file, and where its content begins."""
    blank = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEAD_BYTES))
    if blank < 0:
        raise Problem(400, "a part of the form has no head, or too large a one")
    headers: dict[bytes, bytes] = {}
    for line in bytes(body[start:blank]).split(b"\r\n"):
        match = _HEADER.fullmatch(line)
        name = match[1].lower() if match is not None else b""
        if match is None or name not in _HEADERS or name in headers:
            raise Problem(400, "a part of the form has a header that is not understood")
        headers[name] = match[2]
    said = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
    if said is None:
        raise Problem(400, "a part of the form has no name, or an unusual one")
    return said[1].decode("ascii"), bool(said[2]), blank + 4


def _text(name: str, body: Body, begin: int, end: int) -> str:
    if end - begin > MAX_TEXT_BYTES:
        raise Problem(400, f"'{name}' of the form may have {MAX_TEXT_BYTES} bytes")
    try:
        return bytes(body[begin:end]).decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(400, f"'{name}' of the form is not UTF-8") from None
