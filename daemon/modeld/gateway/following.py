"""
Answers that go on until the client leaves: what happens to models, what a server logs.

The source is asked for the next piece only when the client has taken the last: a slow reader
costs no memory, and is told less often.  A client that leaves ends its source.  Their number is
bounded, for each costs a connection and may cost a process.  Nothing here knows what is told.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Final

from modeld.gateway.http import Problem
from modeld.gateway.patience import Client
from modeld.gateway.table import Call, Followed

MAX_FOLLOWING: Final = 32
_HEADERS: Final = (
    b"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n"
)
_log = logging.getLogger("modeld.gateway")


class Following:
    """One such answer."""

    def __init__(self, client: Client, everybody: "set[Following]") -> None:
        """Answer `client`; `everybody` has all answers of this kind."""
        self._client = client
        self._everybody = everybody
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def start(self, action: Followed, call: Call) -> None:
        """
        Begin.

        Raises:
            Problem: As many follow as may, or what is to be followed is not there.
            ModeldError: There is no such model.
        """
        if len(self._everybody) >= MAX_FOLLOWING:
            raise Problem(
                503,
                f"{MAX_FOLLOWING} clients follow already",
                kind="server_error",
                headers=(("Retry-After", "5"),),
            )
        pieces = action.begin(call)
        writer = self._client.writer
        self._client.write(writer.start(200, action.content_type, None, _HEADERS))
        if call.head.method == "HEAD":
            self._client.finish()
            return
        if self._client.is_paused:
            self.pause()
        self._everybody.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run(pieces))

    async def _run(self, pieces: AsyncGenerator[bytes, None]) -> None:
        client = self._client
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    client.write(client.writer.body(piece))
                    await self._may_write.wait()
        except Exception:  # noqa: BLE001 - a bug; the client must not wait for ever
            _log.exception("nothing more can be told to a client that follows")
        self._everybody.discard(self)
        client.cut()

    def pause(self) -> None:
        """Ask for no more until `resume`."""
        self._may_write.clear()

    def resume(self) -> None:
        """Go on."""
        self._may_write.set()

    def end(self) -> None:
        """Say that there is no more: modeld stops."""
        self.abandon()
        self._client.write(self._client.writer.end())
        self._client.finish()

    def abandon(self) -> None:
        """Know that the client is gone."""
        self._everybody.discard(self)
        if self._task is not None:
            self._task.cancel()
