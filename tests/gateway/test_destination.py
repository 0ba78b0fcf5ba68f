"""Where requests go, in every dialect: named, routed or refused."""

import json

import pytest
from msgspec.structs import replace

from modeld.config.schema import (
    Config,
    Entry,
    Models,
    Options,
    Parameters,
    Rewrite,
    Roles,
    Routing,
    Rule,
)
from modeld.errors import UnknownModel, Usage
from modeld.gateway.destination import decide
from modeld.gateway.http import Problem, RequestHead
from modeld.gateway.table import Call, Wanted
from modeld.supervisor.guide import Prospect
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Reply, opened, run, running, short_directory
from tests.support.upstream import Answering, Asked, ScriptedServer

ROLES = Roles(primary="big", code="coder", fast="small")
ROUTING = Routing(roles=ROLES, rules=(Rule(pattern="translate.*to", model="fast"),))
WRITE = "Write a function to sort an array"


def _door(routing: Routing = ROUTING, **models: object) -> FakeDoor:
    door = FakeDoor()
    for name in ("big", "coder", "small"):
        door.add(name)
    door.configure(Config(routing=routing, models=Models(**models)))  # type: ignore[arg-type]
    return door


def _call(door: FakeDoor, **headers: str) -> Call:
    head = RequestHead(
        method="POST",
        path="/",
        query="",
        headers={
            name.replace("_", "-").encode(): value.encode() for name, value in headers.items()
        },
        minor=1,
        keep_alive=True,
        length=0,
        expects_continue=False,
    )
    return Call(head=head, body=b"", door=door, clock=None, begin_load=None, unload=None)  # type: ignore[arg-type]


def _wanted(model: str, text: str = "", **more: object) -> Wanted:
    more = {"is_stream": False, "path": "/v1/chat/completions", "body": b'{"a":1}', **more}
    return Wanted(model=model, task=lambda: text, **more)  # type: ignore[arg-type]


def _route(door: FakeDoor, wanted: Wanted, **headers: str) -> tuple[str, str]:
    found = decide(door.routes, wanted, _call(door, **headers))
    lines = dict(line.split(": ") for line in found.headers.decode().splitlines())
    assert lines["X-Modeld-Model"] == found.model.name
    return found.model.id, lines["X-Modeld-Route"]


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        ("small", WRITE, ("small", "explicit")),
        ("", WRITE, ("coder", "heuristic:code")),
        ("auto", WRITE, ("coder", "heuristic:code")),
        ("auto:latest", WRITE, ("coder", "heuristic:code")),
        ("", "translate this to Spanish", ("small", "rule:1")),
        ("", "Hi", ("small", "heuristic:short")),
        ("", "x" * 100, ("big", "default")),
        ("code", "Hi", ("coder", "role:code")),
        ("primary", "Hi", ("big", "role:primary")),
    ],
)
def test_decide_tells_the_model_and_the_route(
    model: str, text: str, expected: tuple[str, str]
) -> None:
    """A client that named nothing wants to know who answers, and why."""
    assert _route(_door(), _wanted(model, text)) == expected


def test_decide_prefers_a_model_with_the_name_to_any_word() -> None:
    """A file called `auto.gguf` or `code.gguf` is what its name means."""
    door = _door()
    for name in ("auto", "code", "profile:code"):
        door.add(name)
        assert _route(door, _wanted(name, "Hi")) == (name, "explicit")


def test_decide_reads_no_words_of_a_request_that_names_its_model() -> None:
    """It would cost every request."""

    def task() -> str:
        raise AssertionError("nobody asked")

    door = _door()
    assert decide(door.routes, replace(_wanted("big"), task=task), _call(door)).decision is None


def test_decide_minds_the_header_where_no_model_is_named() -> None:
    """It says what kind of work it is; a name that is given says more."""
    door = _door(Routing(overrides={"code": "coder"}))

    assert _route(door, _wanted(""), x_modeld_profile="code") == ("coder", "profile:code")
    assert _route(door, _wanted("auto"), x_modeld_profile="code") == ("coder", "profile:code")
    assert _route(door, _wanted("profile:code")) == ("coder", "profile:code")
    assert _route(door, _wanted("big"), x_modeld_profile="code") == ("big", "explicit")
    with pytest.raises(Usage, match="unknown profile 'nonsense'"):
        _route(door, _wanted(""), x_modeld_profile="nonsense")


def test_decide_refuses_a_mistyped_model() -> None:
    """It must not be answered by another."""
    with pytest.raises(UnknownModel):
        _route(_door(), _wanted("smal"))


def test_decide_chooses_no_model_for_what_has_no_task() -> None:
    """An embedding of another model fits no index: only the default one may answer."""
    with pytest.raises(Problem) as caught:
        _route(_door(), replace(_wanted("auto"), task=None))
    assert caught.value.status == 400
    assert "models.default" in caught.value.message

    assert "missing" not in caught.value.message  # a name is there, and it is `auto`

    for default, model in (("big", "big"), ("code", "coder")):
        door = _door(default=default)
        assert _route(door, replace(_wanted(""), task=None)) == (model, "explicit")


def test_decide_says_why_nothing_can_be_chosen() -> None:
    """400: the client may name a model; what is missing is in the sentence."""
    with pytest.raises(Problem) as caught:
        _route(_door(Routing()), _wanted(""))

    assert caught.value.status == 400
    assert "model name is missing" in caught.value.message
    assert "profile general" in caught.value.message


def test_decide_refuses_tools_where_the_models_template_has_none() -> None:
    """The words after the name are those that clients look for."""
    door = _door()
    small = door.routes.models["small"]
    door.change(replace(small, header=replace(small.header, has_chat_template=True)))

    with pytest.raises(Problem, match="model does not support tools"):
        _route(door, _wanted("small", has_tools=True))
    assert _route(door, _wanted("big", has_tools=True)) == ("big", "explicit")
    assert _route(door, _wanted("small")) == ("small", "explicit")


def test_decide_gives_routed_requests_their_defaults_and_others_none() -> None:
    """Whoever names a model gets exactly what it asks for."""
    options = Options(temperature=0.1, max_tokens=7, num_ctx=2048)
    door = _door(entries={"coder": Entry(options=options)})
    door.prospects["coder"] = Prospect(options=options)
    door.configure(door.config)
    body = b'{"max_tokens":99}'

    routed = decide(door.routes, _wanted("", WRITE, body=body), _call(door)).wanted
    named = decide(door.routes, _wanted("coder", WRITE, body=body), _call(door)).wanted

    assert json.loads(routed.body) == {"max_tokens": 99, "temperature": 0.1}
    assert routed.context_tokens == 2048
    assert named.body is body
    assert named.context_tokens == 0


def test_decide_lets_a_models_own_changes_have_the_last_word() -> None:
    """What must not reach a server does not reach it by a default either."""
    options = Options(temperature=0.1, top_p=0.5)
    door = _door()
    door.prospects["coder"] = Prospect(options=options)
    door.configure(door.config)
    change = Rewrite(strip=("temperature",), set=Parameters(seed=1))
    door.routes = replace(door.routes, rewrites={"coder": (change,)})

    routed = decide(door.routes, _wanted("", WRITE), _call(door)).wanted

    assert json.loads(routed.body) == {"a": 1, "top_p": 0.5, "seed": 1}


# --- through the gateway --------------------------------------------------------------------

CODE = [{"role": "user", "content": WRITE}]


async def _post(house: House, path: bytes, body: object, headers: bytes = b"") -> Reply:
    raw = await house.connect()
    await raw.send(house.request(b"POST " + path, json.dumps(body).encode(), headers))
    reply = await raw.reply()
    raw.close()
    return reply


async def _answer(_: Asked, answering: Answering) -> None:
    """Answer in words that every dialect can be translated from."""
    message = {"role": "assistant", "content": "x"}
    choice = {"message": message, "text": "x", "finish_reason": "stop"}
    await answering.json(json.dumps({"choices": [choice]}).encode())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/v1/chat/completions", {"messages": CODE}),
        (b"/v1/chat/completions", {"model": "auto", "messages": CODE}),
        (b"/v1/responses", {"input": WRITE}),
        (b"/v1/completions", {"prompt": WRITE}),
        (b"/v1/messages", {"messages": CODE, "max_tokens": 5}),
        (b"/completion", {"prompt": WRITE}),
        (b"/api/chat", {"messages": CODE, "stream": False}),
        (b"/api/generate", {"model": "auto", "prompt": WRITE, "stream": False}),
    ],
)
def test_every_dialect_routes_by_the_last_words(path: bytes, body: dict[str, object]) -> None:
    """Whatever they call them."""

    async def main() -> None:
        with short_directory() as directory:
            door = _door()
            socket = f"{directory}/s.sock"
            async with ScriptedServer(socket) as server, running(door) as house:
                door.serve("coder", socket)
                server.script = _answer
                reply = await _post(house, path, body)

                assert len(server.asked) == 1, reply
                assert reply.headers["x-modeld-model"] == "coder"
                assert reply.headers["x-modeld-route"] == "heuristic:code"

    run(main)


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        (b"/v1/chat/completions", {"model": "profile:x", "messages": CODE}, "error"),
        (b"/v1/messages", {"model": "profile:x", "messages": CODE}, "error"),
        (b"/api/chat", {"model": "profile:x", "messages": CODE}, "error"),
    ],
)
def test_every_dialect_tells_of_an_unknown_profile(
    path: bytes, body: dict[str, object], shape: str
) -> None:
    """And of those that there are."""

    async def main() -> None:
        async with running(_door()) as house:
            reply = await _post(house, path, body)

            assert reply.status == 400
            assert shape in json.loads(reply.body)
            assert b"fast, general, code, creative" in reply.body

    run(main)


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages", b"/api/chat"])
def test_every_dialect_refuses_tools_of_a_model_without(path: bytes) -> None:
    """400, with the words by which clients know to try without."""

    async def main() -> None:
        door = _door()
        small = door.routes.models["small"]
        door.change(replace(small, header=replace(small.header, has_chat_template=True)))
        tool = {"type": "function", "function": {"name": "x"}}
        async with running(door) as house:
            body = {"model": "small", "messages": CODE, "tools": [tool]}
            reply = await _post(house, path, body)

            assert reply.status == 400
            assert b"model does not support tools" in reply.body

    run(main)


PICTURE = "data:image/png;base64,AAAA"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            b"/v1/chat/completions",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "what is this?"},
                            {"type": "image_url", "image_url": {"url": PICTURE}},
                        ],
                    }
                ]
            },
        ),
        (
            b"/v1/responses",
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]}
                ]
            },
        ),
        (
            b"/v1/messages",
            {
                "max_tokens": 5,
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "base64", "data": "AA"}}],
                    }
                ],
            },
        ),
        (
            b"/api/chat",
            {"stream": False, "messages": [{"role": "user", "content": "?", "images": ["AAAA"]}]},
        ),
        (b"/api/generate", {"stream": False, "prompt": "?", "images": ["AAAA"]}),
    ],
)
def test_every_dialect_routes_pictures_to_a_model_that_sees(
    path: bytes, body: dict[str, object]
) -> None:
    """Any other would refuse them."""

    async def main() -> None:
        with short_directory() as directory:
            door = _door()
            big = door.routes.models["big"]
            seeing = replace(big.location, mmproj_path="/m/mmproj.gguf")
            door.change(replace(big, locations=(seeing,)))
            socket = f"{directory}/s.sock"
            async with ScriptedServer(socket) as server, running(door) as house:
                door.serve("big", socket)
                server.script = _answer
                reply = await _post(house, path, body)

                assert reply.headers["x-modeld-model"] == "big", reply
                assert reply.headers["x-modeld-route"] == "default"

    run(main)


def test_talk_of_pictures_is_no_picture() -> None:
    """Whoever asks how to send one sends none."""
    door = _door()
    body = json.dumps({"messages": [{"role": "user", "content": 'set "image_url": {}'}]}).encode()
    call = replace(_call(door), body=body)

    found = decide(door.routes, _wanted("", 'set "image_url": {}', body=body), call)
    assert found.headers.endswith(b"heuristic:short\r\n")


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages", b"/api/chat"])
def test_a_name_that_is_no_name_is_not_sent_back_whole(path: bytes) -> None:
    """A megabyte by mistake in the wrong field must not fill somebody's log with it."""

    async def main() -> None:
        body = json.dumps({"model": "x" * 100_000, "messages": []}).encode()
        async with (
            running(_door()) as house,
            opened(house, house.request(b"POST " + path, body)) as raw,
        ):
            reply = await raw.reply()

            assert reply.status == 404
            assert b"model 'xxx" in reply.body
            assert len(reply.body) < 3000

    run(main)
