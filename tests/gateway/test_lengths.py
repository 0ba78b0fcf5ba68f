"""What is too long for its model is refused before anything is spent on it."""

import json

import pytest

from modeld.gateway.http import Problem
from modeld.gateway.lengths import fraction_of, may_be_too_long, refuse_far_over
from modeld.gateway.table import Wanted
from modeld.supervisor.guide import Prospect
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Reply, run, running
from tests.support.upstream import Answering, Asked, Script, ready

CHAT = "/v1/chat/completions"
CONTEXT = 100


def _wanted(size: int, path: str = CHAT, letter: str = "x") -> Wanted:
    return Wanted(model="tiny", is_stream=False, path=path, body=letter.encode() * size)


def test_may_be_too_long_needs_more_bytes_than_tokens() -> None:
    """A token is at least a byte: the most requests cost one comparison."""
    assert not may_be_too_long(_wanted(CONTEXT), CONTEXT)
    assert may_be_too_long(_wanted(CONTEXT + 1), CONTEXT)
    assert not may_be_too_long(_wanted(CONTEXT + 1), 0), "nobody knows the context"
    assert not may_be_too_long(_wanted(CONTEXT + 1, "/v1/embeddings"), CONTEXT)


@pytest.mark.parametrize("mark", [b'"data:image', b'{"type":"base64"}', b'"input_audio"'])
def test_may_be_too_long_knows_nothing_of_pictures(mark: bytes) -> None:
    """A megabyte of them may be a hundred tokens."""
    wanted = Wanted(model="", is_stream=False, path=CHAT, body=mark + b"x" * 1000)

    assert not may_be_too_long(wanted, CONTEXT)


def test_refuse_far_over_refuses_only_what_no_text_can_be() -> None:
    """Four letters a token, and four times the context."""
    refuse_far_over("tiny", _wanted(16 * CONTEXT), CONTEXT)
    with pytest.raises(Problem, match=r"about 401 tokens \(estimated\)") as caught:
        refuse_far_over("tiny", _wanted(16 * CONTEXT + 1), CONTEXT)

    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


def test_refuse_far_over_counts_letters_and_not_bytes() -> None:
    """Three bytes of a Chinese letter are one or two tokens, as four of Latin are."""
    refuse_far_over("tiny", _wanted(12 * CONTEXT, letter="\u4f60"), CONTEXT)


@pytest.mark.parametrize(("tokens", "is_refused"), [(98, False), (99, False), (100, True)])
def test_fraction_of_refuses_what_llama_server_would(tokens: int, is_refused: bool) -> None:
    """A prompt as long as the context leaves no room for an answer."""
    if is_refused:
        with pytest.raises(Problem, match="maximum context length is 100 tokens"):
            fraction_of("tiny", tokens, CONTEXT)
    else:
        assert fraction_of("tiny", tokens, CONTEXT) == tokens / CONTEXT


# --- through the gateway --------------------------------------------------------------------


def _counting(tokens: int) -> Script:
    async def script(asked: Asked, answering: Answering) -> None:
        path = asked.head.split()[1]
        if path == b"/tokenize":
            await answering.json(json.dumps({"tokens": list(range(tokens))}).encode())
        elif path.endswith(b"tokens"):
            await answering.json(json.dumps({"input_tokens": tokens}).encode())
        else:
            choice = {"message": {"content": "x"}, "text": "x", "finish_reason": "stop"}
            await answering.json(json.dumps({"choices": [choice]}).encode())

    return script


async def _post(house: House, path: str, body: object) -> Reply:
    raw = await house.connect()
    await raw.send(house.request(b"POST " + path.encode(), json.dumps(body).encode()))
    reply = await raw.reply()
    raw.close()
    return reply


LONG = [{"role": "user", "content": "word " * 100}]
PATHS = [
    (CHAT, {"messages": LONG}, b"/v1/chat/completions/input_tokens"),
    ("/v1/responses", {"input": "word " * 100}, b"/v1/responses/input_tokens"),
    ("/v1/messages", {"messages": LONG, "max_tokens": 5}, b"/v1/messages/count_tokens"),
    ("/v1/completions", {"prompt": "word " * 100}, b"/tokenize"),
    ("/completion", {"prompt": "word " * 100}, b"/tokenize"),
    ("/api/chat", {"messages": LONG, "stream": False}, b"/v1/chat/completions/input_tokens"),
]


@pytest.mark.parametrize(("path", "body", "counter"), PATHS)
@pytest.mark.parametrize("tokens", [50, 95, 100])
def test_a_long_request_is_counted_by_its_server(
    path: str, body: dict[str, object], counter: bytes, tokens: int
) -> None:
    """Refused in the dialect's own words, warned of from 0.9 on, and sent otherwise."""

    async def main() -> None:
        async with ready(script=_counting(tokens), context_tokens=CONTEXT) as (house, server):
            reply = await _post(house, path, {"model": "tiny", **body})

            assert server.asked[0].head.split()[1] == counter
            if tokens >= CONTEXT:
                assert reply.status == 400
                assert b"prompt is too long: 100 tokens" in reply.body
                assert len(server.asked) == 1
            else:
                assert reply.status == 200, reply
                expected = {95: "0.95"}.get(tokens)
                assert reply.headers.get("x-modeld-context") == expected
                assert len(server.asked) == 2
                assert server.connections == 1, "the same connection is used again"
        assert house.door.started() == house.door.ended() == 1

    run(main)


def test_the_code_is_what_clients_of_openai_look_for() -> None:
    """They shorten their history, and try again."""

    async def main() -> None:
        async with ready(script=_counting(CONTEXT), context_tokens=CONTEXT) as (house, _):
            reply = await _post(house, CHAT, {"model": "tiny", "messages": LONG})
            error = json.loads(reply.body)["error"]

            assert error["code"] == "context_length_exceeded"
            assert error["type"] == "invalid_request_error"
            assert "maximum context length is 100 tokens" in error["message"]

    run(main)


@pytest.mark.parametrize("body", [{"messages": [{"role": "user", "content": "x"}]}, {"model": ""}])
def test_a_short_request_is_not_counted(body: dict[str, object]) -> None:
    """It costs nothing."""

    async def main() -> None:
        async with ready(context_tokens=CONTEXT) as (house, server):
            await _post(house, CHAT, {**body, "model": "tiny"})

            assert len(server.asked) == 1

    run(main)


def test_a_long_request_passes_where_that_is_configured() -> None:
    """The server refuses it in its own words, or shifts its context."""

    async def main() -> None:
        script = _counting(CONTEXT)
        passing = ready(script=script, context_tokens=CONTEXT, on_overlong="pass")
        async with passing as (house, server):
            messages = [{"role": "user", "content": "word " * 1000}]
            reply = await _post(house, CHAT, {"model": "tiny", "messages": messages})

            assert (reply.status, len(server.asked)) == (200, 1)

    run(main)


def test_a_server_that_does_not_count_gets_the_request() -> None:
    """Older builds have no such path: then the server judges."""

    async def main() -> None:
        async def script(asked: Asked, answering: Answering) -> None:
            is_count = asked.head.split()[1].endswith(b"tokens")
            await answering.json(status=b"404 Not Found" if is_count else b"200 OK")

        async with ready(script=script, context_tokens=CONTEXT) as (house, server):
            reply = await _post(house, CHAT, {"model": "tiny", "messages": LONG})

            assert (reply.status, len(server.asked)) == (200, 2)

    run(main)


def test_a_server_that_dies_while_it_counts_is_told_of() -> None:
    """As one that dies before its first byte."""

    async def main() -> None:
        async def script(asked: Asked, answering: Answering) -> None:
            answering.die()

        async with ready(script=script, context_tokens=CONTEXT) as (house, _):
            reply = await _post(house, CHAT, {"model": "tiny", "messages": LONG})

            assert reply.status == 502

    run(main)


def test_a_request_that_is_sent_again_is_not_counted_again() -> None:
    """It is told of its context once; the first count holds."""

    async def main() -> None:
        async with ready(context_tokens=CONTEXT) as (house, server):
            count = _counting(95)

            async def script(asked: Asked, answering: Answering) -> None:
                if len(server.asked) == 2:  # on the connection of the count, which was idle
                    answering.die()
                else:
                    await count(asked, answering)

            server.script = script
            raw = await house.connect()
            body = json.dumps({"model": "tiny", "messages": LONG}).encode()
            await raw.send(house.request(b"POST " + CHAT.encode(), body))
            head = await raw.reader.readuntil(b"\r\n\r\n")
            raw.close()

            assert head.startswith(b"HTTP/1.1 200")
            assert head.count(b"X-Modeld-Context: 0.95") == 1
            assert [asked.head.split()[1] for asked in server.asked] == [
                f"{CHAT}/input_tokens".encode(),
                CHAT.encode(),
                CHAT.encode(),
            ]

    run(main)


def test_what_is_far_too_long_loads_nothing() -> None:
    """An estimate is enough where no text could be so far off."""

    async def main() -> None:
        door = FakeDoor()
        tiny = door.add("tiny")
        door.prospects[tiny.id] = Prospect(context_tokens=CONTEXT)
        door.configure(door.config)
        async with running(door) as house:
            messages = [{"role": "user", "content": "word " * 1000}]
            reply = await _post(house, CHAT, {"model": "tiny", "messages": messages})

            assert reply.status == 400
            assert b"(estimated)" in reply.body
            assert door.asked == []

    run(main)
