"""Server-sent events, however their bytes are cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.gateway.events import MAX_EVENT_BYTES, EventReader, EventTooLong
from tests.support.cutting import cut


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: one\n\n", [b"one"]),
        (b"data:one\r\n\r\ndata: two\n\n", [b"one", b"two"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": ping\n\n", [None]),
        (b"event: x\nid: 3\ndata: one\n\n", [b"one"]),
        (b"\n\n\n", []),
        (b"data: half", []),
        (b"data: half\n", []),
    ],
)
def test_reader_gives_what_is_whole(data: bytes, events: list[bytes | None]) -> None:
    """Half an event would be broken JSON."""
    assert list(EventReader().feed(data)) == events


@settings(max_examples=150, deadline=None)
@given(st.text("data: \r\n:xyz", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_reader_does_not_care_how_bytes_are_cut(text: str, places: list[int]) -> None:
    """The network cuts where it likes."""
    data, reader = text.encode(), EventReader()

    found = [event for piece in cut(data, places) for event in reader.feed(piece)]

    assert found == list(EventReader().feed(data))


@pytest.mark.parametrize("line", [b"data: ", b": ", b"x"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_reader_bounds_an_event_without_end(line: bytes, end: bytes) -> None:
    """Memory is not the server's to fill."""
    with pytest.raises(EventTooLong):
        list(EventReader().feed(line + b"y" * MAX_EVENT_BYTES + end))


def test_reader_bounds_an_event_of_many_lines() -> None:
    """Nor in small pieces."""
    reader = EventReader()
    line = b"data: " + b"y" * 60_000 + b"\n"

    assert list(reader.feed(line * 10)) == []

    with pytest.raises(EventTooLong):
        list(reader.feed(line * 10))
