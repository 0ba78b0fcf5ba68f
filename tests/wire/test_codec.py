"""`wire.codec`: frames that any version can tell apart."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.errors import ProtocolMismatch
from modeld.rpc.handlers import HANDLERS, decoder
from modeld.wire import codec
from modeld.wire.codec import BadFrame, Header, decode_body, decode_header, encode
from modeld.wire.common import Name, Selector
from modeld.wire.endpoint import MAX_PATH_BYTES, socket_path
from modeld.wire.load import Load

RECORDED = bytes.fromhex(
    "85a17601a26964a27231a46b696e64a772657175657374ab646561646c696e655f6d7300a770726f6772616da0"
)
"""The header of a request as version 1 wrote it: every later version must read it."""


def test_header_is_read_as_it_was_recorded() -> None:
    """The header is stable for ever, so that any version can refuse any other."""
    assert msgspec.msgpack.encode(Header(v=1, id="r1")) == RECORDED
    assert decode_header([codec.MAGIC, RECORDED, b""]) == Header(v=1, id="r1")


def test_header_of_the_future_is_read_without_what_is_new_in_it() -> None:
    """Else the refusal could not be addressed."""
    newer = msgspec.msgpack.encode({"v": 9, "id": "r1", "kind": "request", "colour": "red"})

    with pytest.raises(ProtocolMismatch, match="speaks 9"):
        codec.require_version(decode_header([codec.MAGIC, newer, b""]))


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_frames_that_are_none_of_ours_are_told_apart(frames: list[bytes]) -> None:
    """Garbage is dropped, never answered and never a crash."""
    with pytest.raises(BadFrame):
        decode_header(frames)


def test_request_survives_the_way_there() -> None:
    """What was asked is what is heard."""
    request = Load(selector=Selector(slot="tool"), arguments=("--temp", "0.2"), port=8081)

    assert decode_body(decoder(), encode(Header(v=1, id="x"), request)[2]) == request


def test_request_with_an_unknown_field_is_refused() -> None:
    """A daemon that half obeys is worse than one that refuses."""
    body = msgspec.msgpack.encode({"type": "load", "selector": {"pattern": "x"}, "colour": "red"})

    with pytest.raises(ProtocolMismatch, match="colour"):
        decode_body(decoder(), body)


@pytest.mark.parametrize(
    "value", ["../x", "a b", "-rf", "a\n", "é", "x" * 129, "a/b", ".hidden", "@tool"]
)
def test_name_that_could_harm_a_file_or_a_shell_is_refused(value: str) -> None:
    """Names end up in state files, logs and scripts."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, Name)


@given(st.sampled_from(sorted(HANDLERS, key=str)), st.binary(max_size=200))
def test_body_that_is_broken_is_an_error_and_never_a_crash(kind: type, junk: bytes) -> None:
    """E7: every mutated message gets an error reply."""
    body = bytearray(msgspec.msgpack.encode({"type": str(kind.__struct_config__.tag)}))
    body[1:1] = junk
    try:
        decode_body(decoder(), bytes(body))
    except ProtocolMismatch:
        return


def test_every_request_refuses_fields_that_it_does_not_know() -> None:
    """One forgotten Struct would be the hole."""
    lenient = [each for each in HANDLERS if not each.__struct_config__.forbid_unknown_fields]

    assert lenient == []


def test_socket_is_where_the_environment_says() -> None:
    """One rule for the daemon and every client."""
    assert socket_path({"MODELD_SOCKET": "/x"}, 7) == "/x"
    assert socket_path({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == "/run/user/7/modeld/rpc.sock"
    assert socket_path({}, 7) == "/tmp/modeld-7/rpc.sock"
    assert len(socket_path({"XDG_RUNTIME_DIR": "/run/user/4294967295"}, 0)) < MAX_PATH_BYTES
