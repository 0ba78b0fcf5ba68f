"""Clients leave, servers die, loads fail, all at any moment: nothing stays counted."""

import asyncio
import json
import random
from collections import Counter

import pytest

from modeld.core.events import LoadAsked
from modeld.errors import Busy, DoesNotFit, ServerFailed
from modeld.gateway import patience, pool
from modeld.gateway.guard import Limits
from modeld.supervisor.door import OnProgress
from modeld.wire.codec import Progress
from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, run, running, short_directory, until
from tests.support.upstream import Answering, Asked, ScriptedServer

MODELS = ("a", "b", "c")
PATHS = (b"/v1/chat/completions", b"/v1/completions", b"/api/chat", b"/api/generate")
QUICK = Limits(grace_seconds=0.005, sweep_seconds=0.02)
CLIENTS, REQUESTS = 12, 8
REPLY_SECONDS = 8
"""Far above what anything here takes: a client that waits so long is forgotten."""
WHOLE = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'
WORD = b'{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}'
LAST = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


class Trouble:
    """One server for all models, and whatever can go wrong with it, by the dice."""

    def __init__(self, door: FakeDoor, path: str, dice: random.Random) -> None:
        self._door = door
        self._path = path
        self._dice = dice
        self._started = 0

    def _happens(self, share: float) -> bool:
        return self._dice.random() < share

    async def answer(self, asked: Asked, answering: Answering) -> None:
        """Answer, or die before, in or after it."""
        await asyncio.sleep(self._dice.random() * 0.01)
        if self._happens(0.05):
            answering.die()
        elif asked.head.split()[1].endswith(b"tokens"):
            await answering.json(b'{"input_tokens":%d}' % self._dice.choice([50, 95, 120]))
        elif b'"stream":true' in asked.body:
            await self._stream(answering)
        else:
            await answering.json(WHOLE, self._dice.choice([b"200 OK", b"200 OK", b"500 Oops"]))
        if self._happens(0.1):
            answering.close()

    async def _stream(self, answering: Answering) -> None:
        await answering.stream_head()
        for _ in range(self._dice.randrange(5)):
            await answering.event(WORD)
            await asyncio.sleep(self._dice.random() * 0.003)
            if self._happens(0.05):
                answering.die()
                return
        for event in (LAST, b"[DONE]"):
            await answering.event(event)
        await answering.end()

    async def load(self, asked: LoadAsked, on_progress: OnProgress | None) -> None:
        """Load, in a while, or not."""
        if on_progress is not None:
            on_progress(Progress(phase="load", fraction=self._dice.random()))
        await asyncio.sleep(self._dice.random() * 0.04)
        if self._happens(0.1):
            raise self._dice.choice([Busy("x"), ServerFailed("y"), DoesNotFit("z")])
        self._started += 1
        context = self._dice.choice([0, 100, 4096])
        model_id = asked.selection.model_id
        self._door.serve(model_id, self._path, f"s{self._started}", context_tokens=context)

    async def strike(self) -> None:
        """Take a server away now and then."""
        while True:
            await asyncio.sleep(self._dice.random() * 0.02)
            self._door.gone(self._dice.choice(MODELS))


def _request(house: House, dice: random.Random) -> bytes:
    text = "w " * dice.choice([1, 1, 100])
    body: dict[str, object] = {"model": dice.choice(MODELS), "stream": dice.random() < 0.5}
    body |= {"messages": [{"role": "user", "content": text}], "prompt": text}
    data = json.dumps(body, separators=(",", ":")).encode()
    return house.request(b"POST " + dice.choice(PATHS), data)


async def _visit(house: House, dice: random.Random, came: Counter[str]) -> None:
    """Ask; wait for the answer, or leave in one of two ways."""
    raw = await house.connect()
    await raw.send(_request(house, dice))
    way = dice.choice(["stay", "stay", "leave", "say no more"])
    try:
        if way == "stay":
            async with asyncio.timeout(REPLY_SECONDS):
                came[str((await raw.reply()).status)] += 1
        elif way == "leave":
            await asyncio.sleep(dice.random() * dice.choice([0.001, 0.02, 0.06]))
        else:
            raw.writer.write_eof()
            await raw.rest()
    except (asyncio.IncompleteReadError, ConnectionError):
        came["cut"] += 1
    finally:
        raw.close()


@pytest.mark.parametrize("seed", range(5))
def test_nothing_stays_counted_whatever_happens(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A count that drifts keeps a model busy, or a client out, until modeld is restarted."""
    monkeypatch.setattr(pool, "MAX_OPEN", 5)
    monkeypatch.setattr(pool, "MAX_IDLE", 2)
    monkeypatch.setattr(patience, "WHOLE_SECONDS", 0.01)
    dice = random.Random(seed)
    came: Counter[str] = Counter()

    async def main() -> None:
        with short_directory() as directory:
            path, door = f"{directory}/s.sock", FakeDoor()
            for name in MODELS:
                door.add(name)
            trouble = Trouble(door, path, dice)
            door.loader = trouble.load
            gateway = running(
                door,
                limits=QUICK,
                max_requests_per_model=8,
                max_waiting=6,
                loading_text=seed == 1,
            )
            async with ScriptedServer(path) as server, gateway as house:
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)
                server.script = trouble.answer
                striking = asyncio.create_task(trouble.strike())

                async def client() -> None:
                    for _ in range(REQUESTS):
                        await _visit(house, dice, came)

                await asyncio.gather(*(client() for _ in range(CLIENTS)))
                striking.cancel()
                await until(lambda: house.gateway.connections == 0)
                lane = house.gateway._relay.pool._lanes.get(path)
                assert lane is None or (lane.open, len(lane.waiting)) == (len(lane.idle), 0)

    run(main, seconds=40)

    assert came["200"] > 0
    assert "nobody foresaw" not in caplog.text
