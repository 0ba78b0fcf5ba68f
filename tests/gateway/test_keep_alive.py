"""`keep_alive` in every dialect: the loop hears of it, and the server gets the body as it came."""

import json

import pytest

from modeld.core.traffic import RequestsEnded
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, run, running, short_directory, until
from tests.support.real_engine import engine_running, serving
from tests.support.upstream import ScriptedServer

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "hello", "max_tokens": 4},
    "/v1/responses": {"input": "hello", "max_output_tokens": 4},
    "/v1/embeddings": {"input": "hello"},
    "/v1/messages": CHAT,
    "/completion": {"prompt": "hello", "n_predict": 4},
    "/tokenize": {"content": "hello"},
}
FORMS = {0: 0.0, 300: 300.0, -1: -1.0, "10m": 600.0, "-1m": -60.0, "0": 0.0}


def told(house: House) -> list[float | None]:
    """Return what the loop heard of requests' ends."""
    return [e.keep_alive_seconds for e in house.door.events if isinstance(e, RequestsEnded)]


async def post(house: House, path: str, body: object) -> tuple[int, bytes]:
    """Send a request on a connection of its own."""
    raw = await house.connect()
    await raw.send(house.request(b"POST " + path.encode(), json.dumps(body).encode()))
    reply = await raw.reply()
    raw.close()
    return reply.status, reply.body


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("keep_alive", [0, "10m"])
def test_keep_alive_is_heard_in_every_dialect_and_the_body_passes_as_it_came(
    path: str, keep_alive: float | str
) -> None:
    """S3-15: else only Ollama's clients could free memory."""

    async def check(server: ScriptedServer) -> None:
        door = FakeDoor()
        door.add("tiny")
        door.serve("tiny", server.path)
        async with running(door) as house:
            body = {"model": "tiny", **BODIES[path], "keep_alive": keep_alive}
            status, _ = await post(house, path, body)
            await until(lambda: house.door.in_flight() == {})

            assert status == 200
            assert told(house) == [FORMS[keep_alive]]
            assert json.loads(server.asked[0].body)["keep_alive"] == keep_alive

    async def main() -> None:
        with short_directory() as directory:
            async with ScriptedServer(f"{directory}/s.sock") as server:
                await check(server)

    run(main)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/completion"])
def test_keep_alive_that_is_none_is_refused_before_anything_is_loaded(path: str) -> None:
    """With the dialect's own 400."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        async with running(door) as house:
            body = {"model": "tiny", **BODIES[path], "keep_alive": "soon"}
            status, answer = await post(house, path, body)

            assert status == 400
            assert b"invalid keep_alive: 'soon' is no duration" in answer

    run(main)


@pytest.mark.engine
def test_a_real_server_does_not_mind_a_keep_alive() -> None:
    """Nothing is stripped, since llama-server ignores what it doesn't know."""

    async def main() -> None:
        with_embeddings = ("/v1/embeddings",)
        async with serving(engine) as house:
            for path, body in BODIES.items():
                if path not in with_embeddings:
                    full = {"model": "tiny", **body, "keep_alive": "10m"}
                    assert (await post(house, path, full))[0] == 200, path

    with engine_running() as engine:
        run(main)
