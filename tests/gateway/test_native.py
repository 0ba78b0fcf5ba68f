"""llama.cpp's own requests, by the model that they name."""

import json
from collections.abc import Iterator

import pytest

from modeld.gateway.native import ROWS
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Reply, opened, run, running, short_directory, until
from tests.support.real_engine import Engine, engine_running, serving
from tests.support.tiny_gguf import SENTENCE
from tests.support.upstream import Answering, Asked, ScriptedServer

PATHS = [row.path for row in ROWS if row.method == "POST"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Run a real engine."""
    with engine_running() as engine:
        yield engine


async def post(house: House, path: str, body: object) -> Reply:
    """Ask for something."""
    data = house.request(b"POST " + path.encode(), json.dumps(body).encode())
    async with opened(house, data) as raw:
        return await raw.reply()


@pytest.mark.engine
def test_native_requests_reach_the_engine(engine: Engine) -> None:
    """Editors and scripts speak to llama-server so."""

    async def main() -> None:
        async with serving(engine) as house:
            there = await post(house, "/tokenize", {"model": "nick", "content": "hello"})
            tokens = json.loads(there.body)["tokens"]
            back = await post(house, "/detokenize", {"model": "nick", "tokens": tokens})
            said = await post(house, "/completion", {"model": "nick", "prompt": "hello"})
            messages = [{"role": "user", "content": "hello"}]
            shown = await post(house, "/apply-template", {"model": "nick", "messages": messages})
            between = await post(house, "/infill", {"model": "nick", "input_prefix": "a"})

            assert json.loads(back.body)["content"].endswith("hello")
            assert json.loads(said.body)["content"].strip() == SENTENCE
            assert "hello" in json.loads(shown.body)["prompt"]
            assert between.status == 501  # this model has no tokens for it
            assert "Infill" in json.loads(between.body)["error"]["message"]

    run(main)


@pytest.mark.engine
def test_properties_are_those_of_the_model_s_server(engine: Engine) -> None:
    """And a look is no use: it would keep a model loaded for ever."""

    async def main() -> None:
        async with serving(engine) as house:
            mine = json.loads((await house.get(b"/props?model=nick")).body)
            async with opened(house, house.request(b"HEAD /props?model=nick")) as raw:
                status, _ = await raw.head()
                await raw.send(house.request(b"GET /health"))
                assert (await raw.reply()).body == b'{"status":"ok"}'

            assert mine["total_slots"] >= 1
            assert status == 200
            assert house.door.started() == 0

    run(main)


def test_properties_of_a_model_that_is_not_loaded_load_nothing() -> None:
    """Web pages ask for those of every model in their list."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        async with running(door) as house:
            reply = await house.get(b"/props?model=tiny")

            assert reply.status == 409
            assert json.loads(reply.body)["error"]["code"] == "inactive"
            assert (await house.get(b"/props?model=nobody")).status == 404
            assert (await house.get(b"/props?model=tiny&model=nobody")).status == 400
            assert (await house.get(b"/props?" + b"&".join([b"a=1"] * 99))).status == 400
            assert door.asked == []

    run(main)


def test_properties_without_a_model_are_the_router_s() -> None:
    """Its web page takes us for llama.cpp's router by them."""

    async def main() -> None:
        async with running() as house:
            shown = json.loads((await house.get(b"/props")).body)

            assert shown["role"] == "router"
            assert shown["default_generation_settings"] == {"params": {}, "n_ctx": 0}

    run(main)


def test_a_look_at_a_server_that_dies_is_told_and_loads_nothing() -> None:
    """Nobody asked for the model."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            answering.die()

        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                server.script = script

                assert (await house.get(b"/props?model=tiny")).status == 502
                assert door.asked == []

    run(main)


@pytest.mark.parametrize("path", PATHS)
def test_a_native_request_loads_its_model_and_passes_as_it_came(path: str) -> None:
    """The body is the server's to judge, but for what breaks it."""

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny", "nick")

            async def load(*_: object) -> None:
                door.serve("tiny", f"{directory}/s.sock")

            door.loader = load
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                wrong = await post(house, path, {"model": "tiny", "n_discard": -1})
                assert wrong.status == 400
                assert (await post(house, path, {"model": "nick", "x": 1})).status == 200

                assert len(door.asked) == 1
                assert server.asked[0].head.startswith(f"POST {path} HTTP/1.1".encode())
                assert json.loads(server.asked[0].body) == {"model": "nick", "x": 1}
                await until(lambda: door.in_flight() == {})

    run(main)
