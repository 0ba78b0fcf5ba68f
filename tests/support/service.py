"""
modeld as a user service below a real user manager: units installed, models on disk, commands.

Used inside `tests.support.user_systemd` only.  One at a time: the unit names are the user's.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import units
from tests.support.daemon import BIN, free_port
from tests.support.launchers import systemctl
from tests.support.tiny_gguf import write_model

SERVING_SECONDS = 15.0
SERVICE_UNITS = ("modeld.service", "modeld.socket", "modeld-http.socket")


class Service:
    """The service, and what a person does with it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models = home / "models"
        self.models.mkdir()
        self.port = free_port()
        self.runtime = Path(os.environ["XDG_RUNTIME_DIR"], "modeld")
        self.config = Path(os.environ["HOME"], ".config", "modeld", "modeld.toml")

    def install(self, *, sockets: bool = False, settings: str = "") -> None:
        """Put units and configuration in place."""
        directory = units.user_directory()
        units.install(directory)
        http_socket = directory / "modeld-http.socket"
        text = http_socket.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        http_socket.write_text(text)
        if not sockets:
            # without the unit for it, modeld binds its own address
            http_socket.unlink()
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'storage.ssd_path = "{self.models}"\n'
            f'gateway.listen = ["127.0.0.1:{self.port}"]\n'
            "reload.min_reload_seconds = 0\n"
            f"{settings}\n"
        )
        systemctl("daemon-reload")

    def add(self, *names: str) -> None:
        """Put models on the disk, each saying its own name."""
        for name in names:
            write_model(self.models / f"{name}.gguf", sentence=f"I am {name} .", name=name)

    def modelctl(self, *words: str, status: int = 0) -> str:
        """Run modelctl and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "modelctl", *words],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PATH": f"{BIN}:/usr/bin:/bin"},
        )  # fmt: skip
        told = f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
        assert done.returncode == status, told
        return done.stdout

    def json(self, *words: str) -> dict[str, Any]:
        """Run modelctl with --json and return what it printed."""
        answer: dict[str, Any] = json.loads(self.modelctl(*words, "--json"))
        return answer

    def servers(self) -> dict[str, dict[str, Any]]:
        """Return what `ps` tells, by name."""
        return {row["name"]: row for row in self.json("ps")["servers"]}

    def chat(self, model: str) -> str:
        """Ask a model through the gateway; return what it said."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
        text: str = answer["choices"][0]["message"]["content"]
        return text.strip()

    def pid(self) -> int:
        """Return the daemon's pid; 0 when it does not run."""
        return int(systemctl("show", "-P", "MainPID", "modeld.service").strip() or 0)

    def journal(self, *words: str) -> str:
        """Return the service's journal."""
        done = subprocess.run(
            ["journalctl", "--user", "-u", "modeld", "-o", "cat", "--no-pager", *words],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout

    def wait_until_serving(self, not_pid: int = 0) -> float:
        """Wait until a daemon other than `not_pid` has said READY; return the seconds."""
        began = time.monotonic()
        while time.monotonic() - began < SERVING_SECONDS:
            shown = systemctl("show", "-P", "MainPID", "-P", "SubState", "modeld.service").split()
            if len(shown) == 2 and shown[1] == "running" and int(shown[0]) not in {0, not_pid}:
                return time.monotonic() - began
            time.sleep(0.01)
        raise AssertionError(f"modeld does not serve: {self.journal()}")

    def units_left(self) -> list[str]:
        """Return the instances of llama-server that the manager knows."""
        lines = systemctl("list-units", "--all", "--plain", "--no-legend", "modeld-llama@*")
        return [line.split()[0] for line in lines.splitlines() if line.split()]


@contextlib.contextmanager
def a_service(*, sockets: bool = False, settings: str = "") -> Iterator[Service]:
    """Install modeld as this user's service, and take it away again."""
    home = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    service = Service(home)
    service.install(sockets=sockets, settings=settings)
    try:
        yield service
    finally:
        systemctl("stop", *SERVICE_UNITS, check=False)
        systemctl("stop", "app-modeld.slice", check=False)
        systemctl("reset-failed", check=False)
        shutil.rmtree(home, ignore_errors=True)
        for directory in (".local/state/modeld", ".cache/modeld"):
            shutil.rmtree(Path(os.environ["HOME"], directory), ignore_errors=True)
        shutil.rmtree(service.runtime, ignore_errors=True)


def is_listening(path: Path) -> bool:
    """Return whether somebody accepts connections on a UNIX socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False
