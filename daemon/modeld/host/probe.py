"""
Looks at running servers from outside: how far a load is, whether they answer, what they do.

A llama-server that was told of a router prints a line for every step of its load on its stdout,
a FIFO here; the last one comes the moment it is ready, and one `GET /health` confirms it.  One
that prints none, or was ready before anybody looked, is asked for its health until it answers.
What is not a state line is skipped.  Nothing here starts, ends or signals anything.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import httptools
import msgspec
from msgspec import Struct, field

from modeld.core.entities import LaunchRecord
from modeld.core.events import MemoryMeasured, ServerLoading, ServerReady, SlotsSeen
from modeld.supervisor.ports import Emit

STATE_PREFIX = b"cmd_child_to_router:state:"
LINE_LIMIT_BYTES = 64 * 1024
READS_LIMIT = 16
"""Reads of a FIFO in one go, so that a babbling server cannot hold the loop."""
REPORT_SECONDS = 0.1
"""Between two reports of a load's progress; its stages and its end are never held back."""
FIRST_PAUSE_SECONDS = 0.02
"""Before the second look at a server's health; doubled from look to look."""
LAST_PAUSE_SECONDS = 0.25
HEALTH_TIMEOUT_SECONDS = 0.2
SLOTS_TIMEOUT_SECONDS = 2.0
ANSWER_LIMIT_BYTES = 1024**2
"""`/slots` repeats all settings for each slot: some kilobytes."""
HTTP_OK = 200
RESIDENT_KINDS = frozenset({b"RssAnon", b"RssFile", b"RssShmem"})


# --- what llama-server says -----------------------------------------------------------------


class _Meta(Struct):
    n_ctx: int = 0


class _Payload(Struct):
    stages: list[str] = []
    current: str = ""
    value: float = 0.0
    meta: _Meta = field(default_factory=_Meta)


class _State(Struct):
    state: str
    payload: _Payload = field(default_factory=_Payload)


class _NextToken(Struct):
    n_decoded: int = 0


class _Slot(Struct):
    id: int = 0
    id_task: int = -1
    is_processing: bool = False
    n_prompt_tokens_processed: int = 0
    next_token: list[_NextToken] | _NextToken | None = None


class _Entry(Struct):
    meta: _Meta = field(default_factory=_Meta)


class _List(Struct):
    data: list[_Entry] = []


_state_decoder = msgspec.json.Decoder(_State)
_slots_decoder = msgspec.json.Decoder(list[_Slot])
_list_decoder = msgspec.json.Decoder(_List)


def mark_of(slots: bytes) -> tuple[str, bool]:
    """
    Return a string that changes whenever any slot does something, and whether one is at work.

    The string is empty for no valid answer.
    """
    try:
        decoded = _slots_decoder.decode(slots)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "", False
    marks = []
    for slot in decoded:
        tokens = slot.next_token if isinstance(slot.next_token, list) else [slot.next_token]
        count = sum(token.n_decoded for token in tokens if token is not None)
        marks.append(
            f"{slot.id}:{slot.id_task}:{slot.is_processing:d}"
            f":{slot.n_prompt_tokens_processed}:{count}"
        )
    return " ".join(marks), any(slot.is_processing for slot in decoded)


# --- asking over HTTP -----------------------------------------------------------------------


class _Answer:
    """One response, as httptools reports it."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def get(socket_path: str, target: str, timeout_seconds: float) -> tuple[int, bytes]:
    """
    Return status and body of one GET over a UNIX socket; (0, b"") for no answer in time.

    Source: llama-server answers each of these in one piece, within a millisecond.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _get(socket_path, target)
    except (OSError, TimeoutError, httptools.HttpParserError):
        return 0, b""


async def _get(socket_path: str, target: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_unix_connection(socket_path)
    try:
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete and len(answer.body) <= ANSWER_LIMIT_BYTES:
            received = await reader.read(65536)
            if not received:
                return 0, b""
            parser.feed_data(received)
        return parser.get_status_code(), bytes(answer.body)
    finally:
        writer.close()


# --- following a load -----------------------------------------------------------------------


class _Lines:
    """Whole lines out of a FIFO that both sides hold open for reading and writing."""

    def __init__(self, path: str, on_line: Callable[[bytes], None]) -> None:
        """
        Open the FIFO.

        Raises:
            OSError: It is not there.
        """
        # Open for writing too: a FIFO without a writer would be readable, and empty, for ever.
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._on_line = on_line
        self._pending = b""
        self._skipping = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fifo, self._read)

    def close(self) -> None:
        """Stop reading.  Idempotent."""
        if self._fifo >= 0:
            self._loop.remove_reader(self._fifo)
            os.close(self._fifo)
            self._fifo = -1

    def _read(self) -> None:
        for _ in range(READS_LIMIT):
            if self._fifo < 0:  # a line ended the watching
                return
            try:
                received = os.read(self._fifo, LINE_LIMIT_BYTES)
            except BlockingIOError:
                return
            *lines, rest = (self._pending + received).split(b"\n")
            for line in lines:
                if not self._skipping and self._fifo >= 0:
                    self._on_line(line)
                self._skipping = False
            self._skipping = self._skipping or len(rest) > LINE_LIMIT_BYTES
            self._pending = b"" if self._skipping else rest


class _Watch:
    """One server on its way to being ready."""

    def __init__(self, record: LaunchRecord, emit: Emit) -> None:
        self._record = record
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._lines: _Lines | None = None
        with contextlib.suppress(OSError):
            self._lines = _Lines(record.stdout_path, self._on_line)
        self._context_tokens = 0
        self._last_report = ServerLoading(server_id=record.server_id)
        self._next_report_at = 0.0
        self._held_back: asyncio.TimerHandle | None = None
        self._look_now = asyncio.Event()
        self.task = self._loop.create_task(self._follow())

    def close(self) -> None:
        """Stop following.  Idempotent."""
        self.task.cancel()
        self._drop_held_back()
        if self._lines is not None:
            self._lines.close()

    def _on_line(self, line: bytes) -> None:
        if not line.startswith(STATE_PREFIX):
            return
        try:
            state = _state_decoder.decode(line[len(STATE_PREFIX) :])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        if state.state == "ready":
            self._context_tokens = state.payload.meta.n_ctx
            self._look_now.set()
        elif state.state == "loading":
            self._report(state.payload)

    def _report(self, payload: _Payload) -> None:
        stages = payload.stages or [payload.current]
        done = stages.index(payload.current) if payload.current in stages else 0
        report = ServerLoading(
            server_id=self._record.server_id,
            stage=payload.current,
            fraction=min(1.0, (done + max(0.0, payload.value)) / len(stages)),
        )
        self._drop_held_back()
        wait = self._next_report_at - self._loop.time()
        is_step = payload.value >= 1.0 or report.stage != self._last_report.stage
        if is_step or wait <= 0:
            self._emit_report(report)
        else:
            self._held_back = self._loop.call_later(wait, self._emit_report, report)

    def _emit_report(self, report: ServerLoading) -> None:
        self._held_back = None
        self._last_report = report
        self._next_report_at = self._loop.time() + REPORT_SECONDS
        self._emit(report)

    def _drop_held_back(self) -> None:
        if self._held_back is not None:
            self._held_back.cancel()
            self._held_back = None

    async def _follow(self) -> None:
        """Ask for its health, at once when it says that it is ready, else ever more slowly."""
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            self._look_now.clear()
            status, _ = await get(self._record.socket_path, "/health", HEALTH_TIMEOUT_SECONDS)
            if status == HTTP_OK:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._look_now.wait()
            pause_seconds = min(LAST_PAUSE_SECONDS, 2 * pause_seconds)
        context_tokens = self._context_tokens or await self._ask_context()
        self._drop_held_back()
        if self._lines is not None:
            self._lines.close()
        ready = ServerReady(server_id=self._record.server_id, context_tokens=context_tokens)
        self._emit(ready)

    async def _ask_context(self) -> int:
        _, body = await get(self._record.socket_path, "/v1/models", HEALTH_TIMEOUT_SECONDS)
        try:
            entries = _list_decoder.decode(body).data
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return 0
        return entries[0].meta.n_ctx if entries else 0


def resident_memory(pid: int) -> tuple[int, int] | None:
    """Return what a process has in memory, and the part that is no file's; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except OSError:
        return None
    sizes = {}
    for line in lines:
        name, _, value = line.partition(b":")
        if name in RESIDENT_KINDS:
            sizes[name] = int(value.split()[0]) * 1024
    if not sizes:  # it has ended, and nobody asked for its status yet
        return None
    return sum(sizes.values()), sizes.get(b"RssAnon", 0) + sizes.get(b"RssShmem", 0)


class ServerProbe:
    """`supervisor.ports.Probe` for llama-server."""

    def __init__(
        self, emit: Emit, gpu_bytes_of: Callable[[int], tuple[int, ...]] = lambda _: ()
    ) -> None:
        self._emit = emit
        self._gpu_bytes_of = gpu_bytes_of
        self._watches: dict[str, _Watch] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    def watch(self, record: LaunchRecord) -> None:
        """Follow one until it is ready: `ServerLoading`, then `ServerReady`."""
        self.unwatch(record.server_id)
        self._watches[record.server_id] = _Watch(record, self._emit)

    def unwatch(self, server_id: str) -> None:
        """Stop following.  Idempotent."""
        if watch := self._watches.pop(server_id, None):
            watch.close()

    def look_at_slots(self, server_id: str, socket_path: str) -> None:
        """Ask what it works on: `SlotsSeen`, once, however often it is asked meanwhile."""
        if server_id in self._looks:
            return
        look = self._look(server_id, socket_path)
        self._looks[server_id] = asyncio.get_running_loop().create_task(look)

    async def _look(self, server_id: str, socket_path: str) -> None:
        status, body = await get(socket_path, "/slots", SLOTS_TIMEOUT_SECONDS)
        mark, is_busy = mark_of(body) if status == HTTP_OK else ("", False)
        del self._looks[server_id]
        self._emit(SlotsSeen(server_id=server_id, mark=mark, is_busy=is_busy))

    def measure_memory(self, server_id: str, pid: int) -> None:
        """Measure its resident memory: `MemoryMeasured`, or nothing where it is gone."""
        memory = resident_memory(pid)
        if memory is not None:
            resident, private = memory
            self._emit(
                MemoryMeasured(
                    server_id=server_id,
                    resident_bytes=resident,
                    private_bytes=private,
                    gpu_bytes=self._gpu_bytes_of(pid),
                )
            )

    async def close(self) -> None:
        """Stop following everything."""
        tasks = [*self._looks.values(), *(watch.task for watch in self._watches.values())]
        for server_id in list(self._watches):
            self.unwatch(server_id)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
