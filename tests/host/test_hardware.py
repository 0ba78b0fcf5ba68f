"""The engine is a program of somebody else: whatever it does, modeld gets an answer in time."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from modeld.core.argv import check_arguments
from modeld.core.entities import Binary, Gpu
from modeld.core.events import BinaryProbed, Event, GpusFreed
from modeld.host import hardware
from modeld.host.hardware import LocalHardware, ask_binary

DEBIAN = Path("/opt/llama-debian/bin/llama-server")
PRETENDER = """#!/bin/sh
echo "$1" >> "$0.asked"
case $1 in
--help) printf -- '-m, --model FNAME   x\\n--host HOST   y\\n-c, --ctx-size N   z\\n' ;;
--version) echo 'version: 7 (abc)' >&2 ;;
esac
"""


def _program(path: Path, text: str = PRETENDER) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _hardware(tmp_path: Path, **environment: str) -> LocalHardware:
    return LocalHardware(lambda _: None, tmp_path / "cache" / "binaries.json", environment)


def _ask(path: Path, seconds: float = 5.0) -> Binary:
    return ask_binary((str(path),), {"PATH": os.environ["PATH"]}, seconds)


def test_machine_has_memory_and_a_boot() -> None:
    """The budget is made of this."""
    machine = _hardware(Path("/nonexistent")).machine()

    assert 0 < machine.available_bytes <= machine.memory_bytes
    assert len(machine.boot_id) == 36


def test_machine_in_a_container_has_what_the_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the kernel ends a server that fitted by the numbers."""
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    other = tmp_path / "none"
    other.write_text("max\n")
    monkeypatch.setattr(hardware, "CONTAINER_LIMITS", (limit, other, tmp_path / "missing"))
    machine = _hardware(tmp_path).machine()

    assert (machine.memory_bytes, machine.available_bytes) == (1048576, 1048576)


def test_binary_tells_its_options_and_version(tmp_path: Path) -> None:
    """What it has is what may be used."""
    binary = _ask(_program(tmp_path / "llama-server"))

    assert binary.problem == ""
    assert binary.version == "7 (abc)"
    assert binary.flags["-c"] is True
    assert binary.canonical["-c"] == "--ctx-size"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("#!/bin/sh\nsleep 60\n", "did not answer --help within 0.3 s"),
        ("#!/bin/sh\nsleep 60 &\n", "did not answer --help within 0.3 s"),
        ("#!/bin/sh\necho hello\n", "is no llama-server"),
        ("#!/bin/sh\nexit 3\n", "is no llama-server"),
        ("#!/nonexistent/interpreter\n", "can't be run: No such file or directory"),
        ("garbage\x00\x01", "can't be run: Exec format error"),
    ],
)
def test_binary_that_is_none_says_why(tmp_path: Path, text: str, problem: str) -> None:
    """A person must be able to mend it."""
    found = _ask(_program(tmp_path / "llama-server", text), 0.3)

    assert found.argv == ()
    assert problem in found.problem


def test_binary_that_prints_for_ever_is_cut(tmp_path: Path) -> None:
    """Neither memory nor time is given to it."""
    began = time.monotonic()
    found = _ask(_program(tmp_path / "llama-server", "#!/bin/sh\nexec yes -- --model\n"))

    assert "is no llama-server" in found.problem
    assert time.monotonic() - began < 5


def test_binary_that_may_not_be_run_says_so(tmp_path: Path) -> None:
    """A missing x bit is the commonest mistake of all."""
    path = tmp_path / "llama-server"
    path.write_text(PRETENDER)

    assert "Permission denied" in _ask(path).problem


def test_binary_leaves_no_process_behind(tmp_path: Path) -> None:
    """What hangs is ended with its children."""
    marker = f"{time.time_ns()}"
    _ask(_program(tmp_path / "llama-server", f"#!/bin/sh\nsleep 60.{marker} &\nwait\n"), 0.3)

    def living() -> bool:
        lines = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
        try:
            return any(marker.encode() in line and b"sleep" in line for line in lines)
        except (FileNotFoundError, ProcessLookupError):
            return True

    deadline = time.monotonic() + 5
    while living():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_binary_is_asked_once_and_remembered_by_the_next_daemon(tmp_path: Path) -> None:
    """A start needs no question; only a changed program is asked again."""
    program = _program(tmp_path / "llama-server")
    first = _hardware(tmp_path, PATH=str(tmp_path)).find_binary("")
    second = _hardware(tmp_path, PATH=str(tmp_path)).find_binary("")

    assert first == second
    assert first.argv == (str(program),)
    asked = tmp_path / "llama-server.asked"
    assert asked.read_text().split() == ["--help", "--version"]

    os.utime(program, ns=(1, 1))
    _hardware(tmp_path, PATH=str(tmp_path)).find_binary("")
    assert len(asked.read_text().split()) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0, "answers": []}', "\xff"])
def test_damaged_cache_is_an_empty_one(tmp_path: Path, text: str) -> None:
    """It is only a cache."""
    _program(tmp_path / "llama-server")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "binaries.json").write_text(text, "latin-1")

    assert _hardware(tmp_path, PATH=str(tmp_path)).find_binary("").problem == ""
    assert (
        json.loads((tmp_path / "cache" / "binaries.json").read_text())["version"]
        == hardware.CACHE_VERSION
    )


def test_cache_that_can_not_be_written_is_no_problem(tmp_path: Path) -> None:
    """A read-only home costs 30 ms a start, no more."""
    _program(tmp_path / "llama-server")
    (tmp_path / "cache").write_text("a file in the way")

    assert _hardware(tmp_path, PATH=str(tmp_path)).find_binary("").problem == ""


def test_failure_is_not_remembered(tmp_path: Path) -> None:
    """Mending it must not need a new file."""
    _program(tmp_path / "llama-server", "#!/bin/sh\n")
    _hardware(tmp_path, PATH=str(tmp_path)).find_binary("")

    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [("nothing-like-it", "no 'nothing-like-it' on PATH"), ("/nonexistent/x", "no /nonexistent/x")],
)
def test_wanted_binary_that_is_missing_is_not_replaced_by_another(
    tmp_path: Path, wanted: str, problem: str
) -> None:
    """Whoever names one wants that one."""
    _program(tmp_path / "llama-server")

    assert problem in _hardware(tmp_path, PATH=str(tmp_path)).find_binary(wanted).problem


def test_wanted_binary_may_be_a_name_or_a_path(tmp_path: Path) -> None:
    """servers.binary."""
    program = _program(tmp_path / "my-server")
    here = _hardware(tmp_path, PATH=str(tmp_path))

    assert here.find_binary("my-server").argv == (str(program),)
    assert here.find_binary(str(program)).argv == (str(program),)


def test_without_any_engine_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon without an engine still lists, names and simulates."""
    monkeypatch.setattr(hardware, "_module_file", lambda _: None)

    found = _hardware(tmp_path, PATH=str(tmp_path)).find_binary("")
    assert found.problem == "there is no llama-server on PATH, and no embedded engine"


@pytest.mark.engine
def test_embedded_engine_stands_in_and_speaks_the_same_options(tmp_path: Path) -> None:
    """Design 9: PATH first, then xllamacpp; one parser reads both."""
    pytest.importorskip("xllamacpp")
    binary = _hardware(tmp_path, PATH=str(tmp_path)).find_binary("")

    assert binary.problem == ""
    assert binary.argv[0] == sys.executable
    assert "xllamacpp" in binary.version
    check_arguments(("-c", "4096", "-ngl", "0"), binary)


@pytest.mark.engine
@pytest.mark.skipif(not DEBIAN.exists(), reason="no llama-server here")
def test_real_llama_server_is_understood(tmp_path: Path) -> None:
    """The build that the distribution has."""
    binary = _hardware(tmp_path).find_binary(str(DEBIAN))

    assert binary.problem == ""
    assert "11669" in binary.version
    assert len(binary.flags) == 407


def test_probe_answers_by_one_event(tmp_path: Path) -> None:
    """The loop goes on meanwhile."""
    told = _probe(tmp_path, str(_program(tmp_path / "llama-server")))

    assert [event.binary.version for event in told if isinstance(event, BinaryProbed)] == [
        "7 (abc)"
    ]


def test_probe_of_a_program_that_never_starts_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5: a program on a dead disk can't even be looked at."""
    monkeypatch.setattr(hardware, "GIVE_UP_SECONDS", 0.2)
    fifo = tmp_path / "disk"
    os.mkfifo(fifo)
    monkeypatch.setattr(LocalHardware, "find_binary", lambda _self, _wanted: fifo.read_text())
    told = _probe(tmp_path, "/dead/llama-server")
    os.close(os.open(fifo, os.O_RDWR))  # the disk is back: let the thread end

    assert len(told) == 1
    assert isinstance(told[0], BinaryProbed)
    assert "does not answer" in told[0].binary.problem


def _probe(tmp_path: Path, wanted: str) -> list[Event]:
    """Return what is told within a bound, and a little more."""

    async def run() -> list[Event]:
        told: list[Event] = []
        here = LocalHardware(told.append, tmp_path / "cache" / "x.json", os.environ)
        here.probe_binary("superseded")
        here.probe_binary(wanted)
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.01)
        return told

    return asyncio.run(run())


LISTER = PRETENDER.replace("y\\n-c", "y\\n--list-devices   l\\n-c").replace(
    "esac",
    "--list-devices) printf 'Available devices:\\n"
    "  CUDA0: NVIDIA H200 (143771 MiB, 143000 MiB free)\\n"
    "  BLAS: OpenBLAS (0 MiB, 0 MiB free)\\n  Vulkan1: X (9 MiB, 9 MiB free)\\n' ;;\nesac",
)


def test_binary_tells_the_gpus_that_it_can_use(tmp_path: Path) -> None:
    """A build without CUDA on a machine with a GPU takes all from the machine's memory."""
    assert _ask(_program(tmp_path / "with", LISTER)).devices == ("CUDA0", "Vulkan1")
    assert _ask(_program(tmp_path / "without")).devices == ()
    assert (tmp_path / "without.asked").read_text().split() == ["--help", "--version"]


def test_binary_that_found_no_gpu_is_asked_again_where_there_is_one(tmp_path: Path) -> None:
    """At boot the daemon is faster than a driver; all would be loaded past the GPU for ever."""
    script = LISTER[: LISTER.index("--list-devices) ")] + '--list-devices) cat "$0.gpus" ;;\nesac\n'
    program = _program(tmp_path / "llama-server", script)
    cache, environment = tmp_path / "cache" / "b.json", {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    early = LocalHardware(lambda _: None, cache, environment)
    assert [early.find_binary("").devices for _ in range(2)] == [(), ()]
    assert program.with_name("llama-server.asked").read_text().count("--list-devices") == 1

    program.with_name("llama-server.gpus").write_text("  CUDA0: X (9 MiB, 9 MiB free)\n")
    gpu = (Gpu(name="x", total_bytes=24),)
    later = LocalHardware(lambda _: None, cache, environment, lambda: gpu)
    assert [later.find_binary("").devices for _ in range(2)] == [("CUDA0",), ("CUDA0",)]
    assert program.with_name("llama-server.asked").read_text().count("--list-devices") == 2


def test_binary_comes_with_the_estimator_that_lies_beside_it(tmp_path: Path) -> None:
    """Also where a link on PATH leads to it, and gone again when it is removed."""
    (tmp_path / "real").mkdir()
    program = _program(tmp_path / "real" / "llama-server")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "llama-server").symlink_to(program)
    found = _hardware(tmp_path, PATH=f"{tmp_path}/bin")
    assert found.find_binary("").estimator == ""

    tool = _program(tmp_path / "real" / "llama-fit-params")
    assert found.find_binary("").estimator == str(tool)


def test_gpus_are_waited_for_until_their_memory_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver gives it back after the process is gone: 250 ms later, or never."""
    monkeypatch.setattr(hardware, "GPU_POLL_SECONDS", 0.01)
    monkeypatch.setattr(hardware, "GPU_WAIT_SECONDS", 0.2)
    used = [9, 9, 3]

    async def scene(most: int) -> tuple[list[Event], int]:
        looks = 0

        def gpus() -> tuple[Gpu, ...]:
            nonlocal looks
            looks += 1
            return (Gpu(name="x", total_bytes=24, used_bytes=used[min(looks, 3) - 1]),)

        freed: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        machine = LocalHardware(freed.set_result, tmp_path / "c", {}, gpus)
        machine.await_gpus("s", [most])
        return [await asyncio.wait_for(freed, 5)], looks

    assert asyncio.run(scene(5)) == ([GpusFreed(server_id="s")], 3)
    assert asyncio.run(scene(1))[0] == [GpusFreed(server_id="s")]
