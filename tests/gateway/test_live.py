"""What is told as it happens: states of models as llama.cpp's router tells them, and logs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from modeld.core.entities import ServerState
from modeld.gateway import following
from modeld.gateway.guard import Limits
from modeld.gateway.http import Answer
from modeld.gateway.openai import OPENAI
from modeld.gateway.server import ROWS
from modeld.gateway.table import Call, Local, Row
from modeld.supervisor.door import Route, Routes
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, Raw, opened, run, running, until

Event = dict[str, object]


def route(
    state: ServerState, fraction: float = 0.0, server_id: str = "s1", model_id: str = "tiny"
) -> Route:
    """Return the way to a server of the model."""
    return Route(
        server_id=server_id,
        model_id=model_id,
        socket_path="",
        state=state,
        fraction=fraction,
        context_tokens=512,
    )


def show(door: FakeDoor, *routes: Route) -> None:
    """Publish that these servers are all there are."""
    door.publish(replace(door.routes, servers={each.model_id: each for each in routes}))


@asynccontextmanager
async def watching(path: bytes = b"/models/sse", **settings: object) -> AsyncIterator[tuple]:
    """Follow a path of a gateway with one model."""
    door = FakeDoor()
    door.add("tiny")
    door.logs.lines = {"": ["began", "served"], "tiny": ["one", "two"]}
    async with (
        running(door, **settings) as house,
        opened(house, house.request(b"GET " + path)) as raw,
    ):
        status, headers = await raw.head()
        yield status, headers, Feed(house, raw)


class Feed:
    """What comes, piece by piece."""

    def __init__(self, house: House, raw: Raw) -> None:
        self.house = house
        self.raw = raw
        self._chunks = raw.chunks()
        self._text = b""

    @property
    def door(self) -> FakeDoor:
        """The supervisor."""
        return self.house.door

    async def piece(self) -> bytes:
        """Return the next piece."""
        return await anext(self._chunks)

    async def events(self, count: int) -> list[Event]:
        """Return the next events, signs of life left out."""
        found: list[Event] = []
        while len(found) < count:
            lines = (await self.piece()).split(b"\n\n")
            found += [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
        assert len(found) == count
        return found

    async def text(self, wanted: bytes) -> bytes:
        """Read until this has come; return everything so far."""
        while wanted not in self._text:
            self._text += await self.piece()
        return self._text


# --- models ---------------------------------------------------------------------------------


def test_a_load_is_told_in_the_routers_words() -> None:
    """Its web page shows a bar from these events, and knows no others."""

    async def main() -> None:
        async with watching() as (status, headers, feed):
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            assert await feed.piece() == b":\n\n"
            show(feed.door, route(ServerState.LOADING))
            assert await feed.events(1) == [
                {"model": "tiny", "event": "model_status", "data": {"status": "loading"}}
            ]
            show(feed.door, route(ServerState.LOADING, 0.5))
            progress = {"stages": ["text_model"], "current": "text_model", "value": 0.5}
            assert await feed.events(1) == [
                {
                    "model": "tiny",
                    "event": "status_change",
                    "data": {"status": "loading", "progress": progress},
                }
            ]
            show(feed.door, route(ServerState.READY, 1.0))
            (loaded,) = await feed.events(1)
            data = loaded["data"]
            assert loaded["event"] == "status_change"
            assert isinstance(data, dict)
            assert data["status"] == "loaded"
            assert data["info"]["meta"]["n_ctx"] == 512
            show(feed.door)
            assert await feed.events(1) == [
                {"model": "tiny", "event": "status_change", "data": {"status": "unloaded"}}
            ]

    run(main)


def test_what_a_reader_missed_is_told_as_the_way_from_then_to_now() -> None:
    """A server that was replaced between two looks is another one, and its end is an event."""

    async def main() -> None:
        async with watching() as (_, _, feed):
            await feed.piece()
            show(feed.door, route(ServerState.READY))
            await feed.events(2)
            show(feed.door, route(ServerState.LOADING, server_id="s2"))
            told = [(each["event"], each["data"]) for each in await feed.events(2)]
            assert told == [
                ("status_change", {"status": "unloaded"}),
                ("model_status", {"status": "loading"}),
            ]

    run(main)


def test_other_models_on_the_disk_are_an_event() -> None:
    """The router says so with a star, and its page asks for the list again."""

    async def main() -> None:
        async with watching() as (_, _, feed):
            await feed.piece()
            routes: Routes = feed.door.routes
            feed.door.publish(replace(routes, models={}, index={}))
            assert await feed.events(1) == [{"model": "*", "event": "models_reload"}]

    run(main)


def test_silence_is_broken_by_signs_of_life() -> None:
    """Proxies and clients take a quiet line for a dead one."""

    async def main() -> None:
        async with watching(heartbeat_seconds=0.1) as (_, _, feed):
            assert [await feed.piece() for _ in range(3)] == [b":\n\n"] * 3

    run(main)


def test_a_change_that_shows_nothing_new_is_not_told() -> None:
    """Routes are published for nicknames too."""

    async def main() -> None:
        async with watching(heartbeat_seconds=0.1) as (_, _, feed):
            await feed.piece()
            feed.door.publish(replace(feed.door.routes, default_model="tiny"))
            assert await feed.piece() == b":\n\n"

    run(main)


def test_followers_are_bounded_and_make_room_when_they_leave() -> None:
    """Each costs a connection, and may cost a process."""

    async def main() -> None:
        async with running() as house:
            request = house.request(b"GET /models/sse")
            many = [await house.connect() for _ in range(following.MAX_FOLLOWING)]
            for raw in many:
                await raw.send(request)
                assert (await raw.head())[0] == 200
            reply = await house.get(b"/models/sse")
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")

            many.pop().close()
            everybody = house.gateway._hall.following
            await until(lambda: len(everybody) < following.MAX_FOLLOWING)
            async with opened(house, request) as raw:
                assert (await raw.head())[0] == 200
            for raw in many:
                raw.close()

    run(main)


def test_followers_hear_the_end_when_modeld_stops() -> None:
    """A stop must not wait for answers that have no end."""

    async def main() -> None:
        async with watching() as (_, _, feed):
            await feed.piece()
            async with asyncio.timeout(2):
                await feed.house.gateway.drain(5)
            with_end = [chunk async for chunk in feed._chunks]
            assert with_end == []

    run(main)


def test_head_of_a_feed_has_no_body_and_an_end() -> None:
    """What answers GET answers HEAD, and HEAD does not hang."""

    async def main() -> None:
        async with running() as house:
            request = house.request(b"HEAD /models/sse")
            async with opened(house, request + house.request(b"GET /health")) as raw:
                pass
            async with opened(house, request) as raw:
                assert (await raw.reply(has_body=False)).status == 200
                assert not house.gateway._hall.following

    run(main)


# --- logs -----------------------------------------------------------------------------------


def test_a_servers_log_is_followed() -> None:
    """What was written comes first, then each line as it is written."""

    async def main() -> None:
        async with watching(b"/logs/stream/tiny") as (status, headers, feed):
            assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
            assert await feed.text(b"two\n") == b"one\ntwo\n"
            feed.door.logs.lines["tiny"].append("three <script>")
            assert await feed.text(b"script") == b"one\ntwo\nthree <script>\n"
            assert headers["x-content-type-options"] == "nosniff"

    run(main)


def test_history_is_left_out_where_that_is_wanted() -> None:
    """llama-swap's `?no-history`."""

    async def main() -> None:
        async with watching(b"/logs/stream/tiny?no-history") as (_, _, feed):
            await until(lambda: feed.door.logs.followers == 1)
            feed.door.logs.lines["tiny"].append("three")
            assert await feed.text(b"three") == b"three\n"

    run(main)


def test_a_reader_that_leaves_ends_what_it_followed() -> None:
    """Under systemd there is a process behind each."""

    async def main() -> None:
        async with watching(b"/logs/stream/tiny") as (_, _, feed):
            await feed.text(b"two\n")
            assert feed.door.logs.followers == 1
            feed.raw.close()
            await until(lambda: feed.door.logs.followers == 0)

    run(main)


def test_a_reader_that_takes_nothing_costs_no_memory() -> None:
    """A terminal that somebody suspended must not fill the memory with lines."""

    async def main() -> None:
        async with watching(b"/logs/stream/tiny") as (_, _, feed):
            await feed.text(b"two\n")
            lines = feed.door.logs.lines["tiny"]
            (connection,) = feed.house.gateway._hall.connections
            transport = connection._transport
            for _ in range(200):
                lines += ["x" * 1000] * 100
                await asyncio.sleep(0.005)
            held = transport.get_write_buffer_size()
            assert held < 8_000_000
            assert connection.is_paused

    run(main)


def test_who_has_not_taken_the_last_answer_is_sent_no_more() -> None:
    """It asked for the next one while the last one lay unread: it was never told to wait again."""

    def large(_: Call) -> Answer:
        return Answer(body=b"x" * (16 << 20))

    async def main() -> None:
        rows = (*ROWS, Row(method="GET", path="/large", dialect=OPENAI, action=Local(large)))
        limits = Limits(write_stall_seconds=0.2, sweep_seconds=0.05)
        async with running(rows=rows, limits=limits) as house:
            raw = await house.connect()
            await raw.send(house.request(b"GET /large"))
            await until(lambda: any(each.is_paused for each in house.gateway._hall.connections))
            house.door.logs.lines[""] = ["x" * 1000] * 100
            (connection,) = house.gateway._hall.connections
            held = connection._transport.get_write_buffer_size()
            await raw.send(house.request(b"GET /logs/stream"))
            await until(lambda: house.door.logs.followers == 1)

            await until(lambda: house.gateway.connections == 0)
            assert connection._transport.get_write_buffer_size() < held + 500_000
            raw.close()

    run(main)


def test_modelds_own_log_is_shown_and_followed() -> None:
    """`/logs` is what a person looks at first."""

    async def main() -> None:
        async with watching(b"/logs/stream") as (_, _, feed):
            assert await feed.text(b"served\n") == b"began\nserved\n"
            reply = await feed.house.get(b"/logs")
            assert reply.body == b"began\nserved\n"
            assert reply.headers["content-type"] == "text/plain; charset=utf-8"

    run(main)


def test_the_log_of_an_unknown_model_is_not_there() -> None:
    """A mistyped name must not look like a server that is silent."""

    async def main() -> None:
        async with running() as house:
            assert (await house.get(b"/logs/stream/nobody")).status == 404

    run(main)
