"""A llama-server whose every byte a test writes itself, on a UNIX socket; and who asks it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, Self

from modeld.gateway.guard import Limits
from modeld.gateway.pool import Pool
from modeld.gateway.upstream import AnswerHead
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, running, short_directory, until


class Asked(NamedTuple):
    """One request that reached the server."""

    head: bytes
    body: bytes
    connection: int
    """Counted from 1: whether a connection was used again."""


class Answering:
    """What a script uses to answer."""

    def __init__(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self._writer = writer
        self._reader = reader

    async def send(self, data: bytes) -> None:
        """Send these bytes, and wait until the socket took them."""
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, body: bytes = b'{"ok":true}', status: bytes = b"200 OK") -> None:
        """Send a whole JSON answer."""
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await self.send(head % (status, len(body)) + body)

    async def stream_head(self) -> None:
        """Begin a stream."""
        await self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )

    async def event(self, data: bytes) -> None:
        """Send one event of a stream."""
        text = b"data: %b\n\n" % data
        await self.send(b"%x\r\n%b\r\n" % (len(text), text))

    async def end(self) -> None:
        """End a stream."""
        await self.send(b"0\r\n\r\n")

    def die(self) -> None:
        """Be gone at once."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close once everything is sent."""
        self._writer.close()

    async def until_gone(self) -> None:
        """Wait until the other side closes."""
        while await self._reader.read(65536):
            pass


Script = Callable[[Asked, Answering], Awaitable[None]]


async def hello(asked: Asked, answering: Answering) -> None:
    """Answer as a server does that has nothing to say."""
    del asked
    await answering.json()


class ScriptedServer:
    """Answers each request by running the script that is set."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.script: Script = hello
        self.asked: list[Asked] = []
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Be gone, with all connections."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.lower().partition(b"content-length: ")
                body = await reader.readexactly(int(length.split(b"\r\n")[0] or 0))
                asked = Asked(head, body, number)
                self.asked.append(asked)
                await self.script(asked, Answering(writer, reader))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
OK_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


class Receiver:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self.body = b""
        self.is_done = False
        self.may_resend: bool | None = None

    def answer_came(self, head: AnswerHead | None, body: bytes, is_last: bool) -> None:
        """Keep it."""
        self.head = head or self.head
        self.body += body
        self.is_done = is_last

    def answer_failed(self, may_resend: bool) -> None:
        """Keep it."""
        self.is_done = True
        self.may_resend = may_resend


async def ask(pool: Pool, path: str) -> Receiver:
    """Send one request, and wait for its end."""
    receiver = Receiver()
    (pool.take(path) or await pool.connect(path)).send("/x", b"{}", receiver)
    await until(lambda: receiver.is_done)
    return receiver


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Pool, ScriptedServer]]:
    """Run a server; at the end, the pool must have forgotten it."""
    with short_directory() as directory:
        pool = Pool()
        async with ScriptedServer(f"{directory}/s.sock") as server:
            yield pool, server
            pool.close()
        await until(lambda: pool._lanes == {})


@contextlib.asynccontextmanager
async def ready(
    limits: Limits | None = None,
    *,
    script: Script | None = None,
    context_tokens: int = 0,
    **settings: object,
) -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway with one model, `tiny`, whose server is ready; it answers by the script."""
    with short_directory() as directory:
        path = f"{directory}/s.sock"
        door = FakeDoor()
        door.add("tiny", "nick")
        door.serve("tiny", path, context_tokens=context_tokens)
        async with (
            ScriptedServer(path) as server,
            running(door, limits=limits, **settings) as house,
        ):
            server.script = script or server.script
            yield house, server
