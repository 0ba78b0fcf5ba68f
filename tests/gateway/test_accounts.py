"""`gateway.accounts`: tokens from the ends of answers, whatever their dialect and however cut."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeld.core.traffic import RequestLost, RequestsEnded
from modeld.core.usage import Figures
from modeld.errors import DoesNotFit
from modeld.gateway import accounts
from modeld.gateway.accounts import Account, failure_of
from tests.gateway.test_relay import cold, ready, refusing
from tests.support.gateway import House, opened, run, until
from tests.support.upstream import Answering, Asked

TIMINGS = {"cache_n": 8, "prompt_n": 1, "predicted_n": 2, "predicted_ms": 500.0, "prompt_ms": 3.0}
CHAT_USAGE = {
    "completion_tokens": 2,
    "prompt_tokens": 9,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 8},
}
RESPONSES_USAGE = {
    "input_tokens": 9,
    "output_tokens": 2,
    "total_tokens": 11,
    "input_tokens_details": {"cached_tokens": 8},
}
CLAUDE_USAGE = {"cache_read_input_tokens": 8, "input_tokens": 1, "output_tokens": 0}
LONG = [{"delta": {"content": "word " * 20}}] * 100


class Clock:
    """Each look costs a second."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Return nothing of interest."""
        return 0.0

    def monotonic(self) -> float:
        """Return the next second."""
        self.seconds += 1
        return self.seconds


def encoded(value: object) -> bytes:
    """Return JSON as llama-server writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


def events(*values: object, end: bytes = b"data: [DONE]\n\n") -> bytes:
    """Return a stream."""
    return b"".join(b"data: " + encoded(value) + b"\n\n" for value in values) + end


def claude(*deltas: object) -> bytes:
    """Return a stream of Anthropic's."""
    parts = (
        {"type": "message_start", "message": {"id": "x", "usage": CLAUDE_USAGE}},
        *deltas,
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    return b"".join(b"event: x\ndata: " + encoded(part) + b"\n\n" for part in parts)


ANSWERS = {
    "chat": encoded({"choices": [], "usage": CHAT_USAGE, "id": "x", "timings": TIMINGS}),
    "long chat": encoded({"choices": LONG, "usage": CHAT_USAGE, "timings": TIMINGS}),
    "chat stream": events({"choices": []}, {"choices": [], "timings": TIMINGS}),
    "long chat stream": events(*LONG, {"choices": [], "timings": TIMINGS}),
    "chat stream with usage": events({}, {"usage": CHAT_USAGE, "timings": TIMINGS}),
    "chat stream with null": events({"usage": None}, {"usage": None, "timings": TIMINGS}),
    "completion": encoded({"content": "", "prompt": "<s>", "timings": TIMINGS}),
    "completion stream": events(*LONG, {"stop": True, "timings": TIMINGS}, end=b""),
    "responses": encoded({"output": [], "status": "completed", "usage": RESPONSES_USAGE}),
    "responses stream": events(*LONG, {"response": {"usage": RESPONSES_USAGE}, "timings": TIMINGS}),
    "messages": encoded({"content": LONG, "usage": {**CLAUDE_USAGE, "output_tokens": 2}}),
    "messages stream": claude(),
    "long messages stream": claude(*LONG),
}


def closed(account: Account, failure: str, *, is_stream: bool) -> Figures:
    """Return what a request cost that ends now."""
    account.close(failure, is_stream=is_stream)
    return account.figures()


def close(answer: bytes, *cuts: int, is_stream: bool = False, failure: str = "") -> Figures:
    """Return the figures of an answer that came in these pieces."""
    account = Account("m", Clock())
    account.sent()
    for start, end in zip((0, *cuts), (*cuts, len(answer)), strict=True):
        account.took(answer[start:end])
    return closed(account, failure, is_stream=is_stream)


def tokens(figures: Figures) -> tuple[int, int, int]:
    """Return what was counted."""
    return figures.prompt_tokens, figures.cached_tokens, figures.generated_tokens


@pytest.mark.parametrize("name", ANSWERS)
def test_tokens_are_those_that_the_server_reports(name: str) -> None:
    """Bills and rates are made of them (S3-23)."""
    assert tokens(close(ANSWERS[name])) == (9, 8, 2)


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(ANSWERS)), parts=st.lists(st.floats(0, 1), max_size=12))
@example(name="long chat", parts=[n / 3000 for n in range(3000)])
def test_tokens_do_not_depend_on_how_an_answer_is_cut(name: str, parts: list[float]) -> None:
    """The kernel cuts where it likes."""
    answer = ANSWERS[name]
    cuts = sorted(int(part * len(answer)) for part in parts)

    assert tokens(close(answer, *cuts)) == (9, 8, 2)


def test_tokens_of_long_embeddings_are_those_at_their_beginning() -> None:
    """Embeddings have their usage before a megabyte of numbers."""
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    vector = {"embedding": [0.12345678] * 10_000, "index": 0}
    answer = encoded({"model": "m", "object": "list", "usage": usage, "data": [vector] * 2})

    assert tokens(close(answer)) == (7, 0, 0)
    assert tokens(close(answer, 300, 5000, 70_000)) == (7, 0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b'{"tokens":[1,2]}',
        b'{"usage":null}',
        b'{"usage":{"prompt_tokens":-1}}',
        b'{"usage":{"prompt_tokens":1e400}}',
        b'{"usage":{"prompt_tokens":"many"}}',
        b'{"usage":{"prompt_tokens":{"a":{"b":1}}}}',
        b'"usage":{',
        b"\xff\xfe",
        b"[" * 5000,
        events(*LONG),
    ],
)
def test_answer_that_says_nothing_counts_nothing(answer: bytes) -> None:
    """A guess would be summed up with the truth for ever."""
    assert tokens(close(answer)) == (0, 0, 0)


@given(st.binary(max_size=300), st.sampled_from([b"", b'"usage":', b'"timings":{', b"{" * 50]))
def test_nonsense_never_raises(data: bytes, mark: bytes) -> None:
    """The client has its answer by then; the connection must live on."""
    figures = close(data + mark + data)

    assert all(count >= 0 for count in tokens(figures))


def test_words_of_a_model_do_not_pass_for_the_report() -> None:
    """Anybody can have a model say anything."""
    words = 'see "usage":{"prompt_tokens":5000000} and "timings":{"predicted_n":5000000}'
    whole = encoded({"usage": CHAT_USAGE, "x": words})
    stream = events({"timings": TIMINGS}, {"delta": {"content": words}})

    assert tokens(close(whole)) == (9, 8, 2)
    assert tokens(close(stream)) == (9, 8, 2)


def test_answer_that_broke_off_counts_no_tokens() -> None:
    """What came before is not the final report."""
    assert tokens(close(ANSWERS["chat"], failure="left")) == (0, 0, 0)
    assert tokens(close(claude()[:-60], failure="server")) == (0, 0, 0)


def test_answer_of_another_server_is_not_mixed_with_the_first() -> None:
    """A request is sent again where the first server closed an idle connection."""
    account = Account("m", Clock())
    account.sent()
    account.took(ANSWERS["chat"])
    account.sent()
    account.took(b"{}")

    assert tokens(closed(account, "", is_stream=False)) == (0, 0, 0)


def test_first_token_of_a_stream_is_its_first_byte() -> None:
    """From the sending, not from the coming: loads are told apart."""
    figures = close(ANSWERS["chat stream"], 10, is_stream=True)

    assert figures.first_token_seconds == 1.0
    assert figures.generation_seconds == 0.5


def test_first_token_of_a_whole_answer_is_its_end_without_the_generation() -> None:
    """Its first byte comes with the last token."""
    figures = close(ANSWERS["chat"])

    assert figures.first_token_seconds == 1.5
    assert close(ANSWERS["responses"]).first_token_seconds == 0.0


def test_wait_for_a_load_is_a_miss_and_timed_however_it_ends() -> None:
    """The hit rate is made of it."""

    async def fail() -> None:
        raise OSError("no")

    async def main() -> Figures:
        account = Account("m", Clock())
        with pytest.raises(OSError, match="no"):
            await account.waiting_for(fail())  # type: ignore[arg-type]
        return closed(account, "load", is_stream=False)

    figures = asyncio.run(main())

    assert (figures.was_ready, figures.waited_seconds, figures.failure) == (False, 1.0, "load")


def test_request_that_no_server_was_asked_is_no_hit() -> None:
    """Refusals of a full house would raise the hit rate."""
    account = Account("m", Clock())

    assert not closed(account, "busy", is_stream=False).was_ready


def test_kept_bytes_are_bounded_however_long_an_answer_is() -> None:
    """256 endless streams must not fill the memory."""
    account = Account("m", Clock())
    account.sent()
    for size in (1, 100, 5000, 1_000_000, 3):
        for _ in range(50):
            account.took(b"x" * size)
            kept = len(account._head) + len(account._tail)
            assert kept <= accounts.HEAD_BYTES + 2 * accounts.TAIL_BYTES


@pytest.mark.parametrize(
    ("status", "was_sent", "failure"),
    [
        (200, True, ""),
        (400, True, "refused"),
        (429, True, "refused"),
        (501, True, "refused"),
        (502, True, "server"),
        (429, False, "busy"),
        (400, False, "refused"),
        (409, False, "load"),
        (504, False, "load"),
    ],
)
def test_failures_have_the_class_of_who_failed(status: int, was_sent: bool, failure: str) -> None:
    """Whoever is called at night wants to know whom to look at."""
    assert failure_of(status, was_sent=was_sent) == failure


# --- requests through the gateway ---------------------------------------------------------------


def costs(house: House) -> list[Figures]:
    """Return what the loop was told that requests cost."""
    found: list[Figures] = []
    for event in house.door.events:
        if isinstance(event, RequestsEnded):
            found += event.figures
        elif isinstance(event, RequestLost):
            found.append(event.figures)
    return found


def answer(body: bytes, status: bytes = b"200 OK") -> Callable[[Asked, Answering], Awaitable[None]]:
    """Return a script that answers with this."""

    async def script(_: Asked, answering: Answering) -> None:
        await answering.json(body, status)

    return script


async def stream(_: Asked, answering: Answering) -> None:
    """Stream a chat, its report last."""
    await answering.stream_head()
    await answering.event(b'{"choices":[{"delta":{"content":"x"}}]}')
    await answering.event(encoded({"choices": [], "timings": TIMINGS}))
    await answering.event(b"[DONE]")
    await answering.end()


def test_request_is_told_of_once_with_what_it_cost() -> None:
    """Once: sums are made of it."""

    async def main() -> None:
        async with ready() as (house, server):
            server.script = answer(ANSWERS["chat"])
            for _ in range(3):
                assert (await house.ask()).status == 200
            await until(lambda: len(costs(house)) == 3)
            one = costs(house)[-1]
            assert (one.model_id, one.was_ready, one.failure) == ("tiny", True, "")
            assert tokens(one) == (9, 8, 2)

    run(main)


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/api/chat"])
def test_tokens_of_a_stream_are_counted_in_every_dialect(path: bytes) -> None:
    """Before translation: what the server says, not what a dialect makes of it."""

    async def main() -> None:
        async with ready() as (house, server):
            server.script = stream
            body = b'{"model":"tiny","stream":true,"messages":[{"role":"user","content":"x"}]}'
            raw = await house.connect()
            await raw.send(house.request(b"POST " + path, body))
            assert (await raw.reply()).status == 200
            raw.close()
            await until(lambda: len(costs(house)) == 1)
            one = costs(house)[0]
            assert tokens(one) == (9, 8, 2)
            assert 0 < one.first_token_seconds <= one.seconds

    run(main)


def test_request_that_waits_for_a_load_is_a_miss() -> None:
    """And the wait is told apart from the answer."""

    async def main() -> None:
        async with cold() as (house, server, loaded):
            server.script = answer(ANSWERS["chat"])
            asking = asyncio.create_task(house.ask())
            await until(lambda: house.gateway.waiting == 1)
            await asyncio.sleep(0.05)
            loaded.set()
            await asking
            await until(lambda: len(costs(house)) == 1)
            one = costs(house)[0]
            assert not one.was_ready
            assert 0.05 <= one.waited_seconds <= one.seconds

    run(main)


def test_requests_that_fail_are_told_of_with_their_class() -> None:
    """Each once, whoever failed."""

    async def die(_: Asked, answering: Answering) -> None:
        answering.die()

    async def main() -> None:
        async with ready() as (house, server):
            server.script = answer(b'{"error":{"message":"no"}}', b"400 Bad Request")
            await house.ask()
            server.script = die
            await house.ask()
            house.door.gone("tiny")
            house.door.loader = refusing(DoesNotFit("no"))
            await house.ask()
            await until(lambda: len(costs(house)) == 3)
            assert [one.failure for one in costs(house)] == ["refused", "server", "load"]

    run(main)


def test_request_whose_client_leaves_is_told_of_without_tokens() -> None:
    """Whatever came so far is not the server's report."""

    async def hang(_: Asked, answering: Answering) -> None:
        await answering.stream_head()
        await answering.event(encoded({"timings": TIMINGS}))
        await answering.until_gone()

    async def main() -> None:
        async with ready() as (house, server):
            server.script = hang
            async with opened(house, house.chat(b'{"model":"tiny","stream":true}')) as raw:
                await raw.head()
            await until(lambda: len(costs(house)) == 1)
            assert costs(house)[0].failure == "left"
            assert tokens(costs(house)[0]) == (0, 0, 0)

    run(main)


def test_looks_and_loads_are_no_requests() -> None:
    """A dashboard that asks for properties would raise the hit rate."""

    async def main() -> None:
        async with ready() as (house, _):
            assert (await house.get(b"/props?model=tiny")).status == 200
            raw = await house.connect()
            await raw.send(house.request(b"POST /api/generate", b'{"model":"tiny"}'))
            assert (await raw.reply()).status == 200
            raw.close()
            await house.gateway.drain(0)
            assert not costs(house)

    run(main)
