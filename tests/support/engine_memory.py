"""What a real llama.cpp says it takes for a model, in its own words on stderr."""

import re
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MIB = 1024**2
END = "sched_reserve: reserve took"
SECONDS = 120.0
_SIZE = re.compile(r"(model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB")


class Breakdown(NamedTuple):
    """What an engine allocated.  [bytes] Rounded by the engine to hundredths of a MiB."""

    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute


def engine_memory(engine: Sequence[str], model: Path, *arguments: str) -> Breakdown:
    """
    Start an engine, and return what it allocates until it is about to serve.

    Raises:
        AssertionError: It does not load the model, with its last words.
    """
    address = model.with_suffix(".sock")
    address.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*engine, "-m", str(model), "--host", str(address), "-lv", "4", "-t", "1", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"LLAMA_SERVER_ROUTER_PORT": "1", "PATH": "/usr/bin:/bin"},
    )
    try:
        lines = _lines(process, time.monotonic() + SECONDS)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        address.unlink(missing_ok=True)
    text = "\n".join(lines)
    assert END in text, f"{model.name}: {text[-1500:]}"
    sizes = {"model": 0.0, "KV": 0.0, "RS": 0.0, "compute": 0.0, "output": 0.0}
    for name, size in _SIZE.findall(text):
        sizes[name] += float(size)
    return Breakdown(
        weights=int(sizes["model"] * MIB),
        cache=int((sizes["KV"] + sizes["RS"]) * MIB),
        compute=int((sizes["compute"] + sizes["output"]) * MIB),
    )


def _lines(process: "subprocess.Popen[bytes]", deadline: float) -> list[str]:
    """Return what the engine says until its buffers are reserved, or until it ends."""
    assert process.stderr is not None
    text = b""
    poll = select.poll()
    poll.register(process.stderr, select.POLLIN)
    while END.encode() not in text and time.monotonic() < deadline:
        if not poll.poll(1000):
            continue
        piece = process.stderr.read1(65536)  # type: ignore[attr-defined]
        if not piece:
            break
        text += piece
    return text.decode("utf-8", "replace").splitlines()
