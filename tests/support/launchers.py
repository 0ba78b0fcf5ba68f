"""Both ways to start servers, each with a runtime directory of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from modeld.core.entities import LaunchRecord
from modeld.host.servers.direct import DirectServers
from modeld.host.servers.records import Records
from modeld.supervisor.ports import Emit, Servers

ROOT = Path(__file__).parent.parent.parent


class Launcher(Protocol):
    """What the contract tests need of either."""

    runtime: str

    def make(self, emit: Emit) -> Servers:
        """Return a new adapter, as a daemon that starts would build it."""

    def visible(self, path: Path) -> Path:
        """Return a path of that file where servers can read it."""

    def pollute(self, variables: Mapping[str, str]) -> None:
        """Set variables where servers would inherit them from."""

    def start_in_a_daemon_that_is_killed(self, record: LaunchRecord) -> int:
        """Start a server in another process, kill that, and return the server's pid."""


# What a daemon does at its start, in a process that can be killed.
_DAEMON = """
import asyncio, sys
import msgspec
from modeld.core.entities import LaunchRecord
from modeld.core.events import ServerStarted
from tests.support import launchers

async def main():
    kind, runtime, record = sys.argv[1:]
    def emit(event):
        assert isinstance(event, ServerStarted), event
        print(event.process.pid, flush=True)
    servers = launchers.make(kind, emit, runtime)
    servers.start(msgspec.json.decode(record, type=LaunchRecord))
    await asyncio.sleep(60)

asyncio.run(main())
"""


def make(kind: str, emit: Emit, runtime: str) -> Servers:
    """Return an adapter of either kind."""
    return DirectServers(emit, runtime)


class DirectLauncher:
    """Processes of our own."""

    kind = "direct"

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime

    def make(self, emit: Emit) -> Servers:
        """Return a new adapter."""
        return make(self.kind, emit, self.runtime)

    def visible(self, path: Path) -> Path:
        """Return the same path: nothing is hidden from them."""
        return path

    def pollute(self, variables: Mapping[str, str]) -> None:
        """Do nothing: the test's own environment is what they would inherit."""

    def start_in_a_daemon_that_is_killed(self, record: LaunchRecord) -> int:
        """Start a server in another process, kill that, and return the server's pid."""
        command = [sys.executable, "-c", _DAEMON, self.kind, self.runtime]
        with subprocess.Popen(
            [*command, msgspec.json.encode(record).decode()],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT}"},
        ) as daemon:
            assert daemon.stdout is not None
            pid = int(daemon.stdout.readline())
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
        return pid


@contextlib.contextmanager
def launcher(kind: str) -> Iterator[Launcher]:
    """Return a launcher of a kind; its servers and its directory end with the context."""
    runtime = tempfile.mkdtemp(prefix="m", dir="/tmp")
    try:
        yield DirectLauncher(runtime)
    finally:
        end_processes_below(runtime)
        shutil.rmtree(runtime, ignore_errors=True)


def end_processes_below(runtime: str) -> None:
    """Kill what a failing test left: processes whose stdin lies in its directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if str(Path(f"/proc/{process.pid}/fd/0").readlink()).startswith(f"{runtime}/"):
                process.kill()


def write_record(runtime: str, record: LaunchRecord) -> None:
    """Write a record as a daemon does that crashes right after."""
    Records(runtime).prepare(record)
