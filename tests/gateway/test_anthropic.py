"""The Anthropic dialect, as Anthropic's own client and a real engine see it."""

import asyncio
import json
from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import MessageParam

from modeld.errors import DoesNotFit, ServerFailed, Throttled
from modeld.gateway.anthropic import error_body
from modeld.gateway.guard import Limits
from modeld.gateway.http import Problem
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory
from tests.support.real_engine import Engine, engine_running, serving
from tests.support.tiny_gguf import SENTENCE
from tests.support.upstream import Answering, Asked, ScriptedServer

MESSAGES: list[MessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Run a real engine."""
    with engine_running() as engine:
        yield engine


def client(house: House, retries: int = 0) -> anthropic.AsyncAnthropic:
    """Return Anthropic's client."""
    url = f"http://127.0.0.1:{house.port}"
    return anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=retries, timeout=10)


# --- with the engine ------------------------------------------------------------------------


@pytest.mark.engine
def test_client_gets_a_message_and_its_count(engine: Engine) -> None:
    """What every program of this family does first."""

    async def main() -> None:
        async with serving(engine) as house, client(house) as ai:
            answer = await ai.messages.create(
                model="nick", max_tokens=32, system="be brief", messages=MESSAGES
            )
            count = await ai.messages.count_tokens(model="nick", messages=MESSAGES)

            assert answer.content[0].type == "text"
            assert answer.content[0].text.strip() == SENTENCE
            assert answer.stop_reason == "end_turn"
            assert count.input_tokens > 0

    run(main)


@pytest.mark.engine
def test_client_gets_a_stream_after_a_load_that_takes_a_while(engine: Engine) -> None:
    """Its reader must skip our signs of life, which come before `message_start`."""

    async def main() -> None:
        limits = Limits(grace_seconds=0.02, sweep_seconds=0.05)
        async with serving(engine, limits=limits, heartbeat_seconds=0.1) as house:
            house.door.gone("tiny")

            async def load(*_: object) -> None:
                await asyncio.sleep(0.3)
                house.door.serve("tiny", engine.socket_path)

            house.door.loader = load
            async with (
                client(house) as ai,
                ai.messages.stream(model="tiny", max_tokens=32, messages=MESSAGES) as stream,
            ):
                words = [word async for word in stream.text_stream]
                final = await stream.get_final_message()

            assert "".join(words).strip() == SENTENCE
            assert final.usage.output_tokens > 0

    run(main)


@pytest.mark.engine
def test_the_engine_s_own_errors_reach_the_client(engine: Engine) -> None:
    """It knows best what is wrong with a request."""

    async def main() -> None:
        async with serving(engine) as house, client(house) as ai:
            with pytest.raises(anthropic.APIStatusError, match="context"):
                await ai.messages.create(
                    model="tiny",
                    max_tokens=8,
                    messages=[{"role": "user", "content": "word " * 9000}],
                )

    run(main)


# --- without --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (507, "api_error"),
    ],
)
def test_error_body_has_the_type_that_belongs_to_its_status(status: int, kind: str) -> None:
    """Programs branch on it."""
    assert json.loads(error_body(Problem(status, "no"))) == {
        "type": "error",
        "error": {"type": kind, "message": "no"},
    }


def test_client_lists_models() -> None:
    """Its objects are not OpenAI's: without a type and a name to show, menus stay empty."""

    async def main() -> None:
        door = FakeDoor()
        door.add("big")
        door.add("tiny")
        async with running(door) as house, client(house) as ai:
            page = await ai.models.list()

            assert [(m.id, m.display_name, m.type) for m in page.data] == [
                (name, name, "model") for name in ("big", "tiny")
            ]
            assert page.data[0].created_at.timestamp() == 1_700_000_000
            assert (page.first_id, page.last_id, page.has_more) == ("big", "tiny", False)
            assert (await ai.models.retrieve("tiny")).display_name == "tiny"

    run(main)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"code":400,"message":"no such role","type":"x"}}', "no such role"),
        (b"<html>oops", "<html>oops"),
    ],
)
def test_a_server_s_error_is_told_in_anthropic_s_words(body: bytes, words: str) -> None:
    """llama-server has OpenAI's, in which its clients find neither type nor message."""

    async def script(_: Asked, answering: Answering) -> None:
        await answering.json(body, b"400 Bad Request")

    async def main() -> None:
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with (
                ScriptedServer(f"{directory}/s.sock") as server,
                running(door) as house,
                client(house) as ai,
            ):
                server.script = script
                for is_stream in (False, True):
                    with pytest.raises(anthropic.BadRequestError) as raised:
                        await ai.messages.create(
                            model="tiny", max_tokens=1, messages=MESSAGES, stream=is_stream
                        )
                    assert raised.value.body == {
                        "type": "error",
                        "error": {"type": "invalid_request_error", "message": words},
                    }

    run(main)


def test_client_raises_what_the_error_says() -> None:
    """The class and the retries follow from status and headers."""

    async def main() -> None:
        door = FakeDoor()
        door.add("tiny")
        error: Exception = DoesNotFit("tiny needs 9 GB", hint="unpin a model")

        async def load(*_: object) -> None:
            raise error

        door.loader = load
        async with running(door) as house, client(house, retries=2) as ai:
            create = ai.messages.create
            with pytest.raises(anthropic.InternalServerError, match="unpin a model") as internal:
                await create(model="tiny", max_tokens=1, messages=MESSAGES)
            assert internal.value.status_code == 507
            assert len(door.asked) == 1  # x-should-retry: false
            with pytest.raises(anthropic.NotFoundError, match="nobody"):
                await create(model="nobody", max_tokens=1, messages=MESSAGES)
            error = Throttled("too soon", retry_after_s=500)
            with pytest.raises(anthropic.RateLimitError):
                await ai.with_options(max_retries=0).messages.create(
                    model="tiny", max_tokens=1, messages=MESSAGES
                )

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
            stream = await ai.messages.create(
                model="tiny", max_tokens=1, messages=MESSAGES, stream=True
            )
            with pytest.raises(anthropic.APIStatusError, match="it died"):
                async for _ in stream:
                    pass

    run(main)


LINK = {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}
BY_VALUE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
REFUSED = [
    {"messages": 3},
    {"messages": [{"role": "user", "content": [LINK]}]},
    {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [LINK]}]}]},
    {"system": [LINK]},
    {"max_tokens": 2**40},
]
PASSED = [
    {"type": "text", "text": "https://a/ says?"},
    {"type": "image", "source": BY_VALUE},
    {"type": "tool_use", "id": "1", "name": "fetch", "input": {"url": "https://a/"}},
    {"type": "tool_result", "tool_use_id": "1", "content": "https://a/ is down"},
    {"type": "tool_result", "content": [{"type": "text", "text": "https://a/"}]},
    {"type": "thinking", "thinking": "https://a/?", "signature": "http"},
]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens?beta=true"])
def test_a_message_fetches_nothing_and_may_speak_of_anything(path: str) -> None:
    """Coding assistants hand URLs to their tools all day; none of them is the server's to fetch."""

    async def main() -> None:
        line = b"POST " + path.encode()
        with short_directory() as directory:
            door = FakeDoor()
            door.add("tiny")
            door.serve("tiny", f"{directory}/s.sock")
            async with ScriptedServer(f"{directory}/s.sock") as server, running(door) as house:
                for wrong in REFUSED:
                    body = json.dumps({"model": "tiny", **wrong}).encode()
                    async with opened(house, house.request(line, body)) as raw:
                        reply = await raw.reply()
                    assert reply.status == 400, wrong
                    assert json.loads(reply.body)["error"]["type"] == "invalid_request_error"
                assert server.asked == []
                messages = [{"role": "user", "content": PASSED}]
                body = json.dumps({"model": "tiny", "messages": messages}).encode()
                async with opened(house, house.request(line, body)) as raw:
                    assert (await raw.reply()).status == 200
                assert server.asked[0].body == body
                assert server.asked[0].head.split()[1] == path.partition("?")[0].encode()

    run(main)
