"""What clients get while a model loads: signs of life, text for people, white space before JSON."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ollama
import openai
import pytest

from modeld.core.events import LoadAsked
from modeld.errors import ModeldError, ServerFailed
from modeld.gateway import patience
from modeld.gateway.guard import Limits
from modeld.supervisor.door import OnProgress
from modeld.wire.codec import Progress
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory
from tests.support.upstream import Answering, Asked, ScriptedServer

QUICK = Limits(grace_seconds=0.02, sweep_seconds=0.05)
CHAT = b'{"model":"tiny","stream":true,"messages":[{"role":"user","content":"hi"}]}'
MESSAGES = [{"role": "user", "content": "hi"}]
CHUNK = b'{"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}'
LAST = (
    b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)
WHOLE = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
)


async def speak(asked: Asked, answering: Answering) -> None:
    """Answer a chat as a server does."""
    if b'"stream":true' not in asked.body:
        await answering.json(WHOLE)
        return
    await answering.stream_head()
    for event in (CHUNK, LAST, b"[DONE]"):
        await answering.event(event)
    await answering.end()


class Loading:
    """A load that goes as far as a test lets it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.seconds = 0.0
        """From the asking until it ends by itself; 0 for only when it is told to."""
        self.failure: ModeldError | None = None


@asynccontextmanager
async def cold(**settings: object) -> AsyncIterator[tuple[House, Loading]]:
    """Run a gateway with a model that loads when the test says so."""
    with short_directory() as directory:
        door = FakeDoor()
        door.add("tiny")
        path = f"{directory}/s.sock"
        loading = Loading()

        async def load(_: LoadAsked, on_progress: OnProgress | None) -> None:
            assert on_progress is not None
            on_progress(Progress(phase="load", fraction=0.43))
            if loading.seconds:
                asyncio.get_running_loop().call_later(loading.seconds, loading.go.set)
            await loading.go.wait()
            if loading.failure is not None:
                raise loading.failure
            door.serve("tiny", path)

        door.loader = load
        settings.setdefault("heartbeat_seconds", 0.1)
        async with ScriptedServer(path) as server, running(door, limits=QUICK, **settings) as house:
            server.script = speak
            yield house, loading


def soon(loading: Loading, seconds: float = 0.3) -> None:
    """Let the load end in a moment, once somebody has asked for it: clients are slow to start."""
    loading.seconds = seconds


def client_of(house: House) -> ollama.AsyncClient:
    """Return Ollama's own client for this gateway."""
    return ollama.AsyncClient(host=f"http://127.0.0.1:{house.port}")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have white space come at once."""
    monkeypatch.setattr(patience, "WHOLE_SECONDS", 0.05)


# --- text -----------------------------------------------------------------------------------


def test_loading_is_told_as_thoughts_where_that_is_wanted() -> None:
    """A person who waits a minute in a chat window wants to know what for."""

    async def main() -> None:
        async with cold(loading_text=True) as (house, loading):
            soon(loading)
            async with opened(house, house.chat(CHAT)) as raw:
                reply = await raw.reply()

        events = [line[6:] for line in reply.body.split(b"\n\n") if line.startswith(b"data: {")]
        first, ready, *rest = [json.loads(event) for event in events]
        assert first["object"] == "chat.completion.chunk"
        assert first["model"] == "tiny"
        delta = first["choices"][0]["delta"]
        assert delta["reasoning_content"] == "modeld loads tiny: loading 43 %\n"
        assert ready["choices"][0]["delta"]["reasoning_content"].startswith("ready after 0.")
        assert rest == [json.loads(CHUNK), json.loads(LAST)]

    run(main)


def test_openais_client_reads_the_text_beside_the_answer() -> None:
    """What is said while it loads must never become part of the answer."""

    async def main() -> None:
        async with cold(loading_text=True) as (house, loading):
            soon(loading)
            async with openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{house.port}/v1", api_key="x"
            ) as client:
                stream = await client.chat.completions.create(
                    model="tiny",
                    messages=[{"role": "user", "content": "hi"}],
                    stream=True,
                )
                deltas = [each.choices[0].delta async for each in stream]

        assert "".join(delta.content or "" for delta in deltas) == "hello"
        thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        assert thoughts.startswith("modeld loads tiny: ")

    run(main)


def test_an_error_after_the_text_is_an_event_of_its_own() -> None:
    """The status is told already; the client must hear of it all the same."""

    async def main() -> None:
        async with cold(loading_text=True) as (house, loading):
            loading.failure = ServerFailed("it died")
            soon(loading)
            async with opened(house, house.chat(CHAT)) as raw:
                reply = await raw.reply()

        assert b"it died" in reply.body.split(b"\n\n")[-2]

    run(main)


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        (b"/v1/chat/completions", False),
        (b"/v1/completions", True),
        (b"/v1/responses", True),
        (b"/v1/messages", True),
    ],
)
def test_no_text_where_it_is_not_wanted_or_has_no_place(path: bytes, is_wanted: bool) -> None:
    """A program that never asked for it would take it for what the model said."""

    async def main() -> None:
        async with cold(loading_text=is_wanted) as (house, loading):
            soon(loading)
            async with opened(house, house.request(b"POST " + path, CHAT)) as raw:
                reply = await raw.reply()

        assert b": loading 43 %\n\n" in reply.body
        assert b"modeld loads" not in reply.body

    run(main)


def test_ollamas_client_reads_the_text_as_thoughts() -> None:
    """Its chats have a place for thoughts as well."""

    async def main() -> None:
        async with cold(loading_text=True) as (house, loading):
            soon(loading)
            async with client_of(house) as client:
                stream = await client.chat("tiny", MESSAGES, stream=True)
                parts = [part.message async for part in stream]

        assert "".join(part.content or "" for part in parts) == "hello"
        assert (parts[0].thinking or "").startswith("modeld loads tiny: loading 43 %")

    run(main)


# --- white space ----------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_ollamas_client_reads_json_after_white_space() -> None:
    """X-GW-2: a client that waits for the whole answer hangs up after 30 s of silence."""

    async def main() -> None:
        async with (
            cold() as (house, loading),
            opened(house, house.request(b"POST /api/chat", CHAT.replace(b"true", b"false"))) as raw,
        ):
            status, headers = await raw.head()
            assert (status, headers["content-type"]) == (200, "application/json")
            chunks = raw.chunks()
            assert await anext(chunks) == b" "
            assert await anext(chunks) == b" "
            loading.go.set()
            rest = b"".join([chunk async for chunk in chunks])
            assert json.loads(rest)["message"]["content"] == "hello"

    run(main)


@pytest.mark.usefixtures("hasty")
def test_ollamas_client_chats_and_loads_after_white_space() -> None:
    """Whatever call of the client has to wait, its parser skips what came before the JSON."""

    async def main() -> None:
        async with cold() as (house, loading), client_of(house) as client:
            soon(loading)
            assert (await client.chat("tiny", MESSAGES)).message.content == "hello"
            house.door.gone("tiny")
            loading.go.clear()
            soon(loading)
            assert (await client.generate("tiny", "")).done_reason == "load"

    run(main)


@pytest.mark.usefixtures("hasty")
def test_an_error_after_white_space_is_ollamas_error_body() -> None:
    """The status is 200 by then: the body has to say it."""

    async def main() -> None:
        async with cold() as (house, loading):
            loading.failure = ServerFailed("it died")
            soon(loading)
            body = CHAT.replace(b"true", b"false")
            async with opened(house, house.request(b"POST /api/chat", body)) as raw:
                reply = await raw.reply()

        assert reply.status == 200
        assert reply.body.startswith(b" ")
        assert json.loads(reply.body) == {"error": "it died"}

    run(main)


def test_an_error_that_comes_soon_has_its_own_status() -> None:
    """Most failures of a load show within seconds, and clients act on the status."""

    async def main() -> None:
        async with cold() as (house, loading):
            loading.failure = ServerFailed("it died")
            soon(loading)
            body = CHAT.replace(b"true", b"false")
            async with opened(house, house.request(b"POST /api/chat", body)) as raw:
                reply = await raw.reply()

        assert (reply.status, reply.body) == (502, b'{"error":"it died"}')

    run(main)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages", b"/v1/embeddings"])
def test_no_white_space_where_clients_act_on_the_status(path: bytes) -> None:
    """OpenAI's clients wait ten minutes, and retry by status: a 200 with an error would be lost."""

    async def main() -> None:
        async with cold() as (house, loading):
            loading.failure = ServerFailed("it died")
            soon(loading)
            body = CHAT.replace(b"true", b"false")
            async with opened(house, house.request(b"POST " + path, body)) as raw:
                assert (await raw.reply()).status == 502

    run(main)
