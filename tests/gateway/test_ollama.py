"""The Ollama dialect, as Ollama's own client and a real engine see it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import ollama
import pytest
from msgspec.structs import replace

from modeld.core.traffic import RequestsEnded
from modeld.errors import DoesNotFit, ServerFailed
from modeld.gateway import translation
from modeld.gateway.guard import Limits
from modeld.wire.models import ServerRow
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory, until
from tests.support.tiny_engine import tiny_engine
from tests.support.tiny_gguf import SENTENCE
from tests.support.upstream import Answering, Asked, Script, ScriptedServer

MESSAGES = [{"role": "user", "content": "hello"}]
QUICK = Limits(grace_seconds=0.02, sweep_seconds=0.05)
PICTURE = "iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
LAST = b"""{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2},
"timings":{"prompt_ms":1.5,"predicted_ms":0.25}}""".replace(b"\n", b"")


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Run a real engine."""
    with tiny_engine() as path:
        yield path


def door_to(path: str) -> FakeDoor:
    """Return a door with one model whose server is ready."""
    door = FakeDoor()
    model = door.add("tiny", "nick", "tiny:latest")
    header = replace(model.header, has_chat_template=True, has_tool_template=True)
    door.change(replace(model, header=header))
    door.serve("tiny", path, context_tokens=4096)
    return door


def speechless(door: FakeDoor) -> None:
    """Make a model known whose template has no tools."""
    model = door.add("plain")
    door.change(replace(model, header=replace(model.header, has_chat_template=True)))


@asynccontextmanager
async def scripted(
    limits: Limits | None = None, **settings: object
) -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway before a server whose bytes the test writes."""
    with short_directory() as directory:
        path = f"{directory}/s.sock"
        async with (
            ScriptedServer(path) as server,
            running(door_to(path), limits=limits, **settings) as house,
        ):
            yield house, server


def client(house: House) -> ollama.AsyncClient:
    """Return Ollama's client; it leaves no connection behind."""
    headers = {"Connection": "close"}
    return ollama.AsyncClient(host=f"http://127.0.0.1:{house.port}", timeout=10, headers=headers)


async def talk(house: House, *, is_stream: bool) -> None:
    """Hear a whole answer."""
    if not is_stream:
        await client(house).chat("tiny", MESSAGES)
        return
    async for _ in await client(house).chat("tiny", MESSAGES, stream=True):
        pass


async def post(house: House, path: str, body: object) -> tuple[int, bytes]:
    """Ask, past the client, which knows no wrong requests."""
    data = house.request(b"POST " + path.encode(), json.dumps(body).encode())
    async with opened(house, data) as raw:
        reply = await raw.reply()
    return reply.status, reply.body


def saying(*events: bytes, is_ended: bool = True) -> Script:
    """Return a script that streams these events."""

    async def script(_: Asked, answering: Answering) -> None:
        await answering.stream_head()
        for event in events:
            await answering.event(event)
        if is_ended:
            await answering.end()
        else:
            answering.die()

    return script


def answering_with(body: object, status: bytes = b"200 OK") -> Script:
    """Return a script that answers with one JSON."""

    async def script(_: Asked, answering: Answering) -> None:
        await answering.json(json.dumps(body).encode(), status)

    return script


def words(text: str, **more: object) -> bytes:
    """Return an event with a few words."""
    return json.dumps({"choices": [{"delta": {"content": text}, **more}]}).encode()


# --- with the engine ------------------------------------------------------------------------


@pytest.mark.engine
def test_client_gets_a_chat_answer(engine: str) -> None:
    """The first thing that anybody tries."""

    async def main() -> None:
        async with running(door_to(engine)) as house:
            answer = await client(house).chat("nick", MESSAGES)

            assert (answer.message.content or "").strip() == SENTENCE
            assert (answer.model, answer.done, answer.done_reason) == ("nick", True, "stop")
            assert answer.eval_count is not None
            assert answer.eval_count > 3
            assert answer.prompt_eval_count is not None
            assert answer.total_duration is not None
            assert answer.eval_duration is not None
            assert answer.total_duration > answer.eval_duration > 1000  # [ns]
            await until(lambda: house.door.ended() == 1)
            assert house.door.started() == 1

    run(main)


@pytest.mark.engine
def test_client_gets_a_chat_stream(engine: str) -> None:
    """Every chat window streams."""

    async def main() -> None:
        async with running(door_to(engine)) as house:
            stream = await client(house).chat("tiny", MESSAGES, stream=True)
            parts = [part async for part in stream]

            assert "".join(part.message.content or "" for part in parts).strip() == SENTENCE
            assert len(parts) > 3
            assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
            assert parts[-1].done_reason == "stop"
            assert parts[-1].eval_count

    run(main)


@pytest.mark.engine
@pytest.mark.parametrize("is_raw", [False, True])
def test_client_generates(engine: str, is_raw: bool) -> None:
    """Completion in editors, and programs that know no chat."""

    async def main() -> None:
        async with running(door_to(engine)) as house:
            answer = await client(house).generate(
                "tiny", "hello", raw=is_raw, options={"num_predict": 2, "num_ctx": 9}
            )
            stream = await client(house).generate("tiny", "hello", raw=is_raw, stream=True)
            parts = [part async for part in stream]

            assert answer.response.strip() == " ".join(SENTENCE.split()[:2])
            assert (answer.done_reason, answer.eval_count) == ("length", 2)
            assert "".join(part.response for part in parts).strip() == SENTENCE
            assert parts[-1].done_reason == "stop"

    run(main)


@pytest.mark.engine
def test_client_gets_a_stream_after_a_load_that_takes_a_while(engine: str) -> None:
    """Its parser must not stumble over our signs of life."""

    async def main() -> None:
        async with running(door_to(engine), limits=QUICK, heartbeat_seconds=0.1) as house:
            house.door.gone("tiny")

            async def load(*_: object) -> None:
                await asyncio.sleep(0.3)
                house.door.serve("tiny", engine)

            house.door.loader = load
            stream = await client(house).chat("tiny", MESSAGES, stream=True)
            parts = [part async for part in stream]

            assert "".join(part.message.content or "" for part in parts).strip() == SENTENCE
            assert parts[-1].load_duration is not None
            assert parts[-1].load_duration > 250_000_000

    run(main)


@pytest.mark.engine
def test_the_engine_s_own_errors_reach_the_client(engine: str) -> None:
    """It knows best what is wrong with a request."""

    async def main() -> None:
        async with running(door_to(engine)) as house:
            with pytest.raises(ollama.ResponseError, match="context") as raised:
                await client(house).chat("tiny", [{"role": "user", "content": "word " * 9000}])
            assert raised.value.status_code == 400
            with pytest.raises(ollama.ResponseError, match="mbeddings") as unfit:
                await client(house).embed("tiny", "hello")
            assert unfit.value.status_code == 501

    run(main)


# --- lists ----------------------------------------------------------------------------------


def test_client_lists_shows_and_sees_what_runs() -> None:
    """Every client asks for these before it offers a model."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:
            house.door.add("big")
            row = ServerRow(server_id="s1", name="tiny", id="tiny", state="ready", left_seconds=90)
            house.door.rows = [row]
            tags = (await client(house).list()).models
            loaded = (await client(house).ps()).models
            shown = await client(house).show("nick")

            assert [tag.model for tag in tags] == ["big", "tiny"]
            assert tags[1].details is not None
            assert tags[1].details.quantization_level == "F16"
            assert tags[1].digest is not None
            assert len(tags[1].digest) == 64
            assert [(m.name, m.size, m.context_length) for m in loaded] == [("tiny", 1000, 4096)]
            assert loaded[0].expires_at is not None
            assert 80 < loaded[0].expires_at.timestamp() - time.time() <= 90
            assert shown.modelinfo is not None
            assert shown.modelinfo["general.architecture"] == "llama"
            assert shown.modelinfo["llama.context_length"] == 512
            assert shown.capabilities == ["completion", "tools"]

    run(main)


def test_clients_find_what_they_look_for_first() -> None:
    """Editors refuse versions below 0.6.4, and probe the root."""

    async def main() -> None:
        async with running() as house:
            version = json.loads((await house.get(b"/api/version")).body)["version"]
            assert tuple(map(int, version.split("."))) >= (0, 6, 4)
            assert (await house.get(b"/")).body == b"Ollama is running"
            async with opened(house, house.request(b"HEAD /")) as raw:
                assert (await raw.reply(has_body=False)).status == 200

    run(main)


def test_copy_gives_a_name_and_delete_takes_it_back() -> None:
    """No file is copied, and none is ever deleted."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:
            ai = client(house)
            await ai.copy("tiny", "second")
            assert (await ai.show("second")).capabilities
            await ai.delete("second")
            with pytest.raises(ollama.ResponseError, match="not found"):
                await ai.show("second")
            with pytest.raises(ollama.ResponseError, match="deletes no model files") as raised:
                await ai.delete("tiny")
            assert raised.value.status_code == 501

    run(main)


@pytest.mark.parametrize("name", ["other", "other:latest", "other.gguf", "nick"])
def test_copy_takes_no_name_that_another_model_has(name: str) -> None:
    """A nickname comes before a file's name: whoever asked for that model would get this one."""

    async def main() -> None:
        door = door_to("/x.sock")
        door.add("other", "other.gguf", "nick")
        async with running(door) as house:
            with pytest.raises(ollama.ResponseError, match="another model") as raised:
                await client(house).copy("tiny", name)
            assert raised.value.status_code == 409
            assert not door.nicknames
            await client(house).copy("tiny", "tiny:latest")

    run(main)


def test_what_would_write_models_is_refused_with_a_reason() -> None:
    """501 is what clients understand; a 404 would look like a proxy that is set up wrongly."""

    async def main() -> None:
        async with running() as house:
            with pytest.raises(ollama.ResponseError, match="GGUF files") as raised:
                await client(house).pull("llama3")
            assert raised.value.status_code == 501
            for path in ("/api/create", "/api/push", "/api/blobs/sha256:1"):
                status, body = await post(house, path, {"model": "x"})
                assert status == 501
                assert set(json.loads(body)) == {"error"}

    run(main)


# --- requests -------------------------------------------------------------------------------


def test_a_request_is_put_into_the_server_s_words() -> None:
    """What a client sets must have its effect."""

    async def main() -> None:
        async with scripted() as (house, server):
            server.script = answering_with({"choices": [{"message": {"content": "x"}}]})
            await client(house).chat(
                "tiny",
                [
                    {"role": "user", "content": "look", "images": [PICTURE]},
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"function": {"name": "weather", "arguments": {"city": "Bonn"}}}
                        ],
                    },
                    {"role": "tool", "content": "sun", "tool_name": "weather"},
                ],
                tools=[WEATHER],
                think="high",
                format={"type": "object"},
                options={"num_predict": 5, "temperature": 0.5, "seed": 3, "stop": ["a"]},
            )

            assert b"POST /v1/chat/completions " in server.asked[0].head
            asked = json.loads(server.asked[-1].body)
            picture, call, result = asked["messages"]
            url = {"url": f"data:image/png;base64,{PICTURE}"}
            assert picture["content"][1] == {"type": "image_url", "image_url": url}
            assert call["tool_calls"][0]["function"]["arguments"] == '{"city":"Bonn"}'
            assert result["tool_call_id"] == call["tool_calls"][0]["id"]
            assert asked["tools"][0]["function"]["name"] == "weather"
            assert asked["chat_template_kwargs"] == {"enable_thinking": True}
            assert asked["reasoning_effort"] == "high"
            assert asked["response_format"]["json_schema"] == {"schema": {"type": "object"}}
            assert (asked["n_predict"], asked["temperature"], asked["seed"]) == (5, 0.5, 3)
            assert asked["stop"] == ["a"]

    run(main)


def test_client_gets_tool_calls_with_objects() -> None:
    """Strings there are OpenAI's way, and break Ollama's clients."""

    async def main() -> None:
        async with scripted() as (house, server):
            parts = [
                {"index": 0, "id": "a", "function": {"name": "weather", "arguments": ""}},
                {"index": 0, "function": {"arguments": '{"city":'}},
                {"index": 0, "function": {"arguments": '"Bonn"}'}},
            ]
            deltas = [
                json.dumps({"choices": [{"delta": {"tool_calls": [part]}}]}).encode()
                for part in parts
            ]
            end = b'{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}'
            server.script = saying(*deltas, end, LAST, b"[DONE]")
            stream = await client(house).chat("tiny", MESSAGES, tools=[WEATHER], stream=True)
            found = [part async for part in stream]
            whole = {
                "message": {
                    "content": None,
                    "tool_calls": [{"function": {"name": "weather", "arguments": "{}"}}],
                },
                "finish_reason": "tool_calls",
            }
            server.script = answering_with({"choices": [whole]})
            answer = await client(house).chat("tiny", MESSAGES, tools=[WEATHER])

            calls = [call for part in found for call in part.message.tool_calls or ()]
            assert [call.function.arguments for call in calls] == [{"city": "Bonn"}]
            assert found[-1].done_reason == "stop"
            assert found[-1].prompt_eval_duration == 1_500_000
            assert answer.message.tool_calls is not None
            assert answer.message.tool_calls[0].function.name == "weather"

    run(main)


def test_client_gets_embeddings() -> None:
    """For one text and for several, by the new path and the old."""

    async def main() -> None:
        async with scripted() as (house, server):
            data = [{"index": 1, "embedding": [0.5, 2]}, {"index": 0, "embedding": [1, 0.25]}]
            server.script = answering_with({"data": data, "usage": {"prompt_tokens": 4}})
            several = await client(house).embed("tiny", ["a", "b"])
            server.script = answering_with({"data": data[:1]})
            single = await client(house).embeddings("tiny", "a")

            assert several.embeddings == [[1, 0.25], [0.5, 2]]
            assert several.prompt_eval_count == 4
            assert single.embedding == [0.5, 2]
            assert json.loads(server.asked[0].body) == {"input": ["a", "b"]}
            assert (await client(house).embed("tiny", [])).embeddings == []

    run(main)


# --- keep_alive -----------------------------------------------------------------------------


def test_an_empty_prompt_loads() -> None:
    """How clients warm a model up."""

    async def main() -> None:
        async with scripted() as (house, server):
            house.door.gone("tiny")

            async def load(*_: object) -> None:
                house.door.serve("tiny", server.path)

            house.door.loader = load
            loaded = await client(house).generate("tiny", "", keep_alive="5m")
            stream = await client(house).chat("tiny", [], stream=True)
            again = [part async for part in stream]

            assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")
            assert [part.done_reason for part in again] == ["load"]
            assert len(house.door.asked) == 1
            assert server.asked == []
            assert house.door.unloaded == []

    run(main)


@pytest.mark.parametrize("keep_alive", [0, "0", "0s", 0.0])
def test_an_empty_prompt_that_keeps_nothing_unloads(keep_alive: float | str) -> None:
    """OLLM frees memory in this way."""

    async def main() -> None:
        async with scripted() as (house, server):
            answer = await client(house).generate("tiny", "", keep_alive=keep_alive)

            assert (answer.done, answer.done_reason) == (True, "unload")
            assert house.door.unloaded == ["tiny"]
            assert server.asked == []

    run(main)


def test_the_loop_hears_with_the_end_how_long_a_model_is_kept() -> None:
    """It decides then, when nothing else is in flight."""

    async def main() -> None:
        async with scripted() as (house, server):
            server.script = saying(words("x", finish_reason="stop"), LAST, b"[DONE]")
            stream = await client(house).chat("tiny", MESSAGES, stream=True, keep_alive=0)
            parts = [part async for part in stream]

            assert parts[-1].done_reason == "stop"
            await until(lambda: house.door.in_flight() == {})
            ends = [each for each in house.door.events if isinstance(each, RequestsEnded)]
            assert [each.keep_alive_seconds for each in ends] == [0]
            assert house.door.unloaded == []

    run(main)


# --- trouble --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/chat", {"model": "x", "messages": MESSAGES}, 404, "model 'x' not found"),
        ("/api/generate", {"model": "x"}, 404, "model 'x' not found"),
        ("/api/show", {"name": "x"}, 404, "model 'x' not found"),
        ("/api/chat", {"messages": MESSAGES}, 400, "model is required"),
        ("/api/chat", {"model": "tiny", "messages": "x"}, 400, "invalid request"),
        ("/api/generate", {"model": "tiny", "prompt": "x", "keep_alive": "soon"}, 400, "keep_al"),
        ("/api/generate", {"model": "tiny", "prompt": "x", "suffix": "y"}, 400, "insert"),
        ("/api/generate", {"model": "tiny", "prompt": "x", "format": "xml"}, 400, "format"),
        (
            "/api/generate",
            {"model": "tiny", "prompt": "x", "images": ["http://evil/x.png"]},
            400,
            "base64",
        ),
        ("/api/chat", {"model": "plain", "messages": MESSAGES, "tools": [WEATHER]}, 400, "tools"),
        (
            "/api/chat",
            {"model": "tiny", "messages": MESSAGES, "options": {"num_keep": -9}},
            400,
            "num_keep",
        ),
    ],
)
def test_a_wrong_request_is_told_in_ollama_s_words(
    path: str, body: dict[str, object], status: int, text: str
) -> None:
    """Clients show the one string, and act on the status."""

    async def main() -> None:
        async with scripted() as (house, server):
            speechless(house.door)
            got, answer = await post(house, path, body)

            assert (got, set(json.loads(answer))) == (status, {"error"})
            assert text in json.loads(answer)["error"]
            assert server.asked == []

    run(main)


def test_a_model_without_tools_is_told_so_that_clients_try_without() -> None:
    """OLLM looks for these words."""

    async def main() -> None:
        async with scripted() as (house, _):
            speechless(house.door)
            with pytest.raises(ollama.ResponseError, match="model does not support tools"):
                await client(house).chat("plain", MESSAGES, tools=[WEATHER])

    run(main)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_load_that_fails_is_told(is_late: bool) -> None:
    """With its status, or in the stream that has begun."""

    async def main() -> None:
        async with scripted(QUICK, heartbeat_seconds=0.1) as (house, _):
            house.door.gone("tiny")

            async def load(*_: object) -> None:
                await asyncio.sleep(0.3 if is_late else 0)
                raise DoesNotFit("tiny needs 9 GB")

            house.door.loader = load
            with pytest.raises(ollama.ResponseError, match="9 GB") as raised:
                await talk(house, is_stream=True)
            assert raised.value.status_code == (-1 if is_late else 507)

    run(main)


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_server_that_dies_is_told(is_stream: bool) -> None:
    """A half answer must not pass for a whole one."""

    async def main() -> None:
        async with scripted() as (house, server):
            server.script = saying(words("half"), is_ended=False)
            with pytest.raises(ollama.ResponseError, match="server"):
                await talk(house, is_stream=is_stream)

    run(main)


def test_an_error_after_signs_of_life_is_told_in_the_stream() -> None:
    """The status is gone by then."""

    async def main() -> None:
        async with scripted(QUICK, heartbeat_seconds=0.1) as (house, server):
            house.door.gone("tiny")

            async def load(*_: object) -> None:
                await asyncio.sleep(0.2)
                house.door.serve("tiny", server.path)

            house.door.loader = load
            server.script = answering_with({"error": {"message": "too long"}}, b"400 Bad Request")
            with pytest.raises(ollama.ResponseError, match="too long"):
                await talk(house, is_stream=True)

    run(main)


def test_a_server_s_nonsense_is_an_error() -> None:
    """Whatever came, the client gets its own dialect."""

    async def main() -> None:
        async with scripted() as (house, server):
            for body in ({"ok": True}, {"choices": 3}, []):
                server.script = answering_with(body)
                status, answer = await post(
                    house, "/api/chat", {"model": "tiny", "messages": MESSAGES, "stream": False}
                )
                assert status == 502
                assert "the server sent" in json.loads(answer)["error"]

    run(main)


def test_an_unload_that_fails_stays_between_the_daemon_and_its_log() -> None:
    """The answer was good."""

    async def main() -> None:
        async with scripted() as (house, server):

            async def ask(*_: object) -> None:
                raise ServerFailed("it will not go")

            house.door.ask = ask  # type: ignore[assignment,method-assign]
            server.script = answering_with({"choices": [{"message": {"content": "x"}}]})
            answer = await client(house).chat("tiny", MESSAGES, keep_alive=0)
            assert answer.message.content == "x"

    run(main)


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept in memory until it is whole."""
    monkeypatch.setattr(translation, "MAX_WHOLE_BYTES", 1000)

    async def main() -> None:
        async with scripted() as (house, server):

            async def script(_: Asked, answering: Answering) -> None:
                await answering.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
                await answering.send(b"x" * 2000)
                await answering.until_gone()

            server.script = script
            status, answer = await post(
                house, "/api/generate", {"model": "tiny", "prompt": "x", "stream": False}
            )

            assert status == 502
            assert "more than 1000 bytes" in json.loads(answer)["error"]
            await until(lambda: server.open == 0)

    run(main)


def test_a_client_that_leaves_takes_its_request_along() -> None:
    """The promise is one second, whatever the dialect."""

    async def main() -> None:
        async with scripted() as (house, server):

            async def script(_: Asked, answering: Answering) -> None:
                await answering.stream_head()
                await answering.event(words("x"))
                await answering.until_gone()

            server.script = script
            body = json.dumps({"model": "tiny", "messages": MESSAGES}).encode()
            async with opened(house, house.request(b"POST /api/chat", body)) as raw:
                assert (await raw.head())[1]["content-type"] == "application/x-ndjson"
            await until(lambda: server.open == 0, seconds=1)
            await until(lambda: house.door.in_flight() == {})

    run(main)
