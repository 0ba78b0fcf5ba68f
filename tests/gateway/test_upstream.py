"""One connection to a server, and its answers."""

import asyncio

from modeld.gateway.pool import Pool
from modeld.gateway.upstream import AnswerHead
from tests.support.gateway import run, short_directory, until
from tests.support.upstream import OK, OK_CLOSE, Answering, Asked, Receiver, ask, serving


def test_interim_answers_are_skipped() -> None:
    """103 Early Hints are no answer."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)

        async with serving() as (pool, server):
            server.script = script
            receiver = await ask(pool, server.path)

            assert receiver.head is not None
            assert (receiver.head.status, receiver.body) == (200, b"{}")

    run(main)


def test_answers_are_the_same_when_their_heads_have_come_before() -> None:
    """Lengths change from answer to answer, and a connection that closes must not come back."""
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)
        for size in (2, 5, 0, 2)
    ]
    closing = [OK_CLOSE, OK_CLOSE]

    async def main() -> None:
        left = [*answers, *closing]

        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(left.pop(0))

        async with serving() as (pool, server):
            server.script = script
            for size in (2, 5, 0, 2):
                found = await ask(pool, server.path)
                assert found.head == AnswerHead(200, b"a", size)
                assert found.body == b"x" * size
            for _ in closing:
                assert (await ask(pool, server.path)).body == b"{}"
                assert pool.take(server.path) is None

    run(main)


def test_answer_that_nobody_asked_for_is_none_though_its_head_has_come_before() -> None:
    """It would be taken for the answer to the next request."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(OK)
            await asyncio.sleep(0.02)
            await answering.send(OK)

        async with serving() as (pool, server):
            server.script = script
            assert (await ask(pool, server.path)).body == b"{}"
            await until(lambda: pool._lanes == {})

    run(main)


def test_answer_that_has_no_body_gets_none_whatever_its_length_says() -> None:
    """What follows such a head would be taken for the next answer."""
    answers = [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    ]

    async def main() -> None:
        left = [*answers]

        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(left.pop(0))

        async with serving() as (pool, server):
            server.script = script
            for _ in answers:
                assert (await ask(pool, server.path)).body == b""
            assert pool.take(server.path) is None

    run(main)


def test_connection_is_not_used_again_when_a_request_was_answered_before_it_was_sent() -> None:
    """The server would read the next one out of the middle of the first, a stranger's prompt."""

    async def main() -> None:
        done = asyncio.Event()

        async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await done.wait()
            writer.close()

        with short_directory() as directory:
            path, pool, receiver = f"{directory}/s.sock", Pool(), Receiver()
            server = await asyncio.start_unix_server(answer_early, path)
            (await pool.connect(path)).send("/x", b"x" * 3_000_000, receiver)
            await until(lambda: receiver.is_done)

            assert receiver.body == b"{}"
            assert pool.take(path) is None
            done.set()
            server.close()
            await until(lambda: pool._lanes == {})

    run(main)
