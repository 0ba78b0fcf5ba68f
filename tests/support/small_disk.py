"""A file system of a few megabytes, so that it can be full; root only."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def a_small_disk(path: Path, size_bytes: int, options: str = "") -> Iterator[Path]:
    """Mount a tmpfs of this size at `path`, or skip the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    path.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0755{options}", "none", path]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
