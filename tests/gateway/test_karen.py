"""KAREN's requests, as its extension makes them and as its plan has the answers."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct
from msgspec.structs import replace

from modeld.config.schema import Config, Models, Parameters, Rewrite, Routing, Rule
from modeld.core import usage
from modeld.core.events import Event, UsageAsked
from modeld.core.usage import Figures, Histogram
from modeld.errors import DoesNotFit
from modeld.gateway.karen import PREFIX, ROWS
from modeld.gateway.server import ROWS as ALL_ROWS
from modeld.supervisor.counting import Measures
from modeld.supervisor.door import OnProgress
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Reply, opened, run, running, short_directory, until
from tests.support.tiny_engine import tiny_engine
from tests.support.tiny_gguf import SENTENCE
from tests.support.upstream import Answering, Asked, Script, ScriptedServer

PATHS = ("/inference", f"{PREFIX}/inference")
DEFAULTS = {"temperature": 0.7, "max_tokens": 2048, "top_p": 0.9}
HELLO = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Run a real engine."""
    with tiny_engine() as path:
        yield path


def door_to(path: str, *, has_template: bool = True) -> FakeDoor:
    """Return a door with two models, of which one is ready."""
    door = FakeDoor()
    door.add("other")
    model = door.add("tiny", "nick")
    door.change(replace(model, header=replace(model.header, has_chat_template=has_template)))
    door.serve("tiny", path, context_tokens=4096)
    return door


@asynccontextmanager
async def scripted(
    script: Script, *, has_template: bool = True, **settings: object
) -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway before a server whose bytes the test writes."""
    with short_directory() as directory:
        path = f"{directory}/s.sock"
        door = door_to(path, has_template=has_template)
        async with ScriptedServer(path) as server, running(door, **settings) as house:
            server.script = script
            yield house, server


async def post(house: House, path: str, body: object, headers: bytes = b"") -> Reply:
    """Ask."""
    data = house.request(b"POST " + path.encode(), json.dumps(body).encode(), headers)
    async with opened(house, data) as raw:
        return await raw.reply()


async def infer(house: House, **body: object) -> Reply:
    """Ask for an answer to a prompt."""
    return await post(house, "/inference", {"prompt": "hi", **body})


def answering_with(body: object, status: bytes = b"200 OK") -> Script:
    """Return a script that answers with one JSON."""

    async def script(_: Asked, answering: Answering) -> None:
        await answering.json(json.dumps(body).encode(), status)

    return script


def saying(*events: object, is_ended: bool = True) -> Script:
    """Return a script that streams these events."""

    async def script(_: Asked, answering: Answering) -> None:
        await answering.stream_head()
        for event in events:
            data = event if isinstance(event, bytes) else json.dumps(event).encode()
            await answering.event(data)
        if is_ended:
            await answering.end()
        else:
            answering.die()

    return script


def words(text: str, **more: object) -> object:
    """Return an event with a few words."""
    return {"choices": [{"delta": {"content": text}, **more}]}


def events_of(reply: Reply) -> list[dict[str, object]]:
    """Return the events of a stream, without the comments."""
    lines = reply.body.decode().split("\n\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def asked_of(server: ScriptedServer) -> tuple[str, dict[str, object]]:
    """Return the path and the body of the last request that the server saw."""
    asked = server.asked[-1]
    return asked.head.split()[1].decode(), json.loads(asked.body)


# --- with the engine --------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize("has_template", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_engine_answers_a_prompt(engine: str, path: str, has_template: bool) -> None:
    """It is all that KAREN's extension wants."""

    async def main() -> None:
        async with running(door_to(engine, has_template=has_template)) as house:
            body = {"prompt": "hello", "parameters": {"temperature": 0.0, "max_tokens": 100}}
            reply = await post(house, path, body)

            told = json.loads(reply.body)
            assert reply.status == 200
            assert told["response"].strip() == SENTENCE
            assert told["model_id"] == "tiny"
            assert told["parameters"] == {"temperature": 0.0, "max_tokens": 100, "top_p": 0.9}
            assert 0 < told["timing"]["inference_time_ms"] <= told["timing"]["total_time_ms"]

    run(main)


@pytest.mark.engine
def test_engine_streams_the_same_words(engine: str) -> None:
    """S2-26: people read while it is written."""

    async def main() -> None:
        async with running(door_to(engine)) as house:
            reply = await infer(house, stream=True, parameters={"temperature": 0.0})

            *pieces, last = events_of(reply)
            assert reply.headers["content-type"] == "text/event-stream"
            assert "".join(str(each["response"]) for each in pieces).strip() == SENTENCE
            assert all(set(each) == {"response"} for each in pieces)
            assert set(last) == {"response", "model_id", "parameters", "timing", "done"}
            assert (last["response"], last["done"]) == ("", True)

    run(main)


# --- what the server is asked -----------------------------------------------------------------


def test_prompt_is_a_chat_of_one_turn_with_the_defaults() -> None:
    """S2-36: KAREN counts on these values where it says nothing."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):
            told = json.loads((await infer(house)).body)

            messages = [{"role": "user", "content": "hi"}]
            assert asked_of(server) == ("/v1/chat/completions", {**DEFAULTS, "messages": messages})
            assert (told["response"], told["parameters"]) == ("hello", DEFAULTS)
            assert house.door.started() == 1
            await until(lambda: house.door.ended() == 1)

    run(main)


def test_prompt_goes_as_it_is_to_a_model_without_template() -> None:
    """A template that is not the model's makes nonsense of what it was trained on."""

    async def main() -> None:
        answer = answering_with({"choices": [{"text": "hello", "finish_reason": "stop"}]})
        async with scripted(answer, has_template=False) as (house, server):
            reply = await infer(house)

            assert asked_of(server) == ("/v1/completions", {**DEFAULTS, "prompt": "hi"})
            assert json.loads(reply.body)["response"] == "hello"

    run(main)


def test_caller_s_parameters_are_kept_wherever_they_stand() -> None:
    """The plan nests them, the server that ran had them beside the prompt."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):
            nested = {"temperature": 0, "top_k": 5, "stop": ["x"], "repetition_penalty": 1.1}
            await infer(house, parameters=nested, top_p=0.5, temperature=1.5, nonsense=1)

            _, body = asked_of(server)
            del body["messages"]
            assert body == {
                "temperature": 0,
                "max_tokens": 2048,
                "top_p": 0.5,
                "top_k": 5,
                "stop": ["x"],
                "repeat_penalty": 1.1,
            }

    run(main)


def test_configuration_s_defaults_come_before_karen_s() -> None:
    """Who tuned a model meant it for every client, and what is taken out stays out."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):
            change = Rewrite(default=Parameters(temperature=0.1, max_tokens=9), strip=("top_p",))
            house.door.routes = replace(house.door.routes, rewrites={"tiny": (change,)})
            told = json.loads((await infer(house, parameters={"max_tokens": 3})).body)

            _, body = asked_of(server)
            del body["messages"]
            assert body == told["parameters"] == {"temperature": 0.1, "max_tokens": 3}

    run(main)


@pytest.mark.parametrize("has_template", [True, False])
def test_template_surrounds_the_prompt_where_it_is_configured(has_template: bool) -> None:
    """S2-36, X-13: for who asks for it, and with whatever a prompt has in it."""

    async def main() -> None:
        answer = answering_with({"choices": [{"text": "hello", "message": {"content": "hello"}}]})
        settings = {"has_template": has_template, "karen_prompt_template": True}
        async with scripted(answer, **settings) as (house, server):
            await infer(house, prompt="{x} %s \\1")

            body = asked_of(server)[1]
            sent = body["messages"][0]["content"] if has_template else body["prompt"]  # type: ignore[index]
            before, _, after = str(sent).partition("{x} %s \\1")
            assert before.startswith("KAREN System Prompt: ")
            assert before.endswith("\n\nUser Query: ")
            assert after.startswith("\n\nPlease provide a helpful")
            assert json.loads((await house.get(b"/karen/config")).body)["karen_prompt_template"]

    run(main)


def test_template_is_for_no_other_path() -> None:
    """X-13: OpenAI's clients expect that their words pass as they are."""

    async def main() -> None:
        async with scripted(answering_with(HELLO), karen_prompt_template=True) as (house, server):
            body = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
            await house.ask(body)

            assert server.asked[-1].body == body

    run(main)


def test_template_chooses_no_model() -> None:
    """Its words are the same in every request, and say nothing of what one is about."""

    async def main() -> None:
        async with scripted(answering_with(HELLO), karen_prompt_template=True) as (house, _):
            rule = Rule(pattern="KAREN", model="other")
            models = Models(default="tiny")
            house.door.configure(Config(routing=Routing(rules=(rule,)), models=models))
            told = json.loads((await infer(house, model="auto")).body)

            assert told["model_id"] == "tiny"

    run(main)


def test_no_other_path_gets_the_defaults() -> None:
    """X-12: what OpenAI's clients leave out is the server's to choose."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):
            await house.ask(b'{"model":"tiny"}')

            assert asked_of(server)[1] == {"model": "tiny"}

    run(main)


# --- which model ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["model", "model_id"])
def test_named_model_answers_and_is_loaded_for_it(key: str) -> None:
    """The extension may save itself a load, and a look at what is loaded."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):

            async def load(*_: object) -> None:
                house.door.serve("other", server.path, "s2")

            house.door.loader = load
            told = json.loads((await infer(house, **{key: "other"})).body)

            assert told["model_id"] == "other"
            assert [each.selection.model_id for each in house.door.asked] == ["other"]

    run(main)


def test_unnamed_model_is_the_one_that_was_wanted_last() -> None:
    """The extension loads its model, asks without a name, and must not get somebody else's."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):
            house.door.serve("other", server.path, "s2")
            house.door.loader = _nothing

            async def answered() -> object:
                return json.loads((await infer(house)).body)["model_id"]

            async def current() -> object:
                return json.loads((await house.get(b"/models")).body)["current"]["id"]

            house.door.default("other")
            assert (await answered(), await current()) == ("other", "other")
            assert (await post(house, "/models/load", {"model_id": "nick"})).status == 200
            assert (await answered(), await current()) == ("tiny", "tiny")
            await house.ask(b'{"model":"other"}')
            assert (await answered(), await current()) == ("other", "other")

    run(main)


async def _nothing(*_: object) -> None:
    """Load what is loaded."""


def test_nothing_loaded_is_said_in_the_plan_s_words() -> None:
    """S2-39; the extension goes on to the remote model then."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:
            house.door.gone("tiny")
            reply = await infer(house)

            assert reply.status == 400
            assert json.loads(reply.body) == {
                "detail": "No model loaded",
                "error": {
                    "message": "No model loaded",
                    "type": "invalid_request_error",
                    "code": "no_model_loaded",
                },
            }

    run(main)


def test_default_model_is_loaded_where_none_is() -> None:
    """A configured default is what answers whoever names nothing."""

    async def main() -> None:
        async with scripted(answering_with(HELLO)) as (house, server):
            house.door.gone("tiny")
            house.door.default("nick")

            async def load(*_: object) -> None:
                house.door.serve("tiny", server.path, "s2")

            house.door.loader = load
            assert json.loads((await infer(house)).body)["model_id"] == "tiny"

    run(main)


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"prompt": "hi", "model": "nobody"}, "model 'nobody' not found"),
        ({"parameters": {}}, "missing required field `prompt`"),
        ({"prompt": 3}, "Expected `str`"),
        ({"prompt": "hi", "parameters": {"top_k": 1e30}}, "top_k"),
        ({"prompt": "hi", "parameters": 3}, "parameters"),
    ],
)
def test_what_makes_no_sense_is_400(body: object, text: str) -> None:
    """S2-28: unknown models too."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:
            reply = await post(house, "/inference", body)

            assert reply.status == 400
            assert text in json.loads(reply.body)["detail"]

    run(main)


def test_server_s_own_failure_is_told_in_general_words() -> None:
    """S2-28: what it says may quote the prompt, or its code."""

    async def main() -> None:
        failure = {"error": {"message": "ggml.c:77: secret", "type": "server_error"}}
        broken = answering_with(failure, b"500 Internal Server Error")
        async with scripted(broken) as (house, server):
            whole = await infer(house)
            server.script = saying(words("he"), failure)
            *_, last = events_of(await infer(house, stream=True))

            assert whole.status == 500
            assert json.loads(whole.body)["detail"] == last["detail"]
            assert "secret" not in str(last)
            assert b"secret" not in whole.body

    run(main)


def test_failed_load_keeps_its_status() -> None:
    """Programs tell by it whether to try again."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:

            async def refuse(*_: object) -> None:
                raise DoesNotFit("other needs 9 GB")

            house.door.loader = refuse
            reply = await infer(house, model="other")

            assert reply.status == 507
            assert "9 GB" in json.loads(reply.body)["detail"]

    run(main)


@pytest.mark.parametrize(
    "script",
    [
        saying(words("he"), is_ended=True),
        saying(words("he"), b"no json"),
        saying(words("he"), is_ended=False),
    ],
)
def test_stream_that_breaks_off_has_no_last_event(script: Script) -> None:
    """Half an answer must not look like a whole one."""

    async def main() -> None:
        async with scripted(script) as (house, _):
            body = b'{"prompt":"hi","stream":true}'
            data = house.request(b"POST /inference", body, b"Connection: close\r\n")
            async with opened(house, data) as raw:
                rest = await raw.rest()

            assert b'{"response":"he"}' in rest
            assert b'"done"' not in rest

    run(main)


def test_thoughts_are_not_told_but_show_life() -> None:
    """A model that thinks for a minute is not dead."""

    async def main() -> None:
        thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
        script = saying(thought, words("hi", finish_reason="stop"), b"[DONE]")
        async with scripted(script) as (house, _):
            reply = await infer(house, stream=True)

            assert reply.body.startswith(b": thinking\n\n")
            assert [each["response"] for each in events_of(reply)] == ["hi", ""]

    run(main)


# --- the rest ---------------------------------------------------------------------------------


class Door(FakeDoor):
    """One that knows what requests cost."""

    async def ask(self, event: Event, on_progress: OnProgress | None = None) -> Struct:
        """Answer that."""
        if not isinstance(event, UsageAsked):
            return await super().ask(event, on_progress)
        assert event.measures
        return self.measures()

    def measures(self) -> Measures:
        """Return what two requests came to."""
        tally = usage.tally()
        tally.count(Figures(seconds=3.0, waited_seconds=2.0, prompt_tokens=5, was_ready=False))
        tally.count(Figures(seconds=2.0, generated_tokens=11, generation_seconds=0.5))
        tally.count_load(2.0, is_swap=True)
        return Measures(
            version="1",
            up_seconds=9.0,
            connections=1,
            waiting=4,
            models=2,
            memory_budget_bytes=1 << 30,
            ssd_free_bytes=None,
            copies=0,
            copied_bytes=0,
            tallies={"tiny": tally},
            in_flight={"tiny": 1},
            memory_bytes={"tiny": 3 << 20},
            ready={"tiny": 1, "other": 0},
            swap_seconds=Histogram(usage.SWAP_SECONDS),
        )


@pytest.mark.parametrize("path", [b"/performance", b"/api/v1/performance"])
def test_performance_tells_what_requests_and_loads_cost(path: bytes) -> None:
    """S2-15."""

    async def main() -> None:
        async with running(Door()) as house:
            told = json.loads((await house.get(path)).body)

            assert told == {
                "uptime_seconds": 9.0,
                "queue_depth": 4,
                "requests": {"total": 2, "failed": 0, "in_flight": 1, "hit_rate": 0.5},
                "tokens": {"prompt": 5, "cached": 0, "generated": 11, "per_second": 20.0},
                "inference_times": {"count": 2, "mean_ms": 1500.0},
                "model_load_times": {"count": 1, "mean_ms": 2000.0, "failed": 0},
                "loaded_models": ["tiny"],
                "memory_mb": 3.0,
                "memory_budget_mb": 1024.0,
                "memory_by_model_mb": {"tiny": 3.0},
            }

    run(main)


@pytest.mark.parametrize("path", [b"/karen/config", b"/api/v1/karen/config"])
def test_configuration_is_what_the_extension_reads(path: bytes) -> None:
    """S2-37."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:
            house.door.default("other")
            told = json.loads((await house.get(path)).body)

            assert told == {
                "server_url": f"http://127.0.0.1:{house.port}",
                "default_model": "other",
                "enable_local_fallback": True,
                "context_window": None,
                "karen_prompt_template": False,
                **DEFAULTS,
            }
            house.door.default("")
            told = json.loads((await house.get(path)).body)
            assert (told["default_model"], told["context_window"]) == ("tiny", 4096)

    run(main)


def test_paths_below_the_prefix_are_those_above_it() -> None:
    """S2-39: KAREN's template has every path there; its health alone tells more than ours."""
    above = {(row.method, row.path): row.action for row in ALL_ROWS}

    for row in ROWS:
        if row.path.startswith(PREFIX) and row.path != f"{PREFIX}/health":
            assert above[row.method, row.path.removeprefix(PREFIX)] == row.action


def test_prefix_manages_models_without_disturbing_ollama_s_paths() -> None:
    """Both live below /api."""

    async def main() -> None:
        async with running(door_to("/x.sock")) as house:
            house.door.loader = _nothing
            assert json.loads((await house.get(b"/api/v1/models")).body)["current"] == {
                "id": "tiny"
            }
            loaded = await post(house, "/api/v1/models/load", {"model_id": "nick"})
            assert json.loads(loaded.body)["model_id"] == "tiny"
            assert (await post(house, "/api/v1/models/unload/tiny", {})).status == 200
            assert house.door.unloaded == ["tiny"]
            assert "detail" in json.loads((await house.get(b"/api/v1/nothing")).body)
            assert json.loads((await house.get(b"/api/nothing")).body).keys() == {"error"}
            assert (await house.get(b"/api/tags")).status == 200

    run(main)


def test_none_of_it_is_there_where_karen_is_not_served() -> None:
    """`gateway.compat` says for whom it is."""

    async def main() -> None:
        async with running(door_to("/x.sock"), compat=("openai",)) as house:
            for path in (b"/performance", b"/karen/config", b"/api/v1/health"):
                assert (await house.get(path)).status == 404
            assert b"gateway.compat has no karen" in (await infer(house)).body

    run(main)
