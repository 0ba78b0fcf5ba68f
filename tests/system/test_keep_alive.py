"""Models that go by themselves, and models that stay, on real engines."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.support.daemon import Daemon, a_daemon
from tests.support.tiny_gguf import write_model
from tests.system.test_swaps import PATIENCE_SECONDS, SENTENCES, wait_for

SETTINGS = """
models.idle_timeout_seconds = 1
models.max_concurrent_loaded = 1
gateway.batch_seconds = 1
"""


@pytest.fixture
def quick() -> Iterator[Daemon]:
    """Run a modeld with one place, whose idle models go after a second."""
    with a_daemon(settings=SETTINGS, start=False) as daemon:
        for name, sentence in SENTENCES.items():
            write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
        yield daemon.start()


def loaded(daemon: Daemon) -> list[str]:
    """Return the names of the models that have a server."""
    return [row["name"] for row in daemon.servers()]


@pytest.mark.engine
def test_idle_model_goes_by_itself_and_its_memory_comes_back(quick: Daemon) -> None:
    """S1-52, S4-20: nobody calls anything."""
    assert quick.chat("alpha") == SENTENCES["alpha"]
    row = quick.servers()[0]
    assert row["stays_because"] == "models.idle_timeout_seconds"
    wait_for(lambda: loaded(quick) == [])

    assert quick.engines() == []
    assert "> 1 s (models.idle_timeout_seconds)" in quick.log.read_text()
    assert quick.json("status")["used_ram_gb"] == 0


@pytest.mark.engine
def test_request_decides_how_long_its_model_stays_over_a_restart(quick: Daemon) -> None:
    """S3-15, in OpenAI's dialect; the next daemon knows it."""
    quick.chat("alpha", keep_alive="1h")
    time.sleep(2.5)
    assert loaded(quick) == ["alpha"]
    quick.kill()
    quick.start()
    wait_for(lambda: [row["state"] for row in quick.servers()] == ["ready"])
    row = quick.servers()[0]
    assert row["adopted"]
    assert 3000 < row["left_seconds"] <= 3600

    quick.chat("alpha", keep_alive=0)
    wait_for(lambda: loaded(quick) == [])
    assert "keep_alive of its last request" in quick.log.read_text()


@pytest.mark.engine
def test_model_that_is_asked_all_the_time_does_not_starve_another(quick: Daemon) -> None:
    """Its answers are all right, and the other gets its turn after about the batch."""
    over = Event()

    def ask_on() -> set[str]:
        said = set()
        while not over.is_set():
            said.add(quick.chat("alpha", max_tokens=64))
        return said

    quick.chat("alpha")
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask_on) for _ in range(4)]
        try:
            time.sleep(1.5)
            began = time.monotonic()
            assert quick.chat("beta") == SENTENCES["beta"]
            waited = time.monotonic() - began
        finally:
            over.set()
        assert [client.result(PATIENCE_SECONDS) for client in clients] == [{SENTENCES["alpha"]}] * 4

    assert waited < PATIENCE_SECONDS
    assert "server-failed" not in quick.log.read_text()
