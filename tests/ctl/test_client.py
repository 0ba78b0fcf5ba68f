"""The socket to modeld: who listens, what comes back, and what if nobody does."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import msgpack

import modelctl.client
from modelctl.client import Client, new_id, require_listener, wait_for_listener
from modelctl.errors import Refusal
from modeld.errors import (
    NotPermitted,
    ProtocolMismatch,
    TimedOut,
    Unavailable,
    Usage,
)
from modeld.wire.codec import Failure, Progress
from modeld.wire.common import Selector
from modeld.wire.daemon import AskVersion, Happened, Subscribe, VersionReport
from modeld.wire.load import Done, Load, Loaded, Wait
from modeld.wire.models import ModelRow, Models, Ps, Servers
from tests.support.fake_daemon import GO_AWAY, FakeDaemon

UID = os.getuid()
SERVERS = msgpack.Decoder(Servers)
LOADED = msgpack.Decoder(Loaded)
NOTHING = Servers(servers=())
READY = Loaded(model="m", server_id="s", address="", seconds=0.1, message="m is ready")
LOAD = Load(selector=Selector(pattern="m"))


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    """A client that is connected to the fake daemon."""
    one = Client(daemon.path, UID)
    yield one
    one.close()


def test_client_says_at_once_that_nobody_is_there(socket_path: str) -> None:
    """ZeroMQ alone would wait until the deadline."""
    with pytest.raises(Unavailable, match="no socket at") as caught:
        Client(socket_path, UID)

    assert caught.value.hint == "systemctl --user start modeld"


def test_client_says_that_nobody_listens_at_a_socket_that_was_left_behind(socket_path: str) -> None:
    """A daemon that was killed leaves its socket in the directory."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)

    with pytest.raises(Unavailable, match="nobody listens"):
        require_listener(socket_path, UID)


def test_client_refuses_a_path_that_no_socket_can_have() -> None:
    """The kernel's own message does not say what to do."""
    with pytest.raises(Usage, match="longer than 107 bytes"):
        require_listener("/tmp/" + "x" * 107, UID)


def test_client_refuses_a_file_that_is_no_socket(tmp_path: Path) -> None:
    """A mistyped MODELD_SOCKET must not look like a stopped daemon."""
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="is no socket"):
        require_listener(str(tmp_path / "file"), UID)


def test_client_refuses_a_socket_of_another_user(daemon: FakeDaemon) -> None:
    """Requests to somebody else's socket would tell them what we load, and obey their answers."""
    with pytest.raises(NotPermitted, match="belongs to another user"):
        require_listener(daemon.path, UID + 1)


def test_client_refuses_a_listener_of_another_user_behind_a_socket_of_ours(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the file says nothing about who listens."""
    monkeypatch.setattr(modelctl.client, "_check_owner", lambda path, uid: None)

    with pytest.raises(NotPermitted):
        require_listener(daemon.path, UID + 1)


def test_client_tells_a_socket_that_it_may_not_open_from_one_that_is_not_there(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root can open everything, so the refusal is played here."""

    def refuse(path: str, uid: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(modelctl.client, "_check_owner", refuse)

    with pytest.raises(NotPermitted):
        require_listener(socket_path, UID)


def test_ask_returns_the_reply(client: Client, daemon: FakeDaemon) -> None:
    """The simplest thing there is."""
    daemon.on(Ps, NOTHING)

    assert client.ask(Ps(), SERVERS, timeout_s=10) == NOTHING


def test_ask_tells_the_daemon_who_asks_and_for_how_long(client: Client, daemon: FakeDaemon) -> None:
    """The daemon gives up when the client has, and its log names the client."""
    daemon.on(Ps, NOTHING)
    client.ask(Ps(), SERVERS, timeout_s=10)

    assert daemon.headers[0].deadline_ms == 10_000
    assert daemon.headers[0].program.startswith("modelctl ")


def test_ask_raises_what_the_daemon_refuses_with(client: Client, daemon: FakeDaemon) -> None:
    """Code, hint and numbers are the daemon's own, known here or not."""
    daemon.on(Ps, Failure("on_fire", "it burns", "run", {"degrees": 451}))

    with pytest.raises(Refusal) as caught:
        client.ask(Ps(), SERVERS, timeout_s=10)

    error = caught.value
    assert (error.word, error.message, error.hint) == ("on_fire", "it burns", "run")
    assert error.numbers == {"degrees": 451}


def test_exchange_yields_progress_before_the_reply(client: Client, daemon: FakeDaemon) -> None:
    """A load shows what it does while it does it."""
    steps = [Progress(phase="start"), Progress(phase="load", fraction=0.5)]
    daemon.on(Load, *steps, READY)

    assert list(client.exchange(LOAD, LOADED, timeout_s=10)) == [*steps, READY]


def test_exchange_ticks_while_nothing_comes(client: Client, daemon: FakeDaemon) -> None:
    """The elapsed time on the screen must not stand still."""
    gate = threading.Event()
    daemon.on(Load, gate, READY)
    answers = client.exchange(LOAD, LOADED, timeout_s=10, tick_s=0.01)

    assert next(answers) is None
    gate.set()
    assert list(answers)[-1] == READY


def test_client_may_ask_one_thing_after_another(client: Client, daemon: FakeDaemon) -> None:
    """`logs -f` asks again and again over one connection."""
    daemon.on(Ps, NOTHING)
    replies = [client.ask(Ps(), SERVERS, timeout_s=10) for _ in range(3)]

    assert replies == [NOTHING] * 3
    assert len({header.id for header in daemon.headers}) == 3


def test_client_ignores_a_late_answer_to_an_older_request(
    client: Client, daemon: FakeDaemon
) -> None:
    """A request that timed out may be answered while the next one waits."""
    gate = threading.Event()
    version = VersionReport(version="1", protocol=1, python="", engine="", engine_version="")
    daemon.on(Ps, gate, NOTHING)
    with pytest.raises(TimedOut):
        client.ask(Ps(), SERVERS, timeout_s=0.01)
    late = threading.Event()
    daemon.on_call(AskVersion, lambda *_: [gate.set() or late, version])
    answers = client.exchange(
        AskVersion(), msgpack.Decoder(VersionReport), timeout_s=10, tick_s=0.05
    )

    assert next(answers) is None
    late.set()
    assert list(answers)[-1] == version


def test_ask_gives_up_when_its_time_has_run_out(client: Client, daemon: FakeDaemon) -> None:
    """A daemon that hangs must not hang a script."""
    began_at = time.monotonic()

    with pytest.raises(TimedOut, match=r"within 0\.1 s"):
        client.ask(Ps(), SERVERS, timeout_s=0.1)

    assert 0.1 <= time.monotonic() - began_at < 5


def test_client_refuses_a_daemon_of_another_protocol(socket_path: str) -> None:
    """After an upgrade the old daemon still runs; that is what the person must be told."""
    with FakeDaemon(socket_path, version=2, program="modeld 9.0") as daemon:
        daemon.on(Ps, NOTHING)
        client = Client(socket_path, UID)
        with pytest.raises(ProtocolMismatch, match=r"modeld 9\.0 speaks protocol 2"):
            client.ask(Ps(), SERVERS, timeout_s=10)
        client.close()


def test_client_refuses_an_answer_of_another_kind(client: Client, daemon: FakeDaemon) -> None:
    """A reply that can't be read is a mismatch of versions, not a traceback."""
    daemon.on(Ps, Done())

    with pytest.raises(ProtocolMismatch, match="not understood"):
        client.ask(Ps(), SERVERS, timeout_s=10)


def test_client_refuses_frames_that_are_not_ours(client: Client, daemon: FakeDaemon) -> None:
    """Some other ZeroMQ program may listen at the path."""
    daemon.on(Ps, [b"hello"])

    with pytest.raises(ProtocolMismatch):
        client.ask(Ps(), SERVERS, timeout_s=10)


def test_client_ignores_fields_that_it_does_not_know(client: Client, daemon: FakeDaemon) -> None:
    """A newer daemon of the same protocol may say more."""
    header = msgpack.encode
    daemon.on_call(
        Ps,
        lambda request, asked: [
            [
                b"MD1",
                header({"v": 1, "id": asked.id, "kind": "reply", "mood": "good"}),
                msgpack.encode({"type": "servers", "servers": [], "weather": "fine"}),
            ]
        ],
    )

    assert client.ask(Ps(), SERVERS, timeout_s=10) == NOTHING


def test_client_takes_a_list_of_ten_thousand_models(client: Client, daemon: FakeDaemon) -> None:
    """A bound on frames must not bound the number of models."""
    row = ModelRow(name="n" * 60, id="i" * 120, path="/p" * 100, nicknames=("a", "b"))
    daemon.on(Ps, Models(models=(row,) * 10_000))

    reply = client.ask(Ps(), msgpack.Decoder(Models), timeout_s=10)

    assert len(reply.models) == 10_000


def test_client_leaves_a_listener_alone_that_hangs_up(socket_path: str) -> None:
    """Another program; or a modeld that can't start, and is started for every try."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)
        listener.listen()
        stop = threading.Event()
        tries: list[int] = []
        talker = threading.Thread(target=_hang_up, args=(listener, stop, tries))
        talker.start()
        client = Client(socket_path, UID)
        with pytest.raises(Unavailable, match="hung up"):
            client.ask(Ps(), SERVERS, timeout_s=10)
        client.close()
        stop.set()
        talker.join(10)

    assert len(tries) <= 4  # the first one only looks whose it is


def _hang_up(listener: socket.socket, stop: threading.Event, tries: list[int]) -> None:
    listener.settimeout(0.05)
    while not stop.is_set():
        with suppress(TimeoutError):
            listener.accept()[0].close()
            tries.append(1)


def test_request_is_sent_again_when_the_daemon_comes_back(
    client: Client, daemon: FakeDaemon
) -> None:
    """A restart in the middle of a load must not lose the load, nor do it twice."""
    answers = iter([[Progress(phase="start"), GO_AWAY], [READY]])
    daemon.on_call(Load, lambda *_: next(answers))

    assert list(client.exchange(LOAD, LOADED, timeout_s=10))[-1] == READY
    assert len({header.id for header in daemon.headers}) == 1
    assert len(daemon.headers) == 2


def test_request_is_not_sent_again_for_ever(client: Client, daemon: FakeDaemon) -> None:
    """A request that kills the daemon each time must not keep on killing it."""
    daemon.on(Ps, GO_AWAY)

    with pytest.raises(Unavailable, match="went away"):
        client.ask(Ps(), SERVERS, timeout_s=30)

    assert len(daemon.requests) == 1 + modelctl.client.MAX_RESENDS


def test_client_gives_up_on_a_daemon_that_does_not_come_back(
    socket_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes of silence would be the alternative."""
    monkeypatch.setattr(modelctl.client, "PATIENCE_S", 0.2)
    with FakeDaemon(socket_path):
        client = Client(socket_path, UID)
        answers = client.exchange(Ps(), SERVERS, timeout_s=600, tick_s=0.01)
        next(answers)

    with pytest.raises(Unavailable, match="went away"):
        list(answers)
    client.close()


def test_stream_yields_every_message(client: Client, daemon: FakeDaemon) -> None:
    """Events have no last one."""
    events = [Happened(event="ready", message=str(n), at="") for n in range(3)]
    daemon.on(Subscribe, *events, Done())
    decoder: msgpack.Decoder[Happened | Done] = msgpack.Decoder(Happened | Done)
    stream = client.stream(Subscribe(), decoder, timeout_s=10)

    assert [next(stream) for _ in range(4)] == [*events, Done()]


def test_request_beyond_its_bounds_is_refused_before_it_is_sent(
    client: Client, daemon: FakeDaemon
) -> None:
    """The daemon's refusal would blame the versions."""
    with pytest.raises(Usage, match="not allowed"):
        client.ask(Wait(selector=Selector(pattern="x" * 513)), SERVERS, timeout_s=10)

    assert daemon.requests == []


def test_wait_for_listener_returns_when_the_daemon_has_come(socket_path: str) -> None:
    """`modelctl wait` in a script that has just started modeld."""
    starter = threading.Timer(0.1, lambda: FakeDaemon.__enter__(late))
    late = FakeDaemon(socket_path)
    starter.start()
    wait_for_listener(socket_path, UID, 10)
    starter.join()
    late.__exit__()


def test_wait_for_listener_gives_up(socket_path: str) -> None:
    """Bounded, like every wait."""
    with pytest.raises(Unavailable):
        wait_for_listener(socket_path, UID, 0.1)


def test_request_ids_differ() -> None:
    """The daemon answers a known id from memory."""
    assert len({new_id() for _ in range(1000)}) == 1000
