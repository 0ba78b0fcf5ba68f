"""A gateway on a free port, and a client that sends exactly the bytes it is told."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import uvloop

from modeld.config.schema import Gateway as Settings
from modeld.gateway.guard import Limits
from modeld.gateway.server import ROWS, Gateway
from modeld.gateway.table import Row
from tests.support.fake_door import FakeDoor

JSON = b"Content-Type: application/json\r\n"


class Clock:
    """The machine's."""

    def now(self) -> float:
        """Return the wall clock."""
        return time.time()

    def monotonic(self) -> float:
        """Return time that never jumps."""
        return time.monotonic()


class Reply(NamedTuple):
    """An answer, read as its head says."""

    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """One TCP connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = text.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def reply(self, *, has_body: bool = True) -> Reply:
        """Read a whole answer."""
        status, headers = await self.head()
        body = b""
        if not has_body or status == 100:
            pass
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return Reply(status, headers, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the chunks of a body, to its end."""
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if size == 0:
                return
            yield data[:-2]

    async def rest(self) -> bytes:
        """Read until the gateway closes."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        """Be gone at once."""
        self.writer.transport.abort()


class House:
    """A running gateway with its door."""

    def __init__(self, gateway: Gateway, door: FakeDoor, port: int) -> None:
        self.gateway = gateway
        self.door = door
        self.port = port

    @property
    def host(self) -> bytes:
        """The Host header's line that is right."""
        return b"Host: 127.0.0.1:%d\r\n" % self.port

    async def connect(self) -> Raw:
        """Return a new connection."""
        return Raw(*await asyncio.open_connection("127.0.0.1", self.port))

    def request(self, line: bytes, body: bytes = b"", headers: bytes = b"") -> bytes:
        """Return a request that is as it should be."""
        framing = JSON + b"Content-Length: %d\r\n" % len(body) if body else b""
        return b"%b HTTP/1.1\r\n%b%b%b\r\n%b" % (line, self.host, framing, headers, body)

    def chat(self, body: bytes = b'{"model":"tiny"}', headers: bytes = b"") -> bytes:
        """Return a request for a chat completion."""
        return self.request(b"POST /v1/chat/completions", body, headers)

    async def get(self, path: bytes) -> Reply:
        """Ask for a path on a new connection."""
        raw = await self.connect()
        await raw.send(self.request(b"GET " + path))
        reply = await raw.reply()
        raw.close()
        return reply

    async def ask(self, body: bytes = b'{"model":"tiny"}') -> Reply:
        """Ask for a chat completion on a new connection."""
        raw = await self.connect()
        await raw.send(self.chat(body))
        reply = await raw.reply()
        raw.close()
        return reply


@asynccontextmanager
async def running(
    door: FakeDoor | None = None,
    *,
    limits: Limits | None = None,
    rows: tuple[Row, ...] = ROWS,
    keys: tuple[bytes, ...] = (),
    bind: str = "127.0.0.1",
    **settings: object,
) -> AsyncIterator[House]:
    """Run a gateway; at the end, every request must have ended, and nobody be left."""
    door = door or FakeDoor()
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    sock = socket.create_server((bind, 0), family=family, dualstack_ipv6=bind == "::")
    limits = limits or Limits(sweep_seconds=0.05)
    config = Settings(**settings)  # type: ignore[arg-type]
    gateway = Gateway(door, config, Clock(), limits=limits, rows=rows, keys=keys)
    await gateway.start([sock])
    try:
        yield House(gateway, door, sock.getsockname()[1])
    finally:
        await gateway.drain(0)
    assert gateway.connections == 0
    assert gateway.waiting == 0
    assert gateway._relay._in_flight == {}, "counted for its model, and never uncounted"
    assert door.in_flight() == {}


def run(main: Callable[[], Coroutine[object, object, None]], *, seconds: float = 20) -> None:
    """Run a test on the loop that modeld runs on, within bounds."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await main()

    uvloop.run(bounded())


async def until(is_so: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until it is so, within bounds."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be so"
        await asyncio.sleep(0.005)


@contextmanager
def short_directory() -> Iterator[str]:
    """Give a directory whose paths are short enough for UNIX sockets."""
    path = tempfile.mkdtemp(dir="/tmp", prefix="gw")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def loader_of(load: Callable[[], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return a loader that does not look at who asked."""

    async def loader(*_: object) -> None:
        await load()

    return loader


@contextlib.asynccontextmanager
async def opened(house: House, data: bytes) -> AsyncIterator[Raw]:
    """Send bytes on a new connection, and close it at the end."""
    raw = await house.connect()
    try:
        await raw.send(data)
        yield raw
    finally:
        raw.close()
