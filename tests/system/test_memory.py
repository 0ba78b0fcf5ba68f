"""Memory, through the front doors: what is asked, measured and learned of a real engine."""

import sys
import time
from pathlib import Path

import pytest

import modeld.embedded
from tests.support.daemon import Daemon, a_daemon
from tests.support.engines import embedded
from tests.support.tiny_gguf import write_model

pytestmark = pytest.mark.skipif(embedded() is None, reason="no engine")
MIB = 1024**2
PATIENCE_SECONDS = 15.0


def program(path: Path, text: str) -> Path:
    """Write a script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def source_of(daemon: Daemon, wanted: str) -> dict[str, object]:
    """Return what `show` tells once the need is from there."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        shown = daemon.json("show", "tiny")
        if shown["need_source"] == wanted:
            return shown
        assert time.monotonic() < end, shown
        time.sleep(0.2)


def test_need_is_asked_of_the_engine_then_measured_and_learned(tmp_path: Path) -> None:
    """The order of the requirements, on real files: the next daemon knows it too."""
    engine = program(
        tmp_path / "llama-server",
        f'exec {sys.executable} -P {modeld.embedded.__file__} "$@"',
    )
    program(tmp_path / "llama-fit-params", 'echo x >> "$0.asked"; echo "Host 70 20 10 "')
    with a_daemon(engine=str(engine), start=False) as daemon:
        write_model(daemon.models / "tiny.gguf")
        daemon.start()
        told = source_of(daemon, "fit-params")
        assert told["need_bytes"] == (70 + 20 + 10 + 48) * MIB

        daemon.modelctl("load", "tiny")
        learned = source_of(daemon, "measured")["need_bytes"]
        daemon.modelctl("unload", "tiny")
        assert daemon.json("status")["used_ram_gb"] == 0

        daemon.stop()
        daemon.start()
        again = source_of(daemon, "measured")["need_bytes"]
        assert isinstance(again, int)
        assert isinstance(learned, int)
        assert again >= learned > 10 * MIB
        other = daemon.modelctl("load", "--dry-run", "--json", "tiny", "--", "-np", "1").stdout
        assert "need from header: " in other
    assert (tmp_path / "llama-fit-params.asked").read_text().count("x") <= 2
