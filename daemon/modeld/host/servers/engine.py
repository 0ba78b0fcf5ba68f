"""
What is peculiar to llama-server as a process: how it is ended, and the log that it leaves.

How its process is started and watched is elsewhere, and so is all that is said over HTTP.
"""

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

from modeld.host.servers.process import Handle

EXIT_LINE = b"cmd_router_to_child:exit\n"
SIGTERM_DELAY_SECONDS = 0.25
LAST_LINES = 50
"""How many lines of its log tell why it ended; `modelctl logs` has no more when it is gone."""
LOG_LIMIT_BYTES = 4 * 1024**2
LOG_KEPT_BYTES = 64 * 1024
LINE_LIMIT = 2000
"""Characters; what is longer is cut."""
_READ_LIMIT_BYTES = 1024**2
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class Engine:
    """One server as its launcher knows it: its process, and what was asked before it had one."""

    def __init__(self, stdin_path: str) -> None:
        self._stdin_path = stdin_path
        self._handle: Handle | None = None
        self.stop_was_asked = False
        self._kill_was_asked = False

    def hold(self, handle: Handle) -> None:
        """Take its process, and do to it what was asked meanwhile."""
        self._handle = handle
        if self._kill_was_asked:
            handle.kill_group()
        elif self.stop_was_asked:
            _ask_to_end(handle, self._stdin_path)

    def let_go(self) -> None:
        """Have nothing to do with its process any more.  Idempotent."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def stop(self) -> None:
        """Ask it to end, once: it would take a second time for impatience."""
        if self._handle is not None and not self.stop_was_asked:
            _ask_to_end(self._handle, self._stdin_path)
        self.stop_was_asked = True

    def kill(self) -> None:
        """Kill it, and whatever it has started."""
        self._kill_was_asked = True
        if self._handle is not None:
            self._handle.kill_group()


def _ask_to_end(handle: Handle, stdin_path: str) -> None:
    """
    Ask a server to end, in the way that its present state understands.

    While it loads, SIGTERM ends it at once.  Later that alone would hang it for ever: it then
    waits for its stdin, which never ends.  So a line on its stdin ends it, and SIGTERM follows
    only if it did not: llama-server loses whatever is asked in the moment between "ready" and
    its main loop.  Source: tools/server/server.cpp.
    """
    # ENXIO: nobody has it open, so nobody is there to be asked.  EAGAIN: nobody has read it.
    with contextlib.suppress(OSError):
        fifo = os.open(stdin_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fifo, EXIT_LINE)
        finally:
            os.close(fifo)
    if handle.catches(signal.SIGTERM):
        loop = asyncio.get_running_loop()
        loop.call_later(SIGTERM_DELAY_SECONDS, handle.send, signal.SIGTERM)
    else:
        handle.send(signal.SIGTERM)


def log_tail(log_path: str, count: int) -> tuple[str, ...]:
    """Return the last lines of a log file, oldest first; none where it cannot be read."""
    try:
        with Path(log_path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_LIMIT_BYTES))
            content = file.read(_READ_LIMIT_BYTES)
    except OSError:
        return ()
    return clean_lines(content, count)


def clean_lines(content: bytes, count: int) -> tuple[str, ...]:
    """Return the last lines of a log, without colours, control characters and endless lines."""
    lines = content.decode(errors="replace").split("\n")
    shown = (_CONTROL.sub("", line)[:LINE_LIMIT].rstrip() for line in lines)
    return tuple([line for line in shown if line][-count:]) if count > 0 else ()


def shorten_log(log_path: str) -> None:
    """
    Cut a log that has grown too long to its end, in place.

    The server goes on appending to the same file; lines that it writes in this very moment may
    be lost.
    """
    try:
        with Path(log_path).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= LOG_LIMIT_BYTES:
                return
            file.seek(size - LOG_KEPT_BYTES)
            kept = file.read(LOG_KEPT_BYTES)
            file.seek(0)
            file.write(kept)
            file.truncate()
    except OSError:
        return
