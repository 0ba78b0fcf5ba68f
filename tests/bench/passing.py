"""
The figures of the gateway's data plane alone: the server behind it is a stub that costs nothing.

modeld loads a tiny model as ever; then the stub takes the place of its server's socket.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.bench import wrk
from tests.bench.figures import Figure, figure
from tests.support.daemon import Daemon, a_daemon, free_port
from tests.support.tiny_gguf import write_model

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 16
STREAMS, CHUNKS, EVERY_SECONDS = 32, 500, 0.02
OPEN_STREAMS = 256
SLOW_SECONDS = 20
WAIT_SECONDS = 10.0
ANSWER = '{"choices":[{"message":{"role":"assistant","content":"hi"}}],"usage":{"total_tokens":2}}'
NGINX = """
daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
  client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{
    listen unix:{home}/stub.sock; listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""


@contextlib.contextmanager
def _running(*words: str, log: Path) -> Iterator[None]:
    """Run a program for the length of a figure."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def _a_stub(settings: str = "") -> Iterator[tuple[Daemon, str]]:
    """Run modeld with a loaded model; give the path where a stub may listen in its place."""
    with a_daemon(settings=settings) as daemon:
        write_model(daemon.models / "tiny.gguf")
        daemon.json("list", "--refresh")
        daemon.modelctl("load", "tiny")
        path = daemon.servers()[0]["socket"]
        stub = str(daemon.home / "stub.sock")
        Path(path).rename(f"{path}.real")
        Path(path).symlink_to(stub)
        yield daemon, stub


def _wait_for(family: int, address: str | tuple[str, int]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.connect(address)
            return
        time.sleep(0.02)
    raise TimeoutError(address)


def stub() -> Iterator[Figure]:
    """A stub's answer passed on, to the stub's own rate and to a plain aiohttp proxy's."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        raise RuntimeError("nginx is not installed (apt-get install nginx-light)")
    with _a_stub() as (daemon, path), contextlib.ExitStack() as stack:
        ways = {"stub": free_port(), "modeld": daemon.port, "aiohttp": free_port()}
        text = NGINX.format(home=daemon.home, port=ways["stub"], answer=ANSWER)
        (daemon.home / "nginx.conf").write_text(text)
        words = (nginx, "-c", str(daemon.home / "nginx.conf"), "-p", str(daemon.home))
        stack.enter_context(_running(*words, log=daemon.home / "nginx.log"))
        words = (sys.executable, "-m", "tests.bench.plain_proxy", path, str(ways["aiohttp"]))
        stack.enter_context(_running(*words, log=daemon.home / "proxy.log"))
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for port in ways.values():
            _wait_for(socket.AF_INET, ("127.0.0.1", port))
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]})
        for _ in range(ROUNDS):
            for name, port in ways.items():
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                measured = wrk.run(url, body, connections=CONNECTIONS, seconds=SECONDS)
                rates[name].append(measured.per_second)
    rate = {name: statistics.median(each) for name, each in rates.items()}
    detail = f"{rate['modeld']:.0f}/s of nginx' {rate['stub']:.0f}/s at {CONNECTIONS} connections"
    yield figure("gateway.stub", rate["modeld"] / rate["stub"], 0.20, "higher", detail)
    detail = f"{rate['modeld']:.0f}/s to {rate['aiohttp']:.0f}/s"
    yield figure("gateway.stub_to_aiohttp", rate["modeld"] / rate["aiohttp"], 4, "higher", detail)


# --- streams --------------------------------------------------------------------------------


def streams() -> Iterator[Figure]:
    """What a chunk of a stream costs, and how late it comes, with 32 streams at 50 a second."""
    with _ticking() as (daemon, process):
        before = _cpu_seconds(process)
        delays = asyncio.run(_read_streams(daemon.port))
        cpu = (_cpu_seconds(process) - before) / len(delays) * 1e6
    delays.sort()
    detail = f"{STREAMS} streams, {len(delays)} chunks, one each {EVERY_SECONDS * 1000:.0f} ms"
    yield figure("gateway.chunk_cpu_us", cpu, 30, "lower", detail)
    p99 = delays[int(len(delays) * 0.99)] * 1000
    detail = f"median {statistics.median(delays) * 1000:.2f} ms"
    yield figure("gateway.chunk_p99_ms", p99, 5, "lower", detail)


@contextlib.contextmanager
def _ticking() -> Iterator[tuple[Daemon, psutil.Process]]:
    with _a_stub(f"gateway.max_connections = {OPEN_STREAMS + 16}") as (daemon, path):
        words = (sys.executable, "-m", "tests.bench.ticker", path)
        with _running(*words, log=daemon.home / "ticker.log"):
            _wait_for(socket.AF_UNIX, path)
            assert daemon.process is not None
            yield daemon, psutil.Process(daemon.process.pid)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _open(port: int, **wanted: float) -> asyncio.StreamReader:
    """Return a stream whose head has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "tiny", "stream": True, "messages": [], **wanted}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    status = await reader.readline()
    assert b" 200 " in status, status
    await reader.readuntil(b"\r\n\r\n")
    reader.writer = writer  # type: ignore[attr-defined]  # kept open as long as the reader
    return reader


async def _read_streams(port: int) -> list[float]:
    delays: list[float] = []

    async def one() -> None:
        reader = await _open(port, every_seconds=EVERY_SECONDS, chunks=CHUNKS)
        while line := await reader.readline():
            if line.startswith(b'data: {"sent_ns":'):
                sent = int(line[17 : line.index(b",", 17)])
                delays.append((time.monotonic_ns() - sent) / 1e9)
            elif line.startswith(b"data: [DONE]"):
                return

    await _together([one] * STREAMS)
    assert len(delays) == STREAMS * CHUNKS
    return delays


async def _together(tasks: Sequence[Callable[[], Awaitable[None]]]) -> None:
    async with asyncio.TaskGroup() as group:
        for number, task in enumerate(tasks):
            await asyncio.sleep(EVERY_SECONDS / STREAMS * (number % 3))  # no marching in step
            group.create_task(task())  # type: ignore[arg-type]


# --- memory ---------------------------------------------------------------------------------


def memory() -> Iterator[Figure]:
    """What many open streams hold, and what a reader of one byte a second makes grow."""
    with _ticking() as (daemon, process):
        asyncio.run(_hold(daemon.port))
        held = asyncio.run(_hold(daemon.port, process))
    detail = f"{OPEN_STREAMS} open streams that say something twice a second"
    yield figure("gateway.resident_mb", held / 1e6, 100, "lower", detail)
    with _ticking() as (daemon, process):
        asyncio.run(_hold(daemon.port))
        growth = asyncio.run(_read_slowly(daemon.port, process))
    detail = f"an endless stream at full speed, read at 1 byte/s for {SLOW_SECONDS} s"
    yield figure("gateway.slow_reader_mb", growth / 1e6, 2, "lower", detail)


async def _hold(port: int, process: psutil.Process | None = None) -> int:
    readers = [await _open(port, every_seconds=0.5) for _ in range(OPEN_STREAMS)]
    await asyncio.sleep(3 if process is not None else 1)
    resident = int(process.memory_info().rss) if process is not None else 0
    for reader in readers:
        reader.writer.transport.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0.5)
    return resident


async def _read_slowly(port: int, process: psutil.Process) -> int:
    loop = asyncio.get_running_loop()
    before = int(process.memory_info().rss)
    body = b'{"model":"tiny","stream":true,"messages":[],"bytes":4000}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, head + body)
        most = before
        for _ in range(SLOW_SECONDS):
            assert await loop.sock_recv(client, 1)
            await asyncio.sleep(1)
            most = max(most, int(process.memory_info().rss))
    return most - before


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "gateway.stub": stub,
    "gateway.streams": streams,
    "gateway.memory": memory,
}
