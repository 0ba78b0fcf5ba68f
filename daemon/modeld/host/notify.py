"""
What the service manager is told, and what it hands over at the start.

Messages go through sdnotify; without `NOTIFY_SOCKET` every call does nothing.  A message that can't
be delivered is lost, since nothing of modeld may wait for its service manager.
"""

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterable, Mapping

import sdnotify

FIRST_DESCRIPTOR = 3
"""Where systemd puts the sockets that it listens on for a service."""
MAX_STATUS_LETTERS = 256
MAX_WAITING = 4096
"""At one socket; more than any backlog holds."""
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LISTEN = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")


class ServiceManager:
    """The `Notify` port."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._notifier: sdnotify.SystemdNotifier | None = None
        if environment.get("NOTIFY_SOCKET"):  # without it sdnotify would leak a socket
            self._notifier = sdnotify.SystemdNotifier()
            if self._notifier.socket is not None:
                self._notifier.socket.setblocking(False)
        self.watchdog_seconds = _watchdog_seconds(environment)
        """[s] How long the service manager waits for a sign of life; 0 if it does not."""

    def ready(self) -> None:
        """Say that modeld serves."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={' '.join(text.split())[:MAX_STATUS_LETTERS]}")

    def reloading(self) -> None:
        """Say that the configuration is being read; `ready` ends it."""
        # One datagram: systemd 253 and later takes a reload without its time for a mistake.
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={moment}")

    def stopping(self) -> None:
        """Say that modeld ends."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Say that the loop makes progress."""
        if self.watchdog_seconds:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def _send(self, message: str) -> None:
        if self._notifier is not None:
            # sdnotify writes latin-1 and drops what has other letters; systemd reads UTF-8.
            self._notifier.notify(message.encode("utf-8", "replace").decode("latin-1"))


def listen_fds(environment: Mapping[str, str], pid: int) -> dict[str, list[int]]:
    """
    Return the sockets that the service manager listens on for this process, by name.

    Nothing where they are another's, or none.  Programs that modeld starts don't inherit them.

    Args:
        environment: `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`, as in sd_listen_fds(3).
        pid: Of this process.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for position in range(int(count)):
        descriptor = FIRST_DESCRIPTOR + position
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            break
        name = names[position] if position < len(names) else ""
        found.setdefault(name or "unknown", []).append(descriptor)
    return found


def turn_away(descriptors: Iterable[int]) -> None:
    """
    Hang up on everybody who waits at listening sockets, which themselves stay as they are.

    For a process that can't serve: as long as somebody waits, the service manager would start it
    again, until it gives up and takes the sockets away.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    while ready := poll.poll(0):
        for descriptor, _ in ready:
            poll.unregister(descriptor)
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listener:
                listener.setblocking(False)
                for _ in range(MAX_WAITING):
                    listener.accept()[0].close()


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Return how often this process must show that it lives, as in sd_watchdog_enabled(3).  [s]"""
    microseconds = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID") or str(os.getpid())
    if not microseconds.isdecimal() or pid != str(os.getpid()):
        return 0.0
    return int(microseconds) / 1_000_000
