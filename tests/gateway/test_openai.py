"""The OpenAI dialect, as OpenAI's own client and a real engine see it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import openai
import pytest

from modeld.core.entities import ServerState
from modeld.core.events import RequestEnded, RequestStarted
from modeld.errors import DoesNotFit, ServerFailed, Throttled
from modeld.gateway.guard import Limits
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory, until
from tests.support.tiny_gguf import SENTENCE, write_model
from tests.support.upstream import Answering, Asked, ScriptedServer

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "user", "content": "hello"}
]


class Engine(NamedTuple):
    """A real llama.cpp on a UNIX socket."""

    socket_path: str

    async def get(self, path: str) -> object:
        """Ask it for something, past the gateway."""
        reader, writer = await asyncio.open_unix_connection(self.socket_path)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return json.loads(body) if b" 200 " in head[:16] else None


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Run the embedded engine with a model that says its sentence."""
    with short_directory() as directory:
        model = Path(directory) / "tiny.gguf"
        write_model(model)
        command = [sys.executable, "-m", "modeld.embedded", "-m", str(model), "-c", "4096"]
        running_engine = Engine(f"{directory}/e.sock")
        process = subprocess.Popen(
            [*command, "--host", running_engine.socket_path, "--slots", "-t", "1"],
            cwd=Path(__file__).parents[2] / "daemon",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:

            async def wait() -> None:
                while process.poll() is None:
                    try:
                        if await running_engine.get("/health"):
                            return
                    except OSError:
                        await asyncio.sleep(0.02)
                raise AssertionError("the engine ended")

            run(wait)
            yield running_engine
        finally:
            process.terminate()
            process.wait(10)


@asynccontextmanager
async def serving(engine: Engine, **settings: object) -> AsyncIterator[House]:
    """Run a gateway in front of the engine."""
    door = FakeDoor()
    door.add("tiny", "nick")
    door.serve("tiny", engine.socket_path)
    async with running(door, **settings) as house:
        yield house


def client(house: House, retries: int = 0) -> openai.AsyncOpenAI:
    """Return OpenAI's client."""
    url = f"http://127.0.0.1:{house.port}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=retries, timeout=10)


# --- with the engine ------------------------------------------------------------------------


@pytest.mark.engine
def test_client_gets_a_chat_answer(engine: Engine) -> None:
    """The first thing that anybody tries."""

    async def main() -> None:
        async with serving(engine) as house, client(house) as ai:
            answer = await ai.chat.completions.create(model="nick", messages=MESSAGES)

            assert (answer.choices[0].message.content or "").strip() == SENTENCE
            await until(lambda: house.door.count(RequestEnded) == 1)
            assert house.door.count(RequestStarted) == 1

    run(main)


@pytest.mark.engine
def test_client_gets_a_stream(engine: Engine) -> None:
    """Every chat window streams."""

    async def main() -> None:
        async with serving(engine) as house, client(house) as ai:
            words = [
                chunk.choices[0].delta.content or ""
                async for chunk in await ai.chat.completions.create(
                    model="tiny", messages=MESSAGES, stream=True
                )
                if chunk.choices
            ]

            assert "".join(words).strip() == SENTENCE
            assert len(words) > 3

    run(main)


@pytest.mark.engine
def test_client_gets_a_stream_after_a_load_that_takes_a_while(engine: Engine) -> None:
    """Its parser must skip our signs of life."""

    async def main() -> None:
        limits = Limits(grace_seconds=0.02, sweep_seconds=0.05)
        async with serving(engine, limits=limits, heartbeat_seconds=0.1) as house:
            house.door.gone("tiny")

            async def load(*_: object) -> None:
                await asyncio.sleep(0.3)
                house.door.serve("tiny", engine.socket_path)

            house.door.loader = load
            async with client(house) as ai:
                stream = await ai.chat.completions.create(
                    model="tiny", messages=MESSAGES, stream=True
                )
                words = [c.choices[0].delta.content or "" async for c in stream if c.choices]

            assert "".join(words).strip() == SENTENCE

    run(main)


@pytest.mark.engine
def test_the_engine_s_own_errors_reach_the_client(engine: Engine) -> None:
    """It knows best what is wrong with a request."""

    async def main() -> None:
        async with serving(engine) as house, client(house) as ai:
            with pytest.raises(openai.BadRequestError) as raised:
                await ai.chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": "word " * 9000}]
                )

            assert raised.value.body is not None

    run(main)


@pytest.mark.engine
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_frees_the_engine_s_slot(engine: Engine, is_stream: bool) -> None:
    """The promise is one second, and none left over."""

    async def main() -> None:
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": is_stream,
            "max_tokens": 3_000_000,
            "ignore_eos": True,
        }

        async def is_working() -> bool:
            slots = await engine.get("/slots")
            assert isinstance(slots, list)
            return any(slot["is_processing"] for slot in slots)

        async with serving(engine) as house:
            for _ in range(3):
                async with opened(house, house.chat(json.dumps(body).encode())) as raw:
                    if is_stream:
                        await raw.head()
                    async with asyncio.timeout(5):
                        while not await is_working():
                            await asyncio.sleep(0.01)
                async with asyncio.timeout(1):
                    while await is_working():
                        await asyncio.sleep(0.02)
                await until(lambda: house.door.in_flight() == {})

    run(main)


# --- without --------------------------------------------------------------------------------


def test_client_lists_models() -> None:
    """Every chat window asks for them first."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny", "nick", "tool", "tiny.gguf")
        door.add("big", "same", model_id="folder/big")
        door.add("big", "same", model_id="other/big")
        door.serve("tiny", "/x.sock", context_tokens=4096)
        async with running(door) as house, client(house) as ai:
            models = {model.id: model.to_dict() for model in (await ai.models.list()).data}

            assert set(models) == {"tiny", "folder/big", "other/big"}
            assert models["tiny"] == {
                "id": "tiny",
                "aliases": ["nick", "tiny.gguf", "tool"],
                "object": "model",
                "created": 1_700_000_000,
                "owned_by": "modeld",
                "status": {"value": "loaded"},
                "meta": {
                    "n_ctx": 4096,
                    "n_ctx_train": 512,
                    "n_vocab": 0,
                    "n_embd": 0,
                    "n_params": 0,
                    "size": 1000,
                    "ftype": "F16",
                },
            }
            assert models["folder/big"]["status"] == {"value": "unloaded"}
            assert models["folder/big"]["aliases"] == []

    run(main)


def test_client_looks_at_one_model() -> None:
    """By any of its names, slashes and all."""

    async def main() -> None:
        door = FakeDoor()
        door.add("big", "nick", model_id="folder/big")
        door.loading("big")
        async with running(door) as house, client(house) as ai:
            for name in ("big", "nick", "folder/big"):
                assert (await ai.models.retrieve(name)).to_dict()["status"] == {"value": "loading"}
            with pytest.raises(openai.NotFoundError):
                await ai.models.retrieve("nobody")

    run(main)


@pytest.mark.parametrize("state", [ServerState.READY, None])
def test_health_never_waits_for_a_server(state: ServerState | None) -> None:
    """While a model loads, and when its server hangs."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")

        async def load(*_: object) -> None:
            await asyncio.Event().wait()

        async def script(_: Asked, answering: Answering) -> None:
            await answering.until_gone()

        with short_directory() as directory:
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                server.script = script
                door.loader = load
                if state is not None:
                    door.serve("tiny", server.path)
                async with opened(house, house.chat()):
                    await until(lambda: bool(door.asked or server.asked))
                    async with asyncio.timeout(0.5):
                        assert (await house.get(b"/health")).status == 200

    run(main)


def test_client_raises_what_the_error_says() -> None:
    """The class, the code and the retries follow from status and headers."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        error: Exception = DoesNotFit("tiny needs 9 GB", hint="unpin a model")

        async def load(*_: object) -> None:
            raise error

        door.loader = load
        async with running(door) as house, client(house, retries=2) as ai:
            with pytest.raises(openai.InternalServerError) as internal:
                await ai.chat.completions.create(model="tiny", messages=MESSAGES)
            assert (internal.value.status_code, internal.value.code) == (507, "does_not_fit")
            assert "unpin a model" in internal.value.message
            assert len(door.asked) == 1  # x-should-retry: false
            error = Throttled("too soon", retry_after_s=500)
            with pytest.raises(openai.RateLimitError) as limited:
                await ai.with_options(max_retries=0).chat.completions.create(
                    model="tiny", messages=MESSAGES
                )
            assert limited.value.response.headers["retry-after"] == "500"
            with pytest.raises(openai.NotFoundError) as missing:
                await ai.chat.completions.create(model="nobody", messages=MESSAGES)
            assert missing.value.code == "model_not_found"

    run(main)


def test_client_raises_when_a_stream_fails_late() -> None:
    """A 200 that ends quietly would be taken for an answer."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")

        async def load(*_: object) -> None:
            await asyncio.sleep(0.1)
            raise ServerFailed("it died")

        door.loader = load
        limits = Limits(grace_seconds=0.02, sweep_seconds=0.05)
        async with running(door, limits=limits) as house, client(house) as ai:
            stream = await ai.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
            with pytest.raises(openai.APIError, match="it died") as raised:
                async for _ in stream:
                    pass

            assert raised.value.code == "server_failed"

    run(main)
