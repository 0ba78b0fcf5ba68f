"""The log is what is left when something went wrong: it must be complete, and never in the way."""

import ast
import logging
import os
import pty
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.errors import Busy
from modeld.host.journal import MAX_KEPT, MAX_SUBSCRIBERS, SystemJournal, line, native
from modeld.wire.daemon import Happened
from modeld.wire.events import EVENTS

DAEMON = Path(__file__).parents[2] / "daemon" / "modeld"


class Journald:
    """The socket of a journald, and a stderr that leads there."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "socket"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(5)
        self.stderr = os.open(directory / "stderr", os.O_RDWR | os.O_CREAT)
        status = os.fstat(self.stderr)
        self.environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

    def journal(self, level: str = "info") -> SystemJournal:
        """Return a journal that writes here."""
        return SystemJournal(
            self.environment, level, descriptor=self.stderr, socket_path=str(self.path)
        )

    def heard(self) -> dict[str, str]:
        """Return the fields of the next entry."""
        return _parse(self.socket.recv(1 << 20))

    def lines(self) -> str:
        """Return what went to stderr."""
        return os.pread(self.stderr, 1 << 20, 0).decode()


def _parse(data: bytes) -> dict[str, str]:
    """Read an entry as journald does."""
    found = {}
    while data:
        name, separator, rest = data.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            data = rest
        else:
            assert separator
            length = int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + length], rest[8 + length :]
            assert data[:1] == b"\n"
            data = data[1:]
        found[name.decode()] = value.decode(errors="replace")
    return found


@pytest.fixture
def journald() -> Iterator[Journald]:
    """Yield a journald."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        there = Journald(Path(directory))
        yield there
        there.socket.close()
        os.close(there.stderr)


def _plain() -> tuple[SystemJournal, int]:
    """Return a journal that writes to a pipe, and its other end."""
    reader, writer = os.pipe()
    return SystemJournal({}, descriptor=writer), reader


def test_event_goes_to_journald_with_its_fields(journald: Journald) -> None:
    """`journalctl --user MODELD_MODEL=tool` must find it."""
    journal = journald.journal()
    journal.record("server-ready", "gemma is ready", model="gemma", seconds=0.4)
    journal.close()

    assert journald.heard() == {
        "MESSAGE": "gemma is ready",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "modeld",
        "MODELD_EVENT": "server-ready",
        "MESSAGE_ID": EVENTS["server-ready"].message_id,
        "MODELD_MODEL": "gemma",
        "MODELD_SECONDS": "0.4",
    }
    assert journald.lines() == ""


def test_event_of_several_lines_arrives_whole(journald: Journald) -> None:
    """All mistakes of a configuration are one event; a line feed must not begin a field."""
    journal = journald.journal()
    journal.record("config-invalid", "a\nPRIORITY=0\nb", detail="x\ny")
    journal.close()
    heard = journald.heard()

    assert heard["MESSAGE"] == "a\nPRIORITY=0\nb"
    assert heard["MODELD_DETAIL"] == "x\ny"
    assert heard["PRIORITY"] == "3"


def test_event_that_is_too_large_is_cut(journald: Journald) -> None:
    """EMSGSIZE: a part of the truth is better than none."""
    journal = journald.journal()
    many = {f"field{number}": "x" * 100_000 for number in range(60)}
    journal.record("refused", "y" * 100_000, **many)
    journal.close()
    heard = journald.heard()

    assert set(heard["MESSAGE"]) == {"y"}
    assert len(heard) == 5 + 60
    assert journald.lines() == ""


def test_event_goes_to_stderr_when_journald_is_away(journald: Journald) -> None:
    """It may be restarted, or not be there at all."""
    journal = journald.journal()
    journald.path.unlink()
    journal.record("started", "modeld serves")
    journal.close()

    assert "info started: modeld serves" in journald.lines()


def test_event_is_dropped_when_journald_is_behind(journald: Journald) -> None:
    """The loop never waits for the log."""
    journal = journald.journal()
    for _ in range(2_000):
        journal.record("refused", "x" * 1000)
    journal.close()

    assert len(journal.recent(5_000)) == MAX_KEPT


def test_event_goes_to_stderr_without_journald() -> None:
    """By hand, in a container: a line that says when, how bad, what, and the numbers."""
    journal, reader = _plain()
    journal.record("refused", "Too soon to reload. Wait 3s.", code="throttled", words="a b", left=3)
    text = os.read(reader, 4096).decode()

    assert text.endswith(
        'Z notice refused: Too soon to reload. Wait 3s.  code=throttled words="a b" left=3\n'
    )


def test_other_stream_is_not_taken_for_the_journal(journald: Journald) -> None:
    """`JOURNAL_STREAM` is inherited; stderr may lead elsewhere by now (sd-daemon)."""
    reader, writer = os.pipe()
    journal = SystemJournal(journald.environment, descriptor=writer, socket_path=str(journald.path))
    journal.record("started", "x")

    assert b"started" in os.read(reader, 4096)


def test_full_pipe_does_not_stop_the_daemon() -> None:
    """A reader that sleeps must not stop the loop."""
    journal, _ = _plain()
    for _ in range(100):
        journal.record("refused", "x" * 3000)

    assert len(journal.recent(1000)) == 100


def test_closed_stderr_does_not_stop_the_daemon() -> None:
    """A terminal that was closed, a pipe without a reader."""
    journal, reader = _plain()
    os.close(reader)
    journal.record("started", "x")

    SystemJournal({}, descriptor=987_654).record("started", "x")


def test_line_is_one_line_without_control_characters() -> None:
    """A model's file name must not move the cursor of whoever reads the log."""
    happened = Happened(event="refused", message="a\x1b[2Jb\nc", at="T", priority=5)

    assert line(happened, {"model": "x\x07y"}, colour=False) == (
        "T notice refused: a [2Jb c  model=x y\n"
    )


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({}, False),
     ({"TERM": "dumb"}, False)],
)  # fmt: skip
def test_terminal_gets_colours_by_severity(environment: dict[str, str], *, coloured: bool) -> None:
    """S0-47: white on red for errors; only on a terminal, and not with NO_COLOR."""
    reader, terminal = pty.openpty()
    SystemJournal(environment, descriptor=terminal).record("bug", "x")
    text = os.read(reader, 4096)
    os.close(reader)
    os.close(terminal)

    assert (b"\x1b[97;41m" in text) is coloured


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_level_decides_what_is_written(level: str, shown: int) -> None:
    """`log.level`: everything that is as bad or worse."""
    reader, writer = os.pipe()
    journal = SystemJournal({}, level, descriptor=writer)
    for event in ("folder-changed", "started", "folder-missing", "config-invalid"):
        journal.record(event, "x")
    text = os.read(reader, 1 << 16).decode()

    assert len(text.splitlines()) == shown
    assert len(journal.recent(9)) == (4 if level == "debug" else 3)


def test_priority_of_the_event_stands_unless_it_is_given() -> None:
    """Who says nothing means the usual."""
    journal, _ = _plain()
    journal.record("server-failed", "x")
    journal.record("server-failed", "x", priority=2)
    journal.record("never-heard-of", "x")

    assert [each.priority for each in journal.recent(3)] == [3, 2, 6]
    assert journal.recent(1)[0].message_id == ""


def test_last_events_are_kept() -> None:
    """`modelctl events` works without any journal."""
    journal, _ = _plain()
    for number in range(MAX_KEPT + 5):
        journal.record("refused", str(number), code="x")
    last = journal.recent(2)

    assert [each.message for each in last] == [str(MAX_KEPT + 3), str(MAX_KEPT + 4)]
    assert last[0].fields == {"code": "x"}
    assert last[0].message_id == EVENTS["refused"].message_id
    assert last[0].at.endswith("Z")
    assert len(journal.recent(10**6)) == MAX_KEPT
    assert journal.recent(0) == []


def test_subscriber_hears_until_it_leaves() -> None:
    """`modelctl events --follow`."""
    journal, _ = _plain()
    heard: list[str] = []
    leave = journal.subscribe(lambda happened: heard.append(happened.message))
    journal.record("started", "1")
    leave()
    leave()
    journal.record("started", "2")

    assert heard == ["1"]


def test_subscribers_are_limited() -> None:
    """Every list has an end."""
    journal, _ = _plain()
    for _ in range(MAX_SUBSCRIBERS):
        journal.subscribe(lambda _: None)
    with pytest.raises(Busy):
        journal.subscribe(lambda _: None)


def test_libraries_log_here_too(journald: Journald) -> None:
    """Asyncio's "exception was never retrieved" must not be lost."""
    journal = journald.journal()
    logger = logging.getLogger("asyncio.test")
    logger.propagate = False
    logger.addHandler(journal.handler())
    logger.error("it went %s", "wrong")
    logger.error("%d", "not a number")
    logger.debug("not shown")
    journal.close()
    heard = journald.heard()

    assert heard["MESSAGE"] == "it went wrong"
    assert heard["PRIORITY"] == "3"
    assert heard["MODELD_LOGGER"] == "asyncio.test"
    assert journal.recent(5) == []


def test_ids_are_ids_and_no_two_are_alike() -> None:
    """128 bits in lower case hex, as sd-id128(3) wants them."""
    ids = [kind.message_id for kind in EVENTS.values()]

    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)
    assert len(set(ids)) == len(ids)
    assert all(0 <= kind.priority <= 7 and kind.meaning for kind in EVENTS.values())


def _strings_of_the_daemon() -> tuple[set[str], set[str]]:
    """Return the kinds that the code names when it logs, and all strings that it has."""
    named: set[str] = set()
    strings: set[str] = set()
    for path in DAEMON.rglob("*.py"):
        if path.name == "events.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
            place = {"record": 0, "note": 1}.get(called, len(node.args))
            for one in node.args[place : place + 1]:
                if isinstance(one, ast.Constant):
                    named.add(str(one.value))
    return named, strings


def test_every_event_of_the_code_is_in_the_table_and_the_other_way_round() -> None:
    """modeld(8) lists the table: an event that is not there has no id and no meaning."""
    named, strings = _strings_of_the_daemon()

    assert named - EVENTS.keys() == set()
    assert EVENTS.keys() - strings == set()


@given(
    st.text(),
    st.dictionaries(st.text(min_size=1, max_size=80), st.one_of(st.text(), st.floats())),
    st.integers(1, 40),
)
def test_any_event_is_an_entry_that_journald_can_read(
    message: str, fields: dict[str, str | float], limit: int
) -> None:
    """Whatever a file is called, its entry has these fields and no others."""
    happened = Happened(event="refused", message=message, at="T", priority=5)
    entry = _parse(native(happened, fields, limit))

    assert entry["PRIORITY"] == "5"
    assert entry["MODELD_EVENT"] == "refused"[:limit]
    assert all(name.replace("_", "").isalnum() and len(name) <= 64 for name in entry)
    assert line(happened, fields, colour=False).count("\n") == 1


def test_requests_are_told_but_push_no_other_event_out(tmp_path: Path) -> None:
    """A thousand of them come in a minute; what happened in the night must still be known."""
    journal = SystemJournal({}, descriptor=os.open(tmp_path / "stderr", os.O_RDWR | os.O_CREAT))
    told: list[Happened] = []
    journal.subscribe(told.append)
    journal.record("server-failed", "it died")
    for _ in range(MAX_KEPT):
        journal.record("request-served", "one")
    assert [each.event for each in journal.recent(MAX_KEPT)] == ["server-failed"]
    assert len(told) == MAX_KEPT + 1
