"""
Frames: what every message between modelctl and modeld looks like, whatever it says.

A message is three ZeroMQ frames after the peer's identity: the magic `MD1`, a header and a
body, both msgpack.  The header is stable for ever, so that any version can refuse any other in
words the other understands.  The body is one tagged Struct from a module beside this one.
Nothing here opens a socket.
"""

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from modeld.errors import ModeldError, Numbers, ProtocolMismatch

MAGIC = b"MD1"
VERSION = 1
MAX_MESSAGE_BYTES = 1 << 20
"""A frame above it ends the connection; the largest honest one is a `list` of 10,000 models."""

Kind = Literal["request", "progress", "reply", "failure"]
Body = TypeVar("Body", bound=Struct)


class Header(Struct, frozen=True, kw_only=True):
    """What is true of a message whatever its body says."""

    v: int
    """Protocol version."""
    id: str
    """The request's id, made by the client; answers repeat it."""
    kind: Kind = "request"
    deadline_ms: int = 0
    """How long the client will wait; 0 for as long as it takes."""
    program: str = ""
    """Name and version of the sender, for the log."""


class Failure(Struct, frozen=True, tag="failure"):
    """The answer to a request that failed."""

    code: str
    """A `modeld.errors.ErrorCode`."""
    message: str
    hint: str = ""
    numbers: Numbers = {}


class Progress(Struct, frozen=True, kw_only=True, tag="progress", omit_defaults=True):
    """A step of a request that takes time; any number come before the answer."""

    phase: str
    """`queue`, `stop`, `copy`, `start`, `load` or `ready`."""
    text: str = ""
    model: str = ""
    fraction: float = -1.0
    """0..1 of this phase; -1 where it can't be told."""
    missed: int = 0
    """How many messages were dropped before this one because nobody read them."""


class BadFrame(ProtocolMismatch):
    """Bytes that are not ours: no reply can be addressed, so none is sent."""


_encoder = msgspec.msgpack.Encoder()
_headers = msgspec.msgpack.Decoder(Header)


def encode(header: Header, body: Struct) -> list[bytes]:
    """Return the frames of one message."""
    return [MAGIC, _encoder.encode(header), _encoder.encode(body)]


def decode_header(frames: list[bytes]) -> Header:
    """
    Return the header of a message.

    Raises:
        BadFrame: It is no message of ours.
    """
    if len(frames) != 3 or frames[0] != MAGIC:
        raise BadFrame("not a modeld message")
    try:
        return _headers.decode(frames[1])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadFrame(f"unreadable header: {error}") from error


def require_version(header: Header) -> None:
    """
    Check that both sides speak the same protocol.

    Raises:
        ProtocolMismatch: They do not.
    """
    if header.v != VERSION:
        raise ProtocolMismatch(
            f"this modeld speaks protocol {VERSION}, "
            f"{header.program or 'the client'} speaks {header.v}",
            hint="modelctl and modeld must be of one version: systemctl --user restart modeld",
            server_version=VERSION,
            client_version=header.v,
        )


def decode_body(decoder: "msgspec.msgpack.Decoder[Body]", frame: bytes) -> Body:
    """
    Return the body of a message.

    Raises:
        ProtocolMismatch: It is not one of those that `decoder` knows.
    """
    try:
        return decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ProtocolMismatch(
            f"not understood: {error}", hint="are modelctl and modeld of one version?"
        ) from error


def failure(error: ModeldError) -> Failure:
    """Return `error` as it travels."""
    return Failure(str(error.code), error.message, error.hint, error.numbers)
