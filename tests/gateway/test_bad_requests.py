"""
Whatever is wrong with a request, or with the server that answers it, in each dialect.

The error has the dialect's own body and the right status, and a stream that runs beside all of it
ends as if nothing had happened.
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.gateway.guard import Limits
from modeld.gateway.server import ROWS
from tests.support.fake_door import FakeDoor
from tests.support.gateway import JSON, House, Raw, Reply, opened, run, running, short_directory
from tests.support.upstream import Answering, Asked, ScriptedServer

CHAT = b'{"model":"tiny","prompt":"hi","messages":[{"role":"user","content":"hi"}]'
PATHS = {
    "openai": b"/v1/chat/completions",
    "responses": b"/v1/responses",
    "anthropic": b"/v1/messages",
    "ollama": b"/api/chat",
    "native": b"/completion",
    "karen": b"/inference",
}
UNKNOWN = ("unknown model", "part of a name", "a path for a model", "nul in a model")
"""What is 400 in KAREN's words (S2-28)."""
HALF_OPEN = 2000


def problem_in(family: str, body: bytes) -> str:
    """Return what an error says, which must be in the words of its dialect."""
    error = json.loads(body)
    if family == "ollama":
        assert list(error) == ["error"]
        return str(error["error"])
    if family == "anthropic":
        assert error["type"] == "error"
        assert set(error["error"]) == {"type", "message"}
    elif family == "karen":
        assert error["detail"] == error["error"]["message"]
        assert set(error["error"]) == {"message", "type", "code"}
    else:
        assert set(error["error"]) == {"message", "type", "param", "code"}
    return str(error["error"]["message"])


@asynccontextmanager
async def beside_a_stream() -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway with a stream that begins before, and must end whole after, the test."""
    with short_directory() as directory:
        door = FakeDoor()
        for name in ("tiny", "calm"):
            door.add(name)
            door.serve(name, f"{directory}/{name}.sock", f"s-{name}")
        release = asyncio.Event()

        async def calm(_: Asked, answering: Answering) -> None:
            await answering.stream_head()
            await answering.event(b'{"first":1}')
            await release.wait()
            await answering.event(b"[DONE]")
            await answering.end()

        async with (
            ScriptedServer(f"{directory}/tiny.sock") as tiny,
            ScriptedServer(f"{directory}/calm.sock") as other,
            running(door, limits=Limits(sweep_seconds=0.05, grace_seconds=30)) as house,
        ):
            other.script = calm
            stream = house.chat(b'{"model":"calm","stream":true}')
            async with opened(house, stream) as raw:
                assert (await raw.head())[0] == 200
                yield house, tiny
                release.set()
                chunks = [chunk async for chunk in raw.chunks()]
                assert b"".join(chunks).endswith(b"data: [DONE]\n\n")


def bad_requests(house: House, path: bytes) -> dict[str, tuple[set[int], bytes]]:
    """Return what may be wrong with a request for a path: the statuses, and the bytes."""
    post, host = b"POST %b HTTP/1.1\r\n" % path, house.host

    def asking(body: bytes, headers: bytes = JSON) -> bytes:
        return b"%b%b%bContent-Length: %d\r\n\r\n%b" % (post, host, headers, len(body), body)

    deep = b"[" * 100_000 + b"]" * 100_000
    return {
        "malformed": ({400}, asking(b'{"model":"tiny",')),
        "no json": ({400}, asking(b"\xff\xfe{}")),
        "empty": ({400}, asking(b"")),
        "a list": ({400}, asking(b"[]")),
        "null": ({400}, asking(b"null")),
        "deep": ({400}, asking(b'{"model":"tiny","messages":%b}' % deep)),
        "deep elsewhere": ({400}, asking(b'{"model":"tiny","x":%b}' % deep)),
        "model is a number": ({400}, asking(b'{"model":1,"messages":[]}')),
        "messages is a text": ({400}, asking(b'{"model":"tiny","messages":"hi"}')),
        "stream is a text": ({400}, asking(b'{"model":"tiny","stream":"yes"}')),
        "no model": ({400}, asking(b'{"messages":[]}')),
        "unknown model": ({404}, asking(CHAT.replace(b"tiny", b"none") + b"}")),
        "part of a name": ({404}, asking(CHAT.replace(b"tiny", b"tin") + b"}")),
        "a path for a model": ({404}, asking(CHAT.replace(b"tiny", b"../tiny.gguf") + b"}")),
        "nul in a model": ({404}, asking(CHAT.replace(b"tiny", b"tiny\\u0000") + b"}")),
        "no length": ({400, 415}, post + host + JSON + b"\r\n"),
        "a form": ({415}, asking(b"a=b", b"Content-Type: application/x-www-form-urlencoded\r\n")),
        "no type": ({415}, asking(CHAT + b"}", b"")),
        "compressed": ({415}, asking(b"\x1f\x8b", JSON + b"Content-Encoding: gzip\r\n")),
        "no place": ({400}, asking(b"{}").replace(path, b"http://x.example" + path, 1)),
        "two slashes": ({400}, asking(b"{}").replace(path, b"/" + path, 1)),
        "both lengths": (
            {400},
            post
            + host
            + JSON
            + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        "two lengths": ({400}, asking(b"{}", JSON + b"Content-Length: 3\r\n")),
        "two hosts": ({400}, asking(b"{}", JSON + host)),
        "no host": ({400}, asking(b"{}").replace(host, b"")),
        "another's host": ({403}, asking(b"{}").replace(host, b"Host: evil.example\r\n")),
        "wrong method": ({405}, b"GET %b HTTP/1.1\r\n%b\r\n" % (path, host)),
        "unknown method": ({400}, asking(b"{}").replace(b"POST", b"FETCH", 1)),
        "too large": ({413}, post + host + JSON + b"Content-Length: 1099511627776\r\n\r\n"),
        "too long a target": ({414}, asking(b"{}").replace(path, path + b"?" + b"a" * 9000, 1)),
        "too large a head": ({431}, asking(b"{}", b"X: %b\r\n" % (b"a" * 40_000))),
        "expects else": ({417}, asking(b"{}", JSON + b"Expect: tea\r\n")),
    }


@pytest.mark.parametrize("family", PATHS)
def test_bad_request_is_told_in_its_dialect_and_reaches_no_server(family: str) -> None:
    """A client shows what it understands; anything else ends as "unknown error"."""

    async def main() -> None:
        async with beside_a_stream() as (house, server):
            for name, (expected, data) in bad_requests(house, PATHS[family]).items():
                async with opened(house, data) as raw:
                    reply = await raw.reply()
                    statuses = {400} if family == "karen" and name in UNKNOWN else expected
                    assert reply.status in statuses, name
                    assert reply.headers["content-type"] == "application/json", name
                    assert problem_in(family, reply.body), name
            assert server.asked == []

    run(main)


def test_request_for_another_place_is_told_and_reaches_no_server() -> None:
    """An absolute target is a proxy's; which path it means is for nobody here to say."""

    async def main() -> None:
        async with beside_a_stream() as (house, server):
            good = house.chat(CHAT + b"}")
            for target in (
                b"http://evil.example/v1/chat/completions",
                b"http://127.0.0.1:%d/v1/chat/completions" % house.port,
                b"//evil.example/v1/chat/completions",
                b"*",
                b"evil.example:80",
                b"v1/chat/completions",
                b"/v1/chat/completions#x",
            ):
                async with opened(house, good.replace(PATHS["openai"], target, 1)) as raw:
                    reply = await raw.reply()
                    assert reply.status in {400, 404}, target
                    assert problem_in("openai", reply.body), target
            assert server.asked == []

    run(main)


# --- a server that dies ---------------------------------------------------------------------

Deed = Callable[[Answering], Awaitable[None]]


async def before_its_first_byte(answering: Answering) -> None:
    """Say nothing."""
    del answering


async def in_its_head(answering: Answering) -> None:
    """Say a part of the head."""
    await answering.send(b"HTTP/1.1 200 OK\r\nContent-Ty")


async def after_its_head(answering: Answering) -> None:
    """Begin a stream, and say nothing in it."""
    await answering.stream_head()


async def in_its_first_event(answering: Answering) -> None:
    """Say half an event."""
    await answering.stream_head()
    await answering.send(b'1f\r\ndata: {"choices":[')


async def after_its_first_event(answering: Answering) -> None:
    """Say a whole event."""
    await answering.stream_head()
    await answering.event(b'{"choices":[{"index":0,"delta":{"content":"a"}}]}')


def told_in_a_stream(family: str, body: bytes) -> bool:
    """Return whether a stream ends with its dialect's error."""
    if family == "ollama":
        return "error" in json.loads(body.rstrip(b"\n").rpartition(b"\n")[2])
    events = body.rstrip(b"\n").split(b"\n\n")
    last = events[-1]
    data = json.loads(last.rpartition(b"data: ")[2])
    if family == "responses":
        assert last.startswith(b"event: error\n")
        assert (data["type"], data["message"]) == ("error", data["error"]["message"])
        return bool(data["code"] == data["error"]["code"])
    if family == "anthropic":
        return last.startswith(b"event: error\n") and data["type"] == "error"
    return "message" in data["error"]


@pytest.mark.parametrize("family", PATHS)
@pytest.mark.parametrize(
    ("deed", "has_begun"),
    [
        (before_its_first_byte, False),
        (in_its_head, False),
        (after_its_head, True),
        (in_its_first_event, True),
        (after_its_first_event, True),
    ],
)
def test_server_that_dies_is_told_in_the_dialect(family: str, deed: Deed, has_begun: bool) -> None:
    """Before the first byte as a status, after it as the stream's own error; never as silence."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await deed(answering)
            answering.close()
            await answering.until_gone()

        async with beside_a_stream() as (house, server):
            server.script = script
            body = CHAT + b',"max_tokens":9,"stream":true}'
            async with opened(house, house.request(b"POST " + PATHS[family], body)) as raw:
                reply = await raw.reply()
            if has_begun and reply.status == 200:
                assert told_in_a_stream(family, reply.body)
            else:
                assert reply.status == 502
                assert "server" in problem_in(family, reply.body)

    run(main)


@pytest.mark.parametrize("family", PATHS)
def test_server_that_dies_in_a_plain_answer_is_never_taken_for_whole(family: str) -> None:
    """Half an answer that looks complete is worse than none."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b'Content-Length: 100\r\n\r\n{"choices":[{"mess'
            )
            answering.close()
            await answering.until_gone()

        async with beside_a_stream() as (house, server):
            server.script = script
            body = CHAT + b',"max_tokens":9,"stream":false}'
            async with opened(house, house.request(b"POST " + PATHS[family], body)) as raw:
                try:
                    reply = await raw.reply()
                except (asyncio.IncompleteReadError, ConnectionError):
                    return  # cut: the length says that the rest is missing
                assert reply.status == 502
                assert problem_in(family, reply.body)

    run(main)


# --- whatever comes over one connection ------------------------------------------------------

SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n{}"
LENGTH = b"Content-Length: %d\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
AMBIGUOUS = (
    LENGTH + CHUNKED,
    CHUNKED + LENGTH,
    LENGTH + b"Content-Length: 0\r\n",
    b"Content-Length: 0\r\n" + LENGTH,
    LENGTH + b"Content-Length: 2, 2\r\n",
    b"Content-Length: +%d\r\n",
    b"Content-Length:\r\n %d\r\n",
    b"Content-Length : %d\r\n",
    LENGTH + b"Transfer-Encoding : chunked\r\n",
    LENGTH + b"Transfer-Encoding: xchunked\r\n",
    LENGTH + b"Transfer-Encoding:\x0bchunked\r\n",
    LENGTH + b"X: a\nTransfer-Encoding: chunked\r\n",
    LENGTH + b"X: a\r\n Transfer-Encoding: chunked\r\n",
    LENGTH + b"Host: b\r\n",
    LENGTH + b"\0: b\r\n",
    CHUNKED + CHUNKED,
    b"Transfer-Encoding: chunked, identity\r\n",
)


@st.composite
def on_one_connection(draw: st.DrawFn) -> tuple[list[tuple[bytes, bytes, bytes]], list[bytes]]:
    """Return requests as framing, bytes and body, and the bodies of those before any doubt."""
    requests, meant = [], []
    is_clear = True
    for number in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from((b"hi", SMUGGLED, b"0\\r\\n\\r\\n")))
        body = b'{"model":"tiny","number":%d,"prompt":"%b"}' % (number, text)
        kind = draw(st.sampled_from(("length", "chunks", "ambiguous", "short", "long")))
        sent, framing = body, LENGTH % len(body)
        if kind == "chunks":
            cut = draw(st.integers(1, len(body) - 1))
            framing = CHUNKED
            sent = b"%x\r\n%b\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (
                cut, body[:cut], len(body) - cut, body[cut:],
            )  # fmt: skip
        elif kind == "ambiguous":
            framing = draw(st.sampled_from(AMBIGUOUS))
            framing = framing % len(body) if b"%d" in framing else framing
        elif kind != "length":
            framing = LENGTH % (len(body) + (-3 if kind == "short" else 30))
        is_clear = is_clear and kind in {"length", "chunks"}
        if is_clear:
            meant.append(body)
        requests.append((framing, sent, body))
    return requests, meant


async def send_in_pieces(house: House, data: bytes, cuts: list[int]) -> None:
    """Send bytes in pieces, and read until the gateway closes."""
    raw = await house.connect()
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    with contextlib.suppress(ConnectionError):
        for begin, end in itertools.pairwise(edges):
            await raw.send(data[begin:end])
            await asyncio.sleep(0)
        raw.writer.write_eof()
    await raw.rest()
    raw.close()


@given(case=on_one_connection(), cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_no_ambiguous_request_reaches_a_server(
    case: tuple[list[tuple[bytes, bytes, bytes]], list[bytes]], cuts: list[int]
) -> None:
    """F4: what a server gets is what was meant, framed by us, and nothing beyond any doubt."""
    requests, meant = case

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                line = b"POST /v1/chat/completions HTTP/1.1\r\n" + house.host + JSON
                data = b"".join(b"%b%b\r\n%b" % (line, how, sent) for how, sent, _ in requests)
                await send_in_pieces(house, data, cuts)
                bodies = [each.body for each in server.asked]
                assert bodies == meant[: len(bodies)]
                for each in server.asked:
                    assert each.head == (
                        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    ) % len(each.body)

    run(main)


# --- many, and slow -------------------------------------------------------------------------


def test_two_thousand_half_open_sockets_keep_nobody_out() -> None:
    """F5: an ordinary request goes on in under 200 ms (p99), and the slow ones are cut."""

    async def ask(house: House) -> float:
        begun = time.perf_counter()
        reply = await house.get(b"/health")
        assert reply.status == 200
        return time.perf_counter() - begun

    async def main() -> None:
        limits = Limits(head_seconds=1.0, sweep_seconds=0.1)
        async with running(limits=limits) as house:
            slow: list[Raw] = []
            times = []
            for number in range(HALF_OPEN):
                raw = await house.connect()
                slow.append(raw)
                with contextlib.suppress(ConnectionError):
                    await raw.send(
                        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127"[: number % 50]
                    )
                if number % 20 == 0:
                    times.append(await ask(house))
            assert house.gateway.connections <= 256 + 64 + 1
            cut = asyncio.gather(*(raw.rest() for raw in slow))
            while not cut.done():
                times.append(await ask(house))
                await asyncio.sleep(0.01)
            answers = set(await cut)
            for raw in slow:
                raw.close()

            assert sorted(times)[int(len(times) * 0.99)] < 0.2
            assert {answer.split(b" ")[1:2] == [b"408"] for answer in answers if answer} == {True}

    run(main, seconds=60)


# --- what is reachable, and by which name ---------------------------------------------------

# tools/server of llama.cpp, b11669: every route, also those that a flag has to open
LLAMA_SERVER_ROUTES = """
    GET / GET /health GET /v1/health GET /metrics GET /props POST /props GET /models
    GET /v1/models GET /api/tags POST /api/show POST /api/chat POST /completion POST /completions
    POST /v1/completions POST /chat/completions POST /v1/chat/completions POST /v1/responses
    POST /responses POST /v1/messages POST /v1/messages/count_tokens POST /infill POST /embedding
    POST /embeddings POST /v1/embeddings POST /rerank POST /reranking POST /v1/rerank
    POST /v1/reranking POST /tokenize POST /detokenize POST /apply-template GET /lora-adapters
    POST /lora-adapters GET /slots POST /slots/0 POST /slots/0?action=save
    POST /slots/0?action=restore POST /slots/0?action=erase POST /models/load POST /models/unload
    GET /tools POST /tools GET /cors-proxy POST /cors-proxy GET /mcp POST /mcp
    POST /v1/audio/transcriptions GET /index.html GET /bundle.js GET /api/v1/models
    POST /v1/chat/completions/control GET /models/sse DELETE /models POST /models
"""


def test_dangerous_routes_of_llama_server_are_not_reachable() -> None:
    """F10: what is not in the table is nowhere, whatever the server behind would answer."""
    served = {(row.method, row.path) for row in ROWS}
    words = LLAMA_SERVER_ROUTES.split()
    routes = set(zip(words[::2], words[1::2], strict=True))
    dangerous = {each for each in routes if each not in served}

    async def main() -> None:
        async with beside_a_stream() as (house, server):
            for method, path in sorted(dangerous):
                body = b'{"model":"tiny"}' if method == "POST" else b""
                line = f"{method} {path}".encode()
                async with opened(house, house.request(line, body)) as raw:
                    assert (await raw.reply()).status in {404, 405}, (method, path)
            assert server.asked == []

    assert {("POST", "/slots/0?action=save"), ("GET", "/tools"), ("POST", "/props")} <= dangerous
    run(main)


class Opens:
    """Counts the files that Python opens, while it is told to."""

    def __init__(self) -> None:
        self.is_on = False
        self.paths: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event in {"open", "os.open", "os.listdir", "os.scandir"}:
            self.paths.append(str(arguments[0]))


def test_name_of_a_model_opens_no_file() -> None:
    """F13: it is a key of a dictionary and nothing else (CVE-2024-37032)."""
    opens = Opens()
    names = st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            ["../../etc/passwd", "/etc/passwd", "~/x", "file:///etc/passwd", "a/../b", "%2e%2e/x",
             "tiny.gguf", "C:\\x", "tiny\n", "$HOME", "`id`", "tiny@sha256:../../x", "\u202etiny"]
        ),
    )  # fmt: skip

    async def ask_all(house: House, wanted: list[str]) -> list[Reply]:
        replies = []
        for name in wanted:
            for path in (*PATHS.values(), b"/models/load", b"/completion", b"/api/show"):
                body = json.dumps({"model": name, "messages": [], "max_tokens": 1}).encode()
                raw = await house.connect()
                await raw.send(house.request(b"POST " + path, body))
                replies.append(await raw.reply())
                raw.close()
        return replies

    @given(wanted=st.lists(names, min_size=1, max_size=4))
    @settings(max_examples=15, deadline=None)
    def check(wanted: list[str]) -> None:
        async def main() -> None:
            async with running() as house:
                opens.is_on = True
                try:
                    replies = await ask_all(house, wanted)
                finally:
                    opens.is_on = False
                assert {reply.status for reply in replies} <= {400, 404}

        run(main)

    check()
    assert opens.paths == []
