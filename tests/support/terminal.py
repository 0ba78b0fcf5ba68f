"""A program on a pseudo-terminal of its own, as a person would run it."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self


class Terminal:
    """Runs one program; everything that it prints, on either stream, is in `text`."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], *, columns: int = 100
    ) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
        self._process = subprocess.Popen(
            argv, env=dict(environment), stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        os.close(self._master)

    def read_until(self, text: str, *, timeout_s: float = 20) -> None:
        """Wait until `text` has been printed."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert time.monotonic() < deadline, f"never printed {text!r}: {self.text!r}"
            self._read(0.1)

    def type(self, text: str) -> None:
        """Do what the keyboard does."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self, *, timeout_s: float = 20) -> int:
        """Return the exit status, with everything that was printed in `text`."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"does not end: {self.text!r}"
            self._read(0.05)
        while self._read(0):
            pass
        return self._process.returncode

    def _read(self, timeout_s: float) -> bool:
        """Read what there is; False if there was nothing."""
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        # Linux answers EIO once nobody has the other end open.
        with suppress(OSError):
            self.text += os.read(self._master, 65536).decode(errors="replace")
            return True
        return False
