"""A runtime directory with servers in it, for the tests of both launchers and of the probe."""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import modeld.embedded
from modeld.core.entities import LaunchRecord
from modeld.core.events import Event
from modeld.host.servers.process import boot_id
from modeld.host.servers.records import record_paths

E = TypeVar("E", bound=Event)
EMBEDDED = (sys.executable, "-P", modeld.embedded.__file__)
FAKE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_engine.py")))
LONGEST_SECONDS = 10.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LLAMA_SERVER_ROUTER_PORT": "1"}
_numbers = itertools.count()


class Rig:
    """One runtime directory, and every event that the adapters below it emit."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def emit(self, event: Event) -> None:
        """Note an event."""
        self.events.append(event)
        self._changed.set()

    async def event(
        self, kind: type[E], which: Callable[[E], bool] = lambda _: True, seconds: float = 0
    ) -> E:
        """Return the first event of a kind, once it has come."""
        async with asyncio.timeout(seconds or LONGEST_SECONDS):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and which(event):
                        return event
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def record(
        self,
        *argv: str,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> LaunchRecord:
        """Return a record with a new id; `{socket}` in argv becomes its socket."""
        server_id = f"{os.getpid():08x}{next(_numbers):08x}"
        paths = record_paths(self.runtime, server_id)
        return LaunchRecord(
            server_id=server_id,
            model_id="tiny",
            model_name="tiny",
            model_path="/models/tiny.gguf",
            tier="ssd",
            argv=tuple(word.replace("{socket}", paths.socket_path) for word in argv),
            environment=dict(ENVIRONMENT if environment is None else environment),
            socket_path=paths.socket_path,
            stdin_path=paths.stdin_path,
            stdout_path=paths.stdout_path,
            log_path=paths.log_path,
            port=port,
            created_at=datetime.now(UTC),
            boot_id=boot_id(),
        )

    def fake(self, habit: str, *more: str) -> LaunchRecord:
        """Return the record of a fake engine with a habit."""
        return self.record(*FAKE, habit, "{socket}", *more)

    def real(self, model: Path, *more: str) -> LaunchRecord:
        """Return the record of the embedded engine."""
        return self.record(*EMBEDDED, "-m", str(model), "--host", "{socket}", "-c", "256", *more)


async def eventually(condition: Callable[[], object], seconds: float = LONGEST_SECONDS) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.005)


def catches_sigterm(pid: int) -> bool:
    """Return whether a process has its own idea of SIGTERM, and so ends with status 0."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1)
