"""
A disk with a head: a folder seen through FUSE as slowly as a hard disk would show it.

    with a_slow_disk(folder, read_ahead_kb=128) as disk:
        disk.path   # the same files

One head serves all readers: a request costs its bytes at a fixed rate, and a seek where it does
not go on near the end of the one before.  Root only, and it wants libfuse 3 and `mfusepy`.  It
runs as a process of its own: `python -m tests.support.slow_disk FOLDER MOUNT RATE SEEK COUNTERS`.
"""

import contextlib
import errno
import importlib.util
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RATE_BYTES_PER_S = 180e6
SEEK_SECONDS = 0.009
NEAR_BYTES = 4 * 1024 * 1024
"""What lies this close is under the head already, or in the disk's own buffer."""
START_SECONDS = 10.0
_COUNTERS = struct.Struct("<QQ")


class Impossible(Exception):
    """There can be no slow disk on this machine; the text says why."""


class Head:
    """The one head of a disk: where it is, and until when it is busy."""

    def __init__(self, rate: float, seek_seconds: float) -> None:
        self.bytes_read = 0
        self.seeks = 0
        self._rate = rate
        self._seek_seconds = seek_seconds
        self._lock = threading.Lock()
        self._file = ""
        self._position = 0
        self._free_at = 0.0

    def serve(self, file: str, offset: int, size: int, now: float) -> float:
        """Take a request, and return when it is done."""
        with self._lock:
            cost = size / self._rate
            if file != self._file or abs(offset - self._position) > NEAR_BYTES:
                cost += self._seek_seconds
                self.seeks += 1
            self.bytes_read += size
            self._file, self._position = file, offset + size
            self._free_at = max(now, self._free_at) + cost
            return self._free_at


class SlowDisk(NamedTuple):
    """A slow disk that is mounted."""

    path: Path
    counters: mmap.mmap

    def bytes_read(self) -> int:
        """Return how many bytes its head has read so far."""
        count: int = _COUNTERS.unpack_from(self.counters)[0]
        return count

    def seeks(self) -> int:
        """Return how often its head has moved so far."""
        count: int = _COUNTERS.unpack_from(self.counters)[1]
        return count


@contextlib.contextmanager
def a_slow_disk(
    folder: Path,
    *,
    read_ahead_kb: int,
    rate: float = RATE_BYTES_PER_S,
    seek_seconds: float = SEEK_SECONDS,
) -> Iterator[SlowDisk]:
    """
    Mount a folder as a slow disk.

    Raises:
        Impossible: FUSE does not work here.
    """
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Impossible("FUSE needs root and /dev/fuse")
    if importlib.util.find_spec("mfusepy") is None:
        raise Impossible("mfusepy is not installed")
    home = Path(tempfile.mkdtemp(prefix="md-disk-", dir="/tmp"))
    mount, counters = home / "disk", home / "counters"
    mount.mkdir()
    counters.write_bytes(bytes(_COUNTERS.size))
    words = [sys.executable, "-m", "tests.support.slow_disk", str(folder), str(mount)]
    words += [str(rate), str(seek_seconds), str(counters)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for_mount(process, mount)
        device = mount.stat().st_dev
        bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        bdi.write_text(str(read_ahead_kb))
        with counters.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
            yield SlowDisk(mount, shared)
    finally:
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        process.terminate()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        shutil.rmtree(home, ignore_errors=True)


def _wait_for_mount(process: "subprocess.Popen[str]", mount: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not mount.is_mount():
        if process.poll() is not None:
            assert process.stderr is not None
            raise Impossible(f"FUSE does not start: {process.stderr.read().strip()[-200:]}")
        if time.monotonic() > end:
            raise Impossible("FUSE does not mount anything here")
        time.sleep(0.01)


def serve(folder: Path, mount: Path, head: Head, counters: Path) -> None:
    """Serve the folder until it is unmounted."""
    import mfusepy

    class Operations(mfusepy.Operations):  # type: ignore[misc]
        """Reads from the folder, when the head is done."""

        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            try:
                status = os.lstat(folder / path.lstrip("/"))
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno or errno.EIO) from error
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
            times = {f"st_{kind}time": getattr(status, f"st_{kind}time_ns") for kind in "amc"}
            return {name: getattr(status, name) for name in names} | times

        def readdir(self, path: str, fh: int) -> list[str]:
            inside = (folder / path.lstrip("/")).iterdir()
            return [".", "..", *(each.name for each in inside)]

        def open(self, path: str, flags: int) -> int:
            return os.open(folder / path.lstrip("/"), os.O_RDONLY)

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            data = os.pread(fh, size, offset)
            done_at = head.serve(path, offset, len(data), time.monotonic())
            _COUNTERS.pack_into(shared, 0, head.bytes_read, head.seeks)
            time.sleep(max(0.0, done_at - time.monotonic()))
            return data

    with counters.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        mfusepy.FUSE(
            Operations(), str(mount), foreground=True, ro=True, kernel_cache=True, max_threads=16
        )


if __name__ == "__main__":
    own = Head(float(sys.argv[3]), float(sys.argv[4]))
    serve(Path(sys.argv[1]), Path(sys.argv[2]), own, Path(sys.argv[5]))
