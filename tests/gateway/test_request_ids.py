"""`gateway.request_ids`, and the one line that a request may leave in the log."""

import re
from collections.abc import Iterable

import pytest

from modeld.core.traffic import RequestServed
from modeld.errors import DoesNotFit
from modeld.gateway.request_ids import RequestIds
from tests.gateway.test_accounts import ANSWERS, answer
from tests.gateway.test_relay import QUICK, STREAM, cold, hang, ready, refusing, stream_two
from tests.support.gateway import House, opened, run, until

BODY = b'{"model":"tiny"}'
GIVEN = re.compile(r"[0-9a-f]{8}-[0-9]+")


def served(house: House) -> list[RequestServed]:
    """Return what is to be logged."""
    return [event for event in house.door.events if isinstance(event, RequestServed)]


@pytest.mark.parametrize("given", [b"a", b"Trace-1.b_2", b"x" * 64])
def test_plain_id_of_a_client_is_taken(given: bytes) -> None:
    """Its log and modeld's are laid side by side."""
    assert RequestIds(b"p").of({b"x-request-id": given}) == given


@pytest.mark.parametrize("given", [b"", b"x" * 65, b"a b", b"a\n", b"a\r\nSet-Cookie: b", b"\xe4"])
def test_other_ids_are_replaced(given: bytes) -> None:
    """What a client makes up must not end a header, or make a mess of a log."""
    assert RequestIds(b"p").of({b"x-request-id": given}) == b"p-1"


def test_ids_of_two_starts_differ() -> None:
    """A journal has more than one start of modeld."""
    ids = RequestIds()
    assert ids.of({}) != ids.of({}) != RequestIds().of({})


def test_every_answer_of_a_request_for_a_model_has_its_id() -> None:
    """Answered, streamed, refused or unknown."""

    async def main() -> None:
        async with ready() as (house, server):
            server.script = answer(ANSWERS["chat"])
            raw = await house.connect()
            await raw.send(house.chat(BODY, b"X-Request-ID: mine\r\n"))
            assert (await raw.reply()).headers["x-request-id"] == "mine"
            server.script = stream_two
            await raw.send(house.chat(STREAM))
            first = (await raw.reply()).headers["x-request-id"]
            await raw.send(house.chat(b'{"model":"nobody"}'))
            second = (await raw.reply()).headers["x-request-id"]
            assert GIVEN.fullmatch(first)
            assert GIVEN.fullmatch(second)
            assert first != second
            raw.close()

    run(main)


def test_stream_that_waits_has_its_id_once() -> None:
    """Its head goes out long before there is a server."""

    async def main() -> None:
        async with cold(heartbeat_seconds=0.1) as (house, server, loaded):
            server.script = stream_two
            async with opened(house, house.chat(STREAM, b"X-Request-Id: early\r\n")) as raw:
                head = await raw.reader.readuntil(b"\r\n\r\n")
                assert head.count(b"X-Request-Id: early\r\n") == 1
                loaded.set()
                assert b"[DONE]" in b"".join([piece async for piece in raw.chunks()])

    run(main)


def told(events: Iterable[RequestServed]) -> list[tuple[str, str, int, str]]:
    """Return what distinguishes them."""
    return [(e.request_id, e.path, e.status, e.figures.failure) for e in events]


def test_request_is_logged_once_with_what_it_cost() -> None:
    """Whoever sums up the journal counts it once."""

    async def main() -> None:
        async with ready(log_requests=True) as (house, server):
            server.script = answer(ANSWERS["chat"])
            async with opened(house, house.chat(BODY, b"X-Request-Id: one\r\n")) as raw:
                assert (await raw.reply()).status == 200
            await until(lambda: bool(served(house)))
            assert told(served(house)) == [("one", "/v1/chat/completions", 200, "")]
            figures = served(house)[0].figures
            assert (figures.model_id, figures.prompt_tokens, figures.generated_tokens) == (
                "tiny",
                9,
                2,
            )

    run(main)


def test_refused_request_is_logged_with_the_status_that_was_told() -> None:
    """The answer is not written yet when its end is told."""

    async def main() -> None:
        async with cold(log_requests=True) as (house, _, _loaded):
            house.door.loader = refusing(DoesNotFit("no room"))
            async with opened(house, house.chat(BODY, b"X-Request-Id: no\r\n")) as raw:
                status = (await raw.reply()).status
            assert status >= 400
            assert told(served(house)) == [("no", "/v1/chat/completions", status, "load")]

    run(main)


def test_request_whose_client_left_is_logged_with_no_status() -> None:
    """Nothing was told to anybody."""

    async def main() -> None:
        async with ready(QUICK, log_requests=True) as (house, server):
            server.script = hang
            async with opened(house, house.chat(BODY, b"X-Request-Id: gone\r\n")):
                await until(lambda: bool(server.asked))
            await until(lambda: bool(served(house)))
            assert told(served(house)) == [("gone", "/v1/chat/completions", 0, "left")]

    run(main)


def test_nothing_is_logged_unless_it_is_wanted() -> None:
    """Who asks what, and when, is nobody's business by default."""

    async def main() -> None:
        async with ready() as (house, server):
            server.script = answer(ANSWERS["chat"])
            assert (await house.ask()).status == 200
            assert served(house) == []

    run(main)
