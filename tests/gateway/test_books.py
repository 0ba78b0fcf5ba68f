"""One request in the books."""

import pytest

from modeld.config.schema import Gateway
from modeld.core.traffic import RequestLost, RequestsEnded
from modeld.gateway.books import Books
from modeld.gateway.http import Problem
from modeld.gateway.shared import Relay
from modeld.gateway.table import Wanted
from tests.support.fake_door import FakeDoor
from tests.support.gateway import Clock, run

CHAT = Wanted(model="tiny", is_stream=False, path="/x", body=b"{}", keep_alive_seconds=7.0)
LOOK = Wanted(model="tiny", is_stream=False, path="/props", body=b"", is_look=True)


class Desk:
    """A relay, a door, and books of requests for one model."""

    def __init__(self, **settings: object) -> None:
        self.door = FakeDoor()
        self.model = self.door.add("tiny")
        self.door.serve("tiny", "/s.sock")
        self.route = self.door.routes.servers["tiny"]
        config = Gateway(**settings)  # type: ignore[arg-type]
        self.relay = Relay(self.door, config, Clock(), 1.0)

    def books(self, wanted: Wanted = CHAT) -> Books:
        """Return those of one more request, counted in."""
        books = Books(self.relay, b"1", "/v1/x")
        books.open(self.model, wanted)
        return books

    def ends(self) -> list[RequestsEnded | RequestLost]:
        """Return what the loop was told of ends."""
        self.relay.reports.flush()
        return [e for e in self.door.events if isinstance(e, RequestsEnded | RequestLost)]


def test_end_is_told_once_however_often_books_are_closed() -> None:
    """A client leaves in the moment of its answer's end."""

    async def main() -> None:
        desk = Desk()
        books = desk.books()
        books.begin(desk.route)
        books.close("", 200)
        books.close("left", 0)

        (end,) = desk.ends()
        assert isinstance(end, RequestsEnded)
        assert (end.ended, end.keep_alive_seconds, len(end.figures)) == (1, 7.0, 1)
        assert end.figures[0].failure == ""
        assert desk.relay._in_flight == {}

    run(main)


def test_nothing_is_said_of_a_request_that_goes_elsewhere_until_it_ends_there() -> None:
    """A server that is gone must not cost its model a failure that nobody saw."""

    async def main() -> None:
        desk = Desk()
        books = desk.books()
        books.begin(desk.route)
        books.leave()
        books.leave()
        (left,) = desk.ends()
        assert isinstance(left, RequestsEnded)
        assert (left.keep_alive_seconds, left.figures) == (None, ())
        assert desk.relay._in_flight == {"tiny": 1}

        books.close("server", 502)
        _, lost = desk.ends()
        assert isinstance(lost, RequestLost)
        assert lost.figures.failure == "server"

    run(main)


def test_look_is_not_written_down() -> None:
    """Dashboards look every second, and nothing of that is use."""

    async def main() -> None:
        desk = Desk()
        books = desk.books(LOOK)
        books.begin(desk.route)
        books.close("", 200)

        assert desk.door.events == desk.ends() == []
        assert books.server_id == ""

    run(main)


def test_request_beyond_those_that_a_model_may_have_is_a_failure_of_its_own() -> None:
    """Whoever watches sees that there is too much to do."""

    async def main() -> None:
        desk = Desk(max_requests_per_model=1)
        first = desk.books()
        second = Books(desk.relay, b"2", "/v1/x")
        with pytest.raises(Problem) as raised:
            second.open(desk.model, CHAT)
        second.close(second.failure(raised.value.status), raised.value.status)

        (lost,) = desk.ends()
        assert isinstance(lost, RequestLost)
        assert lost.figures.failure == "busy"
        assert desk.relay._in_flight == {"tiny": 1}
        first.close("", 200)

    run(main)
