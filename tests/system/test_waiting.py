"""What clients meet while they wait, when they leave, and when nobody asks, on a real modeld."""

import http.client
import json
import time
from contextlib import closing

import pytest

from tests.support.daemon import Daemon
from tests.support.rigged_engine import write_engine
from tests.support.tiny_gguf import write_model
from tests.system.test_swaps import SENTENCES, wait_for

pytestmark = pytest.mark.engine

SIGN_SECONDS = 10.0
"""Within which a stream that waits must say something: some clients give up after 30."""
LEAVE_SECONDS = 1.0
IDLE_SECONDS = 1.0
SHAPES = {
    "/v1/chat/completions": b": ",
    "/v1/completions": b": ",
    "/v1/messages": b": ",
    "/api/chat": b"  ",
    "/api/generate": b"  ",
}
"""Path -> how its stream's sign of life begins."""
LOOKS = (
    "/health", "/ready", "/metrics", "/v1/models", "/v1/models/alpha", "/models", "/running",
    "/props?model=alpha", "/api/tags", "/api/ps", "/api/version", "/api/llm/stats",
)  # fmt: skip


def post(daemon: Daemon, path: str, model: str, **fields: object) -> http.client.HTTPConnection:
    """Ask for an answer, and leave the reading to the caller."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "prompt": "hi",
        "max_tokens": 9,
        **fields,
    }
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection


def get(daemon: Daemon, path: str) -> tuple[int, str]:
    """Return a status and a body."""
    with closing(http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def waiting(daemon: Daemon) -> int:
    """Return how many requests wait for a load."""
    lines = get(daemon, "/metrics")[1].splitlines()
    return int(float(next(x.split()[1] for x in lines if x.startswith("modeld_requests_waiting "))))


def states(daemon: Daemon) -> dict[str, str]:
    """Return what runs, and what it does."""
    return {row["name"]: row["state"] for row in daemon.servers()}


@pytest.fixture
def rigged(embedded_daemon: Daemon) -> Daemon:
    """Run a modeld one of whose models takes a second to load, and another half a minute."""
    daemon = embedded_daemon
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    daemon.engine = write_engine(daemon.home / "engine", {"alpha": "slow", "beta": "slower"})
    daemon.configure()
    return daemon.start()


def test_streams_show_life_while_they_wait_in_every_dialect(rigged: Daemon) -> None:
    """With the intervals that are configured by default; one load for all of them."""
    began = time.monotonic()
    connections = {path: post(rigged, path, "beta", stream=True) for path in SHAPES}
    for path, connection in connections.items():
        response = connection.getresponse()
        first = response.read(2)

        assert response.status == 200
        assert first.startswith(SHAPES[path]), path
        assert time.monotonic() - began < SIGN_SECONDS
    assert waiting(rigged) == len(SHAPES)
    assert len(rigged.servers()) == 1
    for connection in connections.values():
        connection.close()


@pytest.mark.parametrize("is_stream", [True, False])
def test_client_that_leaves_the_queue_is_out_of_it_and_the_load_goes_on(
    rigged: Daemon, is_stream: bool
) -> None:
    """Its place is another one's at once; the model is there when it comes back."""
    connection = post(rigged, "/v1/chat/completions", "alpha", stream=is_stream)
    wait_for(lambda: waiting(rigged) == 1)
    wait_for(lambda: "alpha" in states(rigged))  # what has not begun would be given up
    connection.close()
    left_at = time.monotonic()
    wait_for(lambda: waiting(rigged) == 0)

    assert time.monotonic() - left_at < LEAVE_SECONDS
    assert states(rigged).get("alpha") != "ready"
    wait_for(lambda: states(rigged) == {"alpha": "ready"})
    assert rigged.log.read_text().count("server-starting") == 1
    assert rigged.chat("alpha") == SENTENCES["alpha"]


def test_looks_neither_load_a_model_nor_keep_one_awake(daemon: Daemon) -> None:
    """Dashboards look every second, day and night."""
    write_model(daemon.models / "alpha.gguf", sentence=SENTENCES["alpha"], name="alpha")
    daemon.configure(f"models.idle_timeout_seconds = {IDLE_SECONDS:g}\n")
    daemon.start()

    def looks() -> dict[str, int]:
        return {path: get(daemon, path)[0] for path in LOOKS}

    wait_for(lambda: get(daemon, "/ready")[0] == 200)
    assert looks() | {"/props?model=alpha": 200} == dict.fromkeys(LOOKS, 200)
    assert daemon.engines() == []
    assert daemon.chat("alpha") == SENTENCES["alpha"]
    assert looks() == dict.fromkeys(LOOKS, 200)
    wait_for(lambda: looks()["/props?model=alpha"] == 409)  # it goes, however often one looks
    wait_for(lambda: "models.idle_timeout_seconds" in daemon.log.read_text())
    assert daemon.engines() == []  # that is told when it is gone


def test_idle_time_begins_with_the_end_of_the_last_request(daemon: Daemon) -> None:
    """An answer that takes longer than that must not be cut, nor its model go right after it."""
    endless = daemon.models / "endless.gguf"
    write_model(endless, name="endless", context_tokens=65_536, is_endless=True)
    daemon.configure(
        f"models.idle_timeout_seconds = {IDLE_SECONDS:g}\n"
        '[models.entries."endless"]\ncontext_tokens = 65536\n'
    )
    daemon.start()
    connection = post(daemon, "/v1/completions", "endless", stream=True, max_tokens=60_000)
    response = connection.getresponse()
    end = time.monotonic() + 3 * IDLE_SECONDS
    while time.monotonic() < end:
        assert response.read(64), "it was cut"
    assert daemon.engines()
    connection.close()
    response.close()
    ended_at = time.monotonic()
    wait_for(lambda: not daemon.engines())

    assert time.monotonic() - ended_at >= 0.9 * IDLE_SECONDS
