"""Loading and unloading over HTTP, as llama.cpp's router, llama-swap and KAREN have it."""

import asyncio
import json

import pytest
from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import Origin
from modeld.core.events import Event, UnloadAsked
from modeld.errors import DoesNotFit, Pinned
from modeld.gateway import management
from modeld.supervisor.door import OnProgress
from modeld.wire.load import Unloaded
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Reply, opened, run, running, until


class Door(FakeDoor):
    """One that unloads as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unloads: list[UnloadAsked] = []
        self.error: Exception | None = None
        self.is_slow = False

    async def ask(self, event: Event, on_progress: OnProgress | None = None) -> Struct:
        """Unload, or load."""
        if not isinstance(event, UnloadAsked):
            return await super().ask(event, on_progress)
        self.unloads.append(event)
        if self.error is not None:
            raise self.error
        if self.is_slow:
            await asyncio.Event().wait()
        return Unloaded(models=())


def two() -> Door:
    """Return a door with two models, of which one is loaded."""
    door = Door()
    door.add("tiny", "nick")
    door.add("big", model_id="folder/big")
    door.serve("tiny", "/x.sock", context_tokens=4096)
    return door


async def post(house: House, path: str, body: object = None) -> Reply:
    """Ask for something, with a body or none."""
    data = json.dumps(body).encode() if body is not None else b""
    request = house.request(
        b"POST " + path.encode(), data, b"" if data else b"Content-Length: 0\r\n"
    )
    async with opened(house, request) as raw:
        return await raw.reply()


# --- what there is --------------------------------------------------------------------------


def test_models_are_listed_for_three_families_at_once() -> None:
    """They share the path, and each reads its own keys."""

    async def main() -> None:
        async with running(two()) as house:
            shown = json.loads((await house.get(b"/models")).body)
            listed = json.loads((await house.get(b"/v1/models")).body)

            assert shown["data"] == listed["data"]
            assert {each["id"]: each["status"]["value"] for each in shown["data"]} == {
                "tiny": "loaded",
                "big": "unloaded",
            }
            assert shown["available"] == ["big", "tiny"]
            assert shown["loaded"] == ["tiny"]
            assert shown["current"] == {"id": "tiny"}

    run(main)


def test_the_current_model_is_the_default_or_the_newest() -> None:
    """KAREN reads `current.id` without asking whether there is one."""

    async def main() -> None:
        door = two()
        async with running(door) as house:

            async def current() -> object:
                return json.loads((await house.get(b"/models")).body)["current"]

            door.serve("big", "/y.sock", "s2")
            assert await current() == {"id": "big"}
            door.default("nick")
            assert await current() == {"id": "tiny"}
            door.gone("tiny")
            door.gone("big")
            assert await current() == {"id": None}

    run(main)


def test_running_shows_what_llama_swap_shows() -> None:
    """Dashboards poll it."""

    async def main() -> None:
        door = two()
        door.loading("big")
        async with running(door) as house:
            shown = json.loads((await house.get(b"/running")).body)["running"]

            assert [(each["model"], each["state"]) for each in shown] == [
                ("tiny", "ready"),
                ("big", "starting"),
            ]
            assert set(shown[0]) == {
                *("model", "state", "cmd", "proxy", "ttl", "name", "description")
            }

    run(main)


def test_looking_neither_loads_nor_keeps_awake() -> None:
    """A dashboard that polls must not hold memory."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            for path in (b"/models", b"/running", b"/ready", b"/health", b"/v1/models", b"/props"):
                assert (await house.get(path)).status == 200

            assert door.asked == []
            assert door.started() == 0

    run(main)


@pytest.mark.parametrize("name", ["tiny", "folder/big", "folder%2Fbig"])
def test_whether_a_model_can_be_loaded_is_told(name: str) -> None:
    """S4-01 over HTTP; nothing is loaded for it."""

    async def main() -> None:
        async with running(two()) as house:
            reply = await house.get(f"/models/{name}/can-load".encode())

            answer = json.loads(reply.body)
            assert (answer["can_load"], answer["reason"]) == (True, "Model can be loaded")
            assert answer["model"] == name.replace("%2F", "/")
            assert "type" not in answer
            assert (await house.get(b"/models/tiny")).status == 404
            assert house.door.asked == []

    run(main)


def test_ready_says_what_is_missing() -> None:
    """Unlike `/health`: a script waits for it before it sends its first request."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            assert (await house.get(b"/ready")).status == 200
            door.routes = replace(door.routes, problem="no llama-server was found")
            reply = await house.get(b"/ready")
            assert reply.status == 503
            assert "no llama-server" in json.loads(reply.body)["error"]["message"]
            assert (await house.get(b"/health")).status == 200

    run(main)


# --- load -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["model", "model_id", "name"])
def test_load_takes_the_model_by_each_family_s_key(key: str) -> None:
    """And asks as a program does: it replaces nothing, and gets past no pin."""

    async def main() -> None:
        door = two()

        async def load(*_: object) -> None:
            door.serve("big", "/y.sock", "s2")

        door.loader = load
        async with running(door) as house:
            reply = await post(house, "/models/load", {key: "folder/big"})

            assert json.loads(reply.body) == {
                "success": True,
                "model": "big",
                "model_id": "big",
                "status": {"value": "loaded"},
            }
            (asked,) = door.asked
            assert asked.origin is Origin.GATEWAY
            assert not (asked.force)
            assert not (asked.force_pinned)
            assert not (asked.pin)
            assert asked.keep_others is None

    run(main)


def test_load_tells_why_it_cannot() -> None:
    """With the status that a request for the model would get."""

    async def main() -> None:
        door = two()

        async def load(*_: object) -> None:
            raise DoesNotFit("big needs 9 GB", hint="unpin a model")

        door.loader = load
        async with running(door) as house:
            reply = await post(house, "/models/load", {"model": "big"})
            assert reply.status == 507
            assert "unpin a model" in json.loads(reply.body)["error"]["message"]
            assert (await post(house, "/models/load", {"model": "nobody"})).status == 404
            assert (await post(house, "/models/load", {})).status == 400
            assert (await post(house, "/models/load")).status == 400

    run(main)


def test_load_that_takes_long_is_answered_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of the router give up after 15 s, and look at the list."""

    async def main() -> None:
        monkeypatch.setattr(management, "ANSWER_SECONDS", 0.05)
        door = two()
        may_end = asyncio.Event()

        async def load(*_: object) -> None:
            await may_end.wait()
            door.serve("big", "/y.sock", "s2")

        door.loader = load
        async with running(door) as house:
            reply = await post(house, "/models/load", {"model": "big"})

            assert json.loads(reply.body)["status"] == {"value": "loading"}
            assert house.gateway.waiting == 1
            may_end.set()
            await until(lambda: house.gateway.waiting == 0)
            assert json.loads((await house.get(b"/models")).body)["loaded"] == ["big", "tiny"]

    run(main)


def test_load_goes_on_when_its_client_leaves() -> None:
    """`curl` with a short time limit is a way to warm a model up."""

    async def main() -> None:
        door = two()
        may_end = asyncio.Event()

        async def load(*_: object) -> None:
            await may_end.wait()
            door.serve("big", "/y.sock", "s2")

        door.loader = load
        async with running(door) as house:
            request = house.request(b"POST /models/load", b'{"model":"big"}')
            async with opened(house, request):
                await until(lambda: house.gateway.waiting == 1)
            await until(lambda: house.gateway.connections == 0)
            assert house.gateway.waiting == 1
            may_end.set()
            await until(lambda: door.routes.ready("folder/big") is not None)
            await until(lambda: house.gateway.waiting == 0)

    run(main)


# --- unload ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/models/unload", {"model": "nick"}, "success"),
        ("/models/unload", {"model_id": "tiny"}, "success"),
        ("/models/unload/nick", None, "success"),
        ("/api/models/unload/nick", None, "OK"),
    ],
)
def test_unload_stops_one_model(path: str, body: object, answer: str) -> None:
    """Without force, and without cutting off what it answers."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            reply = await post(house, path, body)

            assert reply.status == 200
            assert answer in reply.body.decode()
            (asked,) = door.unloads
            assert [each.model_id for each in asked.selections] == ["tiny"]
            assert not (asked.everything)
            assert not (asked.force_pinned)
            assert not (asked.now)

    run(main)


def test_unload_takes_an_id_with_a_slash() -> None:
    """Ids are paths."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            assert (await post(house, "/models/unload/folder%2Fbig")).status == 200
            assert (await post(house, "/models/unload/folder/big")).status == 200
            assert [each.selections[0].model_id for each in door.unloads] == ["folder/big"] * 2

    run(main)


@pytest.mark.parametrize("line", [b"POST /api/models/unload", b"GET /unload"])
def test_unload_of_everything_leaves_what_is_pinned(line: bytes) -> None:
    """llama-swap has both; neither knows of pins."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            async with opened(house, house.request(line)) as raw:
                assert (await raw.reply()).status == 200

            (asked,) = door.unloads
            assert asked.everything
            assert not (asked.force_pinned)
            assert not (asked.now)

    run(main)


@pytest.mark.parametrize("path", ["/models/unload/tiny", "/api/models/unload/tiny"])
def test_unload_of_a_pinned_model_is_refused(path: str) -> None:
    """A pin is a promise to a person."""

    async def main() -> None:
        door = two()
        door.error = Pinned("tiny is pinned")
        async with running(door) as house:
            reply = await post(house, path)

            assert reply.status == 409
            assert json.loads(reply.body)["error"]["code"] == "pinned"

    run(main)


def test_unload_of_nothing_is_no_unload_of_everything() -> None:
    """A script whose variable is empty sends this."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            assert (await post(house, "/models/unload", {})).status == 400
            assert (await post(house, "/models/unload", {"model": ""})).status == 400
            assert (await post(house, "/models/unload")).status == 400
            assert (await post(house, "/models/unload/")).status == 405
            assert (await post(house, "/models/unload", {"model": "nobody"})).status == 404
            assert door.unloads == []

    run(main)


def test_unload_that_takes_long_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model still answers somebody; it goes when that is done."""

    async def main() -> None:
        monkeypatch.setattr(management, "ANSWER_SECONDS", 0.05)
        door = two()
        door.is_slow = True
        async with running(door) as house:
            reply = await post(house, "/models/unload", {"model": "tiny"})

            assert json.loads(reply.body)["status"] == {"value": "unloading"}

    run(main)


def test_head_unloads_nothing() -> None:
    """Whoever checks links must not change what is loaded."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            async with opened(house, house.request(b"HEAD /unload")) as raw:
                assert (await raw.reply(has_body=False)).status == 200

            assert not door.unloads

    run(main)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", 200),
        (b"User-Agent: curl/8.1\r\n", 200),
        (b"User-Agent: Mozilla/5.0 (X11)\r\nSec-Fetch-Site: none\r\n", 200),
        (b"Sec-Fetch-Site: same-origin\r\n", 200),
        (b"Sec-Fetch-Site: cross-site\r\n", 403),
        (b"Sec-Fetch-Site: same-site\r\n", 403),
        (b"User-Agent: Mozilla/5.0 (X11)\r\n", 403),
    ],
)
def test_a_page_cannot_unload_by_an_image(header: bytes, expected: int) -> None:
    """A GET needs no permission of the browser, and often tells nothing of whose page asks."""

    async def main() -> None:
        door = two()
        async with running(door) as house:
            async with opened(house, house.request(b"GET /unload", b"", header)) as raw:
                assert (await raw.reply()).status == expected

            assert len(door.unloads) == (expected == 200)

    run(main)
