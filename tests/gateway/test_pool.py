"""Connections to servers: bounded, in order, and none of them lost."""

import asyncio
import contextlib
import socket

import pytest

from modeld.gateway import pool as module
from modeld.gateway.pool import Pool
from modeld.gateway.upstream import Upstream
from tests.support.gateway import run, short_directory, until
from tests.support.upstream import (
    OK,
    OK_CLOSE,
    Answering,
    Asked,
    ScriptedServer,
    ask,
    serving,
)


@pytest.fixture(autouse=True)
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the limits with few sockets."""
    monkeypatch.setattr(module, "MAX_OPEN", 64)
    monkeypatch.setattr(module, "MAX_IDLE", 8)


@pytest.mark.parametrize("answer", [OK, OK_CLOSE])
def test_those_in_line_get_their_turn_however_a_place_becomes_free(answer: bytes) -> None:
    """A place that is lost when its connection closes would stop the line for ever."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.send(answer)

        async with serving() as (pool, server):
            server.script = script
            asks = [ask(pool, server.path) for _ in range(3 * module.MAX_OPEN)]

            assert all(receiver.body == b"{}" for receiver in await asyncio.gather(*asks))

    run(main)


def test_those_in_line_fail_when_the_server_is_gone() -> None:
    """They must hear of it at once, each of them."""

    async def main() -> None:
        with short_directory() as directory:
            pool = Pool()
            async with ScriptedServer(f"{directory}/s.sock") as server:

                async def script(_: Asked, answering: Answering) -> None:
                    await answering.until_gone()

                server.script = script
                taken = [await pool.connect(server.path) for _ in range(module.MAX_OPEN)]
                waiting = [asyncio.ensure_future(pool.connect(server.path)) for _ in range(10)]
                await asyncio.sleep(0)
            results = await asyncio.gather(*waiting, return_exceptions=True)

            assert all(isinstance(result, OSError) for result in results)
            await until(lambda: all(one.is_lost for one in taken) and pool._lanes == {})

    run(main)


@pytest.mark.parametrize("answer", [OK, OK_CLOSE])
def test_a_turn_goes_on_when_its_owner_leaves_in_that_moment(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given and not taken: somebody else waits for it."""

    async def main() -> None:
        release = asyncio.Event()

        async def script(_: Asked, answering: Answering) -> None:
            await release.wait()
            await answering.send(answer)

        async with serving() as (pool, server):
            server.script = script
            busy = [asyncio.ensure_future(ask(pool, server.path)) for _ in range(module.MAX_OPEN)]
            await until(lambda: len(server.asked) == module.MAX_OPEN)
            lane = pool._lanes[server.path]
            leaving = asyncio.ensure_future(pool.connect(server.path))
            staying = asyncio.ensure_future(ask(pool, server.path))
            await until(lambda: len(lane.waiting) == 2)
            first, give = lane.waiting[0], module._next

            def give_and_leave(lane: module._Lane) -> object:
                turn = give(lane)
                if turn is first:  # runs before its owner wakes up
                    asyncio.get_running_loop().call_soon(leaving.cancel)
                return turn

            monkeypatch.setattr(module, "_next", give_and_leave)
            release.set()

            assert (await staying).body == b"{}"
            assert leaving.cancelled()
            await asyncio.gather(*busy)

    run(main)


def test_a_turn_is_not_given_to_whoever_leaves_before_it() -> None:
    """Passed over in the moment of leaving: no bug, and the next in line has it."""

    async def main() -> None:
        release = asyncio.Event()

        async def script(_: Asked, answering: Answering) -> None:
            await release.wait()
            await answering.send(OK)

        async with serving() as (pool, server):
            server.script = script
            busy = [asyncio.ensure_future(ask(pool, server.path)) for _ in range(module.MAX_OPEN)]
            await until(lambda: len(server.asked) == module.MAX_OPEN)
            lane = pool._lanes[server.path]
            leaving = asyncio.ensure_future(pool.connect(server.path))
            staying = asyncio.ensure_future(ask(pool, server.path))
            await until(lambda: len(lane.waiting) == 2)
            leaving.cancel()
            turn = module._next(lane)
            assert turn is not None
            lane.waiting.appendleft(turn)

            await asyncio.wait([leaving])
            assert leaving.cancelled()
            release.set()
            assert (await staying).body == b"{}"
            await asyncio.gather(*busy)

    run(main)


def test_connect_waits_while_the_server_s_backlog_is_full() -> None:
    """A UNIX socket says EAGAIN where TCP would wait."""

    async def main() -> None:
        with short_directory() as directory:
            path = f"{directory}/s.sock"
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path)
                listening.listen(0)
                listening.setblocking(False)
                pool = Pool()
                asks = [asyncio.ensure_future(pool.connect(path)) for _ in range(3)]
                done, _pending = await asyncio.wait(asks, timeout=0.1)
                assert len(done) < 3
                accepted = [listening.accept()[0]]
                while len(accepted) < 3:
                    with contextlib.suppress(BlockingIOError):
                        accepted.append(listening.accept()[0])
                    await asyncio.sleep(0.01)
                made = await asyncio.gather(*asks)

                assert all(isinstance(one, Upstream) for one in made)
                for one in accepted:
                    one.close()
            await until(lambda: pool._lanes == {})

    run(main)


def test_connect_gives_up_when_the_backlog_stays_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts nobody hangs; that is for the watchdog, not for us."""
    monkeypatch.setattr(module, "CONNECT_ATTEMPTS", 3)

    async def main() -> None:
        with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{directory}/s.sock")
            listening.listen(0)
            pool = Pool()
            asks = [pool.connect(f"{directory}/s.sock") for _ in range(4)]
            results = await asyncio.gather(*asks, return_exceptions=True)

            assert any(isinstance(result, TimeoutError) for result in results)
            for made in results:
                if isinstance(made, Upstream):
                    made.abort()
            await until(lambda: pool._lanes == {})

    run(main)


def test_only_so_many_connections_stay_idle() -> None:
    """Each holds a thread of the server for nothing."""

    async def main() -> None:
        async with serving() as (pool, server):
            await asyncio.gather(*(ask(pool, server.path) for _ in range(30)))
            await until(lambda: server.open <= module.MAX_IDLE)

    run(main)
