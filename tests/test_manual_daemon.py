"""modeld(8) is the daemon in prose: its options, signals, statuses, events and fields, no other."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeld import errors
from modeld.__main__ import EXIT_CANNOT_CREATE
from modeld.wire.events import EVENTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "man" / "modeld.8").read_text("utf-8")
SOURCES = sorted((ROOT / "daemon" / "modeld").rglob("*.py"))
START = ("__main__.py", "config", "gateway/server.py", "gateway/guard.py", "host")
"""The modules whose errors can end modeld before it serves."""
NOT_THE_START = ("host/copy",)
BUG, WRONG_ARGUMENTS, TOLD_TO = 1, 2, 0


def section(name: str) -> str:
    """Return the text below a heading of either kind."""
    found = re.search(rf"^\.S[hs] {name}\n(.*?)(?=^\.S[hs] |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {name}"
    return found[1]


def calls(*names: str) -> Iterator[ast.Call]:
    """Yield every call of a function or method with one of these names in the daemon."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
            if called in names:
                yield node


def test_page_has_every_option_and_no_other() -> None:
    """As `--help` has them."""
    done = subprocess.run(
        [sys.executable, "-m", "modeld", "--help"], capture_output=True, text=True, check=True
    )
    told = set(re.findall(r"^ +(?:-\w, )?--([\w-]+)", done.stdout, re.MULTILINE))

    assert set(re.findall(r"^\.It Fl (?:\w , )?-([\w-]+)", PAGE, re.MULTILINE)) == told


def test_page_has_every_signal_and_no_other() -> None:
    """Whoever sends one must know what it does."""
    handled = {ast.unparse(call.args[0]) for call in calls("add_signal_handler")}
    told = re.findall(r"^\.It Dv ((?:SIG\w+(?: , )?)+)$", section("SIGNALS"), re.MULTILINE)

    assert {f"signal.{name}" for line in told for name in line.split(" , ")} == handled


def _raised_at_the_start() -> set[int]:
    """Return the exit status of every error that is raised where modeld starts."""
    statuses = set()
    for path in SOURCES:
        place = str(path.relative_to(ROOT / "daemon" / "modeld"))
        if not place.startswith(START) or place.startswith(NOT_THE_START):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            raised = getattr(node, "exc", None)
            name = getattr(getattr(raised, "func", None), "id", "")
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, errors.ModeldError):
                statuses.add(errors.STATUSES[kind.code].exit_status)
    return statuses


def test_page_has_every_exit_status_and_no_other() -> None:
    """Units and scripts decide by it."""
    told = re.findall(r"^\.It (\d+)$", section("EXIT STATUS"), re.MULTILINE)
    possible = _raised_at_the_start() | {TOLD_TO, BUG, WRONG_ARGUMENTS, EXIT_CANNOT_CREATE}

    assert list(map(int, told)) == sorted(possible)


def test_page_has_every_event_with_its_id_priority_and_meaning() -> None:
    """`journalctl MESSAGE_ID=` finds nothing by an id that is wrong."""
    pattern = r"^\.It Sy ([\w-]+) Pq (\d)\n\.Li ([0-9a-f]{32}) :\n((?:[^.].*\n)+)"
    told = [
        (event, int(priority), message_id, " ".join(meaning.split()).removesuffix("."))
        for event, priority, message_id, meaning in re.findall(
            pattern, section("Events"), re.MULTILINE
        )
    ]

    assert told == [
        (event, kind.priority, kind.message_id, kind.meaning) for event, kind in EVENTS.items()
    ]


def test_every_event_that_is_recorded_has_its_kind() -> None:
    """One without would have neither an id nor a line in the manual."""
    recorded = {
        argument.value
        for name, place in (("record", 0), ("note", 1))
        for call in calls(name)
        for argument in call.args[place : place + 1]
        if isinstance(argument, ast.Constant)
    }

    assert recorded <= EVENTS.keys()


def test_page_has_every_field_and_no_other() -> None:
    """They are what `journalctl MODELD_MODEL=tool` looks for."""
    given = {
        keyword.arg
        for call in calls("record", "note", "_write")
        for keyword in call.keywords
        if keyword.arg not in {None, "priority"}
    }
    told = re.findall(r"^\.It Li MODELD_(\w+)$", section("Fields"), re.MULTILINE)

    assert set(told) == {name.upper() for name in given if name} | {"EVENT"}


def test_page_has_every_variable_that_is_read() -> None:
    """A variable that nobody knows of is one that nobody looks for."""
    read = {
        name
        for path in SOURCES
        for name in re.findall(
            r"environment(?:\.get\(|\[)\"([A-Z][A-Z_]+)\"", path.read_text("utf-8")
        )
    }
    told = section("ENVIRONMENT") + section("Servers")
    everywhere = {"LANG", "PATH", "TERM", "LISTEN_PID", "WATCHDOG_PID"}

    assert {name for name in read - everywhere if not re.search(rf"\b{name}\b", told)} == set()


def test_page_has_every_unit() -> None:
    """They are named nowhere else."""
    units = {path.name for path in (ROOT / "systemd").iterdir() if path.is_file() and path.suffix}
    line = next(line for line in section("FILES").splitlines() if "modeld.service" in line)

    assert set(line.removeprefix(".It Pa ").split(" , ")) == units


def test_page_is_without_warnings() -> None:
    """It must look right everywhere, not only where it was written."""
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        [mandoc, "-Tlint", "-W", "warning", str(ROOT / "man" / "modeld.8")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout + done.stderr == ""
