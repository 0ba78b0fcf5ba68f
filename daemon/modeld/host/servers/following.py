"""
The log of a server as it grows: of a file, by looking again; of a unit, by journalctl's own.

Both give the last lines first, then what comes, and nothing now and then, so that whoever reads
can look up.  A reader that is slow misses lines of a file, and holds up journalctl, which is let
go with the reader.  Where a log can't be read there is nothing, for as long as that is so.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

from modeld.host.servers.engine import LINE_LIMIT, clean_lines, log_tail

LOOK_SECONDS = 0.25
"""Between two looks at a file."""
NOTHING_SECONDS = 1.0
READ_BYTES = 256 * 1024
"""At once; of a file that grows faster, what lies before is left out."""

Lines = tuple[str, ...]


class Growing:
    """What is new in bytes that grow: whole lines, however they were cut."""

    def __init__(self) -> None:
        self._held = b""

    def take(self, data: bytes) -> Lines:
        """Return the lines that are whole now; one without end is cut where lines are."""
        whole, newline, rest = (self._held + data).rpartition(b"\n")
        self._held = rest[:LINE_LIMIT]
        return clean_lines(whole + newline, len(whole) + 1) if newline else ()


async def follow_file(path: str, backlog: int) -> AsyncGenerator[Lines, None]:
    """Give the last lines of a file, then what is appended to it."""
    position = _size(path)
    growing = Growing()
    yield log_tail(path, backlog)
    quiet_seconds = 0.0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        position, data = _read_on(path, position)
        lines = growing.take(data)
        quiet_seconds = 0.0 if lines else quiet_seconds + LOOK_SECONDS
        if lines or quiet_seconds >= NOTHING_SECONDS:
            quiet_seconds = 0.0
            yield lines


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _read_on(path: str, position: int) -> tuple[int, bytes]:
    """Return how far a file is read now, and what was new; one that became shorter begins anew."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < position:
                return size, b""
            file.seek(max(position, size - READ_BYTES))
            return size, file.read(READ_BYTES)
    except OSError:
        return position, b""


async def follow_unit(unit: str, backlog: int) -> AsyncGenerator[Lines, None]:
    """Give the last lines that processes of a unit wrote, then what they write."""
    # By field and not by -u: what the manager says of the unit is not what the server wrote.
    command = ("journalctl", "--user", "--quiet", "--no-pager", "--output=cat", "--all", "--follow")
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            f"--lines={backlog}",
            f"_SYSTEMD_USER_UNIT={unit}",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        process = None
    try:
        growing = Growing()
        while True:
            yield growing.take(await _read_from(process))
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _read_from(process: asyncio.subprocess.Process | None) -> bytes:
    """Return what a process writes within a second; where it can't any more, wait as long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NOTHING_SECONDS):
            if process is not None and process.stdout is not None:
                data = await process.stdout.read(READ_BYTES)
                if data:
                    return data
            await asyncio.Event().wait()
    return b""
