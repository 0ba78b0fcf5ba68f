"""modeld as a systemd user service, with its journal, under a real user manager."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import user_systemd
from tests.support.launchers import systemctl
from tests.support.service import Service, a_service

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not user_systemd.is_inside(), reason="runs below a private user manager"),
]
ROUNDS = int(os.environ.get("MODELD_TEST_ROUNDS", "5"))


@pytest.fixture
def service() -> Iterator[Service]:
    """Return the installed service with two models, started as a person would."""
    with a_service() as found:
        found.add("alpha", "beta")
        systemctl("start", "modeld")
        yield found


def test_service_loads_a_slot_and_the_journal_tells(service: Service) -> None:
    """`systemctl --user start modeld; modelctl load -n1 tool; journalctl --user -u modeld`."""
    service.modelctl("slot", "set", "tool", "alpha")
    service.modelctl("load", "-n1", "tool")

    assert service.chat("tool") == "I am alpha ."
    assert "alpha is ready" in service.journal()
    assert service.json("status")["launcher"] == "systemd"


def test_journal_has_fields_and_ids_of_its_own(service: Service) -> None:
    """`journalctl MODELD_MODEL=alpha` and `MESSAGE_ID=...` find what belongs together."""
    from modeld.wire.events import EVENTS

    service.modelctl("load", "alpha")
    by_model = service.journal("MODELD_MODEL=alpha")
    by_kind = service.journal(f"MESSAGE_ID={EVENTS['server-ready'].message_id}")

    assert "alpha is ready" in by_model
    assert set(by_kind.splitlines()) >= {line for line in by_model.splitlines() if "ready" in line}
    assert all("ready" in line for line in by_kind.splitlines())


def test_manager_shows_what_is_loaded(service: Service) -> None:
    """STATUS= is what a person sees first."""
    service.modelctl("load", "alpha")
    end = time.monotonic() + 5
    while "1 ready (alpha)" not in systemctl("status", "modeld"):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_restart_keeps_the_model_with_its_pid(service: Service) -> None:
    """Promise 2, by its most ordinary way."""
    service.modelctl("load", "alpha")
    before, daemon = service.servers()["alpha"]["pid"], service.pid()
    systemctl("restart", "modeld")

    assert service.pid() != daemon
    assert service.servers()["alpha"]["pid"] == before
    assert service.chat("alpha") == "I am alpha ."


def test_kill_9_keeps_two_models_with_their_pids_every_time(service: Service) -> None:
    """A1: the same pids, both answering, no orphans; READY soon."""
    service.modelctl("load", "alpha")
    service.modelctl("load", "beta", "--nokill")
    before = {name: row["pid"] for name, row in service.servers().items()}
    for _ in range(ROUNDS):
        daemon = service.pid()
        os.kill(daemon, signal.SIGKILL)
        service.wait_until_serving(daemon)
        after = {name: row["pid"] for name, row in service.servers().items()}
        assert after == before
        assert (service.chat("alpha"), service.chat("beta")) == ("I am alpha .", "I am beta .")
        assert len(service.units_left()) == 2
        systemctl("reset-failed", check=False)


def test_stop_leaves_nothing(service: Service) -> None:
    """A9: a deliberate stop frees the GPU; a restart must not."""
    service.modelctl("load", "alpha")
    pid = service.servers()["alpha"]["pid"]
    systemctl("stop", "modeld.service", "modeld.socket")
    end = time.monotonic() + 12
    while psutil.pid_exists(pid) or service.units_left():
        assert time.monotonic() < end, service.units_left()
        time.sleep(0.05)


def test_reload_reads_the_configuration_and_keeps_the_model(service: Service) -> None:
    """`systemctl --user reload modeld`."""
    service.modelctl("load", "alpha")
    before = service.servers()["alpha"]["pid"]
    service.config.write_text(service.config.read_text() + "models.max_concurrent_loaded = 4\n")
    systemctl("reload", "modeld")
    end = time.monotonic() + 5
    while "max_concurrent_loaded: 2 -> 4" not in service.journal():
        assert time.monotonic() < end, service.journal()
        time.sleep(0.05)

    assert service.servers()["alpha"]["pid"] == before


def test_server_that_crashed_is_told_with_its_signal(service: Service) -> None:
    """The manager knows how it ended; so does the user then."""
    service.modelctl("load", "alpha")
    os.kill(service.servers()["alpha"]["pid"], signal.SIGSEGV)
    end = time.monotonic() + 5
    while "SIGSEGV" not in service.journal():
        assert time.monotonic() < end, service.journal()
        time.sleep(0.05)


def test_frozen_daemon_is_restarted_by_the_watchdog_and_the_model_stays(service: Service) -> None:
    """B1: SIGSTOP stands for a loop that hangs."""
    directory = service.config.parent.parent / "systemd" / "user" / "modeld.service.d"
    directory.mkdir(parents=True, exist_ok=True)
    quick = directory / "quick.conf"
    quick.write_text("[Service]\nWatchdogSec=2\n")
    try:
        systemctl("daemon-reload")
        systemctl("restart", "modeld")
        service.modelctl("load", "alpha")
        before, daemon = service.servers()["alpha"]["pid"], service.pid()
        os.kill(daemon, signal.SIGSTOP)
        service.wait_until_serving(daemon)

        assert service.servers()["alpha"]["pid"] == before
    finally:
        quick.unlink()


def test_sockets_and_directories_are_for_this_user_alone(service: Service) -> None:
    """Promise 4, as installed."""
    service.modelctl("load", "alpha")
    socket_file = service.servers()["alpha"]["socket"]
    modes = {
        str(path): stat.S_IMODE(path.stat().st_mode)
        for path in (service.runtime, service.runtime / "rpc.sock", Path(socket_file).parent)
    }

    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


def test_server_has_an_empty_environment_whatever_the_manager_has(service: Service) -> None:
    """G4, through the unit."""
    systemctl("set-environment", "LLAMA_ARG_TOOLS=all", "LD_PRELOAD=/nothing.so")
    try:
        service.modelctl("load", "alpha")
        environment = psutil.Process(service.servers()["alpha"]["pid"]).environ()
    finally:
        systemctl("unset-environment", "LLAMA_ARG_TOOLS", "LD_PRELOAD")

    assert not {"LLAMA_ARG_TOOLS", "LD_PRELOAD", "NOTIFY_SOCKET"} & environment.keys()


def test_port_of_its_own_is_reachable_through_the_sandbox(service: Service) -> None:
    """`-p PORT` needs TCP, which the unit takes away from all others."""
    import http.client

    from tests.support.daemon import free_port

    port = free_port()
    service.modelctl("load", "alpha", "-p", str(port))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/health")

    assert connection.getresponse().status == 200
    connection.close()


def test_socket_unit_starts_modeld_and_keeps_clients_over_restarts() -> None:
    """B4: with the sockets in systemd's hands, nobody is turned away."""
    with a_service(sockets=True) as service:
        service.add("alpha")
        systemctl("start", "modeld.socket", "modeld-http.socket")
        inode = (service.runtime / "rpc.sock").stat().st_ino

        assert [row["name"] for row in service.json("list")["models"]] == ["alpha"]
        for _ in range(3):
            systemctl("restart", "modeld", "--no-block")
            assert service.chat("alpha") == "I am alpha ."
            service.wait_until_serving()
        assert (service.runtime / "rpc.sock").stat().st_ino == inode


def test_mistake_in_the_configuration_does_not_lock_anybody_out() -> None:
    """Clients that wait at the sockets must not have it started until systemd gives up."""
    with a_service(sockets=True) as service:
        valid = service.config.read_text()
        service.config.write_text("load.replaces = 1\n")
        systemctl("start", "modeld.socket", "modeld-http.socket")
        for _ in range(3):
            service.modelctl("list", status=69)
        service.modelctl("config", "check", status=78)
        service.config.write_text(valid)
        end = time.monotonic() + 5
        while "active (running)" not in systemctl("status", "modeld", check=False):
            assert time.monotonic() < end
            systemctl("start", "modeld", check=False)  # one that fails may be under way

        assert service.json("list")["ok"]
        assert service.journal().count("load.replaces") <= 12


def test_second_daemon_by_hand_is_refused(service: Service) -> None:
    """B5: one instance only."""
    import subprocess
    import sys

    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "modeld"], capture_output=True, text=True, check=False, timeout=20
    )

    assert done.returncode == 75
    assert "another modeld runs" in done.stderr
    assert time.monotonic() - began < 5
    assert service.json("version")["ok"]
