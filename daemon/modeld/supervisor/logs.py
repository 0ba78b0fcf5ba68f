"""
What modeld did and what its servers wrote, once or as it comes.

A log is followed from one server of a model to the next: whoever watches a model does not care
that it was loaded anew.  Nothing is kept here, and nothing is kept back for a slow reader: what
it could not take is left out, and that is said.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator

from modeld.supervisor.world import World
from modeld.wire.daemon import Happened

LOOK_SECONDS = 1.0
"""Between two looks for a server where there is none."""
FIRST_LINES = 2000
"""Of a server that is followed from its start."""
MAX_UNREAD = 1000

Lines = tuple[str, ...]


class WorldLogs:
    """`door.Logs`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def recent(self, count: int) -> Lines:
        """Return the last things that modeld did, oldest first."""
        return tuple(_line(each) for each in self._world.ports.journal.recent(count))

    async def follow_own(self, backlog: int) -> AsyncGenerator[Lines, None]:
        """Give the last things that modeld did, then each as it happens."""
        unread: deque[str] = deque(maxlen=MAX_UNREAD)
        came = asyncio.Event()
        missed = 0

        def take(happened: Happened) -> None:
            nonlocal missed
            missed += len(unread) == MAX_UNREAD
            unread.append(_line(happened))
            came.set()

        first = self.recent(backlog) if backlog else ()
        stop = self._world.ports.journal.subscribe(take)
        try:
            yield first
            while True:
                await came.wait()
                came.clear()
                said = (f"... {missed} lines are left out",) if missed else ()
                lines, missed = (*said, *unread), 0
                unread.clear()
                yield lines
        finally:
            stop()

    async def follow(self, model_id: str, backlog: int) -> AsyncGenerator[Lines, None]:
        """Give the last lines of a model's server, then each as it comes, of later ones too."""
        world = self._world
        seen = ""
        if world.server_of(model_id) is None:
            seen = self._newest(model_id)  # which is gone, and its log with it
            yield world.last_words.get(model_id, ())[-backlog:] if backlog else ()
        while True:
            server_id = self._newest(model_id)
            if not server_id or server_id == seen:
                yield ()
                await asyncio.sleep(LOOK_SECONDS)
                continue
            lines = world.ports.servers.follow_log(server_id, FIRST_LINES if seen else backlog)
            seen = server_id
            async with contextlib.aclosing(lines):
                async for batch in lines:
                    yield batch
                    if not batch and self._newest(model_id) != server_id:
                        break

    def _newest(self, model_id: str) -> str:
        record = self._world.last_records.get(model_id)
        return record.server_id if record is not None else ""


def _line(happened: Happened) -> str:
    return f"{happened.at} {happened.message}"
