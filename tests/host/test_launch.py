"""The launcher, run by path and alone, as the unit runs it."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeld.host import launch

ID = "abcdefgh01234567"
COMMAND = [sys.executable, "-I", "-S", launch.__file__]
SHOW = (
    "import json, os, stat, sys\n"
    "json.dump({'argv': [os.fsencode(word).hex() for word in sys.argv[1:]],"
    " 'environment': {os.fsencode(n).hex(): os.fsencode(v).hex() for n, v in os.environ.items()},"
    " 'directory': os.getcwd(),"
    " 'fifos': [stat.S_ISFIFO(os.fstat(n).st_mode) for n in (0, 1)],"
    " 'writable': [bool(os.O_RDWR & __import__('fcntl').fcntl(n, 3)) for n in (0, 1)],"
    " 'blocking': [os.get_blocking(n) for n in (0, 1)],"
    " 'open': sorted(os.listdir('/proc/self/fd'))}, sys.stderr)\n"
)


@pytest.fixture(name="runtime")
def a_runtime() -> Iterator[Path]:
    """A runtime directory."""
    directory = Path(tempfile.mkdtemp(prefix="l", dir="/tmp"))
    for name in ("launch", "kids"):
        (directory / name).mkdir()
    yield directory
    shutil.rmtree(directory)


def write(runtime: Path, argv: list[str], environment: dict[str, str]) -> None:
    """Write a record."""
    base = f"{runtime}/kids/{ID}"
    record = {
        "server_id": ID,
        "argv": argv,
        "environment": environment,
        "socket_path": f"{base}.sock",
        "stdin_path": f"{base}.in",
        "stdout_path": f"{base}.out",
    }
    (runtime / "launch" / f"{ID}.json").write_text(json.dumps(record))


def run(
    *words: object, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the launcher to the end of what it becomes."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, env=environment
    )


def shown(runtime: Path, *words: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Have it become a program that shows what it got."""
    write(runtime, [sys.executable, "-I", "-S", "-c", SHOW, *words], environment or {})
    done = run("start", runtime, ID, environment={"LLAMA_ARG_TOOLS": "all", "X": "inherited"})
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stderr)
    return result


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(TEXT, max_size=5), values=st.lists(TEXT, max_size=3))
def test_arguments_and_environment_arrive_byte_by_byte(
    runtime: Path, words: list[str], values: list[str]
) -> None:
    """Nothing may expand, split, unquote or inherit."""
    wanted = {f"V{index}": value for index, value in enumerate(values)}
    got = shown(runtime, *words, environment=wanted)

    assert got["argv"] == [word.encode().hex() for word in words]
    assert {bytes.fromhex(name).decode(): value for name, value in got["environment"].items()} == {
        "LC_CTYPE": b"C.UTF-8".hex(),  # Python sets it itself, in the C locale
        **{name: value.encode().hex() for name, value in wanted.items()},
    }


def test_server_gets_both_ends_of_its_fifos(runtime: Path) -> None:
    """So its stdin never ends, and its stdout never blocks or breaks."""
    got = shown(runtime)

    assert got["fifos"] == got["writable"] == [True, True]
    assert got["blocking"] == [True, False]
    assert got["directory"] == "/"
    assert len(got["open"]) == 4  # and the one that reads the directory


def test_fifos_that_are_there_are_kept(runtime: Path) -> None:
    """The daemon may have opened them already."""
    path = runtime / "kids" / f"{ID}.in"
    os.mkfifo(path)
    inode = path.stat().st_ino
    shown(runtime)

    assert path.stat().st_ino == inode
    assert stat.S_IMODE((runtime / "kids" / f"{ID}.out").stat().st_mode) == 0o600


def test_stale_socket_is_removed_and_a_link_not_followed(runtime: Path) -> None:
    """llama-server cannot bind over anything."""
    precious = runtime / "precious"
    precious.write_text("kept")
    (runtime / "kids" / f"{ID}.sock").symlink_to(precious)
    shown(runtime)

    assert not (runtime / "kids" / f"{ID}.sock").is_symlink()
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ((), 78),
        (("start",), 78),
        (("begin", "RUNTIME", ID), 78),
        (("start", "RUNTIME", "../../etc/passwd"), 78),
        (("start", "RUNTIME", "ABCDEFGH01234567"), 78),
        (("start", "RUNTIME", ID + "0"), 78),
        (("start", "RUNTIME", "a" * 16), 78),
        (("start", "/nowhere", ID), 78),
        (("stop", "RUNTIME", "a" * 16), 78),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    runtime: Path, words: tuple[str, ...], status: int
) -> None:
    """An instance name is whatever somebody typed after `systemctl start`."""
    write(runtime, ["/bin/true"], {})
    done = run(*(str(runtime) if word == "RUNTIME" else word for word in words))

    assert done.returncode == status
    assert done.stderr.startswith("modeld-launch: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "1", '{"server_id":"other"}', json.dumps({"server_id": ID})]
    + [json.dumps({"server_id": ID, "version": 2}), "\\xff" * 10]
    + [json.dumps({"server_id": ID, "argv": argv, "environment": {}}) for argv in ([], None, 7)],
)
def test_damaged_record_is_refused_in_one_line(runtime: Path, content: str) -> None:
    """Half a record starts half a server."""
    (runtime / "launch" / f"{ID}.json").write_text(content)
    done = run("start", runtime, ID)

    assert done.returncode == 78
    assert done.stderr.startswith("modeld-launch: ")
    assert done.stderr.count("\n") == 1


def test_nul_in_an_argument_is_refused(runtime: Path) -> None:
    """The kernel would cut there."""
    write(runtime, ["/bin/true", "a\0b"], {})

    assert run("start", runtime, ID).returncode == 78


@pytest.mark.parametrize("kind", ["missing", "not executable", "not a program"])
def test_program_that_cannot_run_is_named(runtime: Path, kind: str) -> None:
    """What a wrong path in the configuration leads to."""
    program = runtime / "program"
    if kind != "missing":
        program.write_bytes(b"\0\1\2")
        program.chmod(0o700 if kind == "not a program" else 0o600)
    write(runtime, [str(program)], {})
    done = run("start", runtime, ID)

    assert done.returncode == 69
    assert done.stderr.startswith(f"modeld-launch: {program}: ")


def test_stop_writes_the_line_that_ends_a_server(runtime: Path) -> None:
    """A SIGTERM alone would not."""
    write(runtime, ["/bin/true"], {})
    path = runtime / "kids" / f"{ID}.in"
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR)
    done = run("stop", runtime, ID)
    line = os.read(fifo, 100)
    os.close(fifo)

    assert done.returncode == 0
    assert line == b"cmd_router_to_child:exit\n"


@pytest.mark.parametrize("is_there", [True, False])
def test_stop_is_silent_when_nobody_is_there(runtime: Path, is_there: bool) -> None:
    """It also runs after an end that nobody asked for; its words would look like the server's."""
    write(runtime, ["/bin/true"], {})
    if is_there:
        os.mkfifo(runtime / "kids" / f"{ID}.in")
    done = run("stop", runtime, ID)

    assert (done.returncode, done.stderr) == (0, "")


def test_launcher_imports_next_to_nothing() -> None:
    """Every start of a model waits for it."""
    done = subprocess.run(
        [*COMMAND[:-1], "-X", "importtime", launch.__file__],
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert {"asyncio", "pathlib", "typing", "subprocess", "msgspec"}.isdisjoint(imported)
    assert "json" in imported
