"""The service manager kills what does not speak to it in the right words."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeld.host.notify import ServiceManager, listen_fds, turn_away

PID = str(os.getpid())


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Yield the socket of a service manager, and point the environment to it."""
    path = Path(tempfile.mkdtemp(dir="/tmp")) / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listener
    path.unlink()
    path.parent.rmdir()


def _heard(listener: socket.socket) -> str:
    return listener.recv(4096).decode()


def test_each_call_is_one_message(manager: socket.socket) -> None:
    """sd_notify(3)."""
    service = ServiceManager({**os.environ, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": PID})
    try:
        for call in (service.ready, service.stopping, service.watchdog):
            call()
        assert [_heard(manager) for _ in range(3)] == ["READY=1", "STOPPING=1", "WATCHDOG=1"]
        assert service.watchdog_seconds == 2.0
    finally:
        service.close()


def test_status_is_one_line_in_utf_8(manager: socket.socket) -> None:
    """A line feed would be another message, and model names have any letters."""
    service = ServiceManager(os.environ)
    service.status("1 ready:\n模型 näher" + "x" * 1000)
    service.close()
    heard = _heard(manager)

    assert heard.startswith("STATUS=1 ready: 模型 näher")
    assert len(heard) == len("STATUS=") + 256


def test_reload_has_its_time_in_the_same_message(manager: socket.socket) -> None:
    """What systemd 253 and later want for `Type=notify-reload`."""
    service = ServiceManager(os.environ)
    service.reloading()
    service.close()
    first, second = _heard(manager).split("\n")

    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_without_a_manager_nothing_happens() -> None:
    """`modeld` by hand, in a terminal."""
    service = ServiceManager({})
    for call in (service.ready, service.reloading, service.stopping, service.watchdog):
        call()
    service.status("x")
    service.close()

    assert service.watchdog_seconds == 0.0


# sdnotify drops its socket unclosed when nobody is there.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_manager_that_is_gone_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket may be left from another life."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/tmp/nobody-there")
    service = ServiceManager(os.environ)
    service.ready()
    service.close()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": PID}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "x"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({}, 0.0),
    ],
)
def test_watchdog_is_for_this_process_only(environment: dict[str, str], seconds: float) -> None:
    """sd_watchdog_enabled(3): an inherited variable is not meant for us."""
    assert ServiceManager(environment).watchdog_seconds == seconds


LISTENER = """
import os, sys
from modeld.host.notify import listen_fds
environment = {**os.environ, "LISTEN_PID": str(os.getpid())}
print(listen_fds(environment, os.getpid()), os.get_inheritable(3))
"""


def test_listen_fds_are_found_by_name_and_not_inherited() -> None:
    """sd_listen_fds(3); in a process of its own, since they begin at 3."""
    root = Path(__file__).parents[2]
    script = 'exec 3</dev/null 4</dev/null 5</dev/null; exec "$0" -c "$1"'
    environment = {
        "PYTHONPATH": str(root / "daemon"),
        "LISTEN_FDS": "3",
        "LISTEN_FDNAMES": "rpc:http:http",
    }
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, LISTENER],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "{'rpc': [3], 'http': [4, 5]} False\n"


def test_turn_away_hangs_up_on_all_who_wait_and_leaves_the_socket() -> None:
    """Else the service manager starts a modeld that can't serve for the same clients again."""
    with (
        socket.create_server(("127.0.0.1", 0)) as busy,
        socket.create_server(("127.0.0.1", 0)) as idle,
    ):
        waiting = [socket.create_connection(busy.getsockname(), 5) for _ in range(3)]
        turn_away([busy.fileno(), idle.fileno()])

        assert [one.recv(1) for one in waiting] == [b"", b"", b""]
        with socket.create_connection(busy.getsockname(), 5):
            busy.settimeout(5)
            busy.accept()[0].close()
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": PID},
        {"LISTEN_FDS": "-1", "LISTEN_PID": PID},
        {"LISTEN_FDS": "0", "LISTEN_PID": PID},
    ],
)
def test_listen_fds_of_others_are_left_alone(environment: dict[str, str]) -> None:
    """Descriptor 3 may be anything else."""
    assert listen_fds(environment, os.getpid()) == {}
