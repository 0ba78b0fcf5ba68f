"""Heads that were read before."""

import pytest

from modeld.gateway.known_heads import MAX_HEAD_BYTES, MAX_HEADS, KnownHeads

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX: y\r\n\r\n%b"


def test_head_is_known_whatever_its_length_says() -> None:
    """A client's next prompt is longer, and its head is the same."""
    heads: KnownHeads[str] = KnownHeads()
    heads.keep(HEAD % (2, b"ab"), "it")

    for length in (2, 10, 0):
        head = HEAD % (length, b"")
        assert heads.find(head) == heads.find(head + b"abc") == ("it", length, len(head))


@pytest.mark.parametrize(
    "data",
    [
        HEAD.replace(b"a\r", b"b\r") % (2, b"ab"),
        HEAD.replace(b"X: y", b"X: y\r\nX: y") % (2, b"ab"),
        HEAD.replace(b"X: y", b"Content-Length: 2") % (2, b"ab"),
        HEAD.replace(b"X: y", b"Content-Length: ") % (2, b"ab"),
        HEAD.replace(b"X: y", b"Transfer-Encoding: chunked") % (2, b"ab"),
        HEAD.replace(b": %d", b":%d") % (2, b"ab"),
        HEAD.replace(b": %d", b" : %d") % (2, b"ab"),
        HEAD.replace(b": %d", b": +%d") % (2, b"ab"),
        HEAD.replace(b": %d", b": %d ") % (2, b"ab"),
        b"\r\n" + HEAD % (2, b"ab"),
        (HEAD % (2, b"ab"))[:-3],
        b"",
    ],
)  # fmt: skip
def test_head_is_parsed_when_it_is_not_whole_or_anything_else_differs(data: bytes) -> None:
    """Only the digits may."""
    heads: KnownHeads[str] = KnownHeads()
    heads.keep(HEAD % (2, b"ab"), "it")

    assert heads.find(data) is None


def test_heads_are_bounded() -> None:
    """A client that sends a new head each time, or a long one, must not fill the memory."""
    heads: KnownHeads[int] = KnownHeads()
    for number in range(3 * MAX_HEADS):
        heads.keep(HEAD.replace(b"y", b"%d" % number) % (2, b"ab"), number)
    heads.keep(HEAD.replace(b"y", b"y" * MAX_HEAD_BYTES) % (2, b"ab"), -1)

    assert len(heads._meanings) == MAX_HEADS
    assert heads.find(HEAD.replace(b"y", b"%d" % (3 * MAX_HEADS - 1)) % (2, b"ab")) is not None
    assert heads.find(HEAD.replace(b"y", b"0") % (2, b"ab")) is None
