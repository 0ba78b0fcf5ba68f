"""The life of a request: found, waited for, relayed, and ended, whichever way."""

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from modeld.core.entities import Origin
from modeld.core.events import LoadAsked, Selection
from modeld.core.traffic import RequestStarted
from modeld.errors import (
    Busy,
    DoesNotFit,
    ModeldError,
    ServerFailed,
    Throttled,
    TooManyLoaded,
)
from modeld.gateway import pool
from modeld.gateway.connection import LOOK_SECONDS
from modeld.gateway.guard import Limits
from modeld.gateway.http import Answer
from modeld.gateway.openai import OPENAI
from modeld.gateway.peer import UNKNOWN, Peers
from modeld.gateway.server import ROWS
from modeld.gateway.table import Call, Local, Relayed, Row
from modeld.supervisor.door import OnProgress
from modeld.wire.codec import Progress
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Raw, opened, run, running, short_directory, until
from tests.support.upstream import Answering, Asked, ScriptedServer, ready

QUICK = Limits(grace_seconds=0.05, sweep_seconds=0.05)
STREAM = b'{"model":"tiny","stream":true}'


@pytest.fixture(autouse=True)
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the limits with few sockets."""
    monkeypatch.setattr(pool, "MAX_OPEN", 64)
    monkeypatch.setattr(pool, "MAX_IDLE", 8)


@asynccontextmanager
async def cold(**settings: object) -> AsyncIterator[tuple[House, ScriptedServer, asyncio.Event]]:
    """Run a gateway with one model that is loaded when the event is set."""
    async with ready(QUICK, **settings) as (house, server):
        loaded = asyncio.Event()
        house.door.gone("tiny")

        async def load(_: LoadAsked, on_progress: OnProgress | None) -> None:
            assert on_progress is not None
            on_progress(Progress(phase="load", fraction=0.43))
            await loaded.wait()
            house.door.serve("tiny", server.path)

        house.door.loader = load
        yield house, server, loaded


def refusing(error: Exception, after_seconds: float = 0) -> object:
    """Return a loader that fails."""

    async def load(*_: object) -> None:
        await asyncio.sleep(after_seconds)
        raise error

    return load


async def hang(asked: Asked, answering: Answering) -> None:
    """Never answer."""
    del asked
    await answering.until_gone()


async def stream_two(asked: Asked, answering: Answering) -> None:
    """Stream two events."""
    del asked
    await answering.stream_head()
    await answering.event(b'{"n":1}')
    await answering.event(b'{"n":2}')
    await answering.event(b"[DONE]")
    await answering.end()


# --- ready ----------------------------------------------------------------------------------


def test_an_answer_passes_untouched() -> None:
    """What the server says is what the client gets, byte for byte."""

    async def main() -> None:
        odd = b'{"a":  1.50, "b":"\xc3\xa4\\u00e4"}\n'

        async def script(_: Asked, answering: Answering) -> None:
            await answering.json(odd)

        async with ready() as (house, server):
            server.script = script
            reply = await house.ask()

            assert (reply.status, reply.body) == (200, odd)
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-modeld-model"] == "tiny"

    run(main)


def test_a_request_reaches_the_server_with_its_body_and_none_of_its_headers() -> None:
    """Keys, cookies and tricks of clients are no business of a server."""

    async def main() -> None:
        body = b'{ "model":"nick", "x": [1,2] }'
        async with ready() as (house, server):
            tricks = b"Authorization: Bearer secret\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\n"
            async with opened(house, house.chat(body, tricks)) as raw:
                assert (await raw.reply()).status == 200

            assert server.asked[0].body == body
            assert server.asked[0].head == (
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 30\r\n\r\n"
            )

    run(main)


def test_a_large_body_passes_whole() -> None:
    """Pictures come as base64 in the body."""

    async def main() -> None:
        body = b'{"model":"tiny","x":"%b"}' % (b"x" * 5_000_000)
        async with ready() as (house, server):
            reply = await house.ask(body)

            assert reply.status == 200
            assert server.asked[0].body == body

    run(main)


def test_a_stream_passes_event_by_event() -> None:
    """A word that waits for the next one is a stream that stutters."""

    async def main() -> None:
        more = asyncio.Event()

        async def script(_: Asked, answering: Answering) -> None:
            await answering.stream_head()
            await answering.event(b"1")
            await more.wait()
            await answering.event(b"[DONE]")
            await answering.end()

        async with ready() as (house, server):
            server.script = script
            async with opened(house, house.chat(STREAM)) as raw:
                status, headers = await raw.head()
                chunks = raw.chunks()
                first = await anext(chunks)
                more.set()
                rest = [chunk async for chunk in chunks]

            assert status == 200
            assert headers["content-type"] == "text/event-stream"
            assert headers["x-accel-buffering"] == "no"
            assert first == b"data: 1\n\n"
            assert b"".join(rest) == b"data: [DONE]\n\n"

    run(main)


def test_an_http_1_0_client_gets_a_stream_without_chunks() -> None:
    """Shell scripts and old proxies speak it."""

    async def main() -> None:
        async with ready() as (house, server):
            server.script = stream_two
            request = house.chat(STREAM).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
            async with opened(house, request) as raw:
                answer = await raw.rest()

            body = answer.partition(b"\r\n\r\n")[2]
            assert body == b'data: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'

    run(main)


@pytest.mark.parametrize("name", ["tiny", "nick", ""])
def test_a_model_is_found_by_every_name(name: str) -> None:
    """A program may know it by any of them, or by none."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.default("nick")
            reply = await house.ask(b'{"model":"%b"}' % name.encode())

            assert reply.status == 200
            assert len(server.asked) == 1

    run(main)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"model":"nobody"}', 404, b"model_not_found"),
        (b'{"model":"both"}', 400, b"ambiguous"),
        (b'{"model":"../../etc/passwd"}', 404, b"model_not_found"),
        (b'{"model":"tin"}', 404, b"model_not_found"),
        (b"{}", 400, b"bad_request"),
        (b"{", 400, b"bad_request"),
        (b'{"n_discard":-1}', 400, b"bad_request"),
    ],
)
def test_a_request_that_means_no_model_is_refused(body: bytes, status: int, code: bytes) -> None:
    """Nothing is guessed for a program."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.add("other", "both")
            house.door.add("third", "both")
            reply = await house.ask(body)

            assert reply.status == status
            assert b'"code":"%b"' % code in reply.body
            assert server.asked == []

    run(main)


def test_a_model_s_name_cannot_break_the_head() -> None:
    """A file may be called anything."""

    async def main() -> None:
        async with ready() as (house, _):
            added = house.door.add("odd")
            odd = replace(added, name="a\r\nX-Evil: ä\x00 b")
            house.door.routes = replace(
                house.door.routes,
                models={**house.door.routes.models, "odd": odd},
                servers={
                    "odd": replace(house.door.routes.servers["tiny"], model_id="odd"),
                },
            )
            reply = await house.ask(b'{"model":"odd"}')

            assert reply.headers["x-modeld-model"] == "a%0d%0ax-evil: %c3%a4%00 b"

    run(main)


def test_connections_to_the_server_are_used_again() -> None:
    """Connecting costs the server a thread and the client a millisecond."""

    async def main() -> None:
        async with ready() as (house, server):
            async with opened(house, b"") as raw:
                for _ in range(5):
                    await raw.send(house.chat())
                    assert (await raw.reply()).status == 200

            assert [asked.connection for asked in server.asked] == [1, 1, 1, 1, 1]

    run(main)


def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    """llama-server closes after an error, and after a hundred answers."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
            )

        async with ready() as (house, server):
            server.script = script
            for _ in range(2):
                reply = await house.ask()
                assert (reply.status, reply.body) == (400, b"{}")

            assert [asked.connection for asked in server.asked] == [1, 2]

    run(main)


def test_an_idle_connection_to_the_server_is_closed_before_it_does() -> None:
    """Else a request would meet the moment of its closing."""

    async def main() -> None:
        async with ready() as (house, server):
            await house.ask()
            assert server.open == 1
            house.gateway._relay.pool.sweep(time.monotonic() + pool.IDLE_SECONDS)
            await until(lambda: server.open == 0)

    run(main)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """HTTP allows it, so some server will do it."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nab")
            await answering.send(b"cd")
            answering.close()

        async with ready() as (house, server):
            server.script = script
            reply = await house.ask()

            assert reply.body == b"abcd"

    run(main)


def test_no_more_connections_are_opened_than_a_server_can_take() -> None:
    """Each costs it a thread; the others wait their turn, and all are answered."""

    async def main() -> None:
        most = 0

        async def script(_: Asked, answering: Answering) -> None:
            nonlocal most
            most = max(most, server.open)
            await asyncio.sleep(0.005)
            await answering.json()

        async with ready() as (house, server):
            server.script = script
            replies = await asyncio.gather(*(house.ask() for _ in range(150)))

            assert {reply.status for reply in replies} == {200}
            assert most <= pool.MAX_OPEN

    run(main)


def test_small_answers_are_not_held_back_by_the_kernel() -> None:
    """Nagle's algorithm would hold a token for 40 ms."""

    async def main() -> None:
        async with ready() as (house, _), opened(house, house.chat()) as raw:
            await raw.reply()
            (connection,) = house.gateway._hall.connections
            assert connection._transport is not None
            sock = connection._transport.get_extra_info("socket")

            assert sock.getsockopt(6, 1) != 0  # IPPROTO_TCP, TCP_NODELAY

    run(main)


# --- cold -----------------------------------------------------------------------------------


def test_a_cold_model_is_asked_for_and_then_answers() -> None:
    """The whole point: a name is enough."""

    async def main() -> None:
        async with cold() as (house, server, loaded):
            loaded.set()
            reply = await house.ask(b'{"model":"nick"}')

            assert reply.status == 200
            assert len(server.asked) == 1
            (asked,) = house.door.asked
            assert asked.selection == Selection(model_id="tiny")
            assert asked.origin is Origin.GATEWAY

    run(main)


def test_a_load_is_asked_for_after_the_ends_before_it() -> None:
    """Else the previous model looks busy: `eviction = "immediate"` would leave it loaded."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.add("next")
            busy: list[dict[str, int]] = []

            async def load(_: LoadAsked, _progress: OnProgress | None) -> None:
                busy.append(house.door.in_flight())
                house.door.serve("next", server.path)

            house.door.loader = load
            await house.ask(b'{"model":"tiny"}')
            await house.ask(b'{"model":"next"}')

            assert busy == [{}]

    run(main)


def test_a_stream_shows_life_while_its_model_loads() -> None:
    """A client that hears nothing for 30 s gives up."""

    async def main() -> None:
        async with cold(heartbeat_seconds=0.1) as (house, server, loaded):
            server.script = stream_two
            async with opened(house, house.chat(STREAM)) as raw:
                status, headers = await raw.head()
                chunks = raw.chunks()
                first = await anext(chunks)
                begun = time.monotonic()
                second = await anext(chunks)
                between = time.monotonic() - begun
                loaded.set()
                rest = b"".join([chunk async for chunk in chunks])

            assert (status, headers["content-type"]) == (200, "text/event-stream")
            assert headers["x-modeld-model"] == "tiny"
            assert first == second == b": loading 43 %\n\n"
            assert between < 3
            assert rest.endswith(b'data: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n')

    run(main)


def test_a_stream_shows_life_until_the_server_speaks() -> None:
    """A long prompt after a long load is still silence."""

    async def main() -> None:
        async with cold(heartbeat_seconds=0.1) as (house, server, loaded):
            server.script = hang
            async with opened(house, house.chat(STREAM)) as raw:
                await raw.head()
                loaded.set()
                await until(lambda: len(server.asked) == 1)
                chunks = raw.chunks()
                for _ in range(3):
                    assert (await anext(chunks)).startswith(b": ")

    run(main)


def test_what_the_engine_cannot_do_is_not_tried_again_by_clients() -> None:
    """OpenAI's clients repeat every 5xx, for seconds, unless they are told not to."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.json(b'{"error":{"code":501}}', b"501 Not Implemented")

        async with ready() as (house, server):
            server.script = script
            reply = await house.ask()

            assert (reply.status, reply.headers["x-should-retry"]) == (501, "false")

    run(main)


def test_a_request_that_is_no_stream_gets_its_status_after_the_load() -> None:
    """A 200 sent early could not be taken back."""

    async def main() -> None:
        async with cold(heartbeat_seconds=0.1) as (house, _, loaded):
            async with opened(house, house.chat()) as raw:
                reading = asyncio.ensure_future(raw.reply())
                done, _pending = await asyncio.wait({reading}, timeout=0.3)
                assert not done
                loaded.set()
                reply = await reading

            assert reply.status == 200

    run(main)


@pytest.mark.parametrize(
    ("error", "status", "code", "header"),
    [
        (DoesNotFit("no"), 507, b"does_not_fit", ("x-should-retry", "false")),
        (TooManyLoaded("no"), 503, b"too_many_loaded", ("x-should-retry", "false")),
        (Throttled("no", retry_after_s=37.2), 429, b"throttled", ("retry-after", "38")),
        (Busy("no"), 503, b"busy", ("retry-after", "5")),
        (ServerFailed("no", hint="see the log"), 502, b"server_failed", None),
        (ServerFailed("no", retry_after_s=9), 502, b"server_failed", ("retry-after", "9")),
        (RuntimeError("secret"), 500, b"internal", None),
    ],
)
@pytest.mark.parametrize("body", [b'{"model":"tiny"}', STREAM])
def test_a_refused_load_has_its_own_status(
    error: Exception, status: int, code: bytes, header: tuple[str, str] | None, body: bytes
) -> None:
    """Clients decide by it whether to try again."""

    async def main() -> None:
        async with cold() as (house, _, _loaded):
            house.door.loader = refusing(error)  # type: ignore[assignment]
            reply = await house.ask(body)

            assert reply.status == status
            assert b'"code":"%b"' % code in reply.body
            assert header is None or reply.headers[header[0]] == header[1]
            assert b"secret" not in reply.body

    run(main)


def test_a_load_that_fails_late_is_told_inside_the_stream() -> None:
    """The status is gone by then; the client must not take the end for an answer."""

    async def main() -> None:
        async with cold() as (house, _, _loaded):
            house.door.loader = refusing(ServerFailed("it died"), 0.2)  # type: ignore[assignment]
            async with opened(house, house.chat(STREAM)) as raw:
                reply = await raw.reply()
                assert await raw.rest() == b""

            assert reply.status == 200
            events = reply.body.split(b"\n\n")
            assert events[0] == b": waiting"
            assert events[-2].startswith(b'data: {"error":{"message":"it died","type":"server_')
            assert b"[DONE]" not in reply.body

    run(main)


def test_a_server_that_refuses_after_signs_of_life_is_told_inside_the_stream() -> None:
    """Its 400 can't be a status any more, but its words must arrive."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            body = b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}'
            await answering.json(body, b"400 Bad Request")

        async with cold() as (house, server, loaded):
            server.script = script
            async with opened(house, house.chat(STREAM)) as raw:
                await raw.head()
                chunks = raw.chunks()
                await anext(chunks)
                loaded.set()
                rest = b"".join([chunk async for chunk in chunks])

            assert rest.endswith(
                b'data: {"error":{"message":"too long","type":"exceed_context_size_error",'
                b'"param":null,"code":"exceed_context_size_error"}}\n\n'
            )

    run(main)


def test_only_so_many_requests_wait() -> None:
    """A queue without end is a memory without end."""

    async def main() -> None:
        async with cold(max_waiting=2) as (house, _, loaded):
            first = [asyncio.ensure_future(house.ask()) for _ in range(2)]
            await until(lambda: len(house.door.asked) == 2)
            refused = await house.ask()
            loaded.set()

            assert (refused.status, refused.headers["retry-after"]) == (429, "5")
            assert b'"type":"rate_limit_error"' in refused.body
            assert [(await task).status for task in first] == [200, 200]

    run(main)


def test_a_request_waits_only_so_long() -> None:
    """Somebody sits in front of it."""

    async def main() -> None:
        async with cold(max_wait_seconds=1) as (house, _, _loaded):
            reply = await house.ask()

            assert reply.status == 504
            assert house.gateway.waiting == 0

    run(main)


def test_two_hundred_requests_for_one_cold_model_are_all_answered() -> None:
    """A morning's first minute in an office."""

    async def main() -> None:
        async with cold() as (house, server, loaded):
            asks = [asyncio.ensure_future(house.ask()) for _ in range(200)]
            await until(lambda: len(house.door.asked) == 200)
            loaded.set()
            statuses = {(await ask).status for ask in asks}

            assert statuses == {200}
            assert len(server.asked) == 200
            await until(lambda: house.door.ended() == 200)
            assert house.door.started() == 200

    run(main)


# --- the client goes ------------------------------------------------------------------------


async def leave(raw: Raw, how: str) -> None:
    """Leave in one of the ways that clients do."""
    if how == "reset":
        raw.close()
    elif how == "close":
        raw.writer.close()
    else:
        raw.writer.write_eof()
        await asyncio.sleep(0.1)
        raw.close()


@pytest.mark.parametrize("how", ["reset", "close", "shutdown"])
@pytest.mark.parametrize("body", [b'{"model":"tiny"}', STREAM])
def test_a_client_that_leaves_while_its_model_loads_is_forgotten(how: str, body: bytes) -> None:
    """Its place in the queue is another one's."""

    async def main() -> None:
        async with cold() as (house, server, loaded):
            raw = await house.connect()
            await raw.send(house.chat(body))
            await until(lambda: house.gateway.waiting == 1)
            await leave(raw, how)
            await until(lambda: house.gateway.waiting == 0 and house.gateway.connections == 0)
            loaded.set()
            raw.close()

            assert server.asked == []
            assert house.door.started() == 0

    run(main)


@pytest.mark.parametrize("how", ["reset", "close", "shutdown"])
@pytest.mark.parametrize("phase", ["prefill", "stream", "paused"])
def test_a_client_that_leaves_frees_its_slot(how: str, phase: str) -> None:
    """llama-server works on for nobody until its connection closes."""

    async def main() -> None:
        gone = asyncio.Event()

        async def script(_: Asked, answering: Answering) -> None:
            if phase != "prefill":
                await answering.stream_head()
                await answering.event(b"1")
            try:
                if phase == "paused":
                    while True:
                        await answering.event(b"x" * 65536)
                await answering.until_gone()
            finally:
                gone.set()

        async with ready() as (house, server):
            server.script = script
            raw = await house.connect()
            await raw.send(house.chat(STREAM))
            await until(lambda: len(server.asked) == 1)
            if phase != "prefill":
                await raw.head()
                await anext(raw.chunks())
            if phase == "paused":
                await until(lambda: any(c.is_paused for c in house.gateway._hall.connections))
            begun = time.monotonic()
            await leave(raw, how)
            await asyncio.wait_for(gone.wait(), 1)
            raw.close()

            assert time.monotonic() - begun < 5
            await until(lambda: house.door.in_flight() == {})

    run(main)


@pytest.mark.parametrize("when", ["while it loads", "before the answer", "in the stream"])
def test_a_client_that_has_said_all_gets_its_answer(when: str) -> None:
    """RFC 9112, 9.6: whoever ends its side after its request, as `nc -N` does, reads on."""

    async def main() -> None:
        release = asyncio.Event()

        async def script(_: Asked, answering: Answering) -> None:
            if when == "before the answer":
                await release.wait()
            await answering.stream_head()
            await answering.event(b"1")
            if when == "in the stream":
                await release.wait()
            await answering.event(b"[DONE]")
            await answering.end()

        async with cold() as (house, server, loaded):
            server.script = script
            raw = await house.connect()
            await raw.send(house.chat(STREAM))
            await until(lambda: house.gateway.waiting == 1)
            if when != "while it loads":
                loaded.set()
                await until(lambda: len(server.asked) == 1)
            raw.writer.write_eof()
            await asyncio.sleep(3 * LOOK_SECONDS)
            loaded.set()
            release.set()

            assert (await raw.reply()).body.endswith(b"data: [DONE]\n\n")
            assert await raw.rest() == b""
            raw.close()

    run(main)


def test_a_client_of_which_the_kernel_tells_nothing_has_left_with_its_last_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody must generate for hours for one that is gone."""

    async def main() -> None:
        async with cold() as (house, server, loaded):
            raw = await house.connect()
            await raw.send(house.chat(STREAM))
            await until(lambda: house.gateway.waiting == 1)
            monkeypatch.setattr(Peers, "user_of", lambda *_: UNKNOWN)
            raw.writer.write_eof()
            await until(lambda: house.gateway.waiting == 0 and house.gateway.connections == 0)
            loaded.set()

            assert await raw.rest() == b""
            assert server.asked == []
            raw.close()

    run(main)


def test_a_client_that_leaves_the_line_for_a_connection_loses_its_turn() -> None:
    """The turn must go to the next one, or the line stands still for ever."""

    async def main() -> None:
        release = asyncio.Event()

        async def script(_: Asked, answering: Answering) -> None:
            await release.wait()
            await answering.json()

        async with ready() as (house, server):
            server.script = script
            busy = [asyncio.ensure_future(house.ask()) for _ in range(pool.MAX_OPEN)]
            await until(lambda: len(server.asked) == pool.MAX_OPEN)
            leaving = await house.connect()
            await leaving.send(house.chat())
            await until(lambda: house.door.started() == pool.MAX_OPEN + 1)
            last = asyncio.ensure_future(house.ask())
            await until(lambda: house.door.started() == pool.MAX_OPEN + 2)
            leaving.close()
            await until(lambda: house.door.ended() == 1)
            release.set()

            assert (await last).status == 200
            assert {(await ask).status for ask in busy} == {200}
            assert len(server.asked) == pool.MAX_OPEN + 1

    run(main)


# --- the server goes ------------------------------------------------------------------------


def test_a_server_that_dies_before_its_first_byte_is_a_502() -> None:
    """The client may try again: nothing of an answer came."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            answering.die()

        async with ready() as (house, server):
            server.script = script
            reply = await house.ask()

            assert reply.status == 502
            assert b'"code":"server_failed"' in reply.body
            assert len(server.asked) == 1

    run(main)


@pytest.mark.parametrize("cut", [b"", b"20\r\ndata: {", b"5\r\ndata:\r\n"])
def test_a_server_that_dies_in_a_stream_is_told_inside_it(cut: bytes) -> None:
    """An end without a word would be taken for the whole answer."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.stream_head()
            await answering.event(b"1")
            await answering.send(cut)
            await until(lambda: house.door.moved() > 0)
            answering.close()

        async with ready() as (house, server):
            server.script = script
            async with opened(house, house.chat(STREAM)) as raw:
                reply = await raw.reply()
                assert await raw.rest() == b""

            events = reply.body.split(b"\n\n")
            assert events[0] == b"data: 1"
            assert events[-2].startswith(b'data: {"error":{"message":')
            assert b"[DONE]" not in reply.body

    run(main)


def test_a_server_that_dies_in_a_plain_answer_cuts_the_connection() -> None:
    """Half a JSON must not look whole."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
            await asyncio.sleep(0.05)
            answering.die()

        async with ready() as (house, server):
            server.script = script
            async with opened(house, house.chat()) as raw:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await raw.reply()

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01\x02garbage",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
def test_a_server_that_speaks_no_http_is_a_502(answer: bytes) -> None:
    """Some other program may have taken the socket."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(answer)

        async with ready() as (house, server):
            server.script = script

            assert (await house.ask()).status == 502

    run(main)


def test_an_answer_that_nobody_asked_for_is_not_given_to_the_next_request() -> None:
    """It would be somebody else's words."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
            await answering.send(answer + b"%d" % len(server.asked) + answer + b"X")

        async with ready() as (house, server):
            server.script = script

            assert (await house.ask()).body == b"1"
            assert (await house.ask()).body == b"2"

    run(main)


def test_a_request_is_sent_again_when_an_idle_connection_was_closed() -> None:
    """The server closed it while the request was on its way; that is nobody's failure."""

    async def main() -> None:
        async def script(asked: Asked, answering: Answering) -> None:
            if asked.connection == 1 and len(server.asked) == 2:
                answering.die()
            else:
                await answering.json()

        async with ready() as (house, server):
            server.script = script
            assert (await house.ask()).status == 200
            assert (await house.ask()).status == 200

            assert [asked.connection for asked in server.asked] == [1, 1, 2]

    run(main)


def test_a_request_is_sent_again_only_once() -> None:
    """A request that kills servers must not be sent to every one of them."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            if len(server.asked) == 1:
                await answering.json()
            else:
                answering.die()

        async with ready() as (house, server):
            server.script = script
            assert (await house.ask()).status == 200
            assert (await house.ask()).status == 502

            assert len(server.asked) == 3

    run(main)


def test_a_server_that_vanished_is_asked_for_again() -> None:
    """The routes may be older than its death."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.serve("tiny", f"{server.path}.gone", "dead")

            async def load(*_: object) -> None:
                house.door.serve("tiny", server.path, "s2")

            house.door.loader = load
            asyncio.get_running_loop().call_later(0.05, house.door.gone, "tiny")

            assert (await house.ask()).status == 200
            started = [e.server_id for e in house.door.events if isinstance(e, RequestStarted)]
            assert started == ["dead", "s2"]

    run(main)


def test_a_server_that_stays_away_is_a_502() -> None:
    """Twice is enough; the client decides about a third time."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.serve("tiny", f"{server.path}.gone", "dead")

            async def load(*_: object) -> None:
                house.door.serve("tiny", f"{server.path}.gone", "dead")

            house.door.loader = load
            asyncio.get_running_loop().call_later(0.05, house.door.gone, "tiny")

            reply = await house.ask()
            assert reply.status == 502
            assert reply.headers["x-modeld-model"] == "tiny"
            assert len(house.door.asked) == 1

    run(main)


# --- back-pressure and reports ----------------------------------------------------------------


def test_a_slow_reader_holds_back_the_server() -> None:
    """What it does not read stays in the server, not in our memory."""

    async def main() -> None:
        sent = 0

        async def script(_: Asked, answering: Answering) -> None:
            nonlocal sent
            await answering.stream_head()
            while True:
                await answering.event(b"x" * 65536)
                sent += 65536

        async with ready() as (house, server):
            server.script = script
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async with opened(house, house.chat(STREAM)) as raw:
                raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await until(lambda: any(c.is_paused for c in house.gateway._hall.connections))
                last = -1
                while last != sent:
                    last = sent
                    await asyncio.sleep(0.1)
                (connection,) = house.gateway._hall.connections
                assert connection._transport is not None
                assert connection._transport.get_write_buffer_size() < 1 << 20
                assert sent < 32 << 20  # most of it in the kernel's socket buffers
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                assert grown < 16 * 1024
                raw.reader._transport.resume_reading()  # type: ignore[attr-defined]
                await raw.head()
                chunks = raw.chunks()
                while sent < last + (1 << 20):
                    await anext(chunks)

    run(main)


def test_a_client_that_reads_nothing_for_too_long_is_cut() -> None:
    """It holds a slot that others wait for."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.stream_head()
            while True:
                await answering.event(b"x" * 65536)

        limits = Limits(write_stall_seconds=0.2, sweep_seconds=0.05)
        async with ready(limits) as (house, server):
            server.script = script
            async with opened(house, house.chat(STREAM)) as raw:
                raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await until(lambda: len(server.asked) == 1)
                await until(lambda: server.open == 0)

    run(main)


def test_bytes_of_an_answer_are_reported_once_a_beat_however_many_come() -> None:
    """The loop needs a sign of life, not a flood."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.stream_head()
            for _n in range(100):
                await answering.event(b"x")
                await asyncio.sleep(0.001)
            await answering.end()

        async with ready() as (house, server):
            server.script = script
            began = time.monotonic()
            await house.ask(STREAM)
            beats = (time.monotonic() - began) / QUICK.sweep_seconds + 1

            assert 1 <= house.door.moved() <= beats

    run(main)


def test_an_action_that_asks_the_loop_is_answered_when_it_did() -> None:
    """Routes of management will load and unload, which takes time."""

    async def main() -> None:
        async def slow(call: Call) -> Answer:
            await asyncio.sleep(0.01)
            if call.argument == "no":
                raise Busy("not now")
            if call.argument == "bug":
                raise RuntimeError("secret")
            return Answer(body=call.argument.encode())

        row = Row(method="GET", path="/slow/*", dialect=OPENAI, action=Local(slow))
        async with running(rows=(*ROWS, row)) as house:
            assert (await house.get(b"/slow/a%20b")).body == b"a b"
            assert (await house.get(b"/slow/no")).status == 503
            assert (await house.get(b"/slow/bug")).status == 500

    run(main)


@pytest.mark.parametrize("kind", [Local, Relayed])
def test_a_bug_in_a_dialect_is_told(kind: type[Local | Relayed]) -> None:
    """A connection that closes without a word looks like a crash, and clients ask again."""

    async def main() -> None:
        def broken(_: Call) -> Answer:
            raise AssertionError

        row = Row(method="GET", path="/broken", dialect=OPENAI, action=kind(broken))
        async with (
            running(rows=(*ROWS, row)) as house,
            opened(house, house.request(b"GET /broken")) as raw,
        ):
            reply = await raw.reply()
            assert (reply.status, json.loads(reply.body)["error"]["code"]) == (500, "internal")
            await raw.send(house.request(b"GET /health"))
            assert (await raw.reply()).status == 200

    run(main)


def test_a_bug_in_the_relay_ends_the_connection_and_the_request() -> None:
    """A bug must not leave a slot counted busy for ever."""

    async def main() -> None:
        dialect = replace(OPENAI, stream_type=None)  # breaks when the server's head comes
        rows = tuple(
            replace(row, dialect=dialect) if isinstance(row.action, Relayed) else row
            for row in ROWS
        )
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with (
                ScriptedServer(f"{directory}/s.sock") as server,
                running(door, rows=rows) as house,
            ):
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)
                async with opened(house, house.chat()) as raw:
                    assert await raw.rest() == b""
                await until(lambda: door.in_flight() == {} and server.open == 0)
                assert door.started() == 1

    run(main)


def test_errors_are_words_of_the_table() -> None:
    """One table decides the status of every error, here as everywhere."""

    async def main() -> None:
        async with cold() as (house, _, _loaded):
            for kind in ModeldError.__subclasses__():
                if kind.__module__ != ModeldError.__module__:
                    continue  # the client has one of its own
                house.door.loader = refusing(kind("x"))  # type: ignore[assignment]
                reply = await house.ask()
                assert reply.status == kind("x").status.http_status

    run(main)
