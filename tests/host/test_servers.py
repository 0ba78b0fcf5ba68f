"""
One promise, two launchers: everything here holds for both.

Under `-m systemd` it needs a user manager: `python -m tests.support.user_systemd -- COMMAND`.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from modeld.core.entities import Found, LaunchRecord, Process
from modeld.core.events import ServerExited, ServerReady, ServerStarted
from modeld.host.probe import ServerProbe
from modeld.host.servers.bus import Service
from modeld.host.servers.process import Handle, start_ticks
from modeld.host.servers.systemd import exit_of
from modeld.supervisor.ports import Servers
from tests.support import launchers
from tests.support.engines import llama_server
from tests.support.running import asynchronous
from tests.support.server_rig import EMBEDDED, FAKE, Rig, catches_sigterm, eventually
from tests.support.tiny_gguf import write_model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=["direct", pytest.param("systemd", marks=pytest.mark.systemd)])
def launcher(request: pytest.FixtureRequest) -> Iterator[launchers.AnyLauncher]:
    """One of the two, with a runtime directory; what a failing test leaves is ended."""
    with launchers.launcher(request.param) as launcher:
        yield launcher


@asynccontextmanager
async def opened(launcher: launchers.AnyLauncher) -> AsyncIterator[tuple[Rig, Servers]]:
    """A daemon's view: a launcher, and the events that it emits."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    try:
        yield rig, servers
    finally:
        await servers.close()


async def started(rig: Rig, servers: Servers, record: LaunchRecord) -> Process:
    """Start a server and return its process."""
    servers.start(record)
    event = await rig.event(ServerStarted, lambda event: event.server_id == record.server_id)
    return event.process


async def ended(rig: Rig, record: LaunchRecord) -> ServerExited:
    """Return how a server ended."""
    return await rig.event(ServerExited, lambda event: event.server_id == record.server_id)


async def healthy(record: LaunchRecord) -> None:
    """Wait until a fake engine listens."""
    await eventually(Path(record.socket_path).exists)


@asynchronous
async def test_server_becomes_ready_and_ends_when_it_is_asked(
    launcher: launchers.AnyLauncher, tmp_path: Path
) -> None:
    """The whole life of a real engine, or nothing else matters."""
    model = tmp_path / "tiny.gguf"
    write_model(model)
    async with opened(launcher) as (rig, servers):
        record = rig.real(model)
        probe = ServerProbe(rig.emit)
        process = await started(rig, servers, record)
        probe.watch(record)
        ready = await rig.event(ServerReady)
        await eventually(lambda: catches_sigterm(process.pid))
        servers.stop(record.server_id)
        exit_ = (await ended(rig, record)).exit
        servers.forget(record.server_id)
        await probe.close()

    assert ready.context_tokens == 256
    assert (exit_.how, exit_.code) == ("exited", 0)
    assert not psutil.pid_exists(process.pid)
    assert list(Path(launcher.runtime, "kids").iterdir()) == []
    assert list(Path(launcher.runtime, "launch").iterdir()) == []


REAL = [EMBEDDED] + ([server.argv] if (server := llama_server()) else [])


@pytest.mark.engine
@pytest.mark.parametrize("argv", REAL, ids=lambda argv: Path(argv[-1]).stem)
@asynchronous
async def test_server_that_is_stopped_the_moment_it_is_ready_ends_soon(
    launcher: launchers.AnyLauncher, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    """llama-server loses what is asked of it between "ready" and its main loop."""
    model = tmp_path / "tiny.gguf"
    write_model(model)
    async with opened(launcher) as (rig, servers):
        probe = ServerProbe(rig.emit)
        for _ in range(5):
            record = rig.record(*argv, "-m", str(model), "--host", "{socket}", "-c", "256")
            servers.start(record)
            probe.watch(record)
            await rig.event(ServerReady, lambda event, i=record.server_id: event.server_id == i)
            servers.stop(record.server_id)
            await ended(rig, record)
            servers.forget(record.server_id)
        await probe.close()


@asynchronous
async def test_process_is_identified_by_pid_and_start_time(launcher: launchers.AnyLauncher) -> None:
    """A pid alone may be a stranger's tomorrow."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        process = await started(rig, servers, record)
        ticks = start_ticks(process.pid)
        servers.kill(record.server_id)
        await ended(rig, record)

    assert process.start_ticks == ticks
    assert process.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@asynchronous
async def test_server_that_does_not_listen_is_killed(launcher: launchers.AnyLauncher) -> None:
    """An engine that hangs must not keep its memory for ever."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("stubborn")
        process = await started(rig, servers, record)
        await healthy(record)
        servers.stop(record.server_id)
        await asyncio.sleep(0.3)
        survived = psutil.pid_exists(process.pid)
        servers.kill(record.server_id)
        exit_ = (await ended(rig, record)).exit

    assert survived
    assert (exit_.how, exit_.code) == ("signalled", signal.SIGKILL)


@asynchronous
async def test_kill_ends_the_children_too(launcher: launchers.AnyLauncher) -> None:
    """A helper that outlives its server would hold memory that is counted as free."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("family")
        process = await started(rig, servers, record)
        await healthy(record)
        (child,) = psutil.Process(process.pid).children()
        servers.kill(record.server_id)
        await ended(rig, record)
        await eventually(lambda: not child.is_running() or child.status() == "zombie")


@asynchronous
async def test_children_that_a_server_leaves_are_ended(launcher: launchers.AnyLauncher) -> None:
    """The same, when the server ends by itself."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("parent")
        process = await started(rig, servers, record)
        await healthy(record)
        (child,) = psutil.Process(process.pid).children()
        servers.stop(record.server_id)
        await ended(rig, record)
        await eventually(lambda: not child.is_running() or child.status() == "zombie")


@asynchronous
async def test_exit_tells_status_and_last_lines_when_a_server_dies_at_start(
    launcher: launchers.AnyLauncher,
) -> None:
    """Whoever asked for the load must see why it failed."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("crash")
        servers.start(record)
        exit_ = (await ended(rig, record)).exit

    assert (exit_.how, exit_.code) == ("exited", 3)
    assert exit_.lines[-1] == "complaint 29"
    assert "complaint 0" in exit_.lines
    assert exit_.ended_at is not None


@asynchronous
async def test_exit_tells_the_signal_when_a_server_aborts(launcher: launchers.AnyLauncher) -> None:
    """An assertion inside the engine is told apart from a kill."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("abort")
        servers.start(record)
        exit_ = (await ended(rig, record)).exit

    assert (exit_.how, exit_.code) == ("signalled", signal.SIGABRT)


@asynchronous
async def test_log_lines_are_those_of_the_server(launcher: launchers.AnyLauncher) -> None:
    """`modelctl logs` shows what the engine said, not what another said."""
    async with opened(launcher) as (rig, servers):
        record, other = rig.fake("healthy"), rig.fake("stubborn")
        for each in (record, other):
            await started(rig, servers, each)
            await healthy(each)
        lines: Sequence[str] = ()
        async with asyncio.timeout(5):
            while not lines:  # a journal is a moment late
                lines = await servers.log_lines(record.server_id, 10)
        none = await servers.log_lines(record.server_id, 0)
        for each in (record, other):
            servers.kill(each.server_id)
            await ended(rig, each)

    assert lines[-1] == "fake engine: healthy"
    assert list(none) == []


@pytest.mark.parametrize("program", ["missing", "data", "forbidden", "broken"])
@asynchronous
async def test_program_that_cannot_run_is_reported(
    launcher: launchers.AnyLauncher, program: str
) -> None:
    """A wrong path in the configuration is told as such, and at once."""
    path = Path(launcher.runtime, program)
    if program != "missing":
        path.write_bytes(b"\x00\x01\x02" if program == "data" else b"#!/nowhere/at/all\n")
        path.chmod(0o600 if program == "forbidden" else 0o700)
    async with opened(launcher) as (rig, servers):
        record = rig.record(str(path), "--host", "{socket}")
        servers.start(record)
        exit_ = (await ended(rig, record)).exit

    assert exit_.how == "not-started"
    assert str(path) in exit_.detail


@asynchronous
async def test_environment_is_exactly_what_the_record_says(
    launcher: launchers.AnyLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inherited LLAMA_ARG_TOOLS or LD_PRELOAD would open the machine to a model."""
    variables = {
        "LLAMA_ARG_TOOLS": "all",
        "LLAMA_ARG_HOST": "0.0.0.0",
        "LD_PRELOAD": "/nowhere.so",
        "GGML_VK_VISIBLE_DEVICES": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    launcher.pollute(variables)
    wanted = {"PATH": "/usr/bin:/bin", "NASTY": "$HOME %n ${X} \n 'q' \"d\" \\ ü"}
    async with opened(launcher) as (rig, servers):
        record = rig.record(*FAKE, "healthy", "{socket}", environment=wanted)
        process = await started(rig, servers, record)
        await healthy(record)
        content = Path(f"/proc/{process.pid}/environ").read_bytes()
        servers.kill(record.server_id)
        await ended(rig, record)

    assert sorted(content.rstrip(b"\0").split(b"\0")) == sorted(
        f"{name}={value}".encode() for name, value in wanted.items()
    )


@asynchronous
async def test_arguments_arrive_byte_by_byte(launcher: launchers.AnyLauncher) -> None:
    """Nothing between the record and the process may expand, split or unquote them."""
    nasty = (
        "$HOME", "${X}", "$X y", "%n", "%%i", "a b", "", "new\nline", "'", '"', "\\x41", ";", "~",
        "*", "`id`", "-", "--", "ünï", "\t", "@", "!", "&", "x" * 5000,
    )  # fmt: skip
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy", *nasty)
        process = await started(rig, servers, record)
        await healthy(record)
        content = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        servers.kill(record.server_id)
        await ended(rig, record)

    assert content == b"".join(word.encode() + b"\0" for word in record.argv)


@asynchronous
async def test_server_leads_a_session_and_sees_no_end_of_its_stdin(
    launcher: launchers.AnyLauncher,
) -> None:
    """A terminal or an end of stdin would take it along."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        process = await started(rig, servers, record)
        await healthy(record)
        stdin = str(Path(f"/proc/{process.pid}/fd/0").readlink())
        flags = Path(f"/proc/{process.pid}/fdinfo/0").read_text().split()[3]
        directory = str(Path(f"/proc/{process.pid}/cwd").readlink())
        session = os.getsid(process.pid)
        servers.kill(record.server_id)
        await ended(rig, record)

    assert stdin == record.stdin_path
    assert int(flags, 8) & os.O_ACCMODE == os.O_RDWR
    assert directory == "/"
    assert session == process.pid


@pytest.mark.parametrize("leftover", ["file", "socket", "link"])
@asynchronous
async def test_stale_socket_is_no_obstacle(launcher: launchers.AnyLauncher, leftover: str) -> None:
    """After kill -9 the file stays, and llama-server cannot bind over it."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        path = Path(record.socket_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        precious = Path(launcher.runtime, "precious")
        precious.write_text("kept")
        if leftover == "file":
            path.write_text("in the way")
        elif leftover == "link":
            path.symlink_to(precious)
        else:
            subprocess.run(
                [sys.executable, "-c", f"import socket; socket.socket(1).bind({str(path)!r})"],
                check=True,
            )
        await started(rig, servers, record)
        await eventually(path.is_socket)
        servers.kill(record.server_id)
        await ended(rig, record)

    assert precious.read_text() == "kept"


# --- adoption -------------------------------------------------------------------------------


async def adopt(rig: Rig, servers: Servers, count: int = 1) -> list[Found]:
    """Return what a new daemon finds."""
    found = list(await servers.find())
    assert len(found) == count
    return found


@asynchronous
async def test_server_is_adopted_with_the_same_pid(launcher: launchers.AnyLauncher) -> None:
    """A daemon's restart must not cost the model that is loaded."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        process = await started(rig, servers, record)
        await healthy(record)
    async with opened(launcher) as (rig, servers):
        (found,) = await adopt(rig, servers)
        servers.stop(record.server_id)
        exit_ = (await ended(rig, record)).exit
        servers.forget(record.server_id)

    assert found.record == record
    assert found.process == process
    assert exit_.how in {"unknown", "signalled"}
    async with opened(launcher) as (rig, servers):
        await adopt(rig, servers, count=0)


@asynchronous
async def test_server_survives_a_daemon_that_is_killed(launcher: launchers.AnyLauncher) -> None:
    """Kill -9 of the daemon leaves the model loaded, and the next one takes it over."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
    pid = launcher.start_in_a_daemon_that_is_killed(record)
    async with opened(launcher) as (rig, servers):
        (found,) = await adopt(rig, servers)
        servers.kill(record.server_id)
        await ended(rig, record)

    assert found.process is not None
    assert found.process.pid == pid


@asynchronous
async def test_end_is_reported_when_an_adopted_server_dies(launcher: launchers.AnyLauncher) -> None:
    """An adopted server is watched as closely as one's own."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        process = await started(rig, servers, record)
    async with opened(launcher) as (rig, servers):
        await adopt(rig, servers)
        os.kill(process.pid, signal.SIGKILL)
        event = await rig.event(ServerExited, seconds=2)

    assert event.server_id == record.server_id


@asynchronous
async def test_server_that_died_meanwhile_is_found_with_its_end(
    launcher: launchers.AnyLauncher,
) -> None:
    """Its run time must be counted, and its record removed by whoever looks."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        process = await started(rig, servers, record)
    os.kill(process.pid, signal.SIGKILL)
    await eventually(lambda: start_ticks(process.pid) is None)
    async with opened(launcher) as (rig, servers):
        (found,) = await adopt(rig, servers)
        servers.forget(record.server_id)

    assert found.process is None
    assert found.exit is not None
    assert found.exit.how in {"unknown", "signalled"}


@asynchronous
async def test_record_without_a_process_is_found_as_ended(launcher: launchers.AnyLauncher) -> None:
    """A crash between the record and the start leaves exactly this."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        launchers.write_record(launcher.runtime, record)
        (found,) = await adopt(rig, servers)

    assert found.process is None
    assert found.exit is not None
    assert found.exit.how in {"unknown", "not-started"}


@asynchronous
async def test_process_without_a_record_is_ended(launcher: launchers.AnyLauncher) -> None:
    """Nobody would ever unload it."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("stubborn")
        process = await started(rig, servers, record)
        await healthy(record)
    for path in Path(launcher.runtime, "launch").iterdir():
        path.unlink()
    async with opened(launcher) as (rig, servers):
        await adopt(rig, servers, count=0)
        await eventually(lambda: start_ticks(process.pid) is None)


@pytest.mark.parametrize("content", [b"", b"{", b'{"version":99}', b"\xff" * 100])
@asynchronous
async def test_damaged_record_is_set_aside_and_its_server_ended(
    launcher: launchers.AnyLauncher, content: bytes
) -> None:
    """What cannot be understood is not guessed at, and one bad file is not the end of all."""
    async with opened(launcher) as (rig, servers):
        good, bad = rig.fake("healthy"), rig.fake("stubborn")
        process = await started(rig, servers, bad)
        await started(rig, servers, good)
        await healthy(bad)
    path = Path(launcher.runtime, "launch", f"{bad.server_id}.json")
    path.write_bytes(content)
    async with opened(launcher) as (rig, servers):
        (found,) = await adopt(rig, servers)
        await eventually(lambda: start_ticks(process.pid) is None)
        servers.kill(good.server_id)
        await ended(rig, good)

    assert found.record == good
    assert path.with_name(f"{path.name}.damaged").read_bytes() == content


@asynchronous
async def test_log_is_followed_and_the_follower_leaves_nothing_behind(
    launcher: launchers.AnyLauncher,
) -> None:
    """Whoever watches a load wants its lines as they come, and stops with Ctrl-C."""
    async with opened(launcher) as (rig, servers):
        record = rig.fake("healthy")
        await started(rig, servers, record)
        lines: list[str] = []
        async with aclosing(servers.follow_log(record.server_id, 10)) as batches:
            async with asyncio.timeout(10):
                async for batch in batches:
                    lines += batch
                    if "fake engine: healthy" in lines:
                        break
                async for batch in batches:  # nothing more is written, and that is told
                    if not batch:
                        break
        names = [
            each.info["name"] or ""
            for each in psutil.process_iter(["name", "ppid"])
            if each.info["ppid"] == os.getpid()
        ]
        servers.kill(record.server_id)
        await ended(rig, record)

    assert "fake engine: healthy" in lines
    assert "journalctl" not in names


@asynchronous
async def test_log_of_nobody_is_followed_in_silence(launcher: launchers.AnyLauncher) -> None:
    """It may have ended a moment ago."""
    async with (
        opened(launcher) as (_, servers),
        aclosing(servers.follow_log("0123456789abcdef", 5)) as batches,
        asyncio.timeout(10),
    ):
        assert [await anext(batches) for _ in range(2)] == [(), ()]


@asynchronous
async def test_calls_for_unknown_servers_do_nothing(launcher: launchers.AnyLauncher) -> None:
    """They may have ended a moment ago."""
    async with opened(launcher) as (rig, servers):
        for call in (servers.stop, servers.kill, servers.forget):
            call("0123456789abcdef")
        lines = await servers.log_lines("0123456789abcdef", 5)

    assert list(lines) == []
    assert rig.events == []


@asynchronous
async def test_cycles_leave_no_zombie_and_no_descriptor(launcher: launchers.AnyLauncher) -> None:
    """A daemon that runs for months must not fill the process table."""

    def zombies() -> int:
        children = psutil.Process().children()
        return sum(child.status() == psutil.STATUS_ZOMBIE for child in children)

    zombies_before, before = zombies(), 0
    async with opened(launcher) as (rig, servers):
        for number in range(20):
            record = rig.fake("crash" if number % 2 else "healthy")
            servers.start(record)
            if not number % 2:
                await healthy(record)
                servers.stop(record.server_id)
            await ended(rig, record)
            servers.forget(record.server_id)
            if number == 1:
                before = psutil.Process().num_fds()
        after = psutil.Process().num_fds()

    assert zombies() == zombies_before
    assert after <= before


# --- what the user manager says of an end ---------------------------------------------------


@pytest.mark.parametrize(
    ("service", "lines", "expected"),
    [
        (Service(result="success", exit_kind=1, exit_status=0), (), ("exited", 0, "")),
        (Service(result="exit-code", exit_kind=1, exit_status=3), (), ("exited", 3, "")),
        (Service(result="signal", exit_kind=2, exit_status=9), (), ("signalled", 9, "")),
        (Service(result="core-dump", exit_kind=3, exit_status=6), (), ("signalled", 6, "")),
        (Service(result="oom-kill", exit_kind=2, exit_status=9), (), ("oom-kill", 9, "")),
        (Service(result="exit-code", exit_kind=1, exit_status=69), ("x",), ("exited", 69, "")),
        (
            Service(result="exit-code", exit_kind=1, exit_status=69),
            ("old", "modeld-launch: /x: No such file"),
            ("not-started", 69, "/x: No such file"),
        ),
        (Service(), (), ("unknown", 0, "")),
    ],
)
def test_end_is_told_as_the_manager_has_it(
    service: Service, lines: tuple[str, ...], expected: tuple[str, int, str]
) -> None:
    """A kill for lack of memory must not be tried again at the same size."""
    told = exit_of(service, lines)

    assert (told.how, told.code, told.detail) == expected


@asynchronous
async def test_process_that_cannot_be_watched_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors, a server would run unknown to everybody."""

    def fail(pid: int) -> Handle:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Handle, "of_child", fail)
    before = {process.pid for process in psutil.Process().children()}
    with launchers.launcher("direct") as launcher:
        async with opened(launcher) as (rig, servers):
            record = rig.fake("healthy")
            servers.start(record)
            exit_ = (await ended(rig, record)).exit
            after = {process.pid for process in psutil.Process().children()}

    assert exit_.how == "not-started"
    assert "Too many open files" in exit_.detail
    assert after <= before


# --- what only a process of our own can show ------------------------------------------------


@asynchronous
async def test_stale_note_never_reaches_a_stranger(tmp_path: Path) -> None:
    """A pid that was given to somebody else since is not signalled, whatever a file says."""
    with launchers.launcher("direct") as launcher, subprocess.Popen(["sleep", "100"]) as stranger:
        ticks = start_ticks(stranger.pid)
        assert ticks is not None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        async with opened(launcher) as (rig, servers):
            records = [rig.fake("healthy"), rig.fake("healthy"), rig.fake("healthy")]
            notes = [
                Process(pid=stranger.pid, start_ticks=ticks - 1, boot_id=boot),
                Process(pid=stranger.pid, start_ticks=ticks, boot_id="another boot"),
                Process(pid=2**22 + 1, start_ticks=ticks, boot_id=boot),
            ]
            for record, note in zip(records, notes, strict=True):
                launchers.write_record(launcher.runtime, record)
                path = Path(launcher.runtime, "launch", f"{record.server_id}.process.json")
                path.write_bytes(msgspec.json.encode(note))
            found = await adopt(rig, servers, count=3)
            for record in records:
                servers.stop(record.server_id)
                servers.kill(record.server_id)
        alive = stranger.poll() is None
        stranger.kill()

    assert alive
    assert [each.process for each in found] == [None, None, None]


@asynchronous
async def test_server_is_found_by_its_log_without_a_note() -> None:
    """The daemon may die between the start and the note."""
    with launchers.launcher("direct") as launcher:
        async with opened(launcher) as (rig, servers):
            record = rig.fake("healthy")
            process = await started(rig, servers, record)
        Path(launcher.runtime, "launch", f"{record.server_id}.process.json").unlink()
        async with opened(launcher) as (rig, servers):
            (found,) = await adopt(rig, servers)
            servers.kill(record.server_id)
            await ended(rig, record)

    assert found.process == process


@asynchronous
async def test_engine_that_has_put_its_stdin_away_is_found_without_a_note(tmp_path: Path) -> None:
    """The embedded engine reads commands elsewhere; it ran on, known to nobody."""
    model = tmp_path / "tiny.gguf"
    write_model(model)
    with launchers.launcher("direct") as launcher:
        async with opened(launcher) as (rig, servers):
            record = rig.real(model)
            process = await started(rig, servers, record)
            stdin = Path(f"/proc/{process.pid}/fd/0")
            await eventually(lambda: str(stdin.readlink()) != record.stdin_path)
        Path(launcher.runtime, "launch", f"{record.server_id}.process.json").unlink()
        async with opened(launcher) as (rig, servers):
            (found,) = await adopt(rig, servers)
            servers.kill(record.server_id)
            await ended(rig, record)

    assert found.process == process


@asynchronous
async def test_log_that_grows_too_long_is_cut_to_its_end(tmp_path: Path) -> None:
    """It lies in memory."""
    from modeld.host.servers.engine import LOG_LIMIT_BYTES, log_tail, shorten_log

    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * (LOG_LIMIT_BYTES // 4) + b"last\n")
        shorten_log(str(log))
        writer.write(b"new\n")

    assert log.stat().st_size < LOG_LIMIT_BYTES / 10
    assert log_tail(str(log), 2) == ("last", "new")
