"""
Connections to all servers: kept alive while idle, bounded for each, and taken in order.

Whoever finds none idle opens one, and beyond the bound waits for its turn.  How a connection
speaks, `upstream` knows; nothing here knows of models.
"""

import asyncio
import contextlib
import socket
from collections import deque

from modeld.gateway.known_heads import KnownHeads
from modeld.gateway.upstream import AnswerHead, Upstream

MAX_OPEN = 512
"""
Connections to one server; the requests beyond wait here, in order.

llama-server makes a thread for each that it has none for, and 0.1 MB for that (b11669: 306
threads and 53 MB with 300 connections), so that streams do not wait behind streams.
"""
MAX_IDLE = 64
IDLE_SECONDS = 4.0
"""llama-server closes after 5 idle seconds: be first, so that no request meets that moment."""
CONNECT_ATTEMPTS = 100
CONNECT_RETRY_SECONDS = 0.02
"""Between attempts while the server's backlog is full, which a UNIX socket says at once."""


class _Lane:
    """The connections to one server."""

    __slots__ = ("idle", "open", "path", "waiting")

    def __init__(self, path: str) -> None:
        self.path = path
        self.idle: list[Upstream] = []
        self.open = 0
        self.waiting: deque[asyncio.Future[Upstream | None]] = deque()


class Pool:
    """All connections to all servers, by socket path."""

    def __init__(self) -> None:
        self.known: KnownHeads[tuple[AnswerHead, bool]] = KnownHeads()
        self._lanes: dict[str, _Lane] = {}
        self._now = 0.0

    def take(self, path: str) -> Upstream | None:
        """Return an idle connection, if there is one and nobody waits for it."""
        lane = self._lanes.get(path)
        while lane is not None and lane.idle and not lane.waiting:
            upstream = lane.idle.pop()
            if upstream.is_usable:
                return upstream
        return None

    async def connect(self, path: str) -> Upstream:
        """
        Return a connection that was not idle: a new one, or one just given back.

        Raises:
            OSError: The server can't be reached.
        """
        lane = self._lanes.get(path)
        if lane is None:
            lane = self._lanes[path] = _Lane(path)
        if lane.open < MAX_OPEN:
            lane.open += 1
        else:
            upstream = await self._wait_in(lane)
            if upstream is not None:
                return upstream
        try:
            upstream = await self._open(path)
        except BaseException:
            self._free(lane)
            raise
        upstream.is_counted = True
        return upstream

    async def _wait_in(self, lane: _Lane) -> Upstream | None:
        """Return a connection; None for the right to open one."""
        turn: asyncio.Future[Upstream | None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        try:
            upstream = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(lane, turn.result())
            else:
                with contextlib.suppress(ValueError):  # passed over already by `_next`
                    lane.waiting.remove(turn)
            raise
        if upstream is not None and not upstream.is_usable:
            raise ConnectionResetError("the server closed the connection")
        return upstream

    async def _open(self, path: str) -> Upstream:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await _connect(sock, path)
            made = await loop.create_unix_connection(lambda: Upstream(self, path), sock=sock)
        except BaseException:
            sock.close()
            raise
        return made[1]

    def take_back(self, upstream: Upstream) -> None:
        """Keep a connection whose answer is complete, or give it to who waits."""
        lane = self._lanes[upstream.path]
        turn = _next(lane) if lane.waiting else None
        if turn is not None:
            turn.set_result(upstream)
        elif len(lane.idle) < MAX_IDLE:
            upstream.idle_since = self._now
            lane.idle.append(upstream)
        else:
            upstream.abort()

    def forget(self, upstream: Upstream) -> None:
        """Free the place of a connection that is lost."""
        if not upstream.is_counted:
            return
        upstream.is_counted = False
        lane = self._lanes[upstream.path]
        with contextlib.suppress(ValueError):
            lane.idle.remove(upstream)
        self._free(lane)

    def _pass_on(self, lane: _Lane, upstream: Upstream | None) -> None:
        if upstream is None:
            self._free(lane)
        elif upstream.is_usable:
            self.take_back(upstream)

    def _free(self, lane: _Lane) -> None:
        turn = _next(lane)
        if turn is not None:
            turn.set_result(None)
            return
        lane.open -= 1
        if lane.open == 0:
            del self._lanes[lane.path]

    def sweep(self, now: float) -> None:
        """Close what was idle for too long.  `now`: [monotonic s]."""
        self._now = now
        for lane in list(self._lanes.values()):
            for upstream in [u for u in lane.idle if u.idle_since + IDLE_SECONDS <= now]:
                lane.idle.remove(upstream)
                upstream.abort()

    def close(self) -> None:
        """Close every idle connection."""
        for lane in list(self._lanes.values()):
            for upstream in lane.idle:
                upstream.abort()
            lane.idle.clear()


def _next(lane: _Lane) -> "asyncio.Future[Upstream | None] | None":
    while lane.waiting:
        turn = lane.waiting.popleft()
        if not turn.done():
            return turn
    return None


async def _connect(sock: socket.socket, path: str) -> None:
    for _ in range(CONNECT_ATTEMPTS):
        try:
            sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(CONNECT_RETRY_SECONDS)
        else:
            return
    raise TimeoutError(f"{path} takes no more connections")
