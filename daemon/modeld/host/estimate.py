"""
Asks llama-fit-params what a model would take, one question at a time.

Each answer is kept in a file, by question and by what the files were then, so that a model is
asked about once.  The program gets a clean environment and little time; whatever it does, an
answer is emitted, if need be an empty one.  What it is asked is `modeld.core.estimate`'s business.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from modeld.core.argv import environment as clean_environment
from modeld.core.estimate import parse_answer
from modeld.core.events import NeedTold
from modeld.core.fit import Told
from modeld.supervisor.ports import Emit

ANSWER_SECONDS = 20.0
"""A header on a disk that sleeps, and an allocator that probes several GPUs."""
LAST_SECONDS = 1.0
MAX_OUTPUT_BYTES = 64 * 1024
MAX_KEPT = 256
MAX_WAITING = 64
CACHE_VERSION = 1


class _Cache(Struct, frozen=True):
    version: int
    answers: dict[str, tuple[Told, ...]] = {}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program with all its children, unless it is reaped already."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _read(descriptor: int, deadline: float) -> bytes:
    """
    Return what a program prints, not more than an answer can be.

    Raises:
        TimeoutError: It does not end, or a child of its keeps the pipe.
    """
    text = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(text) < MAX_OUTPUT_BYTES:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(descriptor, MAX_OUTPUT_BYTES)
        if not piece:
            break
        text += piece
    return text


def _is_text(key: str) -> bool:
    """Whether a question can be written down: the names of files need not be text."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


class FitParams:
    """The `Estimator` port."""

    def __init__(self, emit: Emit, cache_file: Path, environment: Mapping[str, str]) -> None:
        self._emit = emit
        self._cache_file = cache_file
        self._environment = clean_environment(environment)
        self._answers: dict[str, tuple[Told, ...]] | None = None
        self._waiting: dict[str, tuple[str, ...]] = {}
        self._task: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, key: str, words: Sequence[str]) -> None:
        """Ask, unless the answer is known: `NeedTold`, empty where there is none."""
        if self._answers is None:
            self._answers = self._read()
        if key in self._answers:
            self._emit(NeedTold(key=key, told=self._answers[key]))
        elif not words or len(self._waiting) >= MAX_WAITING:
            self._emit(NeedTold(key=key))
        else:
            self._waiting.setdefault(key, tuple(words))
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Ask no further, and end what was asked."""
        self._waiting.clear()
        if self._process is not None:
            _end(self._process)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            key, words = next(iter(self._waiting.items()))
            told = await asyncio.to_thread(self._run, words)
            self._waiting.pop(key, None)
            if told and _is_text(key):
                self._keep(key, told)
            self._emit(NeedTold(key=key, told=told))

    def _run(self, words: Sequence[str]) -> tuple[Told, ...]:
        """Ask.  Blocks for as long as the program needs, and runs in a thread."""
        try:
            self._process = process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError):
            return ()
        assert process.stdout is not None
        try:
            text = _read(process.stdout.fileno(), time.monotonic() + ANSWER_SECONDS)
            status = process.wait(LAST_SECONDS)
        except (TimeoutError, subprocess.TimeoutExpired):
            return ()
        finally:
            _end(process)
            process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a dead disk holds it
                process.wait(LAST_SECONDS)
        return parse_answer(text.decode("ascii", "replace")) if status == 0 else ()

    def _keep(self, key: str, told: tuple[Told, ...]) -> None:
        """Keep an answer; a cache that can't be written costs a question at the next start."""
        assert self._answers is not None
        self._answers[key] = told
        while len(self._answers) > MAX_KEPT:
            del self._answers[next(iter(self._answers))]
        temporary = self._cache_file.with_name(f"{self._cache_file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._cache_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(_Cache(CACHE_VERSION, self._answers)))
            temporary.replace(self._cache_file)

    def _read(self) -> dict[str, tuple[Told, ...]]:
        """Return what is kept; a cache that can't be read is an empty one."""
        try:
            cache = msgspec.json.decode(self._cache_file.read_bytes(), type=_Cache)
        except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return {}
        return dict(cache.answers) if cache.version == CACHE_VERSION else {}
