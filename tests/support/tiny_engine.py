"""The embedded engine with a model that says its sentence, on a UNIX socket."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, socket

from tests.support.gateway import short_directory
from tests.support.tiny_gguf import write_model


@contextmanager
def tiny_engine() -> Iterator[str]:
    """Run it, and give its socket's path once it is healthy."""
    with short_directory() as directory:
        model = Path(directory) / "tiny.gguf"
        write_model(model)
        path = f"{directory}/e.sock"
        command = [sys.executable, "-m", "modeld.embedded", "-m", str(model), "-c", "4096"]
        process = subprocess.Popen(
            [*command, "--host", path, "-t", "1"],
            cwd=Path(__file__).parents[2] / "daemon",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 20
            while not _is_healthy(path):
                assert process.poll() is None, "the engine ended"
                assert time.monotonic() < deadline, "the engine takes too long"
                time.sleep(0.02)
            yield path
        finally:
            process.terminate()
            process.wait(10)


def _is_healthy(path: str) -> bool:
    with socket(AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(path)
            client.sendall(b"GET /health HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n")
            return b" 200 " in client.recv(64)
        except OSError:
            return False
