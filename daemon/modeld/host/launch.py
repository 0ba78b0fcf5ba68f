"""
What `modeld-llama@ID.service` executes: turns itself into the server that a launch record names.

    python3 -I -S launch.py start RUNTIME ID     becomes the server
    python3 -I -S launch.py stop RUNTIME ID      writes the line that ends it

The arguments of a unit file are expanded and split; those of a record are not, and its
environment is the server's whole environment.  Run by path, on the standard library alone, so
that it costs a few milliseconds; it imports nothing of modeld and leaves no process of its own.

Exit status, where it cannot: 78 for a record that is missing or makes no sense, 69 for a program
or a directory that cannot be used, each with one line on stderr that begins with `modeld-launch:`.
"""

import errno
import json
import os
import sys

EXIT_UNAVAILABLE = 69
EXIT_BAD_RECORD = 78
EXIT_LINE = b"cmd_router_to_child:exit\n"
ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
ID_LENGTH = 16
RECORD_VERSION = 1
NOBODY_READS = frozenset({errno.ENXIO, errno.ENOENT})


class BadRecordError(Exception):
    """The record, or what names it, makes no sense."""


def read_record(runtime: str, server_id: str) -> dict[str, object]:
    """
    Return the record of a server.

    Raises:
        BadRecordError: There is none, or one that this version does not understand.
    """
    if len(server_id) != ID_LENGTH or not ID_LETTERS.issuperset(server_id):
        raise BadRecordError(f"not a server id: {server_id!r}")
    path = f"{runtime}/launch/{server_id}.json"
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- pathlib would cost 4 ms
            record = json.load(file)
    except OSError as error:
        raise BadRecordError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BadRecordError(f"{path}: {error}") from error
    if not isinstance(record, dict) or record.get("version", 1) != RECORD_VERSION:
        raise BadRecordError(f"{path}: not a launch record of version {RECORD_VERSION}")
    if record.get("server_id") != server_id:
        raise BadRecordError(f"{path}: the record of another server")
    return record


def open_fifo(path: str, flags: int, descriptor: int) -> None:
    """
    Make `descriptor` both ends of a FIFO, which is made when it is missing.

    Both ends, so that a stdin never ends and a stdout never breaks, whoever comes and goes.

    Raises:
        OSError: The directory cannot be used.
    """
    if not os.path.exists(path):  # noqa: PTH110 -- as above
        os.mkfifo(path, 0o600)
    opened = os.open(path, os.O_RDWR | flags)
    os.dup2(opened, descriptor)
    os.close(opened)


def remove(path: str) -> None:
    """Remove what lies where the server will listen: it could not bind over it."""
    if os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108 -- as above


def start(runtime: str, server_id: str) -> None:
    """
    Become the server.

    Raises:
        BadRecordError: Its record makes no sense.
        OSError: Its program or its directory cannot be used.
    """
    record = read_record(runtime, server_id)
    try:
        argv = [str(word) for word in record["argv"]]  # type: ignore[attr-defined]
        environment = {str(name): str(value) for name, value in record["environment"].items()}  # type: ignore[attr-defined]
        socket_path, stdin_path, stdout_path = (
            str(record[f"{name}_path"]) for name in ("socket", "stdin", "stdout")
        )
        program = argv[0]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadRecordError(f"the record of {server_id} lacks {error}") from error
    remove(socket_path)
    open_fifo(stdin_path, 0, 0)
    open_fifo(stdout_path, os.O_NONBLOCK, 1)
    os.chdir("/")
    try:
        os.execve(program, argv, environment)  # noqa: S606 -- its whole purpose
    except ValueError as error:  # a NUL
        raise BadRecordError(f"the record of {server_id}: {error}") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, program) from error


def stop(runtime: str, server_id: str) -> None:
    """
    Write the exit line, for otherwise llama-server would not end at SIGTERM.

    Raises:
        BadRecordError: Its record makes no sense.
        OSError: Its directory cannot be used.
    """
    path = str(read_record(runtime, server_id).get("stdin_path"))
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        # ExecStop= also runs after an end that nobody asked for: then nobody reads any more.
        if error.errno in NOBODY_READS:
            return
        raise
    os.write(fifo, EXIT_LINE)
    os.close(fifo)


def main(words: list[str]) -> int:
    """Do what the arguments say; return an exit status where there is no server to become."""
    actions = {"start": start, "stop": stop}
    try:
        if len(words) != len(("action", "runtime", "id")) or words[0] not in actions:
            return fail("usage: launch.py start|stop RUNTIME ID", EXIT_BAD_RECORD)
        actions[words[0]](words[1], words[2])
    except BadRecordError as error:
        return fail(str(error), EXIT_BAD_RECORD)
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}", EXIT_UNAVAILABLE)
    return 0


def fail(reason: str, status: int) -> int:
    """Say why it is not to be, in one line; return the status."""
    sys.stderr.write(f"modeld-launch: {reason}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
