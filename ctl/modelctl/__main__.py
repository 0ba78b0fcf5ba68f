"""
modelctl: parse, ask, print, exit.

The only module that knows the environment and the process: streams, terminal, exit status.
"""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from importlib import import_module
from typing import NoReturn, TextIO

from modelctl import __version__
from modelctl.errors import word_of
from modelctl.parse import parse, peek
from modelctl.render.screen import Screen
from modelctl.session import Session, Surroundings
from modeld.errors import STATUSES, ErrorCode, ModeldError, exit_status

INTERRUPTED = STATUSES[ErrorCode.CANCELLED].exit_status
PIPE_CLOSED = 141
"""128 + SIGPIPE, as a shell reports it."""


def main() -> NoReturn:
    """Run modelctl, and leave without tearing down what the kernel tears down faster."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = run(sys.argv[1:], os.environ)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = PIPE_CLOSED
    except KeyboardInterrupt:
        status = INTERRUPTED
    os._exit(status)


def run(argv: list[str], environment: Mapping[str, str]) -> int:
    """
    Run one command, and return its exit status.

    Raises:
        BrokenPipeError: Whoever read the output has gone.
    """
    colour = peek(argv, "--color") or "auto"
    surroundings = Surroundings(
        environment=environment,
        uid=os.getuid(),
        stdout=sys.stdout,
        stderr=sys.stderr,
        screen_of=lambda stream: screen_of(stream, environment, colour),
        clock=time.time,
    )
    try:
        session = Session(parse(argv), surroundings)
    except ModeldError as error:
        return _report(error, surroundings, as_json=bool(peek(argv, "--json")), spread=True)
    try:
        with closing(session):
            return _call(session)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except ModeldError as error:
        return _report(error, surroundings, as_json=session.json, spread=not session.streaming)
    except Exception as error:  # noqa: BLE001 (a bug: it is written down, not hidden)
        bug = _written_down(error, session.command.name, environment)
        return _report(bug, surroundings, as_json=session.json, spread=not session.streaming)


def _call(session: Session) -> int:
    module, function = session.command.run.split(".")
    command = getattr(import_module(f"modelctl.commands.{module}"), function)
    return int(command(session))


def _report(error: ModeldError, out: Surroundings, *, as_json: bool, spread: bool) -> int:
    """Tell what went wrong, to people on stderr and to programs on stdout too."""
    from modelctl.render.answer import encode, failure_fields, failure_text

    word = word_of(error)
    if as_json:
        fields = failure_fields(word, error.message, error.hint, error.numbers)
        indent = spread and out.screen_of(out.stdout).terminal
        out.stdout.write(encode(fields, ok=False, indent=indent) + "\n")
    out.stdout.flush()
    out.stderr.write(failure_text(error.message, error.hint, out.screen_of(out.stderr)))
    return exit_status(word)


def _written_down(error: Exception, command: str, environment: Mapping[str, str]) -> ModeldError:
    """Return the error that stands for a bug, after its traceback is in a file of its own."""
    import platform
    import traceback

    home = environment.get("HOME", "")
    state = environment.get("XDG_STATE_HOME") or f"{home}/.local/state"
    directory = f"{state}/modeld"
    path = f"{directory}/crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    about = f"modelctl {__version__} {command}, Python {platform.python_version()}\n\n"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103 (no pathlib: start-up time)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(about + "".join(traceback.format_exception(error)))
    except OSError as refused:
        path = f"nowhere ({refused.strerror}): {error!r}"
    return ModeldError(f"a bug in modelctl; its traceback is in {path}", hint="please report it")


def screen_of(stream: TextIO, environment: Mapping[str, str], colour: str) -> Screen:
    """
    Return what a stream can show: `--color` wins, then `NO_COLOR`, then `FORCE_COLOR`.

    A width in `COLUMNS` wins over the terminal's own.
    """
    terminal = stream.isatty()
    dumb = environment.get("TERM") == "dumb"
    forced = any(
        environment.get(name, "0") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")
    )
    automatic = (forced or (terminal and not dumb)) and not environment.get("NO_COLOR")
    encoding = (stream.encoding or "ascii").lower().replace("-", "")
    return Screen(
        width=_width(stream, environment) if terminal else 80,
        terminal=terminal,
        colour=colour == "always" or (colour != "never" and automatic),
        unicode=encoding == "utf8",
        dumb=dumb,
    )


def _width(stream: TextIO, environment: Mapping[str, str]) -> int:
    columns = environment.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


if __name__ == "__main__":
    main()
