"""File systems for a test: one that can be full, one that can share blocks; root only."""

import contextlib
import os
import shutil
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


@contextlib.contextmanager
def a_cloning_disk(path: Path, image: Path) -> Iterator[Path]:
    """Mount a Btrfs in a file at `path`, or skip the test."""
    if os.geteuid() != 0 or shutil.which("mkfs.btrfs") is None:
        pytest.skip("needs root and mkfs.btrfs")
    path.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(512 * 1024 * 1024)
    subprocess.run(["mkfs.btrfs", "-q", image], capture_output=True, check=True)
    words = ["mount", "-o", "loop", image, path]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("no Btrfs can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
