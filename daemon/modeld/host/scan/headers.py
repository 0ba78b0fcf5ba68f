"""
Headers by file: remembered from earlier scans, else read by a worker process.

The worker is started for the first file that is not remembered and ends with the scan.  When it
dies of a file, that file is told about and another worker goes on.  The memory is a cache: what
is damaged, or of another version, is forgotten without a word.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from sys import intern

import msgspec
from msgspec.structs import replace

from modeld.core.entities import FoundFile, Header
from modeld.host.scan.answer import PROCESSOR_SECONDS, Answer

CACHE_VERSION = 2
"""Grows whenever headers are read differently."""
MAX_ABSENT = 2000
"""Files that are remembered while their disk is not there."""
DISK_SECONDS = 20.0
"""How long a disk may take to wake up and give a header."""
SETTLED_NS = 2_000_000_000
"""A file that changed less than this ago may still be written."""
KILL_SECONDS = 2.0
MAX_DEATHS_IN_A_ROW = 20
MAX_ANSWER_BYTES = 1024**2

_DEATHS: dict[int | None, str] = {
    -signal.SIGPROF: f"its header takes more than {PROCESSOR_SECONDS:g} s to read",
    -signal.SIGBUS: "reading it failed: it became shorter, or its disk is failing",
}


class _Remembered(msgspec.Struct, frozen=True):
    """The cache file."""

    version: int
    files: tuple[FoundFile, ...]


class HeaderCache:
    """What files said of themselves, as long as they don't change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, FoundFile] = {}
        self._is_loaded = False
        self._is_changed = False

    def load(self) -> None:
        """Read the file once; without a usable one nothing is known."""
        if self._is_loaded:
            return
        self._is_loaded = True
        try:
            kept = msgspec.msgpack.decode(self._path.read_bytes(), type=_Remembered)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return
        if kept.version == CACHE_VERSION:
            self._known = {file.path: _with_shared_text(file) for file in kept.files}

    def find(self, file: FoundFile) -> FoundFile | None:
        """Return the file with what is known of it, if it has not changed since."""
        known = self._known.get(file.path)
        if known is None or _identity(known) != _identity(file):
            return None
        if known.tier == file.tier and known.relative_path == file.relative_path:
            return known
        return replace(file, header=known.header, problem=known.problem)

    def keep(self, file: FoundFile) -> None:
        """Remember what is known of a file."""
        self._known[file.path] = file
        self._is_changed = True

    def save(self, present: Iterable[FoundFile]) -> None:
        """Write the file if anything changed, without files that are long gone."""
        if not self._is_changed:
            return
        here = {file.path for file in present}
        absent = [path for path in self._known if path not in here]
        for path in absent[: max(0, len(absent) - MAX_ABSENT)]:
            del self._known[path]
        data = msgspec.msgpack.encode(_Remembered(CACHE_VERSION, tuple(self._known.values())))
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        # A cache that can't be written costs time at the next start, and nothing else.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(self._path)
            self._is_changed = False


class HeaderReader:
    """The worker process, or none while there is nothing to read."""

    def __init__(self) -> None:
        self._worker: subprocess.Popen[bytes] | None = None
        self._silent_devices: set[int] = set()
        self._deaths_in_a_row = 0
        self._is_given_up = False
        self.reads = 0
        """Headers that were really read."""

    def read(self, file: FoundFile) -> Answer:
        """Return what a file says of itself; the worker is replaced when it dies of it."""
        if file.device in self._silent_devices:
            return Answer(problem="its disk does not answer", is_lasting=False)
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            return Answer(problem="the process that reads headers keeps dying", is_lasting=False)
        self.reads += 1
        worker = self._started()
        assert worker.stdin is not None
        try:
            worker.stdin.write(msgspec.json.encode(file) + b"\n")
            worker.stdin.flush()
        except BrokenPipeError:
            return self._after_death()
        line = self._line(worker)
        if line is None:
            self._silent_devices.add(file.device)
            self._end()
            return Answer(
                problem=f"its disk did not answer within {DISK_SECONDS:g} s", is_lasting=False
            )
        if not line.endswith(b"\n"):
            return self._after_death()
        self._deaths_in_a_row = 0
        answer = msgspec.json.decode(line, type=Answer)
        if answer.header is None:
            return answer
        return replace(answer, header=_shared(answer.header))

    def give_up(self) -> None:
        """End a read that goes on in another thread."""
        self._is_given_up = True
        worker = self._worker
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """End the worker."""
        self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        """Return the worker, started if there is none."""
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "modeld.host.scan.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # What the daemon could import the worker can, and it knows nothing else.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        return self._worker

    def _line(self, worker: subprocess.Popen[bytes]) -> bytes | None:
        """Return the next line of the worker: cut short when it died, None when it is silent."""
        assert worker.stdout is not None
        poll = select.poll()
        poll.register(worker.stdout, select.POLLIN)
        deadline = time.monotonic() + DISK_SECONDS
        line = b""
        while not line.endswith(b"\n") and len(line) < MAX_ANSWER_BYTES:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            piece = os.read(worker.stdout.fileno(), 65536)
            if not piece:
                break
            line += piece
        return line

    def _after_death(self) -> Answer:
        """Return what is to be said of the file that the worker died of."""
        code = self._end()
        self._deaths_in_a_row += 1
        if self._is_given_up:
            return Answer(problem="the scan was given up", is_lasting=False)
        problem = _DEATHS.get(code, f"the process that read it ended with {code}")
        return Answer(problem=problem, is_lasting=code == -signal.SIGPROF)

    def _end(self) -> int | None:
        """End the worker and return its exit status; None when not even SIGKILL ends it."""
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        worker.kill()
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what is unsent is not wanted any more
                    pipe.close()
        try:
            return worker.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:  # a dead disk holds it
            return None


def _identity(file: FoundFile) -> tuple[int, int, int, int]:
    """Return by what a file is known to be the same, and unchanged."""
    return file.size_bytes, file.mtime_ns, file.device, file.inode


def _with_shared_text(file: FoundFile) -> FoundFile:
    """Return a file whose tier and header don't hold their own copies of common words."""
    header = None if file.header is None else _shared(file.header)
    return replace(file, tier=intern(file.tier), header=header)


def _shared(header: Header) -> Header:
    """Return a header without own copies of words that thousands of models have in common."""
    return replace(
        header,
        architecture=intern(header.architecture),
        quantisation=intern(header.quantisation),
        tokenizer=intern(header.tokenizer),
        size_label=intern(header.size_label),
        kind=intern(header.kind),
    )
