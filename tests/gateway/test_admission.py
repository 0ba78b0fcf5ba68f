"""The guard before a real gateway: keys, rates, families, and whose words a refusal has."""

import asyncio
import json
import socket

import anthropic
import ollama
import openai
import pytest

from modeld.config.schema import Gateway as Settings
from modeld.errors import ConfigInvalid
from modeld.gateway.guard import Limits
from modeld.gateway.reading import MAX_HEAD_BYTES
from modeld.gateway.server import ROWS, Gateway
from tests.support.fake_door import FakeDoor
from tests.support.gateway import (
    JSON,
    Clock,
    House,
    Reply,
    opened,
    run,
    running,
    short_directory,
    until,
)
from tests.support.upstream import Answering, Asked, ScriptedServer

KEY = b"the-key-of-a-client"
BEARER = b"Authorization: Bearer " + KEY + b"\r\n"
PATHS = {
    "openai": b"/v1/chat/completions",
    "anthropic": b"/v1/messages",
    "ollama": b"/api/chat",
}


def family_of(body: bytes) -> str:
    """Return whose words an error has."""
    error = json.loads(body)
    if isinstance(error["error"], str):
        return "ollama"
    return "anthropic" if error.get("type") == "error" else "openai"


async def sent(house: House, data: bytes) -> Reply:
    """Return the answer to some bytes on a connection of their own."""
    async with opened(house, data) as raw:
        return await raw.reply()


# --- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PATHS)
@pytest.mark.parametrize(("headers", "status"), [(b"", 401), (b"X-Api-Key: wrong\r\n", 403)])
def test_request_without_the_key_is_refused_in_its_dialect(
    family: str, headers: bytes, status: int
) -> None:
    """A client shows what it understands; the model is not even looked for."""

    async def main() -> None:
        async with running(keys=(KEY,)) as house:
            request = house.request(b"POST " + PATHS[family], b'{"model":"tiny"}', headers)
            reply = await sent(house, request)

            assert reply.status == status
            assert family_of(reply.body) == family
            assert reply.headers["www-authenticate"].startswith("bearer ")
            assert KEY not in reply.body

    run(main)


def test_key_opens_and_never_reaches_the_server() -> None:
    """It is the gateway's; a server logs what it likes."""

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with (
                ScriptedServer(f"{directory}/s.sock") as server,
                running(door, keys=(KEY,)) as house,
            ):
                for headers in (BEARER, b"x-api-key: %b\r\n" % KEY):
                    for path in PATHS.values():
                        body = b'{"model":"tiny","messages":[{"role":"user","content":"a"}]}'
                        await sent(house, house.request(b"POST " + path, body, headers))
                assert len(server.asked) == 6
                assert not any(KEY in each.head + each.body for each in server.asked)
                assert (await house.get(b"/health")).status == 200
                assert (await house.get(b"/ready")).status == 200
                assert (await house.get(b"/v1/models")).status == 401
                assert (await house.get(b"/nothing")).status == 401

    run(main)


def test_official_clients_send_their_keys_so_that_they_are_seen() -> None:
    """Each has its own header; what each raises tells its user what is wrong."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        async with running(door, keys=(KEY,)) as house:
            base = f"http://127.0.0.1:{house.port}"
            key = KEY.decode()
            async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=key) as one:
                assert [each.id async for each in await one.models.list()] == ["tiny"]
            async with anthropic.AsyncAnthropic(base_url=base, api_key=key) as two:
                assert [each.id async for each in await two.models.list()] == ["tiny"]
            async with anthropic.AsyncAnthropic(base_url=base, auth_token=key) as three:
                assert [each.id async for each in await three.models.list()] == ["tiny"]
            leaving = {"Connection": "close"}
            headers = {"Authorization": f"Bearer {key}", **leaving}
            listed = await ollama.AsyncClient(host=base, headers=headers).list()
            assert [each.model for each in listed.models] == ["tiny"]
            async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="wrong-key") as wrong:
                with pytest.raises(openai.PermissionDeniedError, match="key is not known"):
                    await wrong.models.list()
            with pytest.raises(ollama.ResponseError, match="a key is needed"):
                await ollama.AsyncClient(host=base, headers=leaving).list()

    run(main)


def test_keys_of_a_reload_count_at_once() -> None:
    """A key that leaked is taken away without a restart, on open connections too."""

    async def main() -> None:
        async with running(keys=(KEY,)) as house:
            request = house.request(b"GET /v1/models", b"", BEARER)
            async with opened(house, request) as raw:
                assert (await raw.reply()).status == 200
                house.gateway.reconfigure(Settings(), (b"another-key",))
                await raw.send(request)
                assert (await raw.reply()).status == 403
                house.gateway.reconfigure(Settings())
                await raw.send(request)
                assert (await raw.reply()).status == 200

    run(main)


# --- addresses that others reach ------------------------------------------------------------


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
def test_gateway_of_all_addresses_serves_who_has_the_key(bind: str) -> None:
    """Reached over IPv4 and IPv6 alike, by the number that was dialled."""

    async def main() -> None:
        async with running(bind=bind, keys=(KEY,), allowed_hosts=("mybox",)) as house:
            for host, status in (
                (b"127.0.0.1:%d" % house.port, 200),
                (b"localhost:%d" % house.port, 200),
                (b"mybox", 200),
                (b"192.0.2.1:%d" % house.port, 403),
                (b"evil.example", 403),
            ):
                request = b"GET /v1/models HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, BEARER)
                assert (await sent(house, request)).status == status
            assert (await house.get(b"/v1/models")).status == 401
            reader, writer = await asyncio.open_connection(
                "::1" if bind == "::" else "127.0.0.3", house.port
            )
            host = b"[::1]" if bind == "::" else b"127.0.0.3"
            writer.write(
                b"GET /v1/models HTTP/1.1\r\nHost: %b:%d\r\n%b\r\n" % (host, house.port, BEARER)
            )
            assert (await reader.readline()).split()[1] == b"200"
            writer.transport.abort()

    run(main)


def test_gateway_of_all_addresses_does_not_start_without_keys() -> None:
    """Given by systemd or bound by itself: nobody is let in by a typing mistake."""

    async def main() -> None:
        for sockets, listen in (
            ([socket.create_server(("0.0.0.0", 0))], ()),
            ([], ("0.0.0.0:0",)),
        ):
            gateway = Gateway(FakeDoor(), Settings(listen=listen), Clock())
            with pytest.raises(ConfigInvalid, match="no key") as raised:
                await gateway.start(sockets)
            assert "gateway.key_file" in raised.value.hint
            await gateway.drain(0)
            for each in sockets:
                each.close()

    run(main)


def test_gateway_of_all_addresses_shuts_when_its_keys_are_taken_away() -> None:
    """The socket stays until a restart; what comes over it meanwhile must not."""

    async def main() -> None:
        async with running(bind="0.0.0.0", keys=(KEY,)) as house:
            house.gateway.reconfigure(Settings())
            request = house.request(b"GET /v1/models", b"", BEARER)

            assert (await sent(house, request)).status == 403
            assert (await house.get(b"/v1/models")).status == 401

    run(main)


# --- rates and crowds -----------------------------------------------------------------------


@pytest.mark.parametrize("family", PATHS)
def test_client_that_asks_too_often_is_told_when_in_its_dialect(family: str) -> None:
    """Official clients wait for as long as `Retry-After` says."""

    async def main() -> None:
        async with running(rate_limit_per_minute=1, rate_burst=2) as house:
            request = house.request(b"POST " + PATHS[family], b'{"model":"none"}')
            for expected in (404, 404, 429):
                reply = await sent(house, request)
                assert reply.status == expected
            assert 0 < int(reply.headers["retry-after"]) <= 60
            assert family_of(reply.body) == family
            assert (await house.get(b"/health")).status == 200
            house.gateway.reconfigure(Settings(rate_limit_per_minute=0))
            assert (await sent(house, request)).status == 404

    run(main)


def test_rate_survives_a_reload_that_does_not_change_it() -> None:
    """Else whoever may reload may ask without end."""

    async def main() -> None:
        config = Settings(rate_limit_per_minute=1, rate_burst=1)
        async with running(rate_limit_per_minute=1, rate_burst=1) as house:
            assert (await house.get(b"/v1/models")).status == 200
            house.gateway.reconfigure(config)
            assert (await house.get(b"/v1/models")).status == 429

    run(main)


def test_model_has_only_so_many_requests_in_flight() -> None:
    """429 `concurrency_limit`; another model's are not counted, and an end makes room."""

    async def main() -> None:
        with short_directory() as directory:
            release = asyncio.Event()
            door = FakeDoor()
            for name in ("tiny", "other"):
                door.add(name)
                door.serve(name, f"{directory}/s.sock", f"s-{name}")

            async def script(_: Asked, answering: Answering) -> None:
                await release.wait()
                await answering.json()

            async with (
                ScriptedServer(f"{directory}/s.sock") as server,
                running(door, max_requests_per_model=2) as house,
            ):
                server.script = script
                first, second = await house.connect(), await house.connect()
                for raw in (first, second):
                    await raw.send(house.chat())
                await until(lambda: len(server.asked) == 2)
                refused = await house.ask()
                assert refused.status == 429
                assert refused.headers["retry-after"] == "1"
                assert json.loads(refused.body)["error"]["code"] == "concurrency_limit"

                first.close()  # whoever leaves makes room
                await until(lambda: house.gateway._relay._in_flight == {"tiny": 1})
                other = asyncio.ensure_future(house.ask(b'{"model":"other"}'))
                third = asyncio.ensure_future(house.ask())
                await until(lambda: len(server.asked) == 4)
                release.set()
                assert {(await other).status, (await third).status} == {200}
                assert (await second.reply()).status == 200
                second.close()
                assert house.gateway._relay._in_flight == {}

    run(main)


# --- families of clients --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compat", "there", "missing"),
    [
        (
            ("openai",),
            ("GET /v1/models", "POST /v1/chat/completions", "POST /v1/responses"),
            ("GET /api/tags", "GET /", "POST /v1/messages", "GET /models", "POST /completion"),
        ),
        (
            ("ollama",),
            ("GET /api/tags", "GET /", "POST /api/chat"),
            ("GET /v1/models", "POST /v1/chat/completions", "GET /running", "GET /props"),
        ),
        (
            ("anthropic",),
            ("POST /v1/messages", "GET /v1/models"),
            ("POST /v1/chat/completions", "POST /api/chat", "POST /api/models/unload/x"),
        ),
        (
            ("llamacpp",),
            ("POST /v1/chat/completions", "POST /completion", "GET /models", "GET /props"),
            ("GET /running", "POST /v1/messages", "GET /api/version"),
        ),
        (
            ("llama-swap",),
            ("POST /v1/chat/completions", "GET /running", "GET /v1/models"),
            ("POST /models/load", "POST /completion", "GET /api/ps"),
        ),
        (
            ("karen",),
            ("GET /models", "POST /models/load", "GET /v1/models"),
            ("GET /running", "POST /infill", "GET /api/tags"),
        ),
        ((), (), ("GET /v1/models", "GET /models", "GET /", "GET /running", "POST /api/chat")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_gateway_serves_the_families_that_are_wanted(
    compat: tuple[str, ...], there: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """What nobody here uses is not there to be attacked; health always is."""

    async def main() -> None:
        async with running() as house:
            house.gateway.reconfigure(Settings(compat=compat))  # type: ignore[arg-type]
            for line in (*there, "GET /health", "GET /v1/health", "GET /ready"):
                body = b"{}" if line.startswith("POST") else b""
                reply = await sent(house, house.request(line.encode(), body))
                assert b"gateway.compat" not in reply.body, line
                assert b"there is no" not in reply.body, line
            for line in missing:
                body = b"{}" if line.startswith("POST") else b""
                reply = await sent(house, house.request(line.encode(), body))
                assert reply.status == 404, line
                assert b": gateway.compat has no " in reply.body, line

    run(main)


def test_every_route_belongs_to_a_family_that_can_be_chosen() -> None:
    """A route of no family would be served to everybody for ever, unnoticed."""
    families = {each for row in ROWS for each in row.families}

    assert all(row.families for row in ROWS), [row.path for row in ROWS if not row.families]
    assert families == {*Settings().compat, "always"}


# --- the words of a refusal -----------------------------------------------------------------

ODD_PATHS = {
    b"/v1/messages": "anthropic",
    b"/v1/messages?beta=true": "anthropic",
    b"/v1/messages/batches": "anthropic",
    b"/api/nothing": "ollama",
    b"/api/tags": "ollama",
    b"/": "ollama",
    b"/api/models/unload/x": "openai",
    b"/v1/nothing": "openai",
    b"/nothing": "openai",
}


@pytest.mark.parametrize(("path", "family"), ODD_PATHS.items(), ids=str)
def test_refusal_has_the_words_of_its_path(path: bytes, family: str) -> None:
    """Whatever it is refused for, before anybody looked for the route."""

    async def main() -> None:
        limits = Limits(head_seconds=0.2, sweep_seconds=0.02)
        async with running(max_body_mb=1, limits=limits) as house:
            post, host = b"POST %b HTTP/1.1\r\n" % path, house.host
            requests = {
                400: post + host + host + b"\r\n",
                403: post + b"Host: evil\r\n\r\n",
                405: b"DELETE %b HTTP/1.1\r\n%b\r\n" % (path, host),
                408: post + host,
                413: post + host + JSON + b"Content-Length: 9999999\r\n\r\n",
                415: post + host + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
                417: post + host + b"Expect: 200-ok\r\n\r\n",
                431: post + host + b"X: %b\r\n\r\n" % (b"a" * MAX_HEAD_BYTES),
                501: post + host + b"Transfer-Encoding: gzip\r\n\r\n",
                505: b"POST %b HTTP/1.2\r\n%b\r\n" % (path, host),
            }
            for status, request in requests.items():
                reply = await sent(house, request)
                assert reply.status in {status, 400, 404}, status
                assert family_of(reply.body) == family, status

    run(main)


def test_page_gets_the_reason_of_a_refusal_and_the_headers_that_tell_when() -> None:
    """A page that may not read an error can only say "failed to fetch"."""

    async def main() -> None:
        page = b"Origin: https://app.example\r\n"
        async with running(keys=(KEY,), allowed_origins=("https://app.example",)) as house:
            asks = page + b"Access-Control-Request-Headers: authorization,cookie\r\n"
            asked = await sent(house, house.request(b"OPTIONS /v1/models", b"", asks))
            assert asked.status == 200
            assert asked.headers["access-control-allow-headers"] == "authorization"
            reply = await sent(house, house.request(b"GET /v1/models", b"", page))
            assert reply.status == 401
            for answer in (asked, reply):
                assert answer.headers["access-control-allow-origin"] == "https://app.example"
                assert answer.headers["vary"] == "origin"
                assert "access-control-allow-credentials" not in answer.headers
            assert "retry-after" in reply.headers["access-control-expose-headers"]

    run(main)


@pytest.mark.parametrize("origin", [b"null", b"https://evil.example", b"http://localhost"])
def test_page_that_is_not_listed_reads_nothing_and_does_nothing(origin: bytes) -> None:
    """F2: simple requests and preflights alike; without the headers the browser keeps it."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        async with running(door) as house:
            line = b"Origin: %b\r\n" % origin
            for request in (
                house.chat(headers=line),
                house.request(b"GET /unload", b"", line),
                house.request(b"POST /models/unload/tiny", b"", line),
                house.request(b"OPTIONS /v1/chat/completions", b"", line),
                house.request(b"POST /v1/chat/completions", b"", b"Content-Length: 0\r\n" + line),
                house.chat(headers=b"").replace(b"application/json", b"text/plain"),
            ):
                reply = await sent(house, request)
                assert reply.status in {403, 415}
                assert not any(name.startswith("access-control") for name in reply.headers)
            assert door.events == []
            assert door.asked == []
            assert door.unloaded == []

    run(main)
