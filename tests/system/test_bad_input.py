"""
Whatever may be wrong outside: each is told with its cause, its cure and its exit status.

And each leaves the rest alone: what was acknowledged is kept, and the model that was loaded
before goes on answering with the same pid.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeld.wire.daemon import AskVersion
from tests.support.daemon import Daemon
from tests.support.rigged_engine import write_engine
from tests.support.tiny_gguf import write_model
from tests.system.test_main_job import SENTENCES, wait_for, with_models

pytestmark = pytest.mark.engine


def refusal(daemon: Daemon, *words: str, status: int) -> dict[str, Any]:
    """Run modelctl, which is to be refused; return the error, complete as it must be."""
    done = daemon.modelctl("--json", *words, status=status)
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert error["message"]
    assert error["hint"], f"no hint: {error}"
    assert error["exit"] == status
    return error


@contextlib.contextmanager
def undisturbed(daemon: Daemon) -> Iterator[None]:
    """Load alpha under a nickname, and check afterwards that neither has suffered."""
    daemon.modelctl("load", "alpha", "--nickname", "kept")
    before = daemon.servers()[0]
    yield
    (after,) = (row for row in daemon.servers() if row["name"] == "alpha")
    assert (after["pid"], after["state"], after["nicknames"]) == (before["pid"], "ready", ["kept"])
    assert daemon.chat("kept") == SENTENCES["alpha"]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("load", "nothing"),
        ("load", "-n", "nobody"),
        ("load", "-n1", "nowhere"),
        ("unload", "nothing"),
        ("show", "nothing"),
        ("pin", "nothing"),
        ("nick", "set", "nothing", "name"),
        ("nick", "rm", "alpha", "nobody"),
        ("slot", "set", "tool", "nothing"),
        ("logs", "nothing"),
    ],
    ids=" ".join,
)
def test_unknown_name_is_exit_4(shared: Daemon, words: tuple[str, ...]) -> None:
    """Scripts tell "there is none" from every other failure."""
    error = refusal(shared, *words, status=4)

    assert any(word in error["message"] for word in words)


@pytest.mark.parametrize(
    "words",
    [
        ("load", "a", "--no-multi-match"),
        ("load", "alpha", "--rank1", "--no-multi-match"),
        ("load", "alpha", "--", "--api-key", "x"),
        ("load", "alpha", "--", "--no-such-option"),
        ("load", "alpha", "--", "--lora", "/etc/passwd"),
        ("unload",),
    ],
    ids=" ".join,
)
def test_request_that_makes_no_sense_is_exit_2(shared: Daemon, words: tuple[str, ...]) -> None:
    """Asking again would not help."""
    refusal(shared, *words, status=2)


@pytest.mark.parametrize("name", ["", "two words", "../up", "-rf", "new\nline", "x" * 300, "@tool"])
def test_name_that_no_name_may_be_is_refused(shared: Daemon, name: str) -> None:
    """Names stand in URLs, shells and file names."""
    shared.modelctl("nick", "set", "alpha", "--", name, status=2)

    assert shared.json("nick", "list")["nicknames"] == {"kept": "alpha"}


def test_part_of_a_name_is_enough_for_people_and_not_for_programs(shared: Daemon) -> None:
    """A new file must not change what a program gets."""
    import http.client

    assert "2 models fit" in shared.modelctl("load", "a", "--dry-run").stderr
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    body = json.dumps({"model": "alph", "messages": [{"role": "user", "content": "hi"}]})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()

    assert (response.status, answer["error"]["code"]) == (404, "model_not_found")


# --- model files ---------------------------------------------------------------------------------


def write_bad_files(models: Path) -> dict[str, str]:
    """Write files that are no models, and return what has to be said of each."""
    whole = (models / "alpha.gguf").read_bytes()
    lists = struct.pack("<QIIQ", 1, 0, 9, 9)  # a key, and an array of arrays that does not end
    files = {
        "cut-in-header": (whole[:3000], "inside its header"),
        "cut-in-tensors": (whole[:-3000], "truncated"),
        "tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 1) + bytes(64), "claims 1099511627776"),
        "keys": (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60) + bytes(64), "claims"),
        "string": (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**63), ""),
        "nested": (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + lists * 1000, ""),
        "version": (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "version"),
        "empty": (b"", ""),
        "text": (b"<html>404</html>", "not a GGUF"),
    }
    for name, (data, _) in files.items():
        (models / f"{name}.gguf").write_bytes(data)
    return {name: said for name, (_, said) in files.items()}


def test_bad_files_are_told_and_good_ones_beside_them_work(embedded_daemon: Daemon) -> None:
    """One download that broke must not hide the others, nor end the daemon (G1)."""
    daemon = embedded_daemon
    write_model(daemon.models / "alpha.gguf", sentence=SENTENCES["alpha"])
    bad = write_bad_files(daemon.models)
    (daemon.models / "directory.gguf").mkdir()
    os.mkfifo(daemon.models / "fifo.gguf")
    (daemon.models / "loop.gguf").symlink_to("loop.gguf")
    daemon.start()
    with undisturbed(daemon):
        listed = daemon.json("list")
        for name, said in bad.items():
            (warning,) = (each for each in listed["warnings"] if f"/{name}.gguf" in each)
            assert said in warning
            error = refusal(daemon, "load", "--nokill", name, status=4)
            assert f"/{name}.gguf" in error["hint"]

    assert [row["name"] for row in listed["models"]] == ["alpha"]


def test_file_that_vanishes_between_list_and_load(embedded_daemon: Daemon) -> None:
    """The engine finds out first; its words become the cause."""
    daemon = embedded_daemon
    daemon.engine = write_engine(daemon.home / "engine", {"beta": "vanish"})
    daemon.configure()
    with_models(daemon, "alpha", "beta")
    daemon.modelctl("nick", "set", "beta", "gone")
    with undisturbed(daemon):
        error = refusal(daemon, "load", "--nokill", "beta", status=1)
        assert "exited with status 1" in error["message"]
        assert error["hint"] == "the file is gone: modelctl list --refresh"

        daemon.modelctl("list", "--refresh")
        assert "file is gone" in refusal(daemon, "load", "-n", "gone", status=4)["message"]

    write_model(daemon.models / "beta.gguf", sentence=SENTENCES["beta"])
    wait_for(lambda: daemon.json("nick", "list")["nicknames"].get("gone") == "beta")


def test_folder_that_is_not_there_is_told_and_never_made(embedded_daemon: Daemon) -> None:
    """A disk that is not mounted must not be filled by mistake."""
    daemon = embedded_daemon
    missing = daemon.home / "not-mounted"
    daemon.configure(f'storage.hdd_paths = ["{missing}"]')
    with_models(daemon, "alpha")
    with undisturbed(daemon):
        assert any(str(missing) in each for each in daemon.json("list")["warnings"])

    assert not missing.exists()


# --- the state file ------------------------------------------------------------------------------


def state_file(daemon: Daemon) -> Path:
    """Return where the state is."""
    return daemon.home / "state" / "modeld" / "stats.json"


@pytest.fixture
def tiny_state_disk(embedded_daemon: Daemon) -> Iterator[Path]:
    """Put the state on a file system of 64 KiB, and yield a file that can fill it."""
    disk = embedded_daemon.home / "state"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk that can be full needs root")
    try:
        yield disk / "filler"
    finally:
        embedded_daemon.clean()
        subprocess.run(["umount", str(disk)], check=True)


def fill(filler: Path) -> None:
    """Leave no byte of a disk."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


def test_full_disk_refuses_names_and_loads_all_the_same(
    embedded_daemon: Daemon, tiny_state_disk: Path
) -> None:
    """Promise 1: what can't be kept is not acknowledged; nothing else depends on the disk."""
    daemon = with_models(embedded_daemon, "alpha", "beta")
    with undisturbed(daemon):
        fill(tiny_state_disk)
        for words in (
            ("nick", "set", "beta", "lost"),
            ("slot", "set", "tool", "beta"),
            ("pin", "beta"),
            ("load", "beta", "--nickname", "lost", "--nokill"),
        ):
            assert "No space left" in refusal(daemon, *words, status=74)["message"]
        assert daemon.json("nick", "list")["nicknames"] == {"kept": "alpha"}
        daemon.modelctl("load", "beta", "--nokill")
        wait_for(lambda: "No space left" in daemon.json("status")["saved"])

        tiny_state_disk.unlink()
        daemon.modelctl("nick", "set", "beta", "found")
        wait_for(lambda: not daemon.json("status")["saved"])
        wait_for(lambda: json.loads(state_file(daemon).read_text())["models"]["beta"] != {})

    daemon.kill()
    daemon.start()
    assert daemon.json("nick", "list")["nicknames"] == {"found": "beta", "kept": "alpha"}


def test_damaged_state_file_gives_way_to_the_one_before(embedded_daemon: Daemon) -> None:
    """D4: the damage is kept aside and told; at most one change is lost."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.modelctl("nick", "set", "alpha", "older")
    daemon.modelctl("nick", "add", "alpha", "newer")
    daemon.kill()
    damaged = state_file(daemon).read_text()[:100]
    state_file(daemon).write_text(damaged)
    daemon.start()

    assert daemon.json("nick", "list")["nicknames"] == {"older": "alpha"}
    assert any("damaged" in each for each in daemon.json("status")["warnings"])
    assert any(".prev was used" in each for each in daemon.json("status")["warnings"])
    (aside,) = state_file(daemon).parent.glob("stats.json.corrupt-*")
    assert aside.read_text() == damaged

    daemon.kill()  # before anything was saved again
    daemon.start()
    assert daemon.json("nick", "list")["nicknames"] == {"older": "alpha"}


def test_damaged_state_file_alone_costs_names_and_nothing_more(embedded_daemon: Daemon) -> None:
    """A state that is lost is told, and the file is kept for whoever can read it."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.kill()
    state_file(daemon).parent.mkdir(parents=True, exist_ok=True)
    state_file(daemon).write_bytes(b"\x00\xff{")
    daemon.start()

    assert daemon.json("nick", "list")["nicknames"] == {}
    assert any("without names" in each for each in daemon.json("status")["warnings"])
    assert len(list(state_file(daemon).parent.glob("stats.json.corrupt-*"))) == 1
    with undisturbed(daemon):
        assert daemon.json("nick", "list")["nicknames"] == {"kept": "alpha"}


def test_state_file_of_a_newer_modeld_is_read_and_never_written(embedded_daemon: Daemon) -> None:
    """D5: a downgrade must not destroy what it does not understand."""
    daemon = embedded_daemon
    newer = json.dumps({"version": 99, "nicknames": {"kept": "alpha"}, "invention": [1]})
    state_file(daemon).parent.mkdir(parents=True)
    state_file(daemon).write_text(newer)
    with_models(daemon, "alpha")
    daemon.modelctl("load", "-n", "kept")

    assert daemon.chat("kept") == SENTENCES["alpha"]
    error = refusal(daemon, "nick", "set", "alpha", "other", status=74)
    assert "newer modeld (version 99)" in error["message"]
    assert any("newer modeld" in each for each in daemon.json("status")["warnings"])
    assert daemon.stop() == 0
    assert state_file(daemon).read_text() == newer


# --- the configuration ---------------------------------------------------------------------------

MISTAKES = """\
[storage]
ssd_path = 3
[models]
max_concurent_loaded = 2
max_concurrent_loaded = "many"
[gateway]
listen = ["0.0.0.0:8080"]
"""


def test_invalid_configuration_at_the_start_is_exit_78_with_every_mistake(
    embedded_daemon: Daemon,
) -> None:
    """Mistakes that come one by one are found in as many starts."""
    embedded_daemon.config.write_text(MISTAKES)
    for arguments in ((), ("--check",)):
        done = embedded_daemon.refuses_to_start(*arguments)

        assert done.returncode == 78
        for place in (":2: storage.ssd_path", ":4: unknown key", ":5: models.max_", ":7: gateway."):
            assert f"{embedded_daemon.config}{place}" in done.stderr
        assert "did you mean 'max_concurrent_loaded'?" in done.stderr
        assert "hint:  see modeld.toml(5)" in done.stderr
        first, *others, _ = done.stderr.splitlines()
        assert first.startswith("error: ")
        assert all(each.startswith("       /") for each in others)


@pytest.mark.parametrize("text", ["a = [", "[storage\n", "storage.ssd_path = '\x00'"])
def test_configuration_that_is_no_toml_is_exit_78_with_its_line(
    embedded_daemon: Daemon, text: str
) -> None:
    """The parser knows where it stopped."""
    embedded_daemon.config.write_text(text)
    done = embedded_daemon.refuses_to_start()

    assert done.returncode == 78
    assert f"{embedded_daemon.config}:1" in done.stderr


def test_configuration_that_is_named_must_be_there(embedded_daemon: Daemon) -> None:
    """A typing mistake must not start a modeld with the defaults."""
    name = "/nonexistent.toml"
    for done in (
        embedded_daemon.refuses_to_start("--config", name),
        embedded_daemon.refuses_to_start(MODELD_CONFIG=name),
    ):
        assert done.returncode == 78
        assert f"{name} does not exist" in done.stderr


def test_invalid_configuration_at_reload_changes_nothing(embedded_daemon: Daemon) -> None:
    """S2-19: by the command and by SIGHUP, the old one stays in force."""
    daemon = with_models(embedded_daemon, "alpha", "beta")
    good = daemon.config.read_text()
    assert daemon.process is not None
    with undisturbed(daemon):
        daemon.config.write_text(MISTAKES)
        message = refusal(daemon, "reload", status=78)["message"]
        assert message.count(f"{daemon.config}:") == 4
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.log.read_text().count("config-invalid") == 2)
        daemon.modelctl("load", "beta", "--nokill")

        daemon.config.write_text(good)
        daemon.modelctl("reload")


# --- sockets, ports and directories --------------------------------------------------------------


def test_port_of_the_gateway_in_use_is_exit_69(embedded_daemon: Daemon) -> None:
    """The commonest trouble of all: something else has 8080."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", embedded_daemon.port))
        taken.listen()
        done = embedded_daemon.refuses_to_start()

    assert done.returncode == 69
    assert f"127.0.0.1:{embedded_daemon.port}" in done.stderr
    assert "hint:" in done.stderr
    embedded_daemon.start()


def test_port_of_a_server_in_use_is_told(embedded_daemon: Daemon) -> None:
    """`-p PORT` asks for a port that another program has."""
    daemon = with_models(embedded_daemon, "alpha", "beta")
    with undisturbed(daemon), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refusal(daemon, "load", "beta", "--nokill", "-p", str(port), status=1)
        assert error["hint"] == f"port {port} is in use by another program"


def test_second_daemon_is_exit_75_and_the_first_goes_on(embedded_daemon: Daemon) -> None:
    """B5."""
    daemon = with_models(embedded_daemon, "alpha")
    with undisturbed(daemon):
        began = time.monotonic()
        done = daemon.refuses_to_start()
        seconds = time.monotonic() - began
        assert done.returncode == 75
        assert daemon.process is not None
        assert f"another modeld runs already (pid {daemon.process.pid})" in done.stderr
        assert "hint:" in done.stderr
        assert seconds < 1


@pytest.mark.parametrize("what", ["link", "dangling link", "file", "foreign", "too long"])
def test_runtime_directory_that_is_not_ours_is_refused(embedded_daemon: Daemon, what: str) -> None:
    """Whoever made it may read the sockets' names, or stand between."""
    runtime, environment = embedded_daemon.runtime, {}
    match what:
        case "link":
            (runtime.parent / "elsewhere").mkdir()
            runtime.symlink_to("elsewhere")
        case "dangling link":
            runtime.symlink_to("nowhere")
        case "file":
            runtime.touch()
        case "foreign":
            if os.getuid():
                pytest.skip("only root can give a directory away")
            runtime.mkdir()
            os.chown(runtime, 65534, 65534)
        case "too long":
            environment["XDG_RUNTIME_DIR"] = f"{runtime}/{'x' * 100}"
    done = embedded_daemon.refuses_to_start(**environment)

    assert done.returncode == {"foreign": 77, "link": 77, "too long": 78}.get(what, 73)
    assert str(runtime) in done.stderr
    assert "Traceback" not in done.stderr


def test_garbage_at_the_socket_disturbs_nobody(embedded_daemon: Daemon) -> None:
    """E2, E3: strangers' bytes, a huge frame and half a greeting, while others are served."""
    daemon = with_models(embedded_daemon, "alpha")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(49)
    held = []
    with undisturbed(daemon), daemon.rpc() as client:
        for data in (
            os.urandom(4096),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            greeting[:20],
            greeting + b"\x02" + b"\xff" * 8,
            greeting + os.urandom(512),
            b"",
        ) * 5:
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(str(daemon.runtime / "rpc.sock"))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(data)
            held.append(peer)
            assert client.ask(AskVersion())["protocol"] == 1
        for peer in held:
            peer.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """Return a daemon with two models, one of them loaded, for tests that change nothing."""
    from tests.support.daemon import a_daemon

    with a_daemon(start=False) as daemon:
        with_models(daemon, "alpha", "beta")
        with undisturbed(daemon):
            yield daemon
