"""
A real modeld in directories of its own, for tests and benchmarks that go through the front doors.

The servers are started directly, on the engine that the test names.  Everything ends with the
context, and whatever a failing test leaves behind is ended by pid.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from modeld.wire import codec
from tests.support.rpc_client import RpcClient

BIN = Path(sys.executable).parent
START_SECONDS = 20.0
STOP_SECONDS = 20.0
COMMAND_SECONDS = 60.0


def embedded() -> str:
    """Return the engine of the extra: no path, modeld finds it when PATH has no llama-server."""
    return ""


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """One modeld, and the commands to talk to it."""

    def __init__(self, home: Path, *, engine: str = "", settings: str = "") -> None:
        self.home = home
        self.models = home / "models"
        self.models.mkdir(exist_ok=True)
        self.port = free_port()
        self.engine = engine
        self.extra = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home / "modeld.log"
        self.config = home / "config" / "modeld" / "modeld.toml"
        self.environment = {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            # no llama-server of the machine gets in by accident
            "PATH": f"{BIN}:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(home / "run"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
        }
        self.runtime = home / "run" / "modeld"
        (home / "run").mkdir(mode=0o700, exist_ok=True)
        self.configure(settings)

    def configure(self, settings: str = "", *, throttle: int = 0) -> None:
        """Write the configuration file."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'storage.ssd_path = "{self.models}"\n'
            f"reload.min_reload_seconds = {throttle}\n"
            f'gateway.listen = ["127.0.0.1:{self.port}"]\n'
            'servers.launcher = "direct"\n'
            f'servers.binary = "{self.engine}"\n'
            f"{settings}\n"
        )

    # --- life --------------------------------------------------------------------------------

    def start(self, **environment: str) -> "Daemon":
        """Start it, and wait until it serves."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modeld"],
                env={**self.environment, **environment},
                stdout=output,
                stderr=output,
            )
        self.wait_until_serving()
        return self

    def wait_until_serving(self) -> None:
        """Wait until the RPC socket answers; bounded."""
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"modeld ended: {self.log.read_text()}")
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.runtime / "rpc.sock"))
                return
            time.sleep(0.005)
        raise AssertionError(f"modeld does not serve: {self.log.read_text()}")

    def refuses_to_start(
        self, *arguments: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run modeld to its end, where it has a reason not to serve."""
        return subprocess.run(
            [sys.executable, "-m", "modeld", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    def kill(self) -> None:
        """`kill -9`, and nothing else."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it, and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def clean(self) -> None:
        """End whatever a test left: the daemon, and servers by the pids in their records."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = process.info["cmdline"] or ()
            if any(str(self.home) in word for word in words) and process.pid != os.getpid():
                with contextlib.suppress(psutil.Error):
                    process.kill()

    # --- talking to it -----------------------------------------------------------------------

    def modelctl(
        self, *words: str, status: int | None = 0, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run modelctl; check its exit status unless that is None."""
        done = subprocess.run(
            [sys.executable, "-m", "modelctl", *words],
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if status is not None:
            told = f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            assert done.returncode == status, f"{told}\n{self.log.read_text()[-4000:]}"
        return done

    def json(self, *words: str, status: int = 0) -> dict[str, Any]:
        """Run modelctl with --json and return what it printed."""
        answer: dict[str, Any] = json.loads(self.modelctl(*words, "--json", status=status).stdout)
        return answer

    def rpc(self) -> RpcClient:
        """Return a client of the socket, without modelctl."""
        return RpcClient(str(self.runtime / "rpc.sock"), codec.VERSION)

    def chat(self, model: str, **fields: Any) -> str:  # noqa: ANN401
        """Ask a model through the gateway; return what it said."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
        text: str = answer["choices"][0]["message"]["content"]
        return text.strip()

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start modelctl, and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "modelctl", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def engines(self) -> list[int]:
        """Return the pid of every server that runs, whatever the daemon knows of it."""
        kids = str(self.runtime / "kids")
        return [
            process.pid
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(kids in word for word in process.info["cmdline"] or ())
        ]

    def leftovers(self) -> list[str]:
        """Return the files that are kept of servers."""
        return [
            path.name for name in ("kids", "launch") for path in (self.runtime / name).iterdir()
        ]

    def servers(self) -> list[dict[str, Any]]:
        """Return what `ps` tells."""
        rows: list[dict[str, Any]] = self.json("ps")["servers"]
        return rows


@contextlib.contextmanager
def a_daemon(*, engine: str = "", settings: str = "", start: bool = True) -> Iterator[Daemon]:
    """Run a modeld for the length of a test."""
    # short: a UNIX socket's path ends at 107 bytes
    home = Path(tempfile.mkdtemp(prefix="md-", dir="/tmp"))
    daemon = Daemon(home, engine=engine, settings=settings)
    try:
        yield daemon.start() if start else daemon
    finally:
        daemon.clean()
        shutil.rmtree(home, ignore_errors=True)
