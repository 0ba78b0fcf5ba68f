"""Variants over HTTP: listed, shown, and answered with their own changes, in every dialect."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from modeld.config.schema import Parameters, Rewrite
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory
from tests.support.upstream import ScriptedServer

COLD = Rewrite(set=Parameters(temperature=0.0, max_tokens=9))
SHORT = Rewrite(default=Parameters(seed=7))


@asynccontextmanager
async def ready() -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway with a model that has a variant."""
    with short_directory() as directory:
        door = FakeDoor()
        door.add("tiny", "nick")
        path = f"{directory}/s.sock"
        door.serve("tiny", path)
        index = {**door.routes.index, "cold": ("tiny",), "cold:latest": ("tiny",)}
        rewrites = {"tiny": (SHORT,), "cold": (SHORT, COLD), "cold:latest": (SHORT, COLD)}
        door.routes = replace(
            door.routes, index=index, variants={"cold": "tiny"}, rewrites=rewrites
        )
        async with ScriptedServer(path) as server, running(door) as house:
            yield house, server


async def sent(house: House, server: ScriptedServer, path: str, body: object) -> dict[str, object]:
    """Return what the server got."""
    data = house.request(f"POST {path}".encode(), json.dumps(body).encode())
    async with opened(house, data) as raw:
        await raw.reply()
    found: dict[str, object] = json.loads(server.asked[-1].body)
    return found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", {"temperature": 0.0, "max_tokens": 9, "seed": 7}),
        ("/v1/completions", {"temperature": 0.0, "max_tokens": 9, "seed": 7}),
        ("/v1/responses", {"temperature": 0.0, "max_output_tokens": 9, "seed": 7}),
        ("/v1/messages", {"temperature": 0.0, "max_tokens": 9}),
        ("/completion", {"temperature": 0.0, "n_predict": 9, "seed": 7}),
        ("/v1/embeddings", {}),
    ],
)
def test_variant_is_changed_in_the_words_of_each_path(
    path: str, expected: dict[str, object]
) -> None:
    """A name with parameters of its own has them whichever way it is called."""

    async def main() -> None:
        async with ready() as (house, server):
            for name in ("cold", "cold:latest"):
                asked = {"model": name, "temperature": 1.5, "max_tokens": 100}
                found = await sent(house, server, path, asked)
                untouched = {} if expected else {"temperature": 1.5, "max_tokens": 100}
                assert found == {"model": name, **expected, **untouched}
            assert (await sent(house, server, path, {"model": "nick"})) == (
                {"model": "nick", "seed": 7} if "seed" in expected else {"model": "nick"}
            )

    run(main)


def test_ollamas_requests_are_changed_in_the_servers_words() -> None:
    """What goes to the server is OpenAI's by then."""

    async def main() -> None:
        async with ready() as (house, server):
            asked = {
                "model": "cold",
                "stream": False,
                "messages": [{"role": "user", "content": "hi"}],
                "options": {"temperature": 1.5, "num_predict": 100},
            }
            found = await sent(house, server, "/api/chat", asked)
            assert found["temperature"] == 0.0
            assert found["max_tokens"] == 9
            assert "n_predict" not in found

    run(main)


def test_variant_is_listed_as_a_model_of_its_own() -> None:
    """People choose from lists: what is not there can't be chosen."""

    async def main() -> None:
        async with ready() as (house, _):
            models = json.loads((await house.get(b"/v1/models")).body)["data"]
            assert [each["id"] for each in models] == ["tiny", "cold"]
            assert [each["aliases"] for each in models] == [["nick"], []]
            assert models[0]["meta"] == models[1]["meta"]
            shown = json.loads((await house.get(b"/v1/models/cold")).body)
            assert (shown["id"], shown["status"]) == ("cold", {"value": "loaded"})
            tags = json.loads((await house.get(b"/api/tags")).body)["models"]
            assert {each["name"] for each in tags} == {"tiny", "cold"}

    run(main)


def test_variant_is_not_a_second_loaded_model() -> None:
    """KAREN counts what takes memory."""

    async def main() -> None:
        async with ready() as (house, _):
            models = json.loads((await house.get(b"/models")).body)
            assert models["loaded"] == ["tiny"]
            assert models["available"] == ["tiny", "cold"]
            assert len(json.loads((await house.get(b"/running")).body)["running"]) == 1

    run(main)
