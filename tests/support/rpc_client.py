"""A plain client of the RPC socket, for tests and benchmarks that must not pay for modelctl."""

import itertools
import os
from collections.abc import Iterator

import msgspec
import zmq
from msgspec import Struct

from modeld.wire import codec
from modeld.wire.codec import Header

ANSWER_MS = 60_000
_numbers = itertools.count()
"""Of all clients: an id that comes again is given the answer that it had."""


class RpcClient:
    """One DEALER; one request at a time."""

    def __init__(self, path: str, version: int) -> None:
        self._version = version
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(f"ipc://{path}")
        self.progress: list[dict[str, object]] = []

    def __enter__(self) -> "RpcClient":  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()

    def ask(self, request: Struct) -> dict[str, object]:
        """Send a request and return its answer, decoded without types."""
        request_id = f"{os.getpid()}-{next(_numbers)}"
        self._socket.send_multipart(codec.encode(Header(v=self._version, id=request_id), request))
        self.progress = []
        for header, body in self._messages():
            if header.id == request_id and header.kind != "progress":
                return body
            self.progress.append(body)
        raise TimeoutError(f"no answer to {type(request).__name__}")

    def _messages(self) -> Iterator[tuple[Header, dict[str, object]]]:
        while self._socket.poll(ANSWER_MS):
            frames = self._socket.recv_multipart()
            yield codec.decode_header(frames), msgspec.msgpack.decode(frames[2])
