"""
The figures of the gateway against the engine itself, and against llama-server's own router.

One daemon, one model, one generator: what modeld adds to a request, and what others add.
"""

import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from modeld.wire.common import Selector
from modeld.wire.load import Load, Unload
from tests.bench import wrk
from tests.bench.core import exec_to_healthy
from tests.bench.figures import Figure, figure, interleaved, median_ratio, milliseconds
from tests.support.daemon import Daemon, a_daemon, free_port
from tests.support.engines import Engine, bench_engines
from tests.support.rpc_client import RpcClient
from tests.support.tiny_gguf import write_model

ROUNDS = 1500
WRK_ROUNDS = 5
WRK_SECONDS = 2
COLD_ROUNDS = 15
START_SECONDS = 20.0
CHAT = {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
BODY = json.dumps(CHAT)
STREAM = json.dumps({**CHAT, "stream": True})


class UnixConnection(http.client.HTTPConnection):
    """The same client over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


# --- one request ----------------------------------------------------------------------------


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


# --- many requests, and llama-server's router -----------------------------------------------


def load() -> Iterator[Figure]:
    """What modeld adds at one connection and keeps of the rate at eight; the router beside it."""
    for engine in bench_engines():
        with a_daemon(engine=engine.binary) as daemon, contextlib.ExitStack() as stack:
            write_model(daemon.models / "tiny.gguf")
            daemon.json("list", "--refresh")
            port = free_port()
            daemon.modelctl("load", "tiny", "-p", str(port))
            ways = {"direct": port, "modeld": daemon.port}
            if engine.name == "llama-server":
                ways["router"] = stack.enter_context(_a_router(engine, daemon))
            alone, eight = _measure(ways, 1), _measure(ways, 8)
        yield from _compared(engine.name, alone, eight)


Ways = dict[str, list[wrk.Measured]]


def _measure(ways: dict[str, int], connections: int) -> Ways:
    """Return the runs of each way, taken in turn."""
    runs: Ways = {name: [] for name in ways}
    for number in range(WRK_ROUNDS + 1):
        for name, port in ways.items():
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            seconds = WRK_SECONDS if number else 1
            measured = wrk.run(url, BODY, connections=connections, seconds=seconds)
            if number:  # the first of each is for warming up
                runs[name].append(measured)
    return runs


def _p50(runs: list[wrk.Measured]) -> float:
    return statistics.median(each.p50_microseconds for each in runs)


def _rate(runs: list[wrk.Measured]) -> float:
    return statistics.median(each.per_second for each in runs)


def _compared(engine: str, alone: Ways, eight: Ways) -> Iterator[Figure]:
    added = _p50(alone["modeld"]) - _p50(alone["direct"])
    detail = f"p50 {_p50(alone['modeld']):.0f} to {_p50(alone['direct']):.0f} us, wrk over TCP"
    yield figure(f"gateway.added_us.{engine}", added, 150, "lower", detail)
    kept = _rate(eight["modeld"]) / _rate(eight["direct"])
    detail = f"{_rate(eight['modeld']):.0f}/s to {_rate(eight['direct']):.0f}/s at 8 connections"
    yield figure(f"gateway.rate_8.{engine}", kept, 0.90, "higher", detail)
    if "router" not in alone:
        return
    router = _p50(alone["router"]) - _p50(alone["direct"])
    detail = f"modeld {added:.0f} us, llama-server's router {router:.0f} us"
    yield figure("gateway.added_to_router", added / router, 0.25, "lower", detail)
    detail = f"{_rate(eight['modeld']):.0f}/s to the router's {_rate(eight['router']):.0f}/s"
    ratio = _rate(eight["modeld"]) / _rate(eight["router"])
    yield figure("gateway.rate_to_router", ratio, 1.5, "higher", detail)


@contextlib.contextmanager
def _a_router(engine: Engine, daemon: Daemon) -> Iterator[int]:
    """Run llama-server as a router over the same folder, its model loaded; give its port."""
    port = free_port()
    words = [*engine.argv, "--models-dir", str(daemon.models), "--port", str(port), "-c", "8192"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(daemon.home)}
    with Path(daemon.home, "router.log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(Path(daemon.home, "router.log").read_text()[-2000:])
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", BODY, headers)
        return connection.getresponse().status == 200
    return False


# --- a cold request -------------------------------------------------------------------------


def cold() -> Iterator[Figure]:
    """A request for a tiny model that is not loaded, to the bare engine's exec to first token."""
    for engine in bench_engines():
        with a_daemon(engine=engine.binary) as daemon, daemon.rpc() as client:
            write_model(daemon.models / "tiny.gguf")
            daemon.json("list", "--refresh")
            load = Load(selector=Selector(pattern="tiny"), dry_run=True)
            words = [str(word) for word in client.ask(load)["argv"]]

            ours = partial(_cold, daemon, client)
            bare = partial(exec_to_healthy, words, daemon.home, then=_bare_token)
            mine, theirs = interleaved(ours, bare, COLD_ROUNDS)
        detail = f"{milliseconds(mine)} to {milliseconds(theirs)}, {COLD_ROUNDS} pairs"
        ratio = median_ratio(mine, theirs)
        yield figure(f"gateway.cold.{engine.name}", ratio, 1.3, "lower", detail)


def _cold(daemon: Daemon, client: RpcClient) -> float:
    client.ask(Unload(everything=True))
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
    with contextlib.closing(connection):
        return _first_token(connection, time.perf_counter())


def _bare_token(path: str) -> None:
    connection = UnixConnection(path)
    with contextlib.closing(connection):
        _first_token(connection, 0.0)


def _first_token(connection: http.client.HTTPConnection, began: float) -> float:
    """Return the seconds since `began` when the first token of a streamed chat comes."""
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", STREAM, headers)
    response = connection.getresponse()
    assert response.status == 200
    for line in response:
        if line.startswith(b"data: ") and b'"content":"' in line:
            return time.perf_counter() - began
    raise AssertionError("no token came")


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "gateway.one_token": one_token,
    "gateway.load": load,
    "gateway.cold": cold,
}
