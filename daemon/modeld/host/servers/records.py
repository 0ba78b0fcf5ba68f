"""
What is written down of each server, and the files it talks through.

    RUNTIME/launch/ID.json           the launch record, written and synced before the start
    RUNTIME/launch/ID.process.json   which process it became (direct starts only)
    RUNTIME/kids/ID.sock             where it listens
    RUNTIME/kids/ID.in, ID.out       FIFOs: commands to it, state lines from it
    RUNTIME/kids/ID.log              its stderr (direct starts only)

A record that cannot be understood is set aside as `ID.json.damaged`, never guessed at.  Nothing
here starts or signals anything.
"""

import contextlib
import os
import re
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

from modeld.core.entities import LaunchRecord, Process

RECORD_VERSION = 1
RECORD_LIMIT_BYTES = 4 * 1024**2  # argv and environment together cannot be longer than 2 MiB
_RECORD_NAME = re.compile(r"([a-z0-9]{16})\.json")
_KID_NAME = re.compile(r"([a-z0-9]{16})\.(?:sock|in|out|log)")
_HALF = ".new"


class RecordPaths(Struct, frozen=True, kw_only=True):
    """The files of one server, absolute, in the fields' names of `LaunchRecord`."""

    socket_path: str
    stdin_path: str
    stdout_path: str
    log_path: str


def record_paths(runtime_directory: str, server_id: str) -> RecordPaths:
    """Return where a server with this id has its socket, FIFOs and log."""
    stem = f"{runtime_directory}/kids/{server_id}"
    return RecordPaths(
        socket_path=f"{stem}.sock",  # llama-server wants exactly this ending
        stdin_path=f"{stem}.in",
        stdout_path=f"{stem}.out",
        log_path=f"{stem}.log",
    )


class Records:
    """The launch records below one runtime directory."""

    def __init__(self, runtime_directory: str) -> None:
        self.runtime_directory = runtime_directory
        self.launch = Path(runtime_directory, "launch")
        self.kids = Path(runtime_directory, "kids")

    def make_room(self, record: LaunchRecord) -> None:
        """
        Make what a server talks through: fresh FIFOs, and nothing where it will listen.

        llama-server cannot bind a socket whose file is there already, whatever it is.

        Raises:
            OSError: The runtime directory cannot be written.
        """
        for directory in (self.launch, self.kids):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (record.socket_path, record.stdin_path, record.stdout_path):
            Path(path).unlink(missing_ok=True)
        os.mkfifo(record.stdin_path, 0o600)
        os.mkfifo(record.stdout_path, 0o600)

    def write(self, record: LaunchRecord) -> None:
        """
        Write a record, synced.  Blocks for as long as the disk takes.

        Raises:
            OSError: The disk refused it.
        """
        _write_synced(self.launch / f"{record.server_id}.json", msgspec.json.encode(record))

    def read_all(self) -> tuple[list[LaunchRecord], list[str]]:
        """Return all records, oldest first, and the ids of what has none that can be used."""
        self._remove_halves()
        records, damaged = [], []
        for path in self._files():
            server_id = path.name.removesuffix(".json")
            try:
                records.append(_decode(path, server_id))
            except (msgspec.MsgspecError, ValueError, OSError):
                # gone in this moment: there is nothing to set aside
                with contextlib.suppress(OSError):
                    path.rename(f"{path}.damaged")
                damaged.append(server_id)
        known = {record.server_id for record in records}
        # the daemon before may have been killed between the FIFOs and the record
        damaged += sorted(self._talked_through() - known - set(damaged))
        return sorted(records, key=lambda record: record.created_at), damaged

    def _talked_through(self) -> set[str]:
        """Return the ids of all servers that there is a socket, FIFO or log of."""
        try:
            names = [path.name for path in self.kids.iterdir()]
        except FileNotFoundError:
            return set()
        return {match[1] for name in names if (match := _KID_NAME.fullmatch(name))}

    def _remove_halves(self) -> None:
        """Remove records that a crash left half written; nothing was started from them."""
        for path in self.launch.glob(f".*{_HALF}"):
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        try:
            entries = list(self.launch.iterdir())
        except FileNotFoundError:
            return []
        return sorted(entry for entry in entries if _RECORD_NAME.fullmatch(entry.name))

    def write_process(self, server_id: str, process: Process) -> None:
        """
        Note which process a server became, synced.

        Raises:
            OSError: The disk refused it.
        """
        _write_synced(self._process_path(server_id), msgspec.json.encode(process))

    def read_process(self, server_id: str) -> Process | None:
        """Return the process that was noted for a server, if that can be read."""
        try:
            return msgspec.json.decode(self._process_path(server_id).read_bytes(), type=Process)
        except (OSError, msgspec.MsgspecError, ValueError):
            return None

    def forget(self, server_id: str) -> None:
        """Remove everything that is kept of a server.  Idempotent."""
        paths = record_paths(self.runtime_directory, server_id)
        for path in (paths.socket_path, paths.stdin_path, paths.stdout_path, paths.log_path):
            Path(path).unlink(missing_ok=True)
        self._process_path(server_id).unlink(missing_ok=True)
        (self.launch / f"{server_id}.json").unlink(missing_ok=True)  # last: it leads to the rest

    def _process_path(self, server_id: str) -> Path:
        return self.launch / f"{server_id}.process.json"


def _decode(path: Path, server_id: str) -> LaunchRecord:
    """
    Return the record in a file.

    Raises:
        ValueError: It is too long, of another version, or not about this server.
        msgspec.MsgspecError: It is no record.
    """
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a file")
        content = file.read(RECORD_LIMIT_BYTES + 1)
    if len(content) > RECORD_LIMIT_BYTES:
        raise ValueError("too long")
    record = msgspec.json.decode(content, type=LaunchRecord)
    if record.version != RECORD_VERSION or record.server_id != server_id or not record.argv:
        raise ValueError("not the record of this server")
    return record


def _write_synced(path: Path, content: bytes) -> None:
    """Replace a file so that, whatever happens, the old or the new content is there."""
    temporary = path.with_name(f".{path.name}{_HALF}")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
