"""`rpc.server`: one ROUTER socket, for this user alone, whatever is thrown at it."""

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Self

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from modeld.errors import Throttled
from modeld.rpc.handlers import decoder
from modeld.rpc.server import MAX_AT_ONCE, MAX_REQUESTS, Handler, RpcServer, Send
from modeld.wire import codec
from modeld.wire.codec import Failure, Header, Progress
from modeld.wire.daemon import AskVersion, Happened, Reload, Subscribe
from modeld.wire.load import CanLoad, Done
from modeld.wire.models import Ps
from modeld.wire.names import ListNames
from tests.support.fake_ports import FakeJournal
from tests.support.running import asynchronous

REPLY_MS = 5000
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="md-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class Echo:
    """Handles requests in the ways that a test needs."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0

    async def __call__(self, request: Struct, header: Header, send: Send) -> Struct:
        """Answer by the kind of the request."""
        self.calls += 1
        match request:
            case AskVersion():
                return Done(message=header.id)
            case Reload():
                raise Throttled("Too soon to reload. Wait 3s.", hint="wait", retry_after_s=3)
            case ListNames():
                raise RuntimeError("a bug")
            case Ps():
                for number in range(3):
                    send(Progress(phase="load", fraction=number / 2))
                return Done(message="progressed")
            case Subscribe():
                return await self._flood(send)
            case _:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
        raise AssertionError

    async def _flood(self, send: Send) -> Struct:
        for number in range(2000):
            send(Happened(event="e", message="x" * 1000, at=str(number)))
            if number % 100 == 0:
                await asyncio.sleep(0)
        return Done(message="flooded")


@contextlib.asynccontextmanager
async def serving(
    directory: Path, handler: Handler | None = None, looks: Collection[type[Struct]] = ()
) -> AsyncIterator[Echo]:
    """Run a server in this loop."""
    echo = Echo()
    server = RpcServer(handler or echo, decoder(), FakeJournal(), looks)
    server.start(f"{directory}/rpc.sock", None)
    try:
        yield echo
    finally:
        await server.close(0.2)


class Client:
    """A plain DEALER, in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(f"ipc://{directory}/rpc.sock")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.context.term()

    def send(self, body: Struct, request_id: str = "1", **header: int) -> None:
        """Send a request."""
        head = Header(**{"v": codec.VERSION, "id": request_id, **header})  # type: ignore[arg-type]
        self.socket.send_multipart(codec.encode(head, body))

    async def receive(self, milliseconds: int = REPLY_MS) -> tuple[Header, object]:
        """Return the next message."""
        if not await asyncio.to_thread(self.socket.poll, milliseconds):
            raise TimeoutError
        frames = self.socket.recv_multipart()
        return codec.decode_header(frames), msgspec.msgpack.decode(frames[2])


def ask(directory: Path, body: Struct, **header: int) -> tuple[Header, dict[str, object]]:
    """Return the answer to one request."""

    async def run() -> tuple[Header, object]:
        async with serving(directory):
            with Client(directory) as client:
                client.send(body, **header)
                return await client.receive()

    head, answer = asyncio.run(run())
    assert isinstance(answer, dict)
    return head, answer


def test_server_answers_with_the_id_of_the_request(directory: Path) -> None:
    """Several requests share one socket."""
    head, answer = ask(directory, AskVersion())

    assert (head.id, head.kind, answer["message"]) == ("1", "reply", "1")


def test_server_sends_progress_before_the_answer(directory: Path) -> None:
    """The stream of a load."""

    @asynchronous
    async def run() -> None:
        async with serving(directory):
            with Client(directory) as client:
                client.send(Ps())
                kinds = [(await client.receive())[0].kind for _ in range(4)]
        assert kinds == ["progress"] * 3 + ["reply"]

    run()


def test_server_sends_errors_with_code_hint_and_numbers(directory: Path) -> None:
    """Every error tells its cause, a hint and numbers."""
    head, answer = ask(directory, Reload())

    assert head.kind == "failure"
    assert answer["code"] == "throttled"
    assert answer["hint"] == "wait"
    assert answer["numbers"] == {"retry_after_s": 3}


def test_server_survives_a_bug_in_one_request(directory: Path) -> None:
    """One request's bug must not end the others."""
    _, answer = ask(directory, ListNames())

    assert answer["code"] == "internal"


def test_server_refuses_another_protocol_version_clearly(directory: Path) -> None:
    """Whoever upgrades only one side has to be told."""
    _, answer = ask(directory, AskVersion(), v=99)

    assert answer["code"] == "protocol"
    assert "99" in str(answer["message"])
    assert "restart modeld" in str(answer["hint"])


def test_server_refuses_a_message_that_it_does_not_know(directory: Path) -> None:
    """Half obeying would be worse."""

    class Strange(Struct, tag="strange"):
        pass

    assert ask(directory, Strange())[1]["code"] == "protocol"


def test_server_gives_up_waiting_at_the_deadline_of_the_client(directory: Path) -> None:
    """No wait without a bound, and what was begun goes on."""
    from modeld.wire.common import Selector

    _, answer = ask(directory, CanLoad(selector=Selector(pattern="x")), deadline_ms=50)

    assert answer["code"] == "timed_out"


def test_request_that_is_sent_twice_is_handled_once(directory: Path) -> None:
    """E8: a client that asks again after a restart must not act twice."""

    @asynchronous
    async def run() -> None:
        async with serving(directory) as echo:
            for _ in range(2):
                with Client(directory) as client:
                    client.send(AskVersion(), "same")
                    await client.receive()
            assert echo.calls == 1

    run()


def test_request_that_only_looks_is_handled_again(directory: Path) -> None:
    """Answers of a megabyte, kept for ten minutes each, would be most of the daemon's memory."""

    @asynchronous
    async def run() -> None:
        async with serving(directory, looks=[AskVersion]) as echo:
            for _ in range(2):
                with Client(directory) as client:
                    client.send(AskVersion(), "same")
                    await client.receive()
            assert echo.calls == 2

    run()


def test_timeout_inside_a_handler_is_answered_like_any_bug(directory: Path) -> None:
    """It is not the client's deadline, of which there may be none: silence would be for ever."""

    async def handler(_request: Struct, _header: Header, _send: Send) -> Struct:
        raise TimeoutError

    @asynchronous
    async def run() -> None:
        async with serving(directory, handler):
            with Client(directory) as client:
                client.send(AskVersion())
                _, answer = await client.receive(2000)
        assert isinstance(answer, dict)
        assert answer["code"] == "internal"

    run()


def test_flood_of_messages_leaves_turns_to_the_rest_of_the_loop(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client that sends faster than is read must not freeze gateway and supervisor."""
    taken = 0
    decode_header = codec.decode_header

    def count(message: list[bytes]) -> Header:
        nonlocal taken
        taken += 1
        return decode_header(message)

    monkeypatch.setattr(codec, "decode_header", count)

    @asynchronous
    async def run() -> None:
        async with serving(directory):
            with Client(directory) as client:
                await asyncio.sleep(0.1)  # connected, so that all comes at once
                for _ in range(MAX_AT_ONCE * 5):
                    client.socket.send_multipart([b"MD1", b"nonsense", b""])
                turns = []
                while taken < MAX_AT_ONCE * 5:
                    before = taken
                    await asyncio.sleep(0)
                    turns.append(taken - before)
        assert max(turns) <= MAX_AT_ONCE

    run()


def test_slow_reader_loses_progress_and_delays_nobody(directory: Path) -> None:
    """E6: one client that does not read must not make others wait."""

    @asynchronous
    async def run() -> None:
        async with serving(directory):
            with Client(directory) as slow, Client(directory) as quick:
                slow.socket.rcvhwm = 1
                slow.send(Subscribe())
                await asyncio.sleep(0.05)
                quick.send(AskVersion(), "2")
                assert (await quick.receive(1000))[0].id == "2"

    run()


def test_server_refuses_more_requests_than_it_keeps(directory: Path) -> None:
    """No queue without a limit."""
    from modeld.wire.common import Selector

    @asynchronous
    async def run() -> None:
        async with serving(directory):
            with Client(directory) as client:
                for number in range(MAX_REQUESTS + 1):
                    client.send(CanLoad(selector=Selector(pattern="x")), str(number))
                _, answer = await client.receive()
                assert isinstance(answer, dict)
                assert answer["code"] == "busy"

    run()


def test_socket_is_for_this_user_alone(directory: Path) -> None:
    """E1: by its mode, before anything else."""

    @asynchronous
    async def run() -> None:
        async with serving(directory):
            mode = (directory / "rpc.sock").stat().st_mode
            assert stat.S_IMODE(mode) & 0o077 == 0

    run()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_another_user_gets_no_answer_even_when_the_modes_allow_it(directory: Path) -> None:
    """E1: ZAP and the peer's uid are the second and third door."""
    script = (
        "import zmq, sys\n"
        "socket = zmq.Context().socket(zmq.DEALER); socket.linger = 0\n"
        f"socket.connect('ipc://{directory}/rpc.sock')\n"
        "socket.send_multipart([b'MD1', bytes.fromhex(sys.argv[1]), bytes.fromhex(sys.argv[2])])\n"
        "print('answered' if socket.poll(500) else 'silence')\n"
    )
    frames = codec.encode(Header(v=1, id="1"), AskVersion())
    site = Path(zmq.__file__).parent.parent

    @asynchronous
    async def run() -> None:
        async with serving(directory) as echo:
            directory.chmod(0o777)
            (directory / "rpc.sock").chmod(0o777)
            done = await asyncio.to_thread(
                subprocess.run,
                ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                 shutil.which("python3", path="/usr/bin") or sys.executable,
                 "-c", script, frames[1].hex(), frames[2].hex()],
                capture_output=True, text=True, check=False,
                env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            if done.returncode:
                pytest.skip("another user can't run this Python: " + done.stderr[-200:])
            assert done.stdout.strip() == "silence"
            assert echo.calls == 0

    run()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(blobs=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8))
def test_random_bytes_at_the_socket_harm_nobody(directory: Path, blobs: list[bytes]) -> None:
    """E2: garbage peers, while a good client is answered."""

    @asynchronous
    async def run() -> None:
        async with serving(directory) as echo:
            for blob in blobs:
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as raw:
                    raw.connect(f"{directory}/rpc.sock")
                    raw.sendall(blob)
            with Client(directory) as client:
                client.send(AskVersion())
                assert (await client.receive())[0].kind == "reply"
            assert echo.calls == 1

    run()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    frames=st.lists(
        st.lists(st.one_of(st.just(b"MD1"), st.binary(max_size=60)), max_size=5), max_size=12
    )
)
def test_random_frames_never_reach_a_handler(directory: Path, frames: list[list[bytes]]) -> None:
    """E7: well-formed ZeroMQ with nonsense inside."""

    @asynchronous
    async def run() -> None:
        async with serving(directory) as echo:
            with Client(directory) as client:
                for message in frames:
                    client.socket.send_multipart(message or [b""])
                client.send(AskVersion(), "good")
                while True:
                    head, _ = await client.receive()
                    if head.id == "good":
                        break
            assert echo.calls == 1

    run()


def test_huge_frame_ends_the_connection_without_memory(directory: Path) -> None:
    """E3: a header that announces 2^62 bytes must not allocate them."""

    @asynchronous
    async def run() -> None:
        async with serving(directory):
            with Client(directory) as client:
                client.socket.send_multipart([b"MD1", b"x" * (codec.MAX_MESSAGE_BYTES + 1), b""])
            with Client(directory) as client:
                client.send(AskVersion())
                assert (await client.receive())[0].kind == "reply"

    run()


def test_deep_nesting_is_refused_like_any_nonsense() -> None:
    """E7: msgspec raises RecursionError there, which is no MsgspecError."""
    with pytest.raises(codec.ProtocolMismatch):
        codec.decode_body(decoder(), b"\x91" * 100_000 + b"\xc0")


def test_stale_socket_of_a_dead_daemon_is_replaced(directory: Path) -> None:
    """Else the first start after a kill -9 would fail."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{directory}/rpc.sock")

    assert ask(directory, AskVersion())[0].kind == "reply"


def test_socket_of_the_service_manager_is_used_as_it_is(directory: Path) -> None:
    """Socket activation: the backlog keeps clients while modeld restarts."""

    @asynchronous
    async def run() -> None:
        path = f"{directory}/rpc.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(8)
        inode = Path(path).stat().st_ino
        server = RpcServer(Echo(), decoder(), FakeJournal())
        server.start(path, os.dup(listener.fileno()))
        try:
            with Client(directory) as client:
                client.send(AskVersion())
                assert (await client.receive())[0].kind == "reply"
        finally:
            await server.close(0.2)
            listener.close()
        assert Path(path).stat().st_ino == inode

    run()


def test_failure_keeps_its_shape() -> None:
    """Recorded bytes: a client of another day must still read it."""
    body = msgspec.msgpack.encode(Failure("throttled", "m", "h", {"retry_after_s": 3}))

    assert body == bytes.fromhex(
        "85a474797065a76661696c757265a4636f6465a97468726f74746c6564"
        "a76d657373616765a16da468696e74a168a76e756d6265727381ad72657472795f61667465725f7303"
    )
