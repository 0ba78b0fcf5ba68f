"""
A daemon that says what a test tells it to, over a real ROUTER socket in a thread of its own.

It speaks `modeld.wire.codec` and decides nothing: for every kind of request there is a script, a
list of things to send.  A `threading.Event` in a script holds the rest of it back until the test
sets it; `GO_AWAY` closes the socket as a crash would; a function makes its answers from the
request.  Requests that have no script are not answered.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Self, Union

import zmq
from msgspec import Struct, msgpack

from modeld.wire.cache import AskRank, ChangeCache, PlanCache, ShowCache, VerifyCache
from modeld.wire.codec import MAGIC, VERSION, Failure, Header, Progress, decode_header, encode
from modeld.wire.configuration import AskConfig, AskConfigSchema, CheckConfig, ConvertSetting
from modeld.wire.daemon import AskLogs, AskVersion, Happened, Reload, Subscribe
from modeld.wire.history import ImportHistory
from modeld.wire.load import Cancel, CanLoad, Load, Unload, Wait
from modeld.wire.models import AskStatus, ListModels, Ps, Show
from modeld.wire.names import ChangeNames, ListNames, Pin
from modeld.wire.routing import AskRoute, AskSuits
from modeld.wire.simulate import ListScenarios, Simulate
from modeld.wire.usage import AskUsage

REQUESTS = Union[  # noqa: UP007 (a value, for the decoder)
    AskLogs, AskVersion, Reload, Subscribe, Cancel, CanLoad, Load, Unload, Wait, AskStatus,
    ListModels, Ps, Show, ChangeNames, ListNames, Pin,
    ShowCache, ChangeCache, PlanCache, VerifyCache, AskRank,
    Simulate, ListScenarios, AskConfig, CheckConfig, ImportHistory, AskUsage, AskRoute, AskSuits,
    AskConfigSchema, ConvertSetting,
]  # fmt: skip
GO_AWAY = b"go away"
STEP_S = 0.005

Word = Union[Struct, threading.Event, bytes, list[bytes]]  # noqa: UP007
Script = Union[Iterable[Word], Callable[[Struct, Header], Iterable[Word]]]  # noqa: UP007


class FakeDaemon:
    """Answers by script; remembers what it was asked."""

    def __init__(self, path: str, *, version: int = VERSION, program: str = "modeld 0.0.0") -> None:
        self.path = path
        self.version = version
        self.program = program
        self.requests: list[Struct] = []
        self.headers: list[Header] = []
        self._scripts: dict[type[Struct], Script] = {}
        self._running: list[tuple[bytes, Header, Iterator[Word]]] = []
        self._gates: dict[int, threading.Event] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._ready = threading.Event()

    def on(self, request: type[Struct], *words: Word) -> "FakeDaemon":
        """Answer every request of this kind with these words."""
        self._scripts[request] = words
        return self

    def on_call(
        self, request: type[Struct], script: Callable[[Struct, Header], Iterable[Word]]
    ) -> "FakeDaemon":
        """Answer every request of this kind with what the function makes of it."""
        self._scripts[request] = script
        return self

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        context = zmq.Context()
        router = self._bind(context)
        decoder = msgpack.Decoder(REQUESTS)
        self._ready.set()
        while not self._stop.is_set():
            if router.poll(int(STEP_S * 1000)):
                identity, *frames = router.recv_multipart()
                header = decode_header(frames)
                request = decoder.decode(frames[2])
                self.headers.append(header)
                self.requests.append(request)
                script = self._scripts.get(type(request), ())
                words = script(request, header) if callable(script) else script
                self._running.append((identity, header, iter(words)))
            stays = [self._advance(router, one) for one in self._running]
            if not all(stays):
                router.close(0)
                self._running.clear()
                router = self._bind(context)
        router.close(0)
        context.term()

    def _bind(self, context: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
        router = context.socket(zmq.ROUTER)
        router.bind(f"ipc://{self.path}")
        return router

    def _advance(
        self, router: "zmq.Socket[bytes]", running: tuple[bytes, Header, Iterator[Word]]
    ) -> bool:
        """Say the words of one script up to its next gate; False to go away."""
        identity, asked, words = running
        gate = self._gates.get(id(running))
        if gate is not None and not gate.is_set():
            return True
        for word in words:
            if isinstance(word, threading.Event):
                self._gates[id(running)] = word
                return True
            if word is GO_AWAY:
                return False
            router.send_multipart([identity, *self._frames(asked, word)])
        with suppress(KeyError):
            del self._gates[id(running)]
        return True

    def _frames(self, asked: Header, word: Word) -> list[bytes]:
        if isinstance(word, list):
            return word
        assert isinstance(word, Struct)
        kind = (
            "failure"
            if isinstance(word, Failure)
            else "progress"
            if isinstance(word, Progress | Happened)
            else "reply"
        )
        header = Header(v=self.version, id=asked.id, kind=kind, program=self.program)
        return encode(header, word)


__all__ = ["GO_AWAY", "MAGIC", "FakeDaemon"]
