"""
What a unit wrote, as the user's journal has it.

Asked through journalctl, in a thread and for a bounded time: a journal can be large, damaged, or
on a disk that sleeps.  Where it cannot be read there are no lines, and that is all.
"""

import asyncio
import subprocess

from modeld.host.servers.engine import clean_lines

ANSWER_SECONDS = 2.0
LAG_SECONDS = 0.05
"""How long the journal may take to note what a process wrote before it ended."""
LOOKS_LIMIT = 6


async def unit_lines(unit: str, count: int) -> tuple[str, ...]:
    """Return the last lines that processes of a unit wrote, oldest first."""
    return await asyncio.to_thread(_read, unit, count) if count > 0 else ()


async def last_words(unit: str, count: int) -> tuple[str, ...]:
    """Return the last lines of a unit that has just ended, once no more of them arrive."""
    lines: tuple[str, ...] = ()
    for _ in range(LOOKS_LIMIT):
        before, lines = lines, await unit_lines(unit, count)
        if lines and lines == before:
            break
        await asyncio.sleep(LAG_SECONDS)
    return lines


def _read(unit: str, count: int) -> tuple[str, ...]:
    command = ["journalctl", "--user", "--quiet", "--no-pager", "--output=cat", "--all"]
    # By field and not by -u: what the manager says of the unit is not what the server wrote.
    command += [f"--lines={count}", f"_SYSTEMD_USER_UNIT={unit}"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return clean_lines(done.stdout, count)
