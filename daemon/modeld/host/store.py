"""
The state on disk: one JSON file that a person can read, and that no crash can half write.

A save writes a new file beside the old one, syncs it, keeps the old one as `stats.json.prev`,
renames the new one over it and syncs the directory; only then is it acknowledged.  A thread of its
own owns the files, so that a slow disk holds up nobody.  Where several states wait, only the newest
is written, and stands for all.

A file that can't be understood is moved aside, never deleted, and the one before it is used; this
is said, never done in silence.  A file of a newer modeld, or one that can't even be read, is left
alone, and nothing is saved.  What the state means is not this module's business.
"""

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import ModelStats, State
from modeld.core.events import StateNotSaved, StateSaved
from modeld.core.usage import Totals
from modeld.supervisor.ports import Emit, Loaded

NAME = "stats.json"
VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
"""Twice of what all caps together can make it; nothing larger is ours."""
MAX_COUNT = 1 << 62
"""What msgpack can carry, with room to count on."""
CLOSE_SECONDS = 5.0
_TEMPORARY = f".{NAME}.new-"


class _Version(Struct, frozen=True):
    """What is looked at before anything else."""

    version: Annotated[int, msgspec.Meta(ge=1)]


class _File(State, frozen=True, kw_only=True):
    """The state with the time of its writing, for the person who reads it."""

    saved_at: datetime


class _Damaged(Exception):
    """The file holds nothing that can be used."""


_Kind = TypeVar("_Kind", bound=Struct)
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(state: State, now: datetime) -> bytes:
    """Return the file that stands for `state`: indented, names in order, times in UTC."""
    fields = {name: getattr(state, name) for name in State.__struct_fields__}
    written = _File(**{**fields, "version": VERSION}, saved_at=now)
    return msgspec.json.format(_encoder.encode(written), indent=2) + b"\n"


class FileStore:
    """The `Store` port."""

    def __init__(self, emit: Emit, directory: Path) -> None:
        self._emit = emit
        self._directory = directory
        self._path = directory / NAME
        self._previous = directory / f"{NAME}.prev"
        self._read_only = ""
        """Why nothing is written; empty where something may be."""
        self._last_seen: tuple[int, ...] | None = None
        """The file as this process last read or wrote it."""
        self._condition = threading.Condition()
        self._waiting: list[State] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self._tell: Callable[[list[int], str], None] = lambda _generations, _reason: None

    def load(self) -> Loaded:
        """Read the state; a damaged file is set aside, and the one before it used."""
        problems: list[str] = []
        self._remove_leftovers()
        state = self._read(self._path, problems)
        if state is None and not self._read_only:
            state = self._read(self._previous, problems)
            if state is not None:
                problems.append(f"{self._previous} was used instead: the last change may be lost")
            elif problems:
                problems.append("modeld starts without names and statistics")
        self._last_seen = _identity(self._path)
        return Loaded(
            state=state or State(), problems=tuple(problems), read_only=bool(self._read_only)
        )

    def save(self, state: State) -> None:
        """Write it in the background, synced: `StateSaved` or `StateNotSaved`."""
        if self._thread is None or not self._thread.is_alive():
            self._start(asyncio.get_running_loop())
        with self._condition:
            self._waiting.append(state)
            self._condition.notify()

    async def close(self) -> None:
        """Wait for the last write.  Bounded."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)

    # --- the writing thread --------------------------------------------------------------------

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        def tell(generations: list[int], reason: str) -> None:
            for generation in generations:
                event = (
                    StateNotSaved(generation=generation, reason=reason)
                    if reason
                    else StateSaved(generation=generation)
                )
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    loop.call_soon_threadsafe(self._emit, event)

        self._tell = tell
        self._thread = threading.Thread(target=self._write_all, name="modeld-store", daemon=True)
        self._thread.start()

    def _write_all(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            reason = "a bug in modeld"
            try:
                reason = self._write(waiting[-1])
            finally:  # whatever happens, nobody waits for ever
                self._tell([state.generation for state in waiting], reason)

    def _write(self, state: State) -> str:
        """Put a state on the disk; return why it is not there, or nothing."""
        if self._read_only:
            return self._read_only
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._keep_foreign()
            self._replace(encode(state, datetime.now(UTC).replace(microsecond=0)))
        except (OSError, msgspec.MsgspecError, OverflowError, ValueError) as error:
            self._remove_leftovers()
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return f"{why} ({self._path})"
        finally:
            self._last_seen = _identity(self._path)
        return ""

    def _replace(self, data: bytes) -> None:
        """
        Put `data` in the file's place, durable before this returns.

        After an error of fsync the kernel may drop what it could not write and report success the
        next time, so no descriptor is synced twice: the next save begins with a new file.
        """
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            temporary = f"{_TEMPORARY}{os.getpid()}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._keep_previous(directory)
            os.rename(temporary, NAME, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)

    def _keep_previous(self, directory: int) -> None:
        """Give the file its second name; a file system without hard links does without."""
        if not self._path.exists():
            return  # it was damaged: until the new one is there, the one before is all there is
        with contextlib.suppress(OSError):
            os.unlink(self._previous.name, dir_fd=directory)
        with contextlib.suppress(OSError):
            os.link(NAME, self._previous.name, src_dir_fd=directory, dst_dir_fd=directory)

    def _keep_foreign(self) -> None:
        """Keep what somebody else wrote into the file's place meanwhile: an editor, a restore."""
        found = _identity(self._path)
        if found is not None and found != self._last_seen:
            with contextlib.suppress(OSError):
                os.link(self._path, self._free_name("changed"))

    def _remove_leftovers(self) -> None:
        """Remove new files that were never renamed: a writer was killed, or failed."""
        with contextlib.suppress(OSError):
            for path in self._directory.glob(f"{_TEMPORARY}*"):
                path.unlink(missing_ok=True)

    # --- reading -------------------------------------------------------------------------------

    def _read(self, path: Path, problems: list[str]) -> State | None:
        """Return the state in a file, or None and say why; a file that is not there needs none."""
        try:
            data = _contents(path)
            version = _decode(data, _Version).version
            if version > VERSION:
                return self._newer(path, version, data, problems)
            return _state(data)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._read_only = f"{path} can't be read: {error.strerror}"
            problems.append(f"{self._read_only}; nothing is saved, so that it is not overwritten")
        except _Damaged as error:
            self._set_aside(path, str(error), problems)
        return None

    def _newer(self, path: Path, version: int, data: bytes, problems: list[str]) -> State:
        """Return what can be understood of a newer file, and write nothing from now on."""
        self._read_only = f"{path} is of a newer modeld (version {version})"
        try:
            state = _state(data)
        except _Damaged as error:
            problems.append(f"{self._read_only} and not understood ({error}); nothing is saved")
            return State()
        problems.append(f"{self._read_only}; it is used, and nothing is saved")
        return replace(state, version=VERSION)

    def _set_aside(self, path: Path, why: str, problems: list[str]) -> None:
        aside = self._free_name("corrupt", path)
        try:
            path.rename(aside)
        except OSError as error:
            self._read_only = f"{path} is damaged and can't be moved aside: {error.strerror}"
            problems.append(f"{self._read_only}; nothing is saved")
        else:
            problems.append(f"{path} is damaged ({why}); it is kept as {aside.name}")

    def _free_name(self, what: str, path: Path | None = None) -> Path:
        """Return a free name beside the file, such as `stats.json.corrupt-20261121T022600Z`."""
        path = path or self._path
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        free = path.with_name(f"{path.name}.{what}-{stamp}")
        number = 1
        while free.exists():
            number += 1
            free = path.with_name(f"{path.name}.{what}-{stamp}-{number}")
        return free


def _contents(path: Path) -> bytes:
    """
    Return what is in a file.

    Raises:
        _Damaged: It is no file, or an absurdly large one.
        OSError: It can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Damaged("not a regular file")
        if status.st_size > MAX_BYTES:
            raise _Damaged(f"{status.st_size} bytes, more than {MAX_BYTES}")
        return file.read()


def _decode(data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise _Damaged(str(error) or type(error).__name__) from error


def _state(data: bytes) -> State:
    """
    Return the state that a file holds.

    Fields that this version does not know are left out.  What could not be written again, such as
    a number beyond all bounds, counts as damage, since the next save would fail.
    """
    state = _decode(data, State)
    state = replace(
        state,
        models={one: _in_utc(stats) for one, stats in state.models.items()},
        last_loads={port: _utc(time) for port, time in state.last_loads.items()},
    )
    counts = [state.generation]
    for one in state.models.values():
        counts += [one.total_uses, one.measured_bytes]
        counts += [count for seen in one.measured for count in (seen.memory_bytes, *seen.gpu_bytes)]
    counts += [
        getattr(one, name) for one in state.usage.values() for name in Totals.__struct_fields__
    ]
    if any(abs(count) > MAX_COUNT for count in counts):
        raise _Damaged(f"it has a number beyond {MAX_COUNT}")
    if _decode(_encoder.encode(state), State) != state:
        raise _Damaged("it has a number that can't be written")
    return state


def _in_utc(stats: ModelStats) -> ModelStats:
    return replace(
        stats,
        last_used=stats.last_used and _utc(stats.last_used),
        use_timestamps=tuple(map(_utc, stats.use_timestamps)),
    )


def _utc(time: datetime) -> datetime:
    """Return a time in UTC; one without a zone, as llama-pack wrote them, is UTC already."""
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError:  # the first or last day of all, in another zone
        return time.replace(tzinfo=UTC)


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells one file in a place from another."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
