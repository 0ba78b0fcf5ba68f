"""What is seen of a server from outside, on real processes, sockets and FIFOs."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.entities import LaunchRecord
from modeld.core.events import (
    MemoryMeasured,
    ServerExited,
    ServerLoading,
    ServerReady,
    ServerStarted,
    SlotsSeen,
)
from modeld.host.probe import LINE_LIMIT_BYTES, ServerProbe, get, mark_of
from modeld.host.servers.direct import DirectServers
from tests.support.launchers import end_processes_below
from tests.support.running import asynchronous
from tests.support.server_rig import Rig, eventually
from tests.support.tiny_gguf import write_model

LOADING = (
    'cmd_child_to_router:state:{"state":"loading","payload":{"stages":["text_model","mmproj_model"]'
    ',"current":"%s","value":%s}}\n'
)
READY = b'cmd_child_to_router:state:{"state":"ready","payload":{"meta":{"n_ctx":4096}}}\n'
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def runtime() -> Iterator[str]:
    """A runtime directory with a short path."""
    directory = tempfile.mkdtemp(prefix="m", dir="/tmp")
    yield directory
    end_processes_below(directory)
    shutil.rmtree(directory, ignore_errors=True)


class Scene:
    """A probe, and a server that the test plays itself: a FIFO, and a socket if it wants."""

    def __init__(self, runtime: str) -> None:
        self.rig = Rig(runtime)
        self.probe = ServerProbe(self.rig.emit)
        self.record = self.rig.record("server")
        Path(self.record.stdout_path).parent.mkdir(parents=True)
        os.mkfifo(self.record.stdout_path)
        self.fifo = os.open(self.record.stdout_path, os.O_RDWR | os.O_NONBLOCK)
        self.answer = BUSY
        self.asked: list[bytes] = []

    def say(self, text: str | bytes) -> None:
        """Write to the server's stdout."""
        os.write(self.fifo, text.encode() if isinstance(text, str) else text)

    async def listen(self) -> asyncio.Server:
        """Answer every request on the server's socket with `answer`."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(await reader.readline())
            writer.write(self.answer)
            writer.close()

        return await asyncio.start_unix_server(serve, self.record.socket_path)


@asynccontextmanager
async def scene(runtime: str) -> AsyncIterator[Scene]:
    """A scene, taken down in order."""
    scene = Scene(runtime)
    try:
        yield scene
    finally:
        await scene.probe.close()
        os.close(scene.fifo)


@asynccontextmanager
async def fake(runtime: str, habit: str) -> AsyncIterator[tuple[Rig, ServerProbe, LaunchRecord]]:
    """A fake engine that runs, and a probe."""
    rig = Rig(runtime)
    servers, probe = DirectServers(rig.emit, runtime), ServerProbe(rig.emit)
    record = rig.fake(habit)
    servers.start(record)
    try:
        yield rig, probe, record
    finally:
        servers.kill(record.server_id)
        await rig.event(ServerExited)
        await probe.close()
        await servers.close()


@asynchronous
async def test_ready_line_is_noticed_within_milliseconds(runtime: str) -> None:
    """What a person waits for should not wait for a poll."""
    async with scene(runtime) as play, await play.listen():
        play.probe.watch(play.record)
        await asyncio.sleep(1)  # by now it polls slowly
        play.answer = HEALTHY
        took = []
        asked = len(play.asked)
        begin = time.perf_counter()
        play.say(READY)
        ready = await play.rig.event(ServerReady)
        took.append(time.perf_counter() - begin)

    assert ready.context_tokens == 4096
    assert len(play.asked) == asked + 1
    assert min(took) < 0.5


@asynchronous
async def test_ready_line_alone_is_not_believed(runtime: str) -> None:
    """`/health` is the proof; the line only says when to ask."""
    async with scene(runtime) as play, await play.listen():
        play.probe.watch(play.record)
        play.say(READY)
        await eventually(lambda: len(play.asked) > 2)
        before = play.rig.of(ServerReady)
        play.answer = HEALTHY
        await play.rig.event(ServerReady)

    assert before == []


@asynchronous
async def test_server_without_state_lines_is_asked_until_it_answers(runtime: str) -> None:
    """Builds before b10000 print none."""
    async with fake(runtime, "slow") as (rig, probe, record):
        probe.watch(record)
        ready = await rig.event(ServerReady, seconds=2)

    assert ready == ServerReady(server_id=record.server_id, context_tokens=0)


@asynchronous
async def test_server_that_is_ready_already_is_confirmed_at_once(
    runtime: str, tmp_path: Path
) -> None:
    """An adopted server prints no more state lines."""
    model = tmp_path / "tiny.gguf"
    write_model(model)
    rig = Rig(runtime)
    servers, probe = DirectServers(rig.emit, runtime), ServerProbe(rig.emit)
    record = rig.real(model)
    servers.start(record)
    probe.watch(record)
    await rig.event(ServerReady)
    probe.unwatch(record.server_id)
    rig.events.clear()
    begin = time.perf_counter()
    probe.watch(record)
    ready = await rig.event(ServerReady)
    took = time.perf_counter() - begin
    servers.stop(record.server_id)
    await rig.event(ServerExited)
    await probe.close()
    await servers.close()

    assert ready.context_tokens == 256
    assert took < 0.1


@asynchronous
async def test_loading_tells_stage_and_whole_progress(runtime: str) -> None:
    """A bar that fills twice, once a file, tells nobody how long it takes."""
    async with scene(runtime) as play:
        play.probe.watch(play.record)
        for stage, value in (("text_model", 0.0), ("text_model", 1.0), ("mmproj_model", 0.5)):
            play.say(LOADING % (stage, value))
        await eventually(lambda: len(play.rig.of(ServerLoading)) == 3)

    assert [(event.stage, event.fraction) for event in play.rig.of(ServerLoading)] == [
        ("text_model", 0.0),
        ("text_model", 0.5),
        ("mmproj_model", 0.75),
    ]


@asynchronous
async def test_loading_is_reported_ten_times_a_second_at_most(runtime: str) -> None:
    """A server may print a line for every layer."""
    async with scene(runtime) as play:
        play.probe.watch(play.record)
        begin = time.monotonic()
        for step in range(100):
            play.say(LOADING % ("text_model", step / 200))
            await asyncio.sleep(0.003)
        await play.rig.event(ServerLoading, lambda event: event.fraction == 99 / 400, seconds=1)
        elapsed = time.monotonic() - begin

    assert len(play.rig.of(ServerLoading)) <= elapsed / 0.1 + 2


@asynchronous
async def test_junk_between_state_lines_is_skipped(runtime: str) -> None:
    """Libraries and drivers print to stdout too."""
    async with fake(runtime, "junk") as (rig, probe, record):
        probe.watch(record)
        await rig.event(ServerStarted)
        loading = await rig.event(ServerLoading)
        ready = await rig.event(ServerReady)

    assert loading.fraction == 0.5
    assert ready.context_tokens == 4096


@asynchronous
async def test_endless_line_is_skipped_and_the_next_one_read(runtime: str) -> None:
    """A line without an end must not fill the memory."""
    async with scene(runtime) as play:
        play.probe.watch(play.record)
        for _ in range(4):
            play.say(b"x" * (LINE_LIMIT_BYTES // 2))
            await asyncio.sleep(0.02)
        play.say("x\n" + LOADING % ("text_model", 0.5))
        loading = await play.rig.event(ServerLoading)

    assert loading.fraction == 0.25


@asynchronous
async def test_health_that_never_comes_is_asked_for_again(runtime: str) -> None:
    """A server that accepts and does not answer is not ready, and not the end of the probe."""
    async with fake(runtime, "mute") as (rig, probe, record):
        await eventually(Path(record.socket_path).exists)
        probe.watch(record)
        await asyncio.sleep(0.6)
        seen = rig.of(ServerReady)

    assert seen == []


@asynchronous
async def test_server_that_is_not_watched_any_more_is_silent(runtime: str) -> None:
    """An event about a server that is gone would confuse everybody."""
    async with scene(runtime) as play:
        play.probe.watch(play.record)
        play.probe.unwatch(play.record.server_id)
        play.probe.unwatch(play.record.server_id)
        play.answer = HEALTHY
        async with await play.listen():
            play.say(LOADING % ("text_model", 0.5))
            play.say(READY)
            await asyncio.sleep(0.1)

    assert play.rig.events == []


@asynchronous
async def test_slots_have_equal_marks_while_nothing_moves(runtime: str, tmp_path: Path) -> None:
    """The stall watchdog kills by this."""
    model = tmp_path / "tiny.gguf"
    write_model(model)
    rig = Rig(runtime)
    servers, probe = DirectServers(rig.emit, runtime), ServerProbe(rig.emit)
    record = rig.real(model)
    servers.start(record)
    probe.watch(record)
    await rig.event(ServerReady)
    marks = []
    for index in range(3):
        if index == 2:
            await get(record.socket_path, "/v1/models", 1)
            await post_chat(record.socket_path)
        rig.events.clear()
        probe.look_at_slots(record.server_id, record.socket_path)
        marks.append((await rig.event(SlotsSeen)).mark)
    servers.stop(record.server_id)
    await rig.event(ServerExited)
    await probe.close()
    await servers.close()

    assert marks[0] == marks[1] != marks[2]
    assert all(marks)


async def post_chat(socket_path: str) -> None:
    """Have a server say something."""
    reader, writer = await asyncio.open_unix_connection(socket_path)
    body = b'{"messages":[{"role":"user","content":"hi"}]}'
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    assert b"Hello from modeld" in answer


@asynchronous
async def test_slots_of_a_silent_server_have_no_mark(runtime: str) -> None:
    """No answer is no sign of life."""
    async with scene(runtime) as play:
        play.probe.look_at_slots(play.record.server_id, play.record.socket_path)
        seen = await play.rig.event(SlotsSeen)

    assert seen.mark == ""


@asynchronous
async def test_memory_is_measured_and_silent_for_the_dead(runtime: str) -> None:
    """What a model really needs is learned from this."""
    async with scene(runtime) as play:
        play.probe.measure_memory("a", os.getpid())
        play.probe.measure_memory("b", 2**22 + 1)

    (measured,) = play.rig.of(MemoryMeasured)
    assert measured.server_id == "a"
    assert measured.resident_bytes > measured.private_bytes > 1024**2
    assert measured.gpu_bytes == ()


def test_mark_changes_with_every_sign_of_work() -> None:
    """Prompt and answer both count as progress, in every build's spelling."""
    shapes = [
        b"[]",
        b'[{"id":0,"is_processing":false}]',
        b'[{"id":0,"is_processing":true,"id_task":7}]',
        b'[{"id":0,"is_processing":true,"id_task":7,"n_prompt_tokens_processed":64}]',
        b'[{"id":0,"is_processing":true,"id_task":7,"next_token":[{"n_decoded":1}]}]',
        b'[{"id":0,"is_processing":true,"id_task":7,"next_token":{"n_decoded":2}}]',
        b'[{"id":0,"is_processing":true,"id_task":8,"next_token":null}]',
    ]

    assert len({mark_of(shape)[0] for shape in shapes}) == len(shapes)


@given(st.binary(max_size=200))
def test_mark_of_anything_is_a_string(content: bytes) -> None:
    """A server that talks nonsense must not end the daemon."""
    assert isinstance(mark_of(content)[0], str)
    assert mark_of(b"[" * 100_000) == ("", False)
