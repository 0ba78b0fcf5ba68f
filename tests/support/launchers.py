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

import msgspec
import psutil
import pytest

from modeld.core.entities import LaunchRecord
from modeld.host.servers.direct import DirectServers
from modeld.host.servers.records import Records
from modeld.host.servers.systemd import SystemdServers
from modeld.supervisor.ports import Emit, Servers
from tests.support import units, user_systemd

ROOT = Path(__file__).parent.parent.parent


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
    if kind == "direct":
        return DirectServers(emit, runtime)
    return SystemdServers(emit, runtime, os.environ["DBUS_SESSION_BUS_ADDRESS"])


class AnyLauncher:
    """What both have in common."""

    kind: str

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime

    def make(self, emit: Emit) -> Servers:
        """Return a new adapter, as a daemon that starts would build it."""
        return make(self.kind, emit, self.runtime)

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

    def pollute(self, variables: Mapping[str, str]) -> None:
        """Set variables where servers would inherit them from."""


class DirectLauncher(AnyLauncher):
    """Processes of our own; they would inherit from the test itself."""

    kind = "direct"


class SystemdLauncher(AnyLauncher):
    """Units of the private user manager that the tests run below."""

    kind = "systemd"

    def pollute(self, variables: Mapping[str, str]) -> None:
        """Set variables in the manager."""
        words = [f"{name}={value}" for name, value in variables.items()]
        systemctl("set-environment", *words)

    def clean(self) -> None:
        """End what is left, and forget it."""
        systemctl("kill", "--signal=KILL", "modeld-llama@*.service", check=False)
        systemctl("reset-failed", check=False)
        names = [line.partition("=")[0] for line in systemctl("show-environment").splitlines()]
        ours = [name for name in names if name.startswith(("LLAMA_", "LD_", "GGML_"))]
        if ours:
            systemctl("unset-environment", *ours)


def systemctl(*words: str, check: bool = True) -> str:
    """Run `systemctl --user` and return what it prints."""
    done = subprocess.run(
        ["systemctl", "--user", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert not check or done.returncode == 0, f"systemctl {words}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def launcher(kind: str) -> Iterator[AnyLauncher]:
    """Return a launcher of a kind; its servers and its directory end with the context."""
    if kind == "direct":
        runtime = tempfile.mkdtemp(prefix="m", dir="/tmp")
        made: AnyLauncher = DirectLauncher(runtime)
    else:
        if not user_systemd.is_inside():
            pytest.skip("needs `python -m tests.support.user_systemd -- pytest -m systemd`")
        units.install(units.user_directory())
        systemctl("daemon-reload")
        runtime = f"{os.environ['XDG_RUNTIME_DIR']}/modeld"
        shutil.rmtree(runtime, ignore_errors=True)
        Path(runtime).mkdir(mode=0o700)
        made = SystemdLauncher(runtime)
    try:
        yield made
    finally:
        if isinstance(made, SystemdLauncher):
            made.clean()
        end_processes_below(runtime)
        shutil.rmtree(runtime, ignore_errors=True)


def end_processes_below(runtime: str) -> None:
    """Kill what a failing test left: processes that were told of, or hold, a file in there."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            words = [*process.cmdline(), str(Path(f"/proc/{process.pid}/fd/0").readlink())]
            if process.pid != os.getpid() and any(f"{runtime}/kids/" in word for word in words):
                process.kill()


def write_record(runtime: str, record: LaunchRecord) -> None:
    """Write a record as a daemon does that crashes right after."""
    records = Records(runtime)
    records.make_room(record)
    records.write(record)
