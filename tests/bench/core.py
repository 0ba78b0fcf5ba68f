"""The figures of the core: the command line, a load, the RPC, headers, the start."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import uvloop
import zmq
import zmq.asyncio

from modeld.core.gguf import read_header
from modeld.wire.common import Selector
from modeld.wire.daemon import AskVersion
from modeld.wire.load import Load, Unload
from tests.bench.figures import Figure, figure, interleaved, median_ratio, milliseconds
from tests.support.daemon import Daemon, a_daemon
from tests.support.engines import Engine, bench_engines
from tests.support.tiny_gguf import write_model, write_vocabulary

CLI_ROUNDS = 25
LOAD_ROUNDS = 15
BIG_ROUNDS = 3
RPC_ROUNDS = 3000
HEADER_ROUNDS = 15
KNOWN_MODELS = 2000
ENGINE_SECONDS = 60.0


def ps() -> Iterator[Figure]:
    """`modelctl ps --json` as a whole process, to importing its two libraries."""
    with a_daemon() as daemon:
        ours = partial(_run, [sys.executable, "-m", "modelctl", "ps", "--json"], daemon.environment)
        theirs = partial(_run, [sys.executable, "-c", "import zmq, msgspec"], daemon.environment)
        mine, yardstick = interleaved(ours, theirs, CLI_ROUNDS)
    detail = f"{milliseconds(mine)} to {milliseconds(yardstick)}, {CLI_ROUNDS} pairs"
    yield figure("core.ps", median_ratio(mine, yardstick), 1.3, "lower", detail)


def _run(words: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


# --- load ---------------------------------------------------------------------------------------


def load_tiny() -> Iterator[Figure]:
    """A `Load` to its answer over RPC, to the bare engine from exec to healthy: tiny model."""
    for engine in bench_engines():
        with a_daemon(engine=engine.binary) as daemon:
            write_model(daemon.models / "tiny.gguf")
            yield _load_figure(f"core.load_tiny.{engine.name}", daemon, engine, LOAD_ROUNDS, 1.3)


def load_big() -> Iterator[Figure]:
    """The same where the engine itself takes over a second."""
    for engine in bench_engines():
        with a_daemon(engine=engine.binary, settings=BIG_SETTINGS) as daemon:
            write_model(daemon.models / "tiny.gguf", pad_ff=BIG_FEED_FORWARD)
            yield _load_figure(f"core.load_1s.{engine.name}", daemon, engine, BIG_ROUNDS, 1.05)


BIG_FEED_FORWARD = 2_600_000
"""4.5 GB of tensors, as a hole in the file: the disk does not matter here."""
BIG_SETTINGS = 'servers.arguments = ["--check-tensors"]'
"""Has the engine look at every value, so that it takes over a second whatever the disk."""


def _load_figure(name: str, daemon: Daemon, engine: Engine, rounds: int, bar: float) -> Figure:
    with daemon.rpc() as client:
        _wait_for_model(client.ask, "tiny")
        load = Load(selector=Selector(pattern="tiny"))
        argv = [""]

        def ours() -> float:
            began = time.perf_counter()
            answer = client.ask(load)
            took = time.perf_counter() - began
            assert answer["type"] == "loaded", answer
            argv[:] = daemon.json("show", "tiny")["argv"]
            client.ask(Unload(everything=True))
            return took

        def bare() -> float:
            return exec_to_healthy(argv, daemon.home)

        mine, theirs = interleaved(ours, bare, rounds, warmup=1)
    detail = f"{milliseconds(mine)} to {milliseconds(theirs)}, {rounds} pairs, {engine.name}"
    return figure(name, median_ratio(mine, theirs), bar, "lower", detail)


def _wait_for_model(ask: Callable[..., dict[str, object]], name: str) -> None:
    from modeld.wire.models import ListModels

    end = time.monotonic() + 20
    while time.monotonic() < end:
        models = ask(ListModels(refresh=True)).get("models")
        if isinstance(models, list) and any(each["name"] == name for each in models):
            return
    raise TimeoutError(name)


def exec_to_healthy(
    argv: list[str], home: Path, then: Callable[[str], None] = lambda _: None
) -> float:
    """
    Return the seconds that the bare engine takes, with modeld's own arguments.

    Args:
        argv: modeld's own; the socket is replaced.
        home: Where the socket is made.
        then: What else is measured, once it is healthy; called with the socket's path.
    """
    path = str(home / "bare.sock")
    words = [path if word.endswith(".sock") else word for word in argv]
    reader, writer = os.pipe()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LLAMA_SERVER_ROUTER_PORT": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        words, env=environment, stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _healthy(path):
            if process.poll() is not None or time.perf_counter() - began > ENGINE_SECONDS:
                raise RuntimeError(f"{words} is not healthy: exit {process.poll()}")
            time.sleep(0.0005)
        then(path)
        return time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(reader)
        os.close(writer)
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()


def _healthy(path: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 " in client.recv(256)
    return False


# --- rpc ----------------------------------------------------------------------------------------


def rpc() -> Iterator[Figure]:
    """A round trip over the RPC, p50, to a bare pyzmq echo server on the same kind of loop."""
    directory = Path(tempfile.mkdtemp(prefix="md-", dir="/tmp"))
    stop = threading.Event()
    echo = threading.Thread(target=_echo_server, args=(f"ipc://{directory}/echo", stop))
    try:
        with a_daemon() as daemon, daemon.rpc() as client:
            echo.start()
            context = zmq.Context()
            dealer = context.socket(zmq.DEALER)
            dealer.linger = 0
            dealer.connect(f"ipc://{directory}/echo")

            def ours() -> float:
                began = time.perf_counter()
                client.ask(AskVersion())
                return time.perf_counter() - began

            def theirs() -> float:
                began = time.perf_counter()
                dealer.send_multipart([b"MD1", b"x" * 60, b"y" * 30])
                dealer.recv_multipart()
                return time.perf_counter() - began

            mine, yardstick = interleaved(ours, theirs, RPC_ROUNDS, warmup=200)
            dealer.close()
            context.term()
    finally:
        stop.set()
        echo.join()
        shutil.rmtree(directory, ignore_errors=True)
    detail = f"p50 {milliseconds(mine)} to {milliseconds(yardstick)}, {RPC_ROUNDS} pairs"
    yield figure("core.rpc", median_ratio(mine, yardstick), 2, "lower", detail)


def _echo_server(address: str, stop: threading.Event) -> None:
    """Echo on zmq.asyncio and uvloop, the way one would write it without thinking."""

    async def run() -> None:
        context = zmq.asyncio.Context()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.bind(address)
        while not stop.is_set():
            if await router.poll(100):
                await router.send_multipart(await router.recv_multipart())
        router.close()
        context.term()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


# --- headers and start --------------------------------------------------------------------------


def header() -> Iterator[Figure]:
    """The header of a GGUF with 150,000 tokens: gguf.GGUFReader to ours."""
    from gguf import GGUFReader

    directory = Path(tempfile.mkdtemp(prefix="md-", dir="/tmp"))
    try:
        path = directory / "vocabulary.gguf"
        write_vocabulary(path, tokens=150_000)

        def ours() -> float:
            began = time.perf_counter()
            data = path.read_bytes()
            read_header(memoryview(data), len(data))
            return time.perf_counter() - began

        mine = [ours() for _ in range(HEADER_ROUNDS)]
        began = time.perf_counter()
        GGUFReader(path)
        theirs = time.perf_counter() - began
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    best = min(mine)
    detail = f"{theirs * 1000:.0f} ms to {best * 1000:.1f} ms (best of {HEADER_ROUNDS})"
    yield figure("core.header", theirs / best, 200, "higher", detail)


def write_models(folder: Path) -> None:
    """Write 2,000 models that differ by a byte each, as thousands do that nobody wants to write."""
    write_model(folder / "model-0000.gguf")
    data = (folder / "model-0000.gguf").read_bytes()
    for number in range(1, KNOWN_MODELS):
        below = folder / f"folder-{number % 40:02}"
        below.mkdir(exist_ok=True)
        (below / f"model-{number:04}.gguf").write_bytes(data + bytes(number))


def start() -> Iterator[Figure]:
    """The start with 2,000 known models: READY, header reads, resident memory."""
    with a_daemon(start=False) as daemon:
        write_models(daemon.models)
        daemon.start()
        wait_for_count(daemon, KNOWN_MODELS)
        daemon.stop()
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            daemon.start()
            seconds.append(time.perf_counter() - began)
            wait_for_count(daemon, KNOWN_MODELS)
            assert daemon.process is not None
            resident = psutil.Process(daemon.process.pid).memory_info().rss
            daemon.stop()
        scans = [line for line in daemon.log.read_text().splitlines() if "headers read" in line]
        reads = float(scans[-1].split(" headers read")[0].split()[-1])
    ready = statistics.median(seconds)
    yield figure("core.start_ready_s", ready, 2, "lower", f"{KNOWN_MODELS} models, median of 5")
    yield figure("core.start_header_reads", reads, 0, "lower", "of the last start")
    resident_mb = resident / 1e6
    yield figure("core.start_resident_mb", resident_mb, 80, "lower", "after the first look")


def wait_for_count(daemon: Daemon, count: int) -> None:
    """Wait until modeld knows so many models."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if daemon.json("status")["models_on_disk"] == count:
            return
        time.sleep(0.2)
    raise TimeoutError(f"{count} models")


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "core.ps": ps,
    "core.load_tiny": load_tiny,
    "core.load_1s": load_big,
    "core.rpc": rpc,
    "core.header": header,
    "core.start": start,
}
