"""Disk tiers through the front doors: a real daemon copies while a real engine loads."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modeld.wire.cache import ChangeCache, ShowCache
from modeld.wire.common import Selector
from modeld.wire.load import Load
from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

pytestmark = pytest.mark.engine
SENTENCE = "From the slow disk ."


def tiered(daemon: Daemon, settings: str = "") -> Path:
    """Give the daemon a slow tier with one model, start it, and return the tier's folder."""
    slow = daemon.home / "slow"
    slow.mkdir()
    write_model(slow / "big.gguf", sentence=SENTENCE, name="big", pad_ff=16384)
    daemon.configure(
        f'storage.hdd_paths = ["{slow}"]\ncache.ssd_min_free_gb = 0.001\n'
        f"cache.promote_min_uses = 2\n{settings}"
    )
    daemon.start()
    wait_for(lambda: daemon.json("status")["models_on_disk"] == 1)
    return slow


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; bounded."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_second_use_copies_while_it_loads_and_the_third_takes_the_copy(
    embedded_daemon: Daemon,
) -> None:
    """S0-15: served from the HDD at once, copied when its use warrants it, SSD the next time."""
    daemon = embedded_daemon
    slow = tiered(daemon)
    with daemon.rpc() as client:
        load = Load(selector=Selector(pattern="big"))
        assert client.ask(load)["tier"] == "hdd1"
        daemon.modelctl("unload", "--all")
        assert client.ask(load)["tier"] == "hdd1"
        assert "copy" in {each["phase"] for each in client.progress}
        copy = daemon.models / "big.gguf"
        wait_for(copy.exists)
        assert copy.read_bytes() == (slow / "big.gguf").read_bytes()
        daemon.modelctl("unload", "--all")
        wait_for(lambda: len(daemon.json("show", "big")["locations"]) == 2)
        assert client.ask(load)["tier"] == "ssd"
    assert daemon.chat("big") == SENTENCE


def test_copy_is_shown_while_it_goes_on_and_evicted_when_asked(embedded_daemon: Daemon) -> None:
    """S0-18: bytes, rate, the time that is left; the original stays where it is."""
    daemon = embedded_daemon
    slow = tiered(daemon, "cache.copy_limit_mb_per_second = 20")
    big = Selector(pattern="big")
    with daemon.rpc() as client:
        wait_for(lambda: bool(client.ask(ShowCache())["tiers"][0]["total_bytes"]))  # type: ignore[index,call-overload]
        changed = client.ask(ChangeCache(action="promote", selector=big))
        assert changed["type"] == "cache-changed", changed
        wait_for(lambda: _copied(client.ask(ShowCache())) > 0)
        wait_for((daemon.models / "big.gguf").exists)
        wait_for(lambda: len(daemon.json("show", "big")["locations"]) == 2)
        assert client.ask(ChangeCache(action="evict", selector=big))["type"] == "cache-changed"
        wait_for(lambda: not (daemon.models / "big.gguf").exists())

    assert (slow / "big.gguf").exists()
    assert daemon.chat("big") == SENTENCE


def _copied(report: dict[str, object]) -> int:
    copies = report["copies"]
    assert isinstance(copies, list)
    return sum(each["copied_bytes"] for each in copies)


def test_file_that_a_person_put_on_the_ssd_is_never_evicted(embedded_daemon: Daemon) -> None:
    """Files that people put on the SSD themselves are never taken for ours to delete."""
    daemon = embedded_daemon
    slow = tiered(daemon)
    (daemon.models / "big.gguf").write_bytes((slow / "big.gguf").read_bytes())
    wait_for(lambda: len(daemon.json("show", "big")["locations"]) == 2)
    with daemon.rpc() as client:
        answer = client.ask(ChangeCache(action="evict", selector=Selector(pattern="big")))

    assert answer["code"] == "refused"
    assert (daemon.models / "big.gguf").exists()


def test_killed_daemon_leaves_no_half_copy_behind(embedded_daemon: Daemon) -> None:
    """C1: nothing half copied is ever visible, and leftovers are gone after the next start."""
    daemon = embedded_daemon
    slow = tiered(daemon, "cache.copy_limit_mb_per_second = 10")
    with daemon.rpc() as client:
        wait_for(lambda: bool(client.ask(ShowCache())["tiers"][0]["total_bytes"]))  # type: ignore[index,call-overload]
        client.ask(ChangeCache(action="promote", selector=Selector(pattern="big")))
        wait_for(lambda: _copied(client.ask(ShowCache())) > 0)
    daemon.kill()
    seen = daemon.models / "big.gguf"
    assert not seen.exists() or seen.read_bytes() == (slow / "big.gguf").read_bytes()
    daemon.start()

    def leftovers() -> list[Path]:
        names = [each for each in daemon.models.rglob("*") if each.is_file()]
        return [each for each in names if each.stat().st_size > 1_000_000]

    wait_for(lambda: leftovers() == [] or leftovers() == [seen])
