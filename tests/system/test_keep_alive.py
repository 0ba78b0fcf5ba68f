"""Models that go by themselves, and models that stay, on real engines."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.support.daemon import Daemon, a_daemon
from tests.support.rigged_engine import write_engine
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

    def ask_on() -> bool:
        is_right = True
        while not over.is_set():
            # more than the engine has slots, so that there is always one in flight
            said = quick.chat("alpha", max_tokens=100, ignore_eos=True)
            is_right &= said.startswith(SENTENCES["alpha"][:-2])
        return is_right

    quick.chat("alpha")
    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask_on) for _ in range(8)]
        try:
            time.sleep(1.5)
            began = time.monotonic()
            assert quick.chat("beta") == SENTENCES["beta"]
            waited = time.monotonic() - began
        finally:
            over.set()
        assert all(client.result(PATIENCE_SECONDS) for client in clients)

    log = quick.log.read_text()
    assert waited < PATIENCE_SECONDS
    # by its turn, or in a moment in which nothing was in flight
    has_waited = "beta has waited " in log and ">= 1 s (gateway.batch_seconds)" in log
    assert has_waited or "alpha is unloaded: least recently used" in log
    assert "server-failed" not in log


@pytest.mark.engine
def test_load_that_runs_out_of_memory_is_tried_again_with_the_memory_of_what_is_idle() -> None:
    """Its own last words tell; the engine fails once, as if another program had the memory."""
    with a_daemon(start=False) as daemon:
        for name in ("alpha", "beta"):
            write_model(daemon.models / f"{name}.gguf", sentence=SENTENCES[name], name=name)
        daemon.engine = write_engine(daemon.home / "engine", {"alpha": "starve-once"})
        daemon.configure()
        daemon.start()
        daemon.modelctl("load", "beta")
        daemon.modelctl("load", "--nokill", "alpha")

        assert daemon.chat("alpha") == SENTENCES["alpha"]
        assert loaded(daemon) == ["alpha"]
        assert "alpha ran out of memory while it loaded: 1 idle go (beta)" in daemon.log.read_text()
