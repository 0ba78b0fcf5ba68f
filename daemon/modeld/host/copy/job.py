"""
One copy, from its order to its end, in a thread of its own.

    check    source as ordered, names free, room enough
    carry    each file: reserve, read and write, sync
    publish  all files or none
    end      published, or nothing of it left; `Outcome` says which and why

It is told to hold still, to hurry or to end, and does so after the present chunk.  Who may read
from the disk is up to `Turns`; what the copy is good for is up to the supervisor.
"""

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import psutil
from msgspec import Struct

from modeld.host.copy.disks import Turns, disk_of
from modeld.host.copy.failure import CopyFailed, of_target
from modeld.host.copy.ledger import Entry, Ledger
from modeld.host.copy.pace import Bucket
from modeld.host.copy.pipe import Pipe
from modeld.host.copy.progress import Progress, Tell
from modeld.host.copy.publish import Place, Step, publish
from modeld.host.copy.sink import ALIGNMENT, Sink, Ways
from modeld.host.copy.source import CHUNK_BYTES, Source
from modeld.host.copy.tier import (
    PART_PREFIX,
    available_bytes,
    discard_part,
    open_part,
    open_root,
    open_work,
    parts_of,
    status_of,
)
from modeld.supervisor.ports import CopyFile, CopyOrder
from modeld.units import format_bytes

SMALLEST_CHUNK_BYTES = 256 * 1024
CHUNKS_PER_SECOND = 8
"""Of a copy with a rate limit: its chunks are smaller, so that it moves evenly."""
PART_TRIES = 3


class Outcome(Struct, frozen=True, kw_only=True):
    """How a copy ended."""

    error: str = ""
    reason: str = "done"


class Left(Exception):
    """The daemon ends: what is written stays for the next one to clean up."""


class Tools(Struct, frozen=True, kw_only=True):
    """What all copies share."""

    turns: Turns
    ways: Ways
    clock: Callable[[], float] = time.monotonic


class Job:
    """One copy."""

    def __init__(self, order: CopyOrder, ledger: Ledger, tools: Tools, tell: Tell) -> None:
        self.order = order
        self.is_urgent = order.urgent
        self.is_paused = False
        self.disk = ""
        self._ledger = ledger
        self._turns = tools.turns
        self._ways = tools.ways
        self._clock = tools.clock
        self._is_cancelled = False
        self._is_left = False
        self._is_idle = False
        self._total = sum(file.size_bytes for file in order.files)
        self._progress = Progress(order.copy_id, self._total, tell, self._clock)
        limit = order.rate_limit_bytes_per_s
        self._bucket = Bucket(limit, self._clock())
        wanted = limit // CHUNKS_PER_SECOND // ALIGNMENT * ALIGNMENT
        smallest = min(CHUNK_BYTES, max(SMALLEST_CHUNK_BYTES, wanted))
        self._chunk_bytes = smallest if limit else CHUNK_BYTES

    # --- what others ask of it, from any thread ------------------------------------------------

    def hurry(self) -> None:
        """Go on at full speed, in front of the others."""
        self.is_urgent = True
        self._bucket.rate = 0.0
        self._turns.wake()

    def pause(self, *, paused: bool) -> None:
        """Hold still after the present chunk, or go on."""
        self.is_paused = paused
        self._turns.wake()

    def cancel(self) -> None:
        """End after the present chunk, and leave nothing."""
        self._is_cancelled = True
        self._turns.wake()

    def leave(self) -> None:
        """End after the present chunk, and touch nothing more."""
        self._is_left = True
        self._turns.wake()

    def check(self) -> None:
        """
        Look whether it is to end.

        Raises:
            Left: The daemon ends.
            CopyFailed: Somebody cancelled it.
        """
        if self._is_left:
            raise Left
        if self._is_cancelled:
            raise CopyFailed("cancelled", "somebody cancelled it")

    # --- its own thread ------------------------------------------------------------------------

    def run(self) -> Outcome:
        """
        Copy, and return how that ended.

        Raises:
            Left: The daemon ends.
        """
        try:
            self._run()
        except CopyFailed as failure:
            return Outcome(error=failure.sentence, reason=failure.reason)
        except OSError as error:
            meaning = of_target(error, self.order.target_path)
            return Outcome(error=meaning.sentence, reason=meaning.reason)
        finally:
            self._turns.leave(self)
        return Outcome()

    def _run(self) -> None:
        self.check()
        names = [file.relative_path for file in self.order.files]
        if not names or len(set(names)) != len(names):
            raise CopyFailed("refused", "a copy needs files, each with a name of its own")
        with contextlib.ExitStack() as stack:
            sources = [stack.enter_context(_reading(file)) for file in self.order.files]
            # Shards lie on one disk; where they don't, that of the first one stands for all.
            self.disk = disk_of(sources[0].status.st_dev)
            root = stack.enter_context(open_root(self.order.target_path))
            self._check_target(root)
            work = stack.enter_context(open_work(root, make=True))
            name, part = stack.enter_context(_new_part(work))
            place = Place(root=root, work=work, part=part, ledger=self._ledger)
            try:
                is_clean = self._fill(place, sources)
            except Left:
                raise
            except BaseException:
                discard_part(work, name, part)
                raise
            if is_clean:
                discard_part(work, name, part)

    def _check_target(self, root: int) -> None:
        """Check that the names are free, and the room suffices."""
        for file in self.order.files:
            if status_of(root, parts_of(file.relative_path)) is not None:
                raise CopyFailed("refused", f"{file.relative_path} is there already")
        free = available_bytes(root)
        left, floor = free - self._total, self.order.min_free_bytes
        if left < floor:
            raise CopyFailed(
                "no-space",
                f"{format_bytes(self._total)} would leave {format_bytes(max(0, left))} free on"
                f" {self.order.target_path}; {format_bytes(floor)} have to stay",
            )

    def _fill(self, place: Place, sources: list[Source]) -> bool:
        """Write all files and publish them; return whether the list of copies is written."""
        entries: dict[int, Entry] = {}
        with contextlib.ExitStack() as stack:
            pipe = Pipe(f"modeld-copy-{self.order.copy_id}", self._chunk_bytes)
            sinks: list[Sink] = []
            stack.callback(lambda: _close_all(sinks))
            stack.callback(pipe.close)
            self._turns.enter(self)
            # All are reserved before the first is read: where there is no room, that shows now.
            for number, source in enumerate(sources):
                sinks.append(Sink(place.part, str(number), source, self._ways))
            for number, source in enumerate(sources):
                self._carry(pipe, source, sinks[number], _note(entries, number))
            self._turns.leave(self)
            pipe.finish()
        os.fsync(place.part)
        for source in sources:
            source.check()
        self.check()
        steps = [
            Step(temporary=str(number), relative_path=file.relative_path, entry=entries[number])
            for number, file in enumerate(self.order.files)
        ]
        # Backwards: the first file is the one that makes a model of the others.
        is_noted = publish(place, steps[::-1])
        self._progress.done()
        return is_noted

    def _carry(self, pipe: Pipe, source: Source, sink: Sink, note: Callable[[Entry], None]) -> None:
        """Read one file; the writer syncs it while the next one is being read."""
        size = source.status.st_size
        if sink.is_clone:
            self._progress.read(size, kept=False)
            self._progress.wrote(size)
        else:
            for offset in range(0, size, self._chunk_bytes):
                self._carry_chunk(pipe, source, sink, offset)
        if not self.is_urgent:
            source.drop_pages()
        pipe.send(lambda: note(sink.finish(source, time.time())))

    def _carry_chunk(self, pipe: Pipe, source: Source, sink: Sink, offset: int) -> None:
        """Read one chunk when it is this copy's turn, and send it to be written."""
        size = min(self._chunk_bytes, source.status.st_size - offset)
        buffer = pipe.buffer(self.check)
        while (seconds := self._bucket.wait_seconds(self._clock())) > 0:
            self._turns.rest(self, seconds)
        with self._turns.turn(self):
            keep = self.is_urgent
            self._set_priority(idle=not keep)
            source.read(buffer, offset, size, keep=keep)
        self._bucket.take(size, self._clock())
        self._progress.read(size, kept=keep)

        def write() -> None:
            with memoryview(buffer)[:size] as data:
                sink.write(data, offset)
            self._progress.wrote(size)

        pipe.send(write, buffer)

    def _set_priority(self, *, idle: bool) -> None:
        """Let others read first, where the disk's scheduler asks; everywhere else `Turns` does."""
        if idle != self._is_idle:
            self._is_idle = idle
            level = psutil.IOPRIO_CLASS_IDLE if idle else psutil.IOPRIO_CLASS_NONE
            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(threading.get_native_id()).ionice(level)


def _close_all(sinks: list[Sink]) -> None:
    for sink in sinks:
        sink.close()


def _note(entries: dict[int, Entry], number: int) -> Callable[[Entry], None]:
    """Return what keeps the entry of a finished file."""

    def keep(entry: Entry) -> None:
        entries[number] = entry

    return keep


@contextlib.contextmanager
def _reading(file: CopyFile) -> Iterator[Source]:
    """Open a file as it was ordered."""
    parts_of(file.relative_path)
    source = Source(file.source_path)
    try:
        source.check(file)
        yield source
    finally:
        source.close()


@contextlib.contextmanager
def _new_part(work: int) -> Iterator[tuple[str, int]]:
    """Make the folder of an unfinished copy; a survey may be faster and take it away again."""
    with contextlib.ExitStack() as stack:
        for attempt in range(1, PART_TRIES + 1):
            name = PART_PREFIX + secrets.token_hex(8)
            try:
                part = stack.enter_context(open_part(work, name, make=True))
            except (BlockingIOError, FileNotFoundError):
                if attempt == PART_TRIES:
                    raise
            else:
                yield name, part
                return
