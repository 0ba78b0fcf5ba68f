"""Requests, from bytes: what is read, and what is refused."""

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.gateway import reading
from modeld.gateway.http import Problem
from modeld.gateway.reading import Heads, RequestReader

HOST = b"Host: a\r\n"
GET = b"GET /x HTTP/1.1\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, max_body_bytes: int = 1000) -> RequestReader:
    """Return a reader that got everything at once."""
    reader = RequestReader(max_body_bytes, Heads())
    reader.receive(data)
    return reader


def test_reader_gives_the_parts_of_a_request_when_it_is_plain() -> None:
    """Everything else rests on these fields."""
    reader = read(POST + b"X-Two:  b \r\nContent-Length: 5\r\n\r\nhello")

    assert reader.head is not None
    assert reader.is_complete
    assert (reader.head.method, reader.head.path, reader.head.minor) == ("POST", "/x", 1)
    assert reader.head.headers[b"x-two"] == b"b"
    assert reader.head.keep_alive
    assert bytes(reader.take_body()) == b"hello"


def test_reader_splits_the_query_from_the_path() -> None:
    """Routes are found by the path alone."""
    reader = read(b"GET /a/b?c=d&e HTTP/1.1\r\n" + HOST + b"\r\n")

    assert reader.head is not None
    assert (reader.head.path, reader.head.query) == ("/a/b", "c=d&e")


def test_reader_joins_chunks_and_ignores_extensions() -> None:
    """Clients that stream their body send chunks."""
    reader = read(CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")

    assert reader.is_complete
    assert bytes(reader.take_body()) == b"abcde"


def test_reader_reads_request_after_request_when_reset() -> None:
    """Keep-alive spares every client a connection."""
    reader = read(POST + b"Content-Length: 2\r\n\r\nab")
    reader.reset()
    reader.receive(GET + HOST + b"\r\n")

    assert reader.is_complete
    assert reader.head is not None
    assert reader.head.method == "GET"


def test_reader_ignores_empty_lines_before_a_request() -> None:
    """Old clients send one after a body, and RFC 9112 wants them forgiven."""
    reader = RequestReader(100, Heads())
    for part in (b"\r", b"\n\r\n", GET + HOST + b"\r\n"):
        reader.receive(part)

    assert reader.is_complete


def test_reader_notices_a_second_request_in_the_same_bytes() -> None:
    """An answer to the second one would be read as one to the first."""
    reader = read((GET + HOST + b"\r\n") * 2)

    assert reader.is_complete
    assert reader.has_more


def test_reader_notices_garbage_after_a_request() -> None:
    """A body without Content-Length must not be taken for a request."""
    reader = read(POST + b"\r\n{}")

    assert reader.is_complete
    assert reader.has_more


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n\r\nab", b""])
def test_reader_ignores_an_upgrade(framing: bytes) -> None:
    """Java's client offers h2c with every request; refusing it locks out whole ecosystems."""
    reader = read(
        POST
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
        + (framing or b"\r\n")
    )

    assert reader.is_complete
    assert not reader.has_more
    assert bytes(reader.take_body()) == (b"ab" if framing else b"")


def test_reader_ignores_an_upgrade_before_chunks() -> None:
    """The body comes after the head, whatever the head offers."""
    reader = read(
        POST
        + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
    )
    reader.receive(b"0\r\n\r\n")

    assert reader.is_complete
    assert bytes(reader.take_body()) == b"ab"


def test_reader_says_that_the_client_waits_for_leave() -> None:
    """Curl sends a large body only after 100 Continue."""
    reader = read(POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n")

    assert reader.head is not None
    assert reader.head.expects_continue
    assert not reader.is_complete


REFUSED = {
    "te and cl": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "cl and te": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two equal cl": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "two cl": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "cl list": POST + b"Content-Length: 2, 2\r\n\r\nab",
    "cl plus": POST + b"Content-Length: +2\r\n\r\nab",
    "cl minus": POST + b"Content-Length: -2\r\n\r\nab",
    "cl minus zero": POST + b"Content-Length: -0\r\n\r\n",
    "cl hex": POST + b"Content-Length: 0x2\r\n\r\nab",
    "cl empty": POST + b"Content-Length:\r\n\r\n",
    "cl space": POST + b"Content-Length: 1 2\r\n\r\nab",
    "cl underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "cl beyond 64 bits": POST + b"Content-Length: 18446744073709551617\r\n\r\na",
    "cl of many zeros": POST + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\nab",
    "te identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "te gzip": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te twice, one other": POST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "te list": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "te not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "te prefixed": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "te quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "te vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "te empty": POST + b"Transfer-Encoding:\r\n\r\n",
    "te in 1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": POST + b"Content-Length : 2\r\n\r\nab",
    "te space before colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "two hosts": GET + HOST + HOST + b"\r\n",
    "no host": GET + b"\r\n",
    "no host in 1.0": b"GET / HTTP/1.0\r\n\r\n",
    "two origins": GET + HOST + b"Origin: a\r\nOrigin: b\r\n\r\n",
    "two content types": GET + HOST + b"Content-Type: a\r\nContent-Type: b\r\n\r\n",
    "two authorizations": GET + HOST + b"Authorization: a\r\nauthorization: b\r\n\r\n",
    "absolute target": b"GET http://evil/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute target, own host": b"GET http://a/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority target": b"CONNECT evil:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "star target": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "network path": b"GET //evil/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "nul in target": b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "8 bit in target": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "space at the end": b"GET /x HTTP/1.1 \r\n" + HOST + b"\r\n",
    "tab": b"GET\t/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "lower method": b"get /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"FETCH /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "http 0.9": b"GET /x\r\n\r\n",
    "http 0.9 by name": b"GET /x HTTP/0.9\r\n" + HOST + b"\r\n",
    "http 1.2": b"GET /x HTTP/1.2\r\n" + HOST + b"\r\n",
    "http 2.0": b"GET /x HTTP/2.0\r\n" + HOST + b"\r\n",
    "http/1.1 in lower case": b"GET /x http/1.1\r\n" + HOST + b"\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "bare lf": b"GET /x HTTP/1.1\nHost: a\n\n\r\n\r\n",
    "bare lf after a header": GET + b"Host: a\nX: b\r\n\r\n",
    "bare lf before the end": GET + HOST + b"\n\r\n\r\n",
    "bare cr": GET + b"Host: a\rX: b\r\n\r\n",
    "folded": GET + HOST + b"X: a\r\n b\r\n\r\n",
    "folded by tab": GET + HOST + b"X: a\r\n\tb\r\n\r\n",
    "folded first": GET + b" Host: a\r\n\r\n",
    "folded host": GET + b"Host:\r\n a\r\n\r\n",
    "nul in header": GET + HOST + b"X: a\x00b\r\n\r\n",
    "control in header": GET + HOST + b"X: a\x01b\r\n\r\n",
    "delete in header": GET + HOST + b"X: a\x7fb\r\n\r\n",
    "empty name": GET + HOST + b": a\r\n\r\n",
    "no colon": GET + HOST + b"abc\r\n\r\n",
    "odd name": GET + HOST + b"a(b: c\r\n\r\n",
    "expects else": POST + b"Expect: 200-ok\r\n\r\n",
    "chunk lf": CHUNKED + b"2\nab\r\n0\r\n\r\n",
    "chunk data lf": CHUNKED + b"2\r\nab\n0\r\n\r\n",
    "chunk minus": CHUNKED + b"-2\r\nab\r\n0\r\n\r\n",
    "chunk hex": CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n",
    "chunk space": CHUNKED + b"2 \r\nab\r\n0\r\n\r\n",
    "chunk space first": CHUNKED + b" 2\r\nab\r\n0\r\n\r\n",
    "chunk beyond 64 bits": CHUNKED + b"1ffffffffffffffff\r\nab",
    "chunk empty": CHUNKED + b"\r\nab\r\n0\r\n\r\n",
    "chunk too long": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "chunk extension with nul": CHUNKED + b"2;\x00\r\nab\r\n0\r\n\r\n",
    "chunk extension with lf": CHUNKED + b"2;a\nb\r\nab\r\n0\r\n\r\n",
    "trailer": CHUNKED + b"2\r\nab\r\n0\r\nX: y\r\n\r\n",
    "trailer that frames": CHUNKED + b"2\r\nab\r\n0\r\nContent-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_reader_refuses_what_could_be_read_in_two_ways(name: str) -> None:
    """A request that the next reader understands otherwise is how requests are smuggled."""
    with pytest.raises(Problem) as raised:
        read(REFUSED[name])

    assert raised.value.status in {400, 417, 501, 505}


def test_reader_knows_the_line_of_what_was_typed_by_hand() -> None:
    """The error has the words of the dialect that its path is for."""
    reader = RequestReader(1000, Heads())
    with pytest.raises(Problem, match="CR LF"):
        reader.receive(b"POST /api/chat HTTP/1.1\nHost: a\n\n")

    assert reader.line == b"POST /api/chat HTTP/1.1"


def test_reader_tells_of_two_slashes_where_they_come_from() -> None:
    """Every SDK joins its base URL and a path, and a person writes the former."""
    with pytest.raises(Problem, match="base URL"):
        read(b"GET //v1/models HTTP/1.1\r\n" + HOST + b"\r\n")


@pytest.mark.parametrize("line", [b"GET /x HTTP/1.2", b"GET /x HTTP/3", b"PRI * HTTP/2.0"])
def test_reader_names_what_it_speaks_to_other_versions(line: bytes) -> None:
    """505 tells a client of HTTP/2 to try another one; 400 would be its own fault."""
    with pytest.raises(Problem, match=r"HTTP/1\.1") as raised:
        read(line + b"\r\n" + HOST + b"\r\n")

    assert raised.value.status == 505


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x16\x03\x01\x02\x00", "http://"),
        (b"GET /x HTTP/1.1\nHost: a\n\n", "CR LF"),
    ],
)
def test_reader_refuses_at_once_what_never_becomes_a_head(data: bytes, words: str) -> None:
    """`https://` by mistake, or lines typed into nc: nobody waits ten seconds to learn that."""
    with pytest.raises(Problem, match=words) as raised:
        read(data)

    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (431, GET + HOST + b"X: " + b"a" * reading.MAX_HEAD_BYTES),
        (431, b"\x00" * (reading.MAX_HEAD_BYTES + 1)),
        (431, GET + HOST + b"X: a\r\n" * reading.MAX_HEADERS + b"\r\n"),
        (414, b"GET /" + b"a" * reading.MAX_TARGET_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (413, POST + b"Content-Length: 1001\r\n\r\n"),
        (413, CHUNKED + b"3e9\r\n" + b"a" * 1001),
        (413, POST + b"Content-Length: 9223372036854775807\r\n\r\n"),
    ],
)
def test_reader_refuses_what_is_too_large(status: int, data: bytes) -> None:
    """Every size that a stranger chooses has an end."""
    with pytest.raises(Problem) as raised:
        read(data)

    assert raised.value.status == status


@pytest.mark.parametrize(
    "data",
    [
        GET + HOST + b"X: a\r\n" * (reading.MAX_HEADERS - 1) + b"\r\n",
        b"GET /" + b"a" * (reading.MAX_TARGET_BYTES - 1) + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        POST + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000,
        CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n",
        GET + HOST + b"X: \xc3\xa4\r\n\r\n",
        b"GET /x HTTP/1.0\r\n" + HOST + b"\r\n",
        POST + b"Transfer-Encoding: Chunked \r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2 \r\n\r\nab",
    ],
)
def test_reader_accepts_what_is_just_within_the_limits(data: bytes) -> None:
    """A limit that is off by one refuses honest clients."""
    assert read(data).is_complete


def test_reader_refuses_endless_chunk_extensions() -> None:
    """They are not body, so the limit of the body would never stop them."""
    reader = read(CHUNKED + b"1;")

    for _ in range(reading.MAX_CHUNK_OVERHEAD_BYTES // 4096):
        reader.receive(b"a" * 4096)
    with pytest.raises(Problem):
        reader.receive(b"a" * 4096)


def test_reader_holds_tiny_chunks_in_little_memory() -> None:
    """A list of two-byte pieces would take 50 times the body."""
    reader = RequestReader(10**6, Heads())
    reader.receive(CHUNKED + b"2\r\nab\r\n" * 100_000)

    assert reader.body_bytes == 200_000
    assert isinstance(reader.take_body(), bytearray)


# --- any bytes, cut anywhere ----------------------------------------------------------------

_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
_VALUE = st.text("abc ABC,;=/é", max_size=20).map(lambda text: text.strip().encode())
_BODY = st.binary(max_size=200)


def chunked(body: bytes, sizes: list[int]) -> bytes:
    """Return a body in chunks of about these sizes."""
    parts = []
    for size in [*sizes, len(body)]:
        piece, body = body[:size], body[size:]
        if piece:
            parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    return b"".join(parts) + b"0\r\n\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Make a valid request."""
    names = draw(st.lists(_TOKEN.map(lambda t: f"x-{t}"), max_size=5))
    lines = b"".join(b"%b: %b\r\n" % (n.encode(), draw(_VALUE)) for n in names)
    body = draw(_BODY)
    if draw(st.booleans()):
        sizes = draw(st.lists(st.integers(1, 50), max_size=5))
        return POST + lines + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, sizes)
    return POST + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


@given(data=requests(), cuts=st.lists(st.integers(0, 600), max_size=8))
@settings(max_examples=150, deadline=None)
def test_reader_reads_the_same_wherever_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    """TCP cuts where it likes; what a request means must not depend on it."""
    whole = read(data)
    reader = RequestReader(1000, Heads())
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        assert not reader.is_complete
        reader.receive(data[start:end])

    assert whole.is_complete
    assert reader.is_complete
    assert reader.head == whole.head
    assert bytes(reader.take_body()) == bytes(whole.take_body())


@given(data=st.binary(max_size=400), cut=st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_reader_never_breaks_when_bytes_are_random(data: bytes, cut: int) -> None:
    """Whatever comes, it is a request, the beginning of one, or a `Problem`."""
    reader = RequestReader(100, Heads())
    with contextlib.suppress(Problem):
        reader.receive(data[:cut])
        reader.receive(data[cut:])


@given(data=requests(), place=st.integers(0, 600), junk=st.binary(min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_reader_never_breaks_when_a_request_is_damaged(
    data: bytes, place: int, junk: bytes
) -> None:
    """Nearly right requests go deeper than random bytes do."""
    reader = RequestReader(1000, Heads())
    with contextlib.suppress(Problem):
        reader.receive(data[:place] + junk + data[place + len(junk) :])


# --- heads that came before -----------------------------------------------------------------


def outcome(data: bytes, heads: Heads, cut: int = 0) -> object:
    """Return all that a reader makes of some bytes, that come in one piece or in two."""
    reader = RequestReader(1000, heads)
    try:
        for piece in (data[:cut], data[cut:]):
            if piece:
                reader.receive(piece)
    except Problem as problem:
        return problem.status, problem.message
    return reader.head, reader.line, reader.is_complete, reader.has_more, bytes(reader.take_body())


@given(
    data=requests(),
    body=_BODY,
    after=st.sampled_from((b"", b"x", GET + HOST + b"\r\n")),
    cut=st.integers(0, 200),
)
@settings(max_examples=300, deadline=None)
def test_reader_reads_the_same_when_the_head_has_come_before(
    data: bytes, body: bytes, after: bytes, cut: int
) -> None:
    """A short cut that reads something else would be a hole in the wall."""
    head, _, before = data.partition(b"\r\n\r\n")
    old, new = b"Content-Length: %d" % len(before), b"Content-Length: %d" % len(body)
    heads = Heads()
    for message in (data, head.replace(old, new) + b"\r\n\r\n" + body + after, data + after):
        at = min(message.index(b"\r\n\r\n") + 4 + cut, len(message))
        for _ in range(2):
            assert outcome(message, heads) == outcome(message, Heads())
            assert outcome(message, heads, at) == outcome(message, Heads(), at)


@pytest.mark.parametrize("name", REFUSED)
def test_reader_refuses_the_same_after_requests_that_are_nearly_so(name: str) -> None:
    """Whatever is refused once is refused every time, also among good ones."""
    heads = Heads()
    for good in (GET + HOST + b"\r\n", POST + b"Content-Length: 2\r\n\r\nab"):
        assert outcome(good, heads) == outcome(good, Heads())

    for _ in range(2):
        assert outcome(REFUSED[name], heads) == outcome(REFUSED[name], Heads())


def test_reader_refuses_a_body_that_is_too_large_when_the_head_has_come_before() -> None:
    """Its length is the one thing that may differ."""
    heads = Heads()
    outcome(POST + b"Content-Length: 2\r\n\r\nab", heads)

    status, _ = outcome(POST + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001, heads)  # type: ignore[misc]
    assert status == 413


def test_reader_goes_on_after_a_head_that_has_come_before() -> None:
    """The parser has seen nothing of that request, and is asked for the next one."""
    reader = RequestReader(1000, Heads())
    for data in (b"Content-Length: 2\r\n\r\nab", b"Content-Length: 3\r\n\r\nabc") * 2:
        reader.receive(POST + data)
        assert reader.is_complete
        reader.reset()
    for piece in (CHUNKED, b"2\r\nab\r\n", b"0\r\n\r\n"):
        reader.receive(piece)

    assert reader.is_complete
    assert bytes(reader.take_body()) == b"ab"
