"""The gateway over TCP: what strangers send, and how long it waits for them."""

import asyncio
import contextlib
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.config.schema import Gateway as Settings
from modeld.errors import AddressInUse, Busy, ConfigInvalid
from modeld.gateway.guard import Limits
from modeld.gateway.http import Answer
from modeld.gateway.openai import OPENAI
from modeld.gateway.server import ROWS, Gateway
from modeld.gateway.table import Call, Local, Row
from tests.gateway.test_reading import REFUSED
from tests.support.fake_door import FakeDoor
from tests.support.gateway import Clock, House, opened, run, running, short_directory, until
from tests.support.upstream import ScriptedServer

SLOW = Limits(
    head_seconds=0.3,
    body_idle_seconds=0.3,
    keep_alive_seconds=0.3,
    linger_seconds=0.2,
    sweep_seconds=0.02,
)


def test_health_is_ok_without_any_model() -> None:
    """Clients take anything else for an outage."""

    async def main() -> None:
        async with running() as house:
            reply = await house.get(b"/health")

            assert (reply.status, reply.body) == (200, b'{"status":"ok"}')
            assert "date" in reply.headers

    run(main)


def test_health_answers_head_without_a_body() -> None:
    """Load balancers ask so, and the body would be read as the next answer."""

    async def main() -> None:
        async with (
            running() as house,
            opened(house, house.request(b"HEAD /health") * 1) as raw,
        ):
            first = await raw.reply(has_body=False)
            await raw.send(house.request(b"GET /health"))
            second = await raw.reply()

            assert first.headers["content-length"] == "15"
            assert second.body == b'{"status":"ok"}'

    run(main)


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        (b"GET /slots", 404, None),
        (b"POST /props", 405, "get, head"),
        (b"GET /v1/models/", 404, None),
        (b"GET /v1/../v1/models", 404, None),
        (b"GET /v1/%6dodels", 404, None),
        (b"GET /tools", 404, None),
        (b"POST /lora-adapters", 404, None),
        (b"POST /slots/0?action=save", 404, None),
        (b"GET /v1/chat/completions", 405, "post"),
        (b"DELETE /v1/models", 405, "get, head"),
        (b"PUT /health", 405, "get, head"),
        (b"OPTIONS /health", 405, "get, head"),
    ],
)
def test_nothing_is_reachable_but_the_table(line: bytes, status: int, allow: str | None) -> None:
    """llama-server has endpoints that write files and run tools."""

    async def main() -> None:
        body = b"{}" if line.startswith((b"POST", b"PUT")) else b""
        async with running() as house, opened(house, house.request(line, body)) as raw:
            reply = await raw.reply()

            assert reply.status == status
            assert reply.headers.get("allow") == allow
            assert reply.body.startswith(b'{"error":{"message":')

    run(main)


def test_a_client_keeps_its_connection_after_an_error() -> None:
    """An unknown path is no reason to make it connect again."""

    async def main() -> None:
        async with running() as house, opened(house, house.request(b"GET /nothing")) as raw:
            assert (await raw.reply()).status == 404
            await raw.send(house.request(b"GET /health"))
            assert (await raw.reply()).status == 200

    run(main)


def test_a_refused_host_reaches_nothing() -> None:
    """DNS rebinding ends here, before the route is even looked for."""

    async def main() -> None:
        async with (
            running() as house,
            opened(house, b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n") as raw,
        ):
            assert (await raw.reply()).status == 403

    run(main)


def test_a_listed_page_may_read_answers_and_ask_first() -> None:
    """`gateway.allowed_origins` would be of no use without these headers."""

    async def main() -> None:
        origin = b"Origin: https://app.example\r\n"
        async with running(allowed_origins=("https://app.example",)) as house:
            asking = origin + b"Access-Control-Request-Method: POST\r\n"
            async with opened(house, house.request(b"OPTIONS /v1/models", b"", asking)) as raw:
                preflight = await raw.reply()
                await raw.send(house.request(b"GET /v1/models", b"", origin))
                answer = await raw.reply()

            assert preflight.status == 200
            assert "post" in preflight.headers["access-control-allow-methods"]
            assert answer.headers["access-control-allow-origin"] == "https://app.example"

    run(main)


def test_a_preflight_with_half_a_body_does_not_shift_the_next_request() -> None:
    """Its rest would be read as a request that the page wrote."""

    async def main() -> None:
        headers = b"Origin: https://a\r\nContent-Length: 99\r\n"
        async with (
            running(allowed_origins=("https://a",)) as house,
            opened(house, house.request(b"OPTIONS /health", b"", headers)) as raw,
        ):
            reply = await raw.reply()

            assert reply.headers["connection"] == "close"
            await raw.send(house.request(b"GET /health"))
            assert await raw.rest() == b""

    run(main)


def test_smuggled_requests_reach_no_server() -> None:
    """Every ambiguous request of the corpus, against a gateway with a server behind it."""

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                for data in REFUSED.values():
                    ours = data.replace(b"Host: a\r\n", house.host).replace(
                        b" /x ", b" /v1/chat/completions "
                    )
                    async with opened(house, ours) as raw:
                        answer = await raw.rest()
                        assert answer.startswith(b"HTTP/1.1 "), data
                        assert int(answer.split()[1]) >= 400, data
                        assert answer.count(b"Content-Length: ") == 1, data
                assert server.asked == []

    run(main)


def test_pipelined_requests_get_one_answer_and_a_close() -> None:
    """The client sends the others again; none is answered with another one's answer."""

    async def main() -> None:
        async with running() as house:
            async with opened(house, house.request(b"GET /health") * 3) as raw:
                answers = await raw.rest()

            assert answers.count(b"HTTP/1.1 200") == 1
            assert b"Connection: close\r\n" in answers

    run(main)


def test_a_body_that_is_expected_is_asked_for() -> None:
    """Without 100 Continue, curl waits a second before it sends."""

    async def main() -> None:
        head = house_head = b""
        async with running() as house:
            house_head = b"POST /v1/chat/completions HTTP/1.1\r\n" + house.host
            head = house_head + b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
            async with opened(house, head + b"Content-Length: 2\r\n\r\n") as raw:
                assert (await raw.reply()).status == 100
                await raw.send(b"{}")
                assert (await raw.reply()).status == 400  # no model is named
            async with opened(house, head + b"Content-Length: 99999999999\r\n\r\n") as raw:
                assert (await raw.reply()).status == 413

    run(main)


def test_a_huge_body_is_refused_before_it_is_sent() -> None:
    """A gigabyte that announces itself costs nothing."""

    async def main() -> None:
        async with running(max_body_mb=1) as house:
            head = house.request(b"POST /v1/chat/completions", b"x")[:-1]
            data = head.replace(b"Content-Length: 1\r\n", b"Content-Length: 1073741824\r\n")
            async with opened(house, data) as raw:
                reply = await raw.reply()

            assert reply.status == 413
            assert reply.headers["connection"] == "close"

    run(main)


def test_a_huge_chunked_body_is_cut_at_the_limit() -> None:
    """Chunks announce nothing: it must be counted."""

    async def main() -> None:
        async with running(max_body_mb=1) as house:
            head = house.request(
                b"POST /v1/chat/completions",
                b"",
                b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
            )
            async with opened(house, head) as raw:
                chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
                with contextlib.suppress(ConnectionError):
                    for _ in range(40):
                        await raw.send(chunk)
                reply = await raw.reply()

            assert reply.status == 413

    run(main)


def test_deep_json_is_answered_400() -> None:
    """A hundred thousand brackets must not reach any recursion."""

    async def main() -> None:
        body = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        async with running() as house:
            assert (await house.ask(body)).status == 400

    run(main)


@pytest.mark.parametrize("depth", range(300, 1100, 50))
def test_json_of_any_depth_is_no_bug(depth: int, caplog: pytest.LogCaptureFixture) -> None:
    """What can just be read is written, looked through and rewritten, or is refused."""

    async def main() -> None:
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        async with running() as house:
            for path, body in (
                (b"/v1/chat/completions", b'"messages":[{"role":"user","content":[%b]}]'),
                (b"/v1/responses", b'"input":[{"role":"user","content":[%b]}]'),
                (b"/v1/messages", b'"messages":[{"role":"user","content":[%b]}]'),
                (b"/api/chat", b'"messages":[],"format":%b'),
                (b"/api/chat", b'"messages":[],"tools":[%b]'),
                (b"/completion", b'"prompt":"","json_schema":%b'),
                (b"/inference", b'"prompt":"","parameters":%b'),
            ):
                data = house.request(b"POST " + path, b'{"model":"none",%b}' % (body % deep))
                async with opened(house, data) as raw:
                    assert (await raw.reply()).status in {400, 404}, path

    run(main)
    assert not caplog.records


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 0),
        (b"GET /health HT", 408),
        (b"GET /health HTTP/1.1\r\nX: a\r\n", 408),
        (b"BODY", 408),
    ],
)
def test_a_slow_request_is_cut(data: bytes, status: int) -> None:
    """Slowloris holds a connection for as long as it is let."""

    async def main() -> None:
        async with running(limits=SLOW) as house:
            sent = house.chat()[:-3] if data == b"BODY" else data
            async with opened(house, sent) as raw:
                begun = time.monotonic()
                answer = await raw.rest()

            assert time.monotonic() - begun < 5
            assert (int(answer.split()[1]) if answer else 0) == status

    run(main)


def test_a_head_that_trickles_is_cut_at_the_deadline() -> None:
    """Each byte in time is still too slow a head."""

    async def main() -> None:
        async with running(limits=SLOW) as house, opened(house, b"GET /health HTTP/1.1\r\n") as raw:
            begun = time.monotonic()
            reading = asyncio.ensure_future(raw.rest())
            while not reading.done():
                with contextlib.suppress(ConnectionError):
                    await raw.send(b"a")
                await asyncio.sleep(0.03)

            assert time.monotonic() - begun < 5
            assert b" 408 " in reading.result()

    run(main)


def test_an_idle_connection_is_closed() -> None:
    """Nobody comes back to most of them."""

    async def main() -> None:
        async with running(limits=SLOW) as house, opened(house, house.request(b"GET /health")) as r:
            assert (await r.reply()).status == 200
            assert await r.rest() == b""

    run(main)


def test_a_client_may_take_its_time_to_read_the_last_of_an_answer() -> None:
    """The time to close is for clients that are done, not for slow ones."""

    async def main() -> None:
        body = b"x" * (16 << 20)
        row = Row(
            method="GET", path="/big", dialect=OPENAI, action=Local(lambda _: Answer(body=body))
        )
        async with running(limits=SLOW, rows=(row,)) as house:
            request = house.request(b"GET /big", b"", b"Connection: close\r\n")
            async with opened(house, request) as raw:
                raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(0.6)
                raw.reader._transport.resume_reading()  # type: ignore[attr-defined]

                assert (await raw.reply()).body == body

    run(main)


def test_a_body_that_moves_is_not_cut() -> None:
    """The limit is on silence: a phone line may take its time."""

    async def main() -> None:
        async with running(limits=SLOW) as house:
            request = house.chat(b'{"stream": false, "messages": []}')
            async with opened(house, request[:-12]) as raw:
                for byte in request[-12:]:
                    await asyncio.sleep(0.06)
                    await raw.send(bytes([byte]))
                assert (await raw.reply()).status == 400  # no model is named

    run(main)


def test_slow_sockets_do_not_keep_out_others() -> None:
    """A full house shows out who sends nothing, not who works."""

    async def main() -> None:
        async with running(max_connections=20) as house:
            slow = [await house.connect() for _ in range(100)]
            for raw in slow:
                with contextlib.suppress(ConnectionError):
                    await raw.send(b"GET /health HTTP/1.1\r\n")
            times = []
            for _ in range(20):
                begun = time.monotonic()
                assert (await house.get(b"/health")).status == 200
                times.append(time.monotonic() - begun)
            for raw in slow:
                raw.close()

            assert max(times) < 5
            assert house.gateway.connections <= 21

    run(main)


def test_a_full_house_answers_503() -> None:
    """When everybody works, the next one is told to come back."""

    async def main() -> None:
        release = asyncio.Event()

        async def load(*_: object) -> None:
            await release.wait()

        door = FakeDoor()
        door.add("tiny")
        door.loader = load
        async with running(door, max_connections=3) as house:
            busy = [await house.connect() for _ in range(3)]
            for raw in busy:
                await raw.send(house.chat())
            await until(lambda: len(door.asked) == 3)
            reply = await house.get(b"/health")

            assert reply.status == 503
            assert reply.headers["retry-after"] == "1"
            for raw in busy:
                raw.close()
            await until(lambda: house.gateway.connections == 0)
            assert (await house.get(b"/health")).status == 200

    run(main)


# --- start, change, end ---------------------------------------------------------------------


def test_gateway_binds_what_is_configured_when_no_socket_is_given() -> None:
    """Not everybody has systemd's sockets."""

    async def main() -> None:
        gateway = Gateway(FakeDoor(), Settings(listen=("127.0.0.1:0", "[::1]:0")), Clock())
        await gateway.start()
        try:
            first, second = gateway.addresses
            assert first.startswith("127.0.0.1:")
            assert second.startswith("[::1]:")
            assert not first.endswith(":0")
        finally:
            await gateway.drain(0)

    run(main)


def test_gateway_refuses_an_address_that_is_taken() -> None:
    """The person must hear which one, and how to see who has it."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            gateway = Gateway(FakeDoor(), Settings(listen=(f"127.0.0.1:{port}",)), Clock())
            with pytest.raises(AddressInUse, match=str(port)):
                await gateway.start()
            await gateway.drain(0)

    run(main)


def test_gateway_refuses_a_given_socket_that_others_can_reach() -> None:
    """A socket unit with a wrong address must not open the house."""

    async def main() -> None:
        with socket.socket() as wide:
            wide.bind(("0.0.0.0", 0))
            gateway = Gateway(FakeDoor(), Settings(), Clock())
            with pytest.raises(ConfigInvalid, match="loopback"):
                await gateway.start([wide])
            await gateway.drain(0)

    run(main)


def test_reconfigure_changes_who_may_ask() -> None:
    """`modelctl reload` must not need a restart for this."""

    async def main() -> None:
        async with running() as house:
            request = b"GET /health HTTP/1.1\r\nHost: mybox\r\n\r\n"
            listen = Settings().listen
            async with opened(house, request) as raw:
                assert (await raw.reply()).status == 403
                assert house.gateway.reconfigure(Settings(allowed_hosts=("mybox",))) == ()
                await raw.send(request)
                assert (await raw.reply()).status == 200
            assert house.gateway.reconfigure(Settings(listen=(*listen, "127.0.0.1:9"))) == (
                "gateway.listen",
            )

    run(main)


def test_drain_lets_an_answer_finish_and_takes_no_more() -> None:
    """`systemctl restart` must not break what is being said."""

    async def main() -> None:
        with short_directory() as directory:
            release = asyncio.Event()
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")

            async def script(_: object, answering: object) -> None:
                await release.wait()
                await answering.json()  # type: ignore[attr-defined]

            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                server.script = script
                idle = await house.connect()
                async with opened(house, house.chat()) as raw:
                    await until(lambda: len(server.asked) == 1)
                    draining = asyncio.ensure_future(house.gateway.drain(5))
                    assert await idle.rest() == b""
                    idle.close()
                    with pytest.raises(ConnectionError):
                        await house.connect()
                    release.set()
                    reply = await raw.reply()
                    await draining

                assert reply.status == 200
                assert reply.headers["connection"] == "close"

    run(main)


def test_drain_answers_the_next_request_of_an_open_connection_and_closes_it_then() -> None:
    """A client without pause would meet a connection that closes under it: a failed request."""

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock"), running(door) as house:
                async with opened(house, house.chat()) as raw:
                    assert (await raw.reply()).headers.get("connection") != "close"
                    draining = asyncio.ensure_future(house.gateway.drain(5))
                    await asyncio.sleep(0)
                    await raw.send(house.chat())
                    reply = await raw.reply()
                    await draining

                assert reply.status == 200
                assert reply.headers["connection"] == "close"

    run(main)


def test_drain_is_bounded() -> None:
    """A server that never answers must not hold the end of the daemon."""

    async def main() -> None:
        async def load(*_: object) -> None:
            await asyncio.Event().wait()

        door = FakeDoor()
        door.add("tiny")
        door.loader = load
        async with running(door) as house, opened(house, house.chat()) as raw:
            await until(lambda: len(door.asked) == 1)
            begun = time.monotonic()
            await house.gateway.drain(0.1)

            assert time.monotonic() - begun < 5
            assert await raw.rest() == b""
            assert house.gateway.waiting == 0

    run(main)


# --- any bytes ------------------------------------------------------------------------------


def test_random_bytes_reach_no_server_and_break_nothing() -> None:
    """After everything that strangers may send, the next request is answered."""

    async def send_all(house: House, samples: list[bytes]) -> None:
        for sample in samples:
            raw = await house.connect()
            with contextlib.suppress(ConnectionError):
                await raw.send(sample)
                raw.writer.write_eof()
            answer = await raw.rest()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4") or b" 50" in answer[:16]
            raw.close()
        assert (await house.get(b"/health")).status == 200

    parts = st.sampled_from(
        [
            b"POST /v1/chat/completions HTTP/1.1\r\n",
            b"Host: 127.0.0.1\r\n",
            b"Content-Type: application/json\r\n",
            b"Content-Length: 16\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b'{"model":"tiny"}',
            b"10\r\n",
            b"0\r\n\r\n",
        ]
    )
    wild = st.binary(max_size=80) | st.lists(parts, max_size=8).map(b"".join)

    @given(samples=st.lists(wild, min_size=1, max_size=8))
    @settings(max_examples=15, deadline=None)
    def check(samples: list[bytes]) -> None:
        async def main() -> None:
            with short_directory() as directory:
                door = FakeDoor()
                door.add("tiny")
                door.serve("tiny", f"{directory}/s.sock")
                async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                    await send_all(house, samples)
                    assert server.asked == []

        run(main)

    check()


def test_a_pipelined_request_that_comes_during_an_answer_ends_the_connection() -> None:
    """It is as refused as one that comes with the first."""

    async def main() -> None:
        release = asyncio.Event()

        async def load(*_: object) -> None:
            await release.wait()
            raise Busy("not now")

        door = FakeDoor()
        door.add("tiny")
        door.loader = load
        async with running(door) as house, opened(house, house.chat()) as raw:
            await until(lambda: len(door.asked) == 1)
            await raw.send(house.chat())
            await asyncio.sleep(0.02)
            release.set()
            answer = await raw.rest()

            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Connection: close\r\n" in answer
            assert len(door.asked) == 1

    run(main)


def test_bodies_that_are_too_many_together_are_refused() -> None:
    """Each within its limit, they could still fill the memory of a small machine."""

    async def main() -> None:
        limits = Limits(held_bodies=1, sweep_seconds=0.05)
        async with running(max_body_mb=1, limits=limits) as house:
            request = house.chat(b"x" * 900_000)
            async with opened(house, request[:-1]) as first, opened(house, request[:-1]) as second:
                answers = await asyncio.wait(
                    [asyncio.ensure_future(first.reply()), asyncio.ensure_future(second.reply())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                (refused,) = answers[0]

                assert refused.result().status == 503

    run(main)


def test_a_client_that_leaves_an_action_cancels_it() -> None:
    """Nobody will read what it finds out."""

    async def main() -> None:
        cancelled = asyncio.Event()

        async def slow(_: Call) -> Answer:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        row = Row(method="GET", path="/slow", dialect=OPENAI, action=Local(slow))
        async with running(rows=(*ROWS, row)) as house:
            raw = await house.connect()
            await raw.send(house.request(b"GET /slow"))
            await until(lambda: any(c._task for c in house.gateway._hall.connections))
            raw.close()
            await asyncio.wait_for(cancelled.wait(), 1)

    run(main)
