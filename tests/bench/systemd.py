"""
The figures that need a real user manager; they run inside one, made for them.

`python -m tests.bench.systemd NAME` is what runs inside: it prints figures as JSON lines.
"""

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from modeld.wire import codec
from modeld.wire.common import Selector
from modeld.wire.load import Load, Unload
from tests.bench.figures import Figure, figure
from tests.support import user_systemd

KILL_ROUNDS = 50
LOAD_ROUNDS = 15
RESTARTS = 20
CLIENTS = 8
BETWEEN_RESTARTS_SECONDS = 0.3


def _outside(name: str) -> Iterator[Figure]:
    """Run one benchmark inside a private user manager, and return its figures."""
    obstacle = user_systemd.obstacle()
    if obstacle:
        raise RuntimeError(obstacle)
    words = [sys.executable, "-m", "tests.support.user_systemd", "--",
             sys.executable, "-m", "tests.bench.systemd", name]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    for line in done.stdout.splitlines():
        yield msgspec.json.decode(line, type=Figure)


def _load() -> Iterator[Figure]:
    """A `Load` through the user manager, to the same by the direct launcher."""
    from tests.support.daemon import a_daemon
    from tests.support.launchers import systemctl
    from tests.support.rpc_client import RpcClient
    from tests.support.service import a_service
    from tests.support.tiny_gguf import write_model

    load, unload = Load(selector=Selector(pattern="alpha")), Unload(everything=True)

    def timed(client: RpcClient) -> float:
        began = time.perf_counter()
        answer = client.ask(load)
        took = time.perf_counter() - began
        assert answer["type"] == "loaded", answer
        client.ask(unload)
        return took

    with a_service() as service, a_daemon(start=False) as direct:
        service.add("alpha")
        write_model(direct.models / "alpha.gguf")
        systemctl("start", "modeld")
        direct.start()
        path = str(service.runtime / "rpc.sock")
        with RpcClient(path, codec.VERSION) as managed, direct.rpc() as straight:
            pairs = [(timed(managed), timed(straight)) for _ in range(LOAD_ROUNDS + 2)][2:]
    more = statistics.median(first - second for first, second in pairs) * 1000
    whole = statistics.median(first for first, _ in pairs) * 1000
    detail = f"{whole:.0f} ms through the manager, median of {LOAD_ROUNDS} pairs"
    yield figure("core.load_systemd_more_ms", more, 60, "lower", detail)


def _kills() -> Iterator[Figure]:
    """Rounds of `kill -9` on modeld with two models loaded."""
    from tests.support.launchers import systemctl
    from tests.support.service import a_service

    with a_service() as service:
        service.add("alpha", "beta")
        systemctl("start", "modeld")
        service.modelctl("load", "alpha")
        service.modelctl("load", "beta", "--nokill")
        before = {name: row["pid"] for name, row in service.servers().items()}
        good, slowest = 0, 0.0
        for _ in range(KILL_ROUNDS):
            systemctl("reset-failed", check=False)
            daemon = service.pid()
            os.kill(daemon, signal.SIGKILL)
            slowest = max(slowest, service.wait_until_serving(daemon))
            after = {name: row["pid"] for name, row in service.servers().items()}
            said = (service.chat("alpha"), service.chat("beta"))
            right = said == ("I am alpha .", "I am beta .") and len(service.units_left()) == 2
            good += after == before and right
    detail = f"of {KILL_ROUNDS}: same two pids, both answering, no orphan"
    yield figure("core.kill9_rounds", good, KILL_ROUNDS, "higher", detail)
    yield figure("core.kill9_ready_s", slowest, 2, "lower", "kill to READY, the slowest round")


def _restarts() -> Iterator[Figure]:
    """`systemctl restart modeld` under clients that never pause: not one request may fail."""
    from tests.support.launchers import systemctl
    from tests.support.service import a_service

    with a_service(sockets=True) as service:
        service.add("alpha")
        systemctl("start", "modeld-http.socket", "modeld.socket", "modeld")
        service.modelctl("load", "alpha")
        is_over = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(_chat_on, service.port, is_over) for _ in range(CLIENTS)]
            try:
                for _ in range(RESTARTS):
                    # more than StartLimitBurst= in its interval, on purpose
                    systemctl("reset-failed", check=False)
                    before = service.pid()
                    systemctl("restart", "modeld")
                    service.wait_until_serving(before)
                    time.sleep(BETWEEN_RESTARTS_SECONDS)
            finally:
                is_over.set()
            said = [client.result(60) for client in clients]
    answered = sum(good for good, _ in said)
    failures = [failure for _, failed in said for failure in failed]
    detail = f"{answered} answered, {RESTARTS} restarts, {CLIENTS} clients; {failures[:2]}"
    yield figure("gateway.restart_failures", len(failures), 0, "lower", detail)


def _chat_on(port: int, is_over: threading.Event) -> tuple[int, list[str]]:
    """Ask without pause over one connection; return how many were answered, and what failed."""
    body = json.dumps(
        {"model": "alpha", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    good, failures = 0, []
    while not is_over.is_set():
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200:
                good += 1
            else:
                failures.append(f"{answer.status} {text[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
            connection.close()
    connection.close()
    return good, failures


INSIDE: dict[str, Callable[[], Iterator[Figure]]] = {
    "core.load_systemd": _load,
    "core.kill9": _kills,
    "gateway.restarts": _restarts,
}
BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    name: partial(_outside, name) for name in INSIDE
}

if __name__ == "__main__":
    for measured in INSIDE[sys.argv[1]]():
        print(msgspec.json.encode(measured).decode(), flush=True)
