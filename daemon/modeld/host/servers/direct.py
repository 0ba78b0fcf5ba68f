"""
Servers as processes of our own making, for machines without a user manager.

Each leads a session of its own.  It holds its FIFOs open itself and writes its log to a file, so
the daemon may go and come back.  The next daemon finds it by pid, start time and boot id; and
should a crash have come between the start and that note, by the log that is its stderr.  What it
cannot have without a manager: limits, a sandbox, and an exit status while nobody watched.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from modeld.core.entities import Exit, Found, LaunchRecord
from modeld.core.events import ServerExited, ServerStarted
from modeld.host.servers.engine import LAST_LINES, Engine, log_tail, shorten_log
from modeld.host.servers.following import follow_file
from modeld.host.servers.process import Handle
from modeld.host.servers.records import Records, record_paths
from modeld.supervisor.ports import Emit

LOG_CHECK_SECONDS = 10.0
OOM_SCORE_ADJUST = "300"  # a model before the daemon, as in modeld-llama@.service


class DirectServers:
    """`supervisor.ports.Servers` without a service manager."""

    kind = "direct"

    def __init__(self, emit: Emit, runtime_directory: str) -> None:
        self._emit = emit
        self._records = Records(runtime_directory)
        self._runtime_directory = runtime_directory
        self._engines: dict[str, Engine] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log_timer: asyncio.TimerHandle | None = None

    def start(self, record: LaunchRecord) -> None:
        """Write the record and start the process: `ServerStarted`, or `ServerExited`."""
        self._engines[record.server_id] = Engine(record.stdin_path)
        task = asyncio.get_running_loop().create_task(self._start(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            self._records.make_room(record)
        except OSError as error:
            task.cancel()
            self._never_started(record, error)

    def stop(self, server_id: str) -> None:
        """Ask it to end."""
        if engine := self._engines.get(server_id):
            engine.stop()

    def kill(self, server_id: str) -> None:
        """Kill the process and its group."""
        if engine := self._engines.get(server_id):
            engine.kill()

    def forget(self, server_id: str) -> None:
        """Remove record, note, socket, FIFOs and log."""
        self._records.forget(server_id)

    async def find(self) -> Sequence[Found]:
        """Return every server that was left, and watch those that live."""
        records, damaged = self._records.read_all()
        running = _engines(Path(self._runtime_directory, "kids"))
        found = []
        for record in records:
            handle = self._recognise(record.server_id, running.pop(record.server_id, None))
            if handle is None:
                lines = log_tail(record.log_path, LAST_LINES)
                gone = Exit(how="unknown", lines=lines)
                found.append(Found(record=record, process=None, exit=gone))
            else:
                self._hold(record.server_id, Engine(record.stdin_path), handle)
                found.append(Found(record=record, process=handle.process))
        for server_id in {*running, *damaged}:
            stranger = self._recognise(server_id, running.get(server_id))
            if stranger is not None:
                stranger.kill_group()
                stranger.close()
            self._records.forget(server_id)
        return found

    async def log_lines(self, server_id: str, count: int) -> Sequence[str]:
        """Return the last lines of its log file."""
        return log_tail(record_paths(self._runtime_directory, server_id).log_path, count)

    def follow_log(self, server_id: str, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """Give the last lines of its log file, then all that it writes."""
        return follow_file(record_paths(self._runtime_directory, server_id).log_path, backlog)

    async def close(self) -> None:
        """Let go of everything."""
        if self._log_timer is not None:
            self._log_timer.cancel()
            self._log_timer = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._engines.values():
            engine.let_go()
        self._engines.clear()

    async def _start(self, record: LaunchRecord) -> None:
        try:
            # In a thread: the disk may be slow to sync, and the kernel to make a process.
            handle = await asyncio.to_thread(self._launch, record)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._never_started(record, error)
            return
        self._emit(ServerStarted(server_id=record.server_id, process=handle.process))
        self._hold(record.server_id, self._engines[record.server_id], handle)

    def _launch(self, record: LaunchRecord) -> Handle:
        self._records.write(record)
        handle = _spawn(record)
        # Without the note the next daemon searches for it, so a full disk costs nothing more.
        with contextlib.suppress(OSError):
            self._records.write_process(record.server_id, handle.process)
        return handle

    def _never_started(self, record: LaunchRecord, error: Exception) -> None:
        del self._engines[record.server_id]
        exit_ = Exit(how="not-started", detail=_reason(record, error), ended_at=_now())
        self._emit(ServerExited(server_id=record.server_id, exit=exit_))

    def _recognise(self, server_id: str, pid: int | None) -> Handle | None:
        noted = self._records.read_process(server_id)
        if noted is not None and (handle := Handle.find(noted.pid, expected=noted)):
            return handle
        handle = Handle.find(pid) if pid is not None else None
        if handle is not None:
            with contextlib.suppress(OSError):
                self._records.write_process(server_id, handle.process)
        return handle

    def _hold(self, server_id: str, engine: Engine, handle: Handle) -> None:
        self._engines[server_id] = engine
        handle.watch(lambda: self._ended(server_id, handle))
        engine.hold(handle)
        if self._log_timer is None:
            self._check_logs()

    def _check_logs(self) -> None:
        for server_id in self._engines:
            shorten_log(record_paths(self._runtime_directory, server_id).log_path)
        loop = asyncio.get_running_loop()
        self._log_timer = loop.call_later(LOG_CHECK_SECONDS, self._check_logs)

    def _ended(self, server_id: str, handle: Handle) -> None:
        handle.kill_group()  # what it left behind; until it is reaped the group is its own
        how, code = _reap(handle.process.pid)
        self._engines.pop(server_id).let_go()
        lines = log_tail(record_paths(self._runtime_directory, server_id).log_path, LAST_LINES)
        exit_ = Exit(how=how, code=code, lines=lines, ended_at=_now())
        self._emit(ServerExited(server_id=server_id, exit=exit_))


def _spawn(record: LaunchRecord) -> Handle:
    """
    Start the process of a record.

    Raises:
        OSError: The program cannot be run.
        ValueError: An argument or variable holds a NUL.
        subprocess.SubprocessError: The new process failed before it became the program.
    """
    with contextlib.ExitStack() as files:

        def open_file(path: str, flags: int) -> int:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
            files.callback(os.close, descriptor)
            return descriptor

        # Both ends of both FIFOs: its stdin never ends, and nobody's leaving breaks its stdout.
        child = subprocess.Popen(
            record.argv,
            env=record.environment,
            cwd="/",
            stdin=open_file(record.stdin_path, os.O_RDWR),
            stdout=open_file(record.stdout_path, os.O_RDWR | os.O_NONBLOCK),
            stderr=open_file(record.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            start_new_session=True,
            umask=0o077,
        )
    child.returncode = 0  # the pidfd watches and `_ended` reaps; Popen must do neither
    with contextlib.suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text(OOM_SCORE_ADJUST, encoding="ascii")
    try:
        return Handle.of_child(child.pid)
    except OSError:  # out of descriptors: what cannot be watched must not run
        os.killpg(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        raise


def _reap(pid: int) -> tuple[str, int]:
    """Return how our child ended, and take it off the process table; an adopted one is none."""
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return "unknown", 0
    assert result is not None, "its pidfd said that it had ended"
    return ("exited" if result.si_code == os.CLD_EXITED else "signalled"), result.si_status


def _engines(kids: Path) -> dict[str, int]:
    """
    Return the pid of every server that runs, by id: those that hold a FIFO of ours.

    The FIFO may have been removed since, and engines put others in the place of their stdin and
    stdout.  What a server has started itself may hold it too, but leads no session.
    """
    fifo = re.compile(re.escape(str(kids)) + r"/([a-z0-9]{16})\.(?:in|out)(?: \(deleted\))?")
    engines = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # another user's, or gone
            if os.getsid(int(entry.name)) == int(entry.name):
                matches = map(fifo.fullmatch, _open_files(entry))
                engines.update({match[1]: int(entry.name) for match in matches if match})
    return engines


def _open_files(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(descriptor)  # noqa: PTH115 -- as text


def _reason(record: LaunchRecord, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or record.argv[0]}: {error.strerror or error}"
    return f"{record.argv[0]}: {error}"


def _now() -> datetime:
    return datetime.now(UTC)
