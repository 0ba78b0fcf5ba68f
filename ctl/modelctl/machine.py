"""
What a machine says to whoever looks: programs that answer, disks, memory, addresses, files.

Every look is short, changes nothing, and has nothing to tell where it fails.  Judges nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

PATIENCE_S = 3.0
"""For any program or address."""
MAX_STATE_BYTES = 64 << 20


def output_of(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what a program prints; nothing where it is not there, fails or takes too long."""
    program = shutil.which(words[0], path=environment.get("PATH"))
    if program is None:
        return ""
    try:
        done = subprocess.run(
            (program, *words[1:]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environment),
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def pairs(text: str) -> dict[str, str]:
    """Return the `KEY=VALUE` lines of a text."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def device(path: str) -> int | None:
    """Return which disk a path is on; None where there is no such path."""
    try:
        return os.stat(path).st_dev if path else None  # noqa: PTH116
    except OSError:
        return None


def has_embedded() -> bool:
    """Return whether the embedded engine is installed."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def check_state(path: str) -> int:
    """
    Return the size of the state file.

    Raises:
        OSError: It is not there, or can't be read.
        ValueError: It is no JSON object, or far too large.
    """
    from msgspec import Raw, json

    with open(path, "rb") as file:  # noqa: PTH123
        data = file.read(MAX_STATE_BYTES + 1)
    if len(data) > MAX_STATE_BYTES:
        raise ValueError("it is far too large")
    json.decode(data, type=dict[str, Raw])
    return len(data)


def memory_bytes() -> int:
    """Return the memory of the machine; 0 where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def health(address: str) -> str:
    """Return what is wrong with a gateway; nothing where it is well."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"does not answer: {error}"
    finally:
        connection.close()
    return "" if status == 200 else f"answers /health with status {status}"
