"""`host.servers.following`: logs as they grow."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.host.servers import following
from modeld.host.servers.following import Growing, follow_file
from tests.support.running import asynchronous


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, so that no test waits."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(following, "NOTHING_SECONDS", 0.05)


def append(path: Path, text: str) -> None:
    """Write as a server does."""
    with path.open("a") as file:
        file.write(text)


@asynchronous
async def test_file_gives_its_end_and_then_what_is_appended(tmp_path: Path) -> None:
    """Lines that are half written are told when they are whole."""
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthree\n")
    async with aclosing(follow_file(str(path), 2)) as batches, asyncio.timeout(5):
        assert await anext(batches) == ("two", "three")
        append(path, "four\nfi")
        assert await anext(batches) == ("four",)
        append(path, "ve\n")
        assert await anext(batches) == ("five",)
        assert await anext(batches) == ()


@asynchronous
async def test_file_that_was_shortened_goes_on(tmp_path: Path) -> None:
    """A log that grew too long is cut in place while the server writes."""
    path = tmp_path / "log"
    path.write_text("old\n" * 100)
    async with aclosing(follow_file(str(path), 0)) as batches, asyncio.timeout(5):
        assert await anext(batches) == ()
        path.write_text("kept\n")
        assert await anext(batches) == ()
        append(path, "new\n")
        assert await anext(batches) == ("new",)


@asynchronous
async def test_file_that_grows_too_fast_loses_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that writes a gigabyte must not be read into memory."""
    monkeypatch.setattr(following, "READ_BYTES", 100)
    path = tmp_path / "log"
    path.touch()
    async with aclosing(follow_file(str(path), 0)) as batches, asyncio.timeout(5):
        assert await anext(batches) == ()
        append(path, "".join(f"line {number}\n" for number in range(1000)))
        lines = await anext(batches)

    assert lines[-1] == "line 999"
    assert len(lines) <= 12


@asynchronous
async def test_file_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    """A server that is about to start has no log yet."""
    path = tmp_path / "log"
    async with aclosing(follow_file(str(path), 5)) as batches, asyncio.timeout(5):
        assert await anext(batches) == ()
        append(path, "first\n")
        assert await anext(batches) == ("first",)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab\n", max_size=5), max_size=10))
def test_lines_are_the_same_however_they_are_cut(pieces: list[str]) -> None:
    """A pipe cuts where it likes."""
    growing = Growing()
    found = [line for piece in pieces for line in growing.take(piece.encode())]

    whole = "".join(pieces).rpartition("\n")[0]
    assert found == [line for line in whole.split("\n") if line]


def test_line_without_end_is_cut() -> None:
    """Whatever a server writes, one line of it is bounded."""
    growing = Growing()
    for _ in range(100):
        growing.take(b"x" * 1000)

    assert growing.take(b"\n") == ("x" * following.LINE_LIMIT,)
