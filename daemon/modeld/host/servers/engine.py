"""
How to talk to a llama-server beside HTTP: the line that ends it, and the log it leaves.

These are its own words and habits; how its process is started and watched is elsewhere.
"""

import contextlib
import os
import re
from pathlib import Path

EXIT_LINE = b"cmd_router_to_child:exit\n"
LAST_LINES = 50
"""How many lines of its log tell why it ended; `modelctl logs` has no more when it is gone."""
LOG_LIMIT_BYTES = 4 * 1024**2
LOG_KEPT_BYTES = 64 * 1024
LINE_LIMIT = 2000
"""Characters; what is longer is cut."""
_READ_LIMIT_BYTES = 1024**2
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def ask_to_end(stdin_path: str) -> None:
    """
    Write the line that ends a server that is ready, whatever else it does.

    Without it a SIGTERM would not do: llama-server then waits for its stdin, which never ends.
    A server that still loads reads the line when it is ready, and heeds SIGTERM at once.
    """
    # ENXIO: nobody has it open, so nobody is there to be asked.  EAGAIN: nobody has read it.
    with contextlib.suppress(OSError):
        fifo = os.open(stdin_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fifo, EXIT_LINE)
        finally:
            os.close(fifo)


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
