"""Answers, as bytes."""

import pytest

from modeld.gateway.http import Answer, RequestHead, ResponseWriter, header_line


def head(method: str = "GET", minor: int = 1, *, keep_alive: bool = True) -> RequestHead:
    """Return the head of some request."""
    return RequestHead(
        method=method,
        path="/x",
        query="",
        headers={},
        minor=minor,
        keep_alive=keep_alive,
        length=0,
        expects_continue=False,
    )


def test_writer_frames_by_length_when_it_is_known() -> None:
    """A keep-alive client reads exactly that much."""
    writer = ResponseWriter(head(), common=b"Date: now\r\n")

    sent = writer.whole(Answer(body=b"{}", headers=(("X-A", "b"),)))

    assert sent == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Date: now\r\nX-A: b\r\n\r\n{}"
    )
    assert writer.keep_alive


def test_writer_frames_in_chunks_when_the_length_is_unknown() -> None:
    """A stream has no length, and the connection shall live on."""
    writer = ResponseWriter(head())

    started = writer.start(200, b"text/event-stream", None)

    assert b"Transfer-Encoding: chunked\r\n" in started
    assert writer.body(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert writer.body(b"") == b""
    assert writer.end() == b"0\r\n\r\n"


def test_writer_closes_when_an_http_1_0_client_gets_a_stream() -> None:
    """HTTP/1.0 has no chunks."""
    writer = ResponseWriter(head(minor=0))

    started = writer.start(200, b"text/event-stream", None)

    assert b"chunked" not in started
    assert b"Connection: close\r\n" in started
    assert writer.body(b"abc") == b"abc"
    assert writer.end() == b""
    assert not writer.keep_alive


def test_writer_says_keep_alive_to_http_1_0() -> None:
    """Without the word, a 1.0 client expects a close and waits for it."""
    assert b"Connection: keep-alive\r\n" in ResponseWriter(head(minor=0)).start(200, b"", 0)


@pytest.mark.parametrize("length", [2, None])
def test_writer_sends_no_body_when_head_was_asked(length: int | None) -> None:
    """The bytes would be read as the next answer."""
    writer = ResponseWriter(head("HEAD"))
    writer.start(200, b"application/json", length)

    assert writer.body(b"{}") + writer.end() == b""


@pytest.mark.parametrize("value", [b"a\r\nX: b", b"a\nb", b"a\rb", b"a\x00b", b"a\x7fb"])
def test_header_refuses_what_would_end_its_line(value: bytes) -> None:
    """A model's name or a server's word must not become a header of ours."""
    with pytest.raises(ValueError, match="not a header"):
        header_line(b"X-A", value)
    with pytest.raises(ValueError, match="not a header"):
        header_line(value, b"a")
