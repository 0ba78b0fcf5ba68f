"""
One process, identified and held so that no other can ever be taken for it.

A pid alone means nothing: it may have been given to a stranger since.  Pid, start time and boot
id together mean one process for good, and a pidfd that was checked against them keeps meaning
it.  Nothing here reaps, and nothing signals by a pid that was not looked at a moment before.
"""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

from modeld.core.entities import Process


class _Stat(NamedTuple):
    """What proc_pid_stat(5) says, as far as it is needed."""

    is_dead: bool
    start_ticks: int


@cache
def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where it is gone or dead."""
    stat = _stat(pid)
    return None if stat is None or stat.is_dead else stat.start_ticks


def _stat(pid: int) -> _Stat | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # Field 2, the name, may hold anything, so count from its closing bracket: state is field 3
    # and the start time is field 22.
    fields = line[line.rindex(b")") + 2 :].split()
    return _Stat(is_dead=fields[0] in {b"Z", b"X"}, start_ticks=int(fields[19]))


class Handle:
    """A living process that is ours, held by pidfd."""

    def __init__(self, process: Process, pidfd: int) -> None:
        self.process = process
        self._pidfd = pidfd
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def of_child(cls, pid: int) -> Self:
        """
        Return a handle of our own child, which nobody but us can reap; it may be dead already.

        Raises:
            OSError: It is no child of ours, or no descriptor is left.
        """
        pidfd = os.pidfd_open(pid)
        stat = _stat(pid)
        if stat is None:
            os.close(pidfd)
            raise ProcessLookupError(f"process {pid} is gone")
        return cls(_process(pid, stat.start_ticks), pidfd)

    @classmethod
    def find(cls, pid: int, expected: Process | None = None) -> Self | None:
        """
        Return a handle of the process with this pid; None where it is gone.

        Also None where `expected` was another process, or one of another boot.  Without
        `expected` the caller must know by other means that the pid is not a stranger's.
        """
        if expected is not None and expected.boot_id != boot_id():
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, OverflowError):
            return None
        ticks = start_ticks(pid)
        # Read after the pidfd was opened, and alive even after that: the ticks are its own.
        if ticks is None or _has_ended(pidfd) or (expected and expected.start_ticks != ticks):
            os.close(pidfd)
            return None
        return cls(_process(pid, ticks), pidfd)

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call `on_end`, once, in the running loop, when the process has ended."""
        self._loop = asyncio.get_running_loop()

        def ended() -> None:
            self._unwatch()
            on_end()

        self._loop.add_reader(self._pidfd, ended)

    def send(self, number: signal.Signals) -> None:
        """Signal the process; nothing happens where it has ended, or the handle is closed."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def catches(self, number: signal.Signals) -> bool:
        """Return whether the process has a handler of its own for a signal."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return False
        mask = status.partition("SigCgt:")[2].split(maxsplit=1)[0]
        return bool(int(mask, 16) >> number - 1 & 1)

    def kill_group(self) -> None:
        """Kill the process and whatever else is in the group that it leads."""
        # As long as it lives, or waits to be reaped, the number can be no other group's.
        stat = _stat(self.process.pid)
        if stat is not None and stat.start_ticks == self.process.start_ticks:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.send(signal.SIGKILL)

    def close(self) -> None:
        """Let go of the process and leave it as it is.  Idempotent."""
        self._unwatch()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _unwatch(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._pidfd)
            self._loop = None


def _process(pid: int, ticks: int) -> Process:
    return Process(pid=pid, start_ticks=ticks, boot_id=boot_id())


def _has_ended(pidfd: int) -> bool:
    """Return whether the process has ended, reaped or not: its pidfd is then readable."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
