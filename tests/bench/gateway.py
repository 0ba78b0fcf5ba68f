"""The figures of the gateway."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.bench.figures import Figure, figure, interleaved, median_ratio, milliseconds
from tests.support.daemon import a_daemon
from tests.support.engines import bench_engines
from tests.support.tiny_gguf import write_model

ROUNDS = 1500
BODY = json.dumps(
    {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
)


class UnixConnection(http.client.HTTPConnection):
    """The same client over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def one_token() -> Iterator[Figure]:
    """One chat of one token through the gateway, p50, to the same on the server's socket."""
    for engine in bench_engines():
        with a_daemon(engine=engine.binary) as daemon:
            write_model(daemon.models / "tiny.gguf")
            daemon.json("list", "--refresh")
            daemon.modelctl("load", "tiny")
            path = daemon.servers()[0]["socket"]
            through = http.client.HTTPConnection("127.0.0.1", daemon.port)
            straight = UnixConnection(path)
            mine, theirs = interleaved(
                partial(_ask, through), partial(_ask, straight), ROUNDS, warmup=100
            )
            through.close()
            straight.close()
        detail = f"p50 {milliseconds(mine)} to {milliseconds(theirs)}, {ROUNDS} pairs"
        ratio = median_ratio(mine, theirs)
        yield figure(f"gateway.one_token.{engine.name}", ratio, 1.25, "lower", detail)


def _ask(connection: http.client.HTTPConnection) -> float:
    began = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", BODY, headers)
    response = connection.getresponse()
    response.read()
    took = time.perf_counter() - began
    assert response.status == 200
    return took


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {"gateway.one_token": one_token}
