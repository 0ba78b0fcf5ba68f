"""The OpenAI dialect, as OpenAI's own client and a real engine see it."""

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest

from modeld.core.entities import ServerState
from modeld.errors import DoesNotFit, ServerFailed, Throttled
from modeld.gateway.guard import Limits
from modeld.gateway.openai import ROWS
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory, until
from tests.support.real_engine import Engine, engine_running, serving
from tests.support.tiny_gguf import SENTENCE
from tests.support.upstream import Answering, Asked, ScriptedServer

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "user", "content": "hello"}
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Run a real engine, which can embed as well."""
    with engine_running("--embeddings", "--pooling", "mean") as engine:
        yield engine


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
            await until(lambda: house.door.ended() == 1)
            assert house.door.started() == 1

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
def test_a_client_that_leaves_a_stream_frees_the_engine_s_slot(engine: Engine) -> None:
    """
    The promise is one second, and none left over.

    Answers that are no streams are in tests/system: asking for the slots would keep the engine
    from noticing that somebody left.
    """

    async def main() -> None:
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
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
                    await raw.head()
                    async with asyncio.timeout(5):
                        while not await is_working():
                            await asyncio.sleep(0.01)
                async with asyncio.timeout(1):
                    while await is_working():
                        await asyncio.sleep(0.02)
                await until(lambda: house.door.in_flight() == {})

    run(main)


@pytest.mark.engine
def test_client_gets_a_completion_a_response_and_an_embedding(engine: Engine) -> None:
    """By nickname, through the ordinary calls, streamed where they can be."""

    async def main() -> None:
        async with serving(engine) as house, client(house) as ai:
            completion = await ai.completions.create(model="nick", prompt="hello")
            response = await ai.responses.create(model="nick", input="hello")
            stream = await ai.responses.create(model="nick", input="hello", stream=True)
            kinds = [event.type async for event in stream]
            embedded = await ai.embeddings.create(model="nick", input=["hello", "you"])

            assert completion.choices[0].text.strip() == SENTENCE
            assert response.output_text.strip() == SENTENCE
            assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
            assert len(embedded.data) == 2
            assert all(len(each.embedding) > 8 for each in embedded.data)

    run(main)


@pytest.mark.engine
def test_client_hears_what_an_engine_cannot_do(engine: Engine) -> None:
    """This one ranks nothing; its own words are the best there are."""

    async def main() -> None:
        body = b'{"model":"tiny","query":"a","documents":["b"]}'
        async with (
            serving(engine) as house,
            opened(house, house.request(b"POST /v1/rerank", body)) as raw,
        ):
            reply = await raw.reply()

            assert reply.status >= 400
            assert json.loads(reply.body)["error"]["message"]

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
                "display_name": "tiny",
                "aliases": ["nick", "tiny.gguf", "tool"],
                "object": "model",
                "type": "model",
                "created": 1_700_000_000,
                "created_at": "2023-11-14T22:13:20Z",
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


@pytest.mark.parametrize(
    ("path", "server_path"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/completions", "/v1/completions"),
        ("/v1/responses", "/v1/responses"),
        ("/responses", "/v1/responses"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/v1/rerank", "/v1/rerank"),
        ("/v1/reranking", "/v1/rerank"),
        ("/rerank", "/v1/rerank"),
        ("/reranking", "/v1/rerank"),
    ],
)
def test_a_request_reaches_its_model_s_server_as_it_came(path: str, server_path: str) -> None:
    """Not a byte of a body is ours to change."""

    async def main() -> None:
        body = b'{ "model" : "nick", "input": "http://a b", "odd": [1.50, "\\u00e4"]}'
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny", "nick")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                async with opened(house, house.request(b"POST " + path.encode(), body)) as raw:
                    assert (await raw.reply()).body == b'{"ok":true}'

                assert server.asked[0].head.startswith(f"POST {server_path} HTTP/1.1".encode())
                assert server.asked[0].body == body

    run(main)


async def status(house: House, path: str, body: object) -> int:
    """Return the status that a body gets."""
    data = house.request(b"POST " + path.encode(), json.dumps(body).encode())
    async with opened(house, data) as raw:
        return (await raw.reply()).status


PICTURE_ITEMS = [
    [{"role": "user", "content": [{"type": "input_image", "image_url": "https://a/b.png"}]}],
    [{"type": "function_call_output", "output": [{"image_url": "file:///etc/passwd"}]}],
    [{"type": "computer_call_output", "output": {"image_url": "http://10.0.0.1/"}}],
    [{"type": "input_image", "image_url": "https://a/b.png"}],
]
WORD_ITEMS = [
    "https://a/b.png",
    [{"role": "user", "content": "https://a/ says?"}],
    [{"role": "user", "content": [{"type": "input_text", "text": "https://a/"}]}],
    [{"type": "function_call", "arguments": "https://a/"}],
    [{"type": "function_call_output", "output": "https://a/"}],
    [{"content": [{"type": "output_text", "text": "x", "annotations": [{"url": "https://a"}]}]}],
    [{"content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]}],
    None,
]


def test_a_response_fetches_nothing_for_its_input() -> None:
    """Pictures are in another field than a chat's; words about pages are everywhere."""

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                for items in PICTURE_ITEMS:
                    body = {"model": "tiny", "input": items}
                    assert await status(house, "/v1/responses", body) == 400, items
                assert server.asked == []
                for words in WORD_ITEMS:
                    body = {"model": "tiny", "input": words}
                    assert await status(house, "/v1/responses", body) == 200, words

    run(main)


@pytest.mark.parametrize(
    "path",
    [
        row.path
        for row in ROWS
        if row.method == "POST" and not row.path.startswith(("/v1/audio/", "/upstream/"))
    ],
)
def test_no_route_passes_on_what_no_server_should_see(path: str) -> None:
    """A field that breaks llama-server breaks it by whichever way it came."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        async with running(door) as house:
            for wrong in ({"n_discard": -1}, {"n": 1000}, {"top_n": -1}, {"max_output_tokens": -9}):
                assert await status(house, path, {"model": "tiny", **wrong}) == 400, wrong
            assert await status(house, path, {"model": "nobody"}) == 404
            assert await status(house, path, {}) == 400

    run(main)
