"""
The figures of copies between tiers, on a disk with a head that is this project's own.

The disk (`tests/support/slow_disk.py`) reads 180 MB/s and needs 9 ms for a seek.  Where FUSE is
not possible, each of its figures says so and is not met.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from modeld.host.copy.kernel import cached_bytes
from tests.bench.core import exec_to_healthy
from tests.bench.figures import Figure, figure, median_ratio
from tests.support.copying import Copying, a_copier, an_order
from tests.support.engines import embedded
from tests.support.slow_disk import RATE_BYTES_PER_S, Impossible, SlowDisk, a_slow_disk
from tests.support.tiny_gguf import write_model

FEED_FORWARD = 200_000
"""345 MB; the padding is a hole in the folder, and bytes like others on the slow disk."""
SMALLER_FEED_FORWARD = 100_000
ROUNDS = 3
TEE_ROUNDS = 4
"""The best one counts: a disk that Python plays is slowed by whatever else the machine does."""
PLAIN_BYTES = 400 * 1024 * 1024
PLAIN_ROUNDS = 4


@contextlib.contextmanager
def a_home() -> Iterator[Path]:
    """Return a new folder with `hdd` and `ssd` in it."""
    home = Path(tempfile.mkdtemp(prefix="md-", dir="/tmp"))
    try:
        for name in ("hdd", "ssd"):
            (home / name).mkdir()
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def engine_argv(model: Path, mode: str = "auto") -> list[str]:
    """Return what starts the embedded engine with a model, read the one way or the other."""
    engine = embedded()
    if engine is None:
        raise Impossible("xllamacpp is not installed")
    return [*engine.argv, "-m", str(model), "--host", "engine.sock", "--load-mode", mode]


def drop(*paths: Path) -> None:
    """Have files leave the page cache, to be read from their disk again."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def not_possible(names: list[str], reason: Impossible) -> Iterator[Figure]:
    """Return figures that say why they could not be measured."""
    for name in names:
        yield Figure(name=name, value=0, bar=0, better="higher", met=False, detail=str(reason))


# --- the tee ------------------------------------------------------------------------------------


class Tee:
    """One first load with its copy: when the server was ready, when the copy was durable."""

    def __init__(self, disk: SlowDisk, home: Path, copying: Copying, mode: str = "auto") -> None:
        model = disk.path / "big.gguf"
        self.size_bytes = model.stat().st_size
        drop(model)
        copying.events.clear()
        before, began = disk.bytes_read(), time.perf_counter()
        copying.start(an_order(model, home / "ssd", urgent=True))
        durable: list[float] = []
        waiter = threading.Thread(
            target=lambda: durable.append(_end(copying) - began), name="copy-end"
        )
        copying.moved(lambda event: event.read_bytes == event.total_bytes)
        self.read_seconds = time.perf_counter() - began
        waiter.start()
        exec_to_healthy(engine_argv(model, mode), home)
        self.ready_seconds = time.perf_counter() - began
        waiter.join()
        self.durable_seconds = durable[0]
        self.disk_bytes = disk.bytes_read() - before
        copying.remove(home / "ssd", "big.gguf")

    @property
    def ideal_seconds(self) -> float:
        """What reading it once takes."""
        return self.size_bytes / RATE_BYTES_PER_S


def _end(copying: Copying) -> float:
    ended = copying.ended()
    assert ended.reason == "done", ended
    return time.perf_counter()


def tee() -> Iterator[Figure]:
    """A first load from a slow disk with its copy, to reading the model once, and to the naive."""
    names = ["tiers.tee_ready", "tiers.tee_durable", "tiers.first_load_bytes_read"]
    try:
        with a_home() as home:
            write_model(home / "hdd" / "big.gguf", pad_ff=FEED_FORWARD)
            for read_ahead_kb, bar in ((128, 1.4), (4096, 1.15)):
                with a_slow_disk(home / "hdd", read_ahead_kb=read_ahead_kb) as disk:
                    tees = _tees(disk, home)
                    yield from _tee_figures(tees, f"ra{read_ahead_kb}", bar)
                    if read_ahead_kb == 128:
                        yield _naive_figure(disk, home, _tees(disk, home, "none"))
    except Impossible as reason:
        yield from not_possible([*names, "tiers.tee_vs_cp_and_load"], reason)


def _tees(disk: SlowDisk, home: Path, mode: str = "auto") -> list[Tee]:
    with a_copier() as copying:
        copying.survey(home / "ssd")
        return [Tee(disk, home, copying, mode) for _ in range(TEE_ROUNDS)]


def _tee_figures(tees: list[Tee], label: str, bar: float) -> Iterator[Figure]:
    ideal = tees[0].ideal_seconds
    ready = min(each.ready_seconds for each in tees)
    durable = min(each.durable_seconds for each in tees)
    read = min(each.read_seconds for each in tees)
    detail = f"{tees[0].size_bytes / 1e6:.0f} MB, ideal {ideal:.2f} s, read in {read:.2f} s"
    detail += f", best of {TEE_ROUNDS}"
    yield figure(
        f"tiers.tee_ready.{label}", ready / ideal, bar, "lower", f"{ready:.2f} s; {detail}"
    )
    yield figure(
        f"tiers.tee_durable.{label}", durable / ideal, bar, "lower", f"{durable:.2f} s; {detail}"
    )
    most = max(each.disk_bytes / each.size_bytes for each in tees)
    yield figure(f"tiers.first_load_bytes_read.{label}", most, 1.02, "lower", "worst of the rounds")


def _naive_figure(disk: SlowDisk, home: Path, tees: list[Tee]) -> Figure:
    """
    Return how much faster the tee is than cp(1) beside a load, both with an engine that reads.

    An engine that maps its file falls into step with cp(1): one of them reads, the other finds
    the pages.  That is said too.
    """
    both, seeks = _naive(disk, home, "none")
    in_step, _ = _naive(disk, home, "mmap")
    ours = min(max(each.ready_seconds, each.durable_seconds) for each in tees)
    detail = f"{both:.2f} s ({seeks} seeks) to {ours:.2f} s; with a mapped file {in_step:.2f} s"
    return figure("tiers.tee_vs_cp_and_load", both / ours, 3.5, "higher", detail)


def _naive(disk: SlowDisk, home: Path, mode: str) -> tuple[float, int]:
    """Return the seconds until a server is ready and its model copied by cp(1), and the seeks."""
    model, target = disk.path / "big.gguf", home / "ssd" / "naive.gguf"
    drop(model)
    before, began = disk.seeks(), time.perf_counter()
    copy = subprocess.Popen(["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(model), str(target)])
    exec_to_healthy(engine_argv(model, mode), home)
    assert copy.wait() == 0
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds, disk.seeks() - before


# --- background copies --------------------------------------------------------------------------


def background() -> Iterator[Figure]:
    """A background copy's rate, to cp(1) with fsync, and what it adds to the page cache."""
    with a_home() as home, a_copier() as copying:
        source = home / "hdd" / "plain.gguf"
        with source.open("wb") as file:
            for _ in range(PLAIN_BYTES // (1 << 20)):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
        copying.survey(home / "ssd")
        ours, theirs, grown = [], [], []
        for number in range(1 + PLAIN_ROUNDS):
            mine, growth = _our_copy(copying, source, home / "ssd")
            yardstick = _their_copy(source, home / "ssd" / "theirs.gguf")
            if number:
                ours.append(mine)
                theirs.append(yardstick)
                grown.append(growth / PLAIN_BYTES)
    rates = [PLAIN_BYTES / min(each) / 1e6 for each in (ours, theirs)]
    detail = f"best {rates[0]:.0f} MB/s to {rates[1]:.0f} MB/s, {PLAIN_ROUNDS} pairs"
    yield figure("tiers.background_rate", rates[0] / rates[1], 0.85, "higher", detail)
    detail = "of source and copy after it, worst"
    yield figure("tiers.background_page_cache", max(grown), 0.05, "lower", detail)


def _our_copy(copying: Copying, source: Path, folder: Path) -> tuple[float, int]:
    """Return how long our copy takes, and what of both files is in the page cache after it."""
    drop(source)
    began = time.perf_counter()
    ended = copying.copy(an_order(source, folder))
    seconds = time.perf_counter() - began
    assert ended.reason == "done", ended
    grown = _cached(source) + _cached(folder / source.name)
    copying.remove(folder, source.name)
    return seconds, grown


def _their_copy(source: Path, target: Path) -> float:
    drop(source)
    began = time.perf_counter()
    words = ["sh", "-c", 'cp --reflink=never "$0" "$1" && sync "$1"', str(source), str(target)]
    subprocess.run(words, check=True)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def _cached(path: Path) -> int:
    with path.open("rb") as file:
        return cached_bytes(file.fileno(), 0, path.stat().st_size)


def load_during_copy() -> Iterator[Figure]:
    """A load while a background copy reads the same disk, to the load alone."""
    try:
        with a_home() as home, a_copier() as copying:
            write_model(home / "hdd" / "load.gguf", pad_ff=SMALLER_FEED_FORWARD)
            write_model(home / "hdd" / "copy.gguf", pad_ff=10 * FEED_FORWARD)
            copying.survey(home / "ssd")
            with a_slow_disk(home / "hdd", read_ahead_kb=128) as disk:
                alone = [_load(disk, home) for _ in range(ROUNDS)]
                during = [_load_during_copy(disk, home, copying) for _ in range(ROUNDS)]
    except Impossible as reason:
        yield from not_possible(["tiers.load_during_copy"], reason)
        return
    seconds = statistics.median(during), statistics.median(alone)
    detail = f"{seconds[0]:.2f} s to {seconds[1]:.2f} s alone, {ROUNDS} rounds, read-ahead 128 KiB"
    yield figure("tiers.load_during_copy", median_ratio(during, alone), 1.1, "lower", detail)


def _load(disk: SlowDisk, home: Path) -> float:
    drop(disk.path / "load.gguf")
    return exec_to_healthy(engine_argv(disk.path / "load.gguf"), home)


def _load_during_copy(disk: SlowDisk, home: Path, copying: Copying) -> float:
    model = str(disk.path / "load.gguf")
    copying.events.clear()
    copying.start(an_order(disk.path / "copy.gguf", home / "ssd"))
    copying.moved(lambda event: event.copied_bytes > 0)
    began = time.perf_counter()
    copying.call(lambda: copying.copier.yield_to_load(model, True))
    _load(disk, home)
    seconds = time.perf_counter() - began
    copying.call(lambda: copying.copier.yield_to_load(model, False))
    copying.call(lambda: copying.copier.cancel("c"))
    assert copying.ended().reason == "cancelled"
    return seconds


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "tiers.tee": tee,
    "tiers.background": background,
    "tiers.load_during_copy": load_during_copy,
}
