"""
The engines that the suite runs on: the embedded one, and a real llama-server where there is one.

`MODELD_TEST_LLAMA_SERVER=PATH` names it; CI installs Debian's.
"""

import importlib.util
import os
import sys

from msgspec import Struct


class Engine(Struct, frozen=True):
    """One engine."""

    name: str
    binary: str
    """For `servers.binary`; empty for the embedded one."""
    argv: tuple[str, ...]


def embedded() -> Engine | None:
    """Return the embedded engine, where its extra is installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    return Engine("embedded", "", (sys.executable, "-m", "modeld.embedded"))


def llama_server() -> Engine | None:
    """Return the llama-server that the environment names."""
    path = os.environ.get("MODELD_TEST_LLAMA_SERVER", "")
    return Engine("llama-server", path, (path,)) if path else None


def engines() -> list[Engine]:
    """Return all engines that can run here."""
    return [engine for engine in (embedded(), llama_server()) if engine is not None]


bench_engines = engines
