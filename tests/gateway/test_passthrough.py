"""`/upstream/MODEL/...`: a server's own paths, and nothing that could be read in two ways."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from modeld.core.traffic import RequestStarted
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Reply, loader_of, opened, run, running, short_directory
from tests.support.upstream import Answering, Asked, ScriptedServer


@asynccontextmanager
async def ready(**settings: object) -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway with models whose server is ready, one of them in a folder."""
    with short_directory() as directory:
        door = FakeDoor()
        path = f"{directory}/s.sock"
        for name in ("tiny", "folder/tiny"):
            door.add(name)
            door.serve(name, path, server_id=name)
        settings.setdefault("upstream", True)
        async with ScriptedServer(path) as server, running(door, **settings) as house:
            yield house, server


async def ask(house: House, line: bytes, body: bytes = b"", headers: bytes = b"") -> Reply:
    """Return the answer to a request."""
    async with opened(house, house.request(line, body, headers)) as raw:
        return await raw.reply(has_body=not line.startswith(b"HEAD"))


def test_it_is_off_and_says_by_which_key() -> None:
    """Everything that a server offers would be reachable otherwise."""

    async def main() -> None:
        async with ready(upstream=False) as (house, server):
            reply = await ask(house, b"GET /upstream/tiny/props")

            assert reply.status == 403
            assert b"gateway.upstream" in reply.body
            assert server.asked == []

    run(main)


def test_method_path_query_and_body_reach_the_server_and_nothing_else() -> None:
    """Keys and cookies are no business of a server."""

    async def main() -> None:
        async with ready() as (house, server):
            tricks = b"Authorization: Bearer x\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\n"
            line = b"POST /upstream/tiny/slots/0?action=erase&x=%20"
            reply = await ask(house, line, b'{ "a": [1] }', tricks)

            assert (reply.status, reply.body) == (200, b'{"ok":true}')
            assert reply.headers["x-modeld-model"] == "tiny"
            assert server.asked[0].body == b'{ "a": [1] }'
            assert server.asked[0].head == (
                b"POST /slots/0?action=erase&x=%20 HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 12\r\n\r\n"
            )

    run(main)


@pytest.mark.parametrize(
    ("method", "sent"), [(b"GET", b"GET"), (b"HEAD", b"GET"), (b"DELETE", b"DELETE")]
)
def test_methods_pass(method: bytes, sent: bytes) -> None:
    """HEAD is a GET whose body the gateway keeps."""

    async def main() -> None:
        async with ready() as (house, server):
            assert (await ask(house, method + b" /upstream/tiny/v1/stream")).status == 200
            assert server.asked[0].head.startswith(sent + b" /v1/stream HTTP/1.1\r\n")

    run(main)


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"OPTIONS"])
def test_other_methods_do_not(method: bytes) -> None:
    """llama-server has no use for them."""

    async def main() -> None:
        async with ready() as (house, server):
            reply = await ask(house, method + b" /upstream/tiny/props", b"{}")
            assert (reply.status, server.asked) == (405, [])
            assert reply.headers["allow"] == "delete, get, post, head"

    run(main)


@pytest.mark.parametrize(
    ("path", "server_id"),
    [
        (b"tiny/props", "tiny"),
        (b"folder/tiny/props", "folder/tiny"),
        (b"folder%2Ftiny/props", "folder/tiny"),
        (b"tiny:latest/props", "tiny"),
    ],
)
def test_the_longest_name_is_the_model(path: bytes, server_id: str) -> None:
    """Ids have slashes in them."""

    async def main() -> None:
        async with ready() as (house, _):
            house.door.add("plain", "tiny:latest")
            house.door.routes.index["tiny:latest"] = ("tiny",)  # type: ignore[index]
            assert (await ask(house, b"POST /upstream/" + path, b"{}")).status == 200
            started = [each for each in house.door.events if isinstance(each, RequestStarted)]
            assert [each.server_id for each in started] == [server_id]

    run(main)


@pytest.mark.parametrize("rest", [b"tiny", b"tiny/"])
def test_a_model_without_a_path_is_told_what_is_missing(rest: bytes) -> None:
    """llama-swap shows the server's page there; ours have none."""

    async def main() -> None:
        async with ready() as (house, server):
            reply = await ask(house, b"GET /upstream/" + rest)
            assert reply.status == 400
            assert b"a path of its own is missing" in reply.body
            assert server.asked == []

    run(main)


@pytest.mark.parametrize(
    "rest",
    [
        b"tiny//props",
        b"tiny/props/",
        b"tiny/../props",
        b"tiny/./props",
        b"tiny/%2e%2e/props",
        b"tiny/a%2Fb",
        b"tiny/a%20b",
        b"tiny/.hidden",
        b"tiny/a;b=c",
        b"tiny/a:b",
        b"tiny/a\\b",
        b'tiny/props?a="',
        b"tiny/props?a=<",
        b"tiny/props?a={}",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(rest: bytes) -> None:
    """What the gateway judged has to be what the server does."""

    async def main() -> None:
        async with ready() as (house, server):
            assert (await ask(house, b"GET /upstream/" + rest)).status == 400
            assert server.asked == []

    run(main)


@pytest.mark.parametrize(
    "rest", [b"nobody/props", b"%00/props", b"..%2f..%2ftiny/props", b"auto/x"]
)
def test_what_names_no_model_is_not_there(rest: bytes) -> None:
    """Nothing is chosen for whoever goes past the gateway."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.default("tiny")
            assert (await ask(house, b"GET /upstream/" + rest)).status == 404
            assert server.asked == []

    run(main)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"n_discard":-1}', 400),
        (b'{"messages":[{"content":[{"image_url":{"url":"http://x"}}]}]}', 400),
        (b"[1,2]", 400),
        (b"not json", 400),
        (b"[%b{}]" % (b"{}," * 700_000), 400),
        (b'[{"id":0,"scale":0.5}]', 200),
    ],
    ids=range(6),
)
def test_what_no_server_should_see_is_refused_here_too(body: bytes, expected: int) -> None:
    """This is a way past the dialects, not past the guard."""

    async def main() -> None:
        async with ready() as (house, server):
            assert (await ask(house, b"POST /upstream/tiny/x", body)).status == expected
            assert len(server.asked) == (expected == 200)

    run(main)


@pytest.mark.parametrize(
    "headers", [b"Sec-Fetch-Site: cross-site\r\n", b"User-Agent: Mozilla/5\r\n"]
)
def test_a_page_may_not_ask(headers: bytes) -> None:
    """An image's address is enough for a GET that loads a model."""

    async def main() -> None:
        async with ready() as (house, server):
            reply = await ask(house, b"GET /upstream/tiny/v1/x", headers=headers)
            assert (reply.status, server.asked) == (403, [])

    run(main)


def test_a_look_loads_nothing_and_anything_else_does() -> None:
    """A dashboard that asks for slots every second must not keep a model in memory."""

    async def main() -> None:
        async with ready() as (house, server):
            house.door.gone("tiny")
            assert (await ask(house, b"GET /upstream/tiny/slots")).status == 409
            assert house.door.asked == []

            async def load() -> None:
                house.door.serve("tiny", server.path)

            house.door.loader = loader_of(load)
            assert (await ask(house, b"POST /upstream/tiny/tokenize", b"{}")).status == 200
            assert len(house.door.asked) == 1
            events = len(house.door.events)
            assert (await ask(house, b"GET /upstream/tiny/slots")).status == 200
            assert not any(isinstance(each, RequestStarted) for each in house.door.events[events:])

    run(main)


def test_streams_and_errors_pass() -> None:
    """What the server says is what the client gets."""

    async def main() -> None:
        async def stream(_: Asked, answering: Answering) -> None:
            await answering.stream_head()
            await answering.event(b"1")
            await answering.end()

        async def fail(_: Asked, answering: Answering) -> None:
            await answering.json(b'{"error":{}}', b"418 I'm a Teapot")

        async with ready() as (house, server):
            server.script = stream
            body = b'{"stream":true}'
            reply = await ask(house, b"POST /upstream/tiny/v1/chat/completions", body)
            assert (reply.status, reply.body) == (200, b"data: 1\n\n")
            server.script = fail
            reply = await ask(house, b"POST /upstream/tiny/v1/chat/completions", b"{}")
            assert (reply.status, reply.body) == (418, b'{"error":{}}')

    run(main)
