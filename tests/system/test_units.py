"""The unit files: what systemd thinks of them, and that their directives really act."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modeld.core.events import ServerExited, ServerReady, ServerStarted
from modeld.host.probe import ServerProbe
from tests.support import launchers, units, user_systemd
from tests.support.daemon import free_port
from tests.support.launchers import systemctl
from tests.support.running import asynchronous
from tests.support.server_rig import Rig, eventually
from tests.support.tiny_gguf import write_model

ALL = sorted([*units.UNITS, *(str(path.relative_to(units.SOURCE)) for path in units.drop_ins())])
BIN = Path(sys.executable).parent


def directives(name: str) -> dict[str, list[str]]:
    """Return the directives of a unit file: name -> values."""
    text = (units.SOURCE / name).read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


# --- as files -------------------------------------------------------------------------------


def test_units_are_clean_in_the_eyes_of_systemd(tmp_path: Path) -> None:
    """A directive that systemd does not know is silently ignored on a user's machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    units.install(tmp_path, tuple(name for name in ALL if ".d/" in name))
    files = [tmp_path / name for name in units.UNITS]
    instance = tmp_path / "modeld-llama@abcdefgh01234567.service"
    instance.symlink_to(tmp_path / "modeld-llama@.service")
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", *files, instance],
        capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "modeld" in line]

    assert ours == []
    assert done.returncode == 0


@pytest.mark.parametrize("name", ALL)
def test_placeholders_are_those_that_are_filled_in(name: str, tmp_path: Path) -> None:
    """A unit with `@BINDIR@` in it starts nothing."""
    units.install(tmp_path, (name,) if ".d/" in name else ())

    assert re.findall(r"^[^#].*@[A-Z]+@", (tmp_path / name).read_text(), re.MULTILINE) == []


def test_sockets_are_named_as_the_daemon_expects_them() -> None:
    """It tells the inherited descriptors apart by these names."""
    assert directives("modeld.socket")["FileDescriptorName"] == ["rpc"]
    assert directives("modeld-http.socket")["FileDescriptorName"] == ["http"]
    assert directives("modeld.socket")["ListenStream"] == ["%t/modeld/rpc.sock"]
    assert directives("modeld-http.socket")["ListenStream"] == ["127.0.0.1:8080"]


def test_rpc_socket_is_for_its_owner_alone() -> None:
    """Whoever may connect may unload."""
    assert directives("modeld.socket")["SocketMode"] == ["0600"]
    assert directives("modeld.socket")["DirectoryMode"] == ["0700"]


def test_daemon_is_not_restarted_when_that_would_not_help() -> None:
    """Wrong arguments, a second daemon, a wrong configuration: none heals by itself."""
    service = directives("modeld.service")

    assert service["RestartPreventExitStatus"] == ["2 75 78"]
    assert service["StartLimitBurst"] == ["20"]
    assert service["RuntimeDirectoryPreserve"] == ["yes"]
    assert "StateDirectory" not in service


def test_server_unit_restarts_nothing_and_expands_nothing() -> None:
    """When a model is tried again is modeld's decision; its arguments are in the record."""
    service = directives("modeld-llama@.service")

    assert service["Restart"] == ["no"]
    assert service["Slice"] == ["app-modeld.slice"]
    assert service["ExecStart"][0].endswith("launch.py start %t/modeld %i")
    assert service["ExecStop"][0].endswith("launch.py stop %t/modeld %i")


@pytest.mark.parametrize("name", ["modeld.service", "modeld-llama@.service"])
def test_unit_needs_no_namespaces_by_itself(name: str) -> None:
    """Ubuntu forbids them to users, and a unit that asks for them does not start there."""
    needing = {"PrivateUsers", "PrivateNetwork", "ProtectSystem", "ProtectHome", "PrivateDevices"}

    assert not needing & directives(name).keys()


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("10-sandbox.conf")])
def test_sandbox_asks_for_a_user_namespace(name: str) -> None:
    """Before systemd 254 everything else in it is silently ignored without."""
    assert directives(name)["PrivateUsers"] == ["yes"]


def test_port_drop_in_sorts_after_the_sandbox() -> None:
    """The last one wins: `load -p` needs the network that the sandbox takes away."""
    names = [Path(name).name for name in ALL if name.startswith("modeld-llama@.service.d/")]

    assert all(name < "50-port.conf" for name in names)


def test_drop_ins_that_are_chosen_for_this_machine_exist() -> None:
    """`make install` copies what the script prints."""
    done = subprocess.run(
        [units.SOURCE / "choose-drop-ins"], capture_output=True, text=True, check=True
    )
    chosen = done.stdout.split()

    assert all((units.SOURCE / name).is_file() for name in chosen)
    assert not {"20-cpu.conf", "20-gpu.conf"} <= {Path(name).name for name in chosen}


# --- under a user manager -------------------------------------------------------------------


@pytest.fixture
def launcher() -> Iterator[launchers.AnyLauncher]:
    """The launcher on systemd, with the sandboxed units installed."""
    with launchers.launcher("systemd") as launcher:
        yield launcher


ESCAPES = """
import ctypes, json, mmap, os, socket, sys
home, runtime, secret = sys.argv[1:4]
done = {}
def attempt(name, call):
    try:
        call()
        done[name] = True
    except Exception:
        done[name] = False
def connect(path):
    with socket.socket(socket.AF_UNIX) as s: s.connect(path)
attempt("write home", lambda: open(home + "/escaped", "w"))
attempt("write tmp", lambda: open("/tmp/escaped", "w"))
attempt("write launch", lambda: open(runtime + "/modeld/launch/escaped", "w"))
attempt("read secret", lambda: open(secret).read())
attempt("user bus", lambda: connect(runtime + "/bus"))
attempt("rpc socket", lambda: connect(runtime + "/modeld/rpc.sock"))
attempt("inet", lambda: socket.socket(socket.AF_INET))
attempt("namespace", lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else
    ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0 or 1 / 0)
attempt("write and execute", lambda: mmap.mmap(-1, 4096, prot=7))
attempt("set user id bit", lambda: os.chmod(runtime + "/modeld/kids", 0o4700))
attempt("sysctl", lambda: open("/proc/sys/kernel/hostname", "w"))
attempt("write kids", lambda: open(runtime + "/modeld/kids/allowed", "w"))
attempt("read home", lambda: os.listdir(home))
print(json.dumps(done), file=sys.stderr, flush=True)
"""


@pytest.mark.systemd
@asynchronous
async def test_sandbox_of_a_server_holds(launcher: launchers.AnyLauncher) -> None:
    """A model file is untrusted input to a C++ program."""
    home, runtime = os.environ["HOME"], os.environ["XDG_RUNTIME_DIR"]
    secret = Path(home, ".ssh", "id_ed25519")
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("private")
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    record = rig.record(sys.executable, "-I", "-S", "-c", ESCAPES, home, runtime, str(secret))
    servers.start(record)
    exited = await rig.event(ServerExited)
    await servers.close()
    done = json.loads(exited.exit.lines[-1])

    assert sorted(name for name, worked in done.items() if worked) == ["read home", "write kids"]


@pytest.mark.systemd
@asynchronous
async def test_server_whose_model_has_a_port_is_reached_by_it(
    launcher: launchers.AnyLauncher, tmp_path: Path
) -> None:
    """The sandbox has no network of its own but for this."""
    port = free_port()
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    script = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    record = rig.record(sys.executable, "-I", "-S", "-c", script, port=port)
    servers.start(record)
    await rig.event(ServerStarted)
    await eventually(lambda: is_listening(port))
    servers.kill(record.server_id)
    await rig.event(ServerExited)
    name = f"modeld-llama@{record.server_id}.service.d"
    drop_in = Path(launcher.runtime).parent / "systemd" / "user" / name
    assert drop_in.is_dir()
    servers.forget(record.server_id)
    await eventually(lambda: not drop_in.exists())
    await servers.close()


@pytest.mark.systemd
@pytest.mark.engine
@pytest.mark.parametrize("drop_ins", [(), ("10-sandbox",), ("10-sandbox", "20-gpu"), ("20-gpu",)])
@asynchronous
async def test_server_starts_with_every_choice_of_drop_ins(
    launcher: launchers.AnyLauncher, tmp_path: Path, drop_ins: tuple[str, ...]
) -> None:
    """Machines differ in namespaces and GPUs; each has its choice (20-cpu is tested elsewhere)."""
    shutil.rmtree(units.user_directory() / "modeld-llama@.service.d")
    names = tuple(f"modeld-llama@.service.d/{name}.conf" for name in drop_ins)
    units.install(units.user_directory(), names)
    systemctl("daemon-reload")
    model = tmp_path / "tiny.gguf"
    write_model(model)
    rig = Rig(launcher.runtime)
    servers, probe = launcher.make(rig.emit), ServerProbe(rig.emit)
    record = rig.real(model)
    servers.start(record)
    probe.watch(record)
    await rig.event(ServerReady)
    servers.stop(record.server_id)
    exited = await rig.event(ServerExited)
    await probe.close()
    await servers.close()

    assert exited.exit.how in {"exited", "signalled"}


@pytest.mark.systemd
@asynchronous
async def test_leave_for_a_port_ends_when_nobody_knows_the_server(
    launcher: launchers.AnyLauncher,
) -> None:
    """A daemon that was killed, and a runtime directory that was emptied, leave it behind."""
    drop_ins = Path(launcher.runtime).parent / "systemd" / "user"
    stale = drop_ins / "modeld-llama@0123456789abcdef.service.d"
    other = drop_ins / "other.service.d"
    for path in (stale, other):
        path.mkdir(parents=True, exist_ok=True)
    servers = launcher.make(Rig(launcher.runtime).emit)
    await servers.find()
    await servers.close()

    assert not stale.exists()
    assert other.exists()


def is_listening(port: int) -> bool:
    """Return whether somebody accepts connections on a loopback port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.systemd
@pytest.mark.parametrize(
    ("unit", "limit"), [("modeld.service", 2.5), ("modeld-llama@abcdefgh01234567.service", 2.0)]
)
def test_hardening_does_not_get_worse(
    launcher: launchers.AnyLauncher, unit: str, limit: float
) -> None:
    """The figure of `systemd-analyze security`, with the sandbox; 10 is none at all."""
    units.install(units.user_directory(), tuple(name for name in ALL if "gpu" not in name))
    systemctl("daemon-reload")
    done = subprocess.run(
        ["systemd-analyze", "--user", "--no-pager", "security", unit],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)

    assert level is not None
    assert float(level[1]) <= limit


class Service:
    """The daemon as a service of the private user manager, with one model on disk."""

    def __init__(self, *drop_ins: str) -> None:
        models = Path(os.environ["HOME"], ".local", "share", "modeld", "models")
        models.mkdir(parents=True, exist_ok=True)
        write_model(models / "tiny.gguf")
        config = Path(os.environ["HOME"], ".config", "modeld", "modeld.toml")
        config.parent.mkdir(parents=True, exist_ok=True)
        # no gateway of its own: another program of this machine may have the port
        config.write_text("reload.min_reload_seconds = 0\ngateway.listen = []\n")
        units.install(units.user_directory(), (*units.DROP_INS, *drop_ins))
        systemctl("daemon-reload")
        systemctl("reset-failed", "modeld.service", check=False)
        systemctl("start", "modeld.service")

    def pid(self) -> int:
        """Return the daemon's pid."""
        return int(systemctl("show", "--property=MainPID", "--value", "modeld.service"))

    def servers(self) -> list[int]:
        """Return the pids of all servers."""
        names = systemctl(
            "list-units", "--plain", "--no-legend", "--state=active", "modeld-llama@*"
        )
        return [
            int(systemctl("show", "--property=MainPID", "--value", line.split()[0]))
            for line in names.splitlines()
        ]

    def ctl(self, *words: str) -> str:
        """Run modelctl and return what it prints."""
        done = subprocess.run(
            [BIN / "modelctl", *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        """End everything."""
        systemctl("stop", "modeld.socket", "modeld-http.socket", "modeld.service")
        systemctl("stop", "app-modeld.slice", check=False)
        shutil.rmtree(units.user_directory() / "modeld.service.d", ignore_errors=True)


@pytest.fixture(params=[(), ("modeld.service.d/10-sandbox.conf",)], ids=["plain", "sandbox"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The daemon as a service, in its sandbox and without."""
    if not user_systemd.is_inside():
        pytest.skip("needs `python -m tests.support.user_systemd -- pytest -m systemd`")
    service = Service(*request.param)
    yield service
    service.stop()


@pytest.mark.systemd
def test_models_stay_loaded_while_the_daemon_is_killed_and_restarted(service: Service) -> None:
    """The very reason for units of their own."""
    service.ctl("load", "-m", "tiny")
    (server,) = service.servers()
    for _ in range(3):
        daemon = service.pid()
        os.kill(daemon, signal.SIGKILL)
        end = time.monotonic() + 10
        while service.pid() in {0, daemon} and time.monotonic() < end:
            time.sleep(0.02)
        systemctl("restart", "modeld.service")
        status = service.ctl("status")

    assert service.servers() == [server]
    assert "tiny" in status


@pytest.mark.systemd
def test_stop_unloads_the_models(service: Service) -> None:
    """Somebody who stops it wants the memory back."""
    service.ctl("load", "-m", "tiny")
    (server,) = service.servers()
    begin = time.monotonic()
    systemctl("stop", "modeld.service")
    while psutil.pid_exists(server) and time.monotonic() < begin + 20:
        time.sleep(0.01)

    assert not psutil.pid_exists(server)
    assert time.monotonic() - begin < 5


@pytest.mark.systemd
def test_stop_of_the_slice_ends_a_server_in_time(service: Service) -> None:
    """llama-server would ignore SIGTERM until its stdin ends; the unit knows how to ask."""
    service.ctl("load", "-m", "tiny")
    (server,) = service.servers()
    begin = time.monotonic()
    systemctl("stop", "app-modeld.slice")

    assert not psutil.pid_exists(server)
    assert time.monotonic() - begin < 5


@pytest.mark.systemd
def test_first_call_starts_the_daemon(service: Service) -> None:
    """The socket is there before the daemon is."""
    systemctl("stop", "modeld.service")
    service.ctl("status")

    assert service.pid() > 0
