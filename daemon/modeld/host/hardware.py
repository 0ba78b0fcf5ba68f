"""
What this machine has: memory, GPUs, and a llama-server.

A llama-server is asked for its options once; the answer is kept in a cache file until the program
changes, so that a start needs no such question.  Asking is bounded in time and in bytes, happens in
a thread of its own, and whatever comes of it is a `Binary`, if need be one that says why it can't
be used.  What the options mean is `modeld.core.argv`'s business.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct
from msgspec.structs import replace

from modeld.core.argv import environment as clean_environment
from modeld.core.argv import parse_help
from modeld.core.entities import Binary, Gpu, Machine
from modeld.core.events import BinaryProbed, GpusFreed
from modeld.supervisor.ports import Emit, no_binary

PROGRAM = "llama-server"
ANSWER_SECONDS = 10.0
GIVE_UP_SECONDS = 25.0
"""For both questions and a disk that does not answer."""
MAX_OUTPUT_BYTES = 1 << 20
CACHE_VERSION = 2
"""Grows when something else is read from the same text."""
MAX_CACHED = 8
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ESTIMATOR = "llama-fit-params"
GPU_POLL_SECONDS = 0.25
GPU_WAIT_SECONDS = 5.0
_DEVICE = re.compile(r"^ +([A-Za-z]+\d+): .*\(\d+ MiB", re.MULTILINE)
_VERSION = re.compile(r"^version: *(.+)$", re.MULTILINE)


class _Answer(Struct, frozen=True):
    """What a program said of itself, and the files that it was then."""

    files: tuple[tuple[str, int, int], ...]
    """Path, bytes, modification time [ns]."""
    binary: Binary


class _Cache(Struct, frozen=True):
    version: int
    answers: tuple[_Answer, ...] = ()


class LocalHardware:
    """The `Hardware` port."""

    def __init__(
        self,
        emit: Emit,
        cache_file: Path,
        environment: Mapping[str, str],
        gpus: Callable[[], tuple[Gpu, ...]] = tuple,
    ) -> None:
        self._emit = emit
        self._gpus = gpus
        self._cache_file = cache_file
        self._environment = dict(environment)
        self._asked = 0

    def machine(self) -> Machine:
        """Return memory sizes now."""
        memory = psutil.virtual_memory()
        limit = min([memory.total, *_container_limits()])
        return Machine(
            memory_bytes=limit,
            available_bytes=min(memory.available, limit),
            gpus=self._gpus(),
            boot_id=boot_id(),
        )

    def await_gpus(self, server_id: str, used_bytes: Sequence[int]) -> None:
        """Wait until no more than that is used of each GPU, or for some seconds: `GpusFreed`."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + GPU_WAIT_SECONDS

        def look() -> None:
            pairs = zip(self._gpus(), used_bytes, strict=False)
            if all(gpu.used_bytes <= most for gpu, most in pairs) or loop.time() >= give_up:
                self._emit(GpusFreed(server_id=server_id))
            else:
                loop.call_later(GPU_POLL_SECONDS, look)

        loop.call_soon(look)

    def probe_binary(self, wanted: str) -> None:
        """Find llama-server and ask for its options, cached by file: `BinaryProbed`."""
        loop = asyncio.get_running_loop()
        self._asked += 1
        asked = self._asked

        def answer(binary: Binary) -> None:
            if asked == self._asked:  # the first answer to the newest question
                self._asked += 1
                give_up.cancel()
                self._emit(BinaryProbed(binary=binary))

        def ask() -> None:
            try:
                binary = self.find_binary(wanted)
            except (OSError, ValueError) as error:
                binary = no_binary(f"{wanted or PROGRAM} can't be looked at: {error}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(answer, binary)

        silent = f"{wanted or PROGRAM} does not answer for {GIVE_UP_SECONDS:.0f} s"
        give_up = loop.call_later(GIVE_UP_SECONDS, lambda: answer(no_binary(silent)))
        # Not in the loop's executor: its end would wait for a program that hangs.
        threading.Thread(target=ask, name="modeld-binary", daemon=True).start()

    def find_binary(self, wanted: str) -> Binary:
        """
        Return the llama-server to use.  Blocks for as long as the program needs to answer.

        Args:
            wanted: A path, a name on PATH, or nothing: `llama-server` on PATH, else the embedded
                engine.

        Raises:
            OSError: A file can't be looked at.
        """
        path = self._environment.get("PATH")
        found = wanted if "/" in wanted else shutil.which(wanted or PROGRAM, path=path)
        if found is not None:
            program = Path(found).absolute()
            binary = self._ask((str(program),), [Path(found)])
            return replace(binary, estimator=self._estimator(program))
        if wanted:
            return no_binary(f"there is no '{wanted}' on PATH")
        engine, script = _module_file("xllamacpp"), _module_file("modeld.embedded")
        if engine is None or script is None:
            return no_binary(f"there is no {PROGRAM} on PATH, and no embedded engine")
        # By its path and with -P: nothing depends on PYTHONPATH or on the working directory.
        return self._ask((sys.executable, "-P", str(script)), [script, engine])

    def _estimator(self, program: Path) -> str:
        """Return the llama-fit-params that belongs to a llama-server; empty where none does."""
        folders = [str(program.parent), str(program.resolve().parent)]
        path = os.pathsep.join([*folders, self._environment.get("PATH") or os.defpath])
        return shutil.which(ESTIMATOR, path=path) or ""

    def _ask(self, argv: tuple[str, ...], files: Sequence[Path]) -> Binary:
        """Return what a program says of itself, from the cache where it is the same program."""
        try:
            stamps = tuple(_stamp(path) for path in files)
        except FileNotFoundError:
            return no_binary(f"there is no {files[0]}")
        answers = self._read_cache()
        for answer in answers:
            is_same = answer.files == stamps and answer.binary.argv == argv
            if is_same and not self._misses_gpus(answer.binary):
                return answer.binary
        binary = ask_binary(argv, clean_environment(self._environment))
        if not binary.problem:
            others = [each for each in answers if each.binary.argv != argv]
            self._write_cache((_Answer(stamps, binary), *others)[:MAX_CACHED])
        return binary

    def _misses_gpus(self, binary: Binary) -> bool:
        """Whether a program found no GPU and there is one: its driver may have come up since."""
        return "--list-devices" in binary.flags and not binary.devices and bool(self._gpus())

    def _read_cache(self) -> tuple[_Answer, ...]:
        """Return what is kept; a cache that can't be read is an empty one."""
        try:
            cache = msgspec.json.decode(self._cache_file.read_bytes(), type=_Cache)
        except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return ()
        return cache.answers if cache.version == CACHE_VERSION else ()

    def _write_cache(self, answers: tuple[_Answer, ...]) -> None:
        temporary = self._cache_file.with_name(f"{self._cache_file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # then the next start asks again
            self._cache_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(_Cache(CACHE_VERSION, answers)))
            temporary.replace(self._cache_file)


def boot_id() -> str:
    """Return what tells this boot of the machine from every other; empty where it can't be told."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def ask_binary(
    argv: tuple[str, ...], environment: Mapping[str, str], seconds: float = ANSWER_SECONDS
) -> Binary:
    """Return what a program says of its version and options, or why it can't be used."""
    name = " ".join(argv)
    try:
        text = _output((*argv, "--help"), environment, seconds)
        grammar = parse_help(text)
        if not {"--model", "--host"} <= grammar.flags.keys():
            return no_binary(f"{name} is no {PROGRAM}: its --help names no --model and --host")
        version = _VERSION.search(_output((*argv, "--version"), environment, seconds))
        devices = ""
        if "--list-devices" in grammar.flags:
            devices = _output((*argv, "--list-devices"), environment, seconds)
    except TimeoutError:
        return no_binary(f"{name} did not answer --help within {seconds:g} s")
    except OSError as error:
        return no_binary(f"{name} can't be run: {error.strerror or error}")
    return Binary(
        argv=argv,
        version=version[1].strip() if version else "",
        flags=grammar.flags,
        canonical=grammar.canonical,
        devices=tuple(_DEVICE.findall(devices)),
    )


def _output(argv: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    """
    Return what a program prints, at most 1 MiB; it and its children are ended afterwards.

    Raises:
        TimeoutError: It did not end in time.
        OSError: It can't be started.
    """
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        return _read_until(process.stdout.fileno(), deadline).decode("utf-8", "replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)


def _read_until(descriptor: int, deadline: float) -> bytes:
    data = bytearray()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN | select.POLLHUP)
    while len(data) < MAX_OUTPUT_BYTES:
        left_ms = max(0, int(1000 * (deadline - time.monotonic())))
        if not poller.poll(left_ms):
            raise TimeoutError
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _container_limits() -> list[int]:
    """Return the memory limits of the container that this may be; none on a whole machine."""
    found = []
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text("ascii")))
    return found


def _module_file(name: str) -> Path | None:
    """Return the file of a module without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return (str(path.resolve()), status.st_size, status.st_mtime_ns)
