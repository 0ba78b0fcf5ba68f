"""What a disk, a person or a crash can do to a copy; nothing half is ever seen, nothing stays."""

import errno
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from modeld.core.events import CopyEnded
from tests.support.copying import Copying, a_copier, an_order, leftovers, visible
from tests.support.small_disk import a_small_disk

ROOT = Path(__file__).parent.parent.parent
MIB = 1024 * 1024
SLOW = 2 * MIB
ROUNDS = int(os.environ.get("MODELD_TEST_ROUNDS", "10"))
LONGEST_SECONDS = 0.25
"""A victim copies and removes several times in this time."""

_Words = ParamSpec("_Words")
_Answer = TypeVar("_Answer")


pytestmark = pytest.mark.usefixtures("no_clones")


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Return a set of files to copy."""
    folder = tmp_path / "hdd"
    folder.mkdir()
    paths = [folder / f"{number}.gguf" for number in range(3)]
    for path in paths:
        path.write_bytes(os.urandom(3 * MIB + 77))
    return paths


# --- kill -9 ------------------------------------------------------------------------------------


def a_victim(ssd: Path, sources: list[Path], death: int = 0) -> "subprocess.Popen[str]":
    """Start a process that copies."""
    words = [sys.executable, "-m", "tests.support.copy_victim", ssd, str(death), *sources]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}"}
    victim = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True, cwd=ROOT)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "ready\n"
    return victim


def check_after_crash(ssd: Path, sources: list[Path]) -> None:
    """Check what is visible before and after the next start."""
    truth = {f"made/{path.name}": path.read_bytes() for path in sources}
    before = visible(ssd)
    assert all(truth[name] == data for name, data in before.items())
    with a_copier() as copying:
        copying.survey(ssd)
        after = visible(ssd)
        assert all(truth[name] == data for name, data in after.items())
        assert "made/0.gguf" not in after or after == truth, "the first shard without the others"
        assert not leftovers(ssd)
        assert all(copying.copier.is_ours(str(ssd), name) for name in after)
        assert not after or copying.remove(ssd, *after).error == ""


def test_no_file_differs_and_nothing_stays_after_kill_at_random_moments(
    ssd: Path, sources: list[Path]
) -> None:
    """A power cut asks nobody whether now is a good time."""
    chance = random.Random(3)
    for _ in range(ROUNDS):
        with a_victim(ssd, sources) as victim:
            time.sleep(chance.uniform(0, LONGEST_SECONDS))  # the moment, not a wait
            victim.kill()
        check_after_crash(ssd, sources)


@pytest.mark.parametrize("death", range(1, 60, 5 if ROUNDS < 100 else 1))
def test_publication_is_finished_or_taken_back_after_death_at_each_call(
    ssd: Path, sources: list[Path], death: int
) -> None:
    """Half a set of shards must not stay."""
    with a_victim(ssd, sources, death) as victim:
        victim.wait(30)

    check_after_crash(ssd, sources)


def test_publication_goes_on_where_it_was_interrupted(
    copying: Copying, ssd: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes are there and synced: to throw them away would be a pity."""
    from modeld.host.copy import job, publish

    rename, calls = publish.rename_new, iter(range(9))

    def interrupted(directory: int, name: str, parent: int, target: str) -> None:
        if next(calls) == 1:
            raise job.Left
        rename(directory, name, parent, target)

    monkeypatch.setattr(publish, "rename_new", interrupted)
    copying.start(an_order(sources, ssd))
    wait_until(lambda: list(visible(ssd)) == ["2.gguf"])

    monkeypatch.setattr(publish, "rename_new", rename)
    wait_until(lambda: bool(copying.survey(ssd)) and not leftovers(ssd))

    assert visible(ssd) == {path.name: path.read_bytes() for path in sources}
    assert copying.copier.is_ours(str(ssd), "0.gguf")


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something, at most ten seconds."""
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.01)


# --- what the disk refuses ----------------------------------------------------------------------


class Fault:
    """Has one call of the copy's own threads fail, and counts them all."""

    CALLS = ("open", "write", "pwritev", "fsync", "mkdir", "rename", "utime", "fchmod")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, when: int, number: int) -> None:
        self.count = 0
        self._when, self._number = when, number
        self._lock = threading.Lock()
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))
        from modeld.host.copy import publish, sink

        monkeypatch.setattr(publish, "rename_new", self._failing(publish.rename_new))
        monkeypatch.setattr(sink, "allocate", self._failing(sink.allocate))

    def _failing(self, call: Callable[_Words, _Answer]) -> Callable[_Words, _Answer]:
        def counted(*words: _Words.args, **named: _Words.kwargs) -> _Answer:
            if threading.current_thread().name.startswith("modeld-copy"):
                with self._lock:
                    self.count += 1
                    if self.count == self._when:
                        raise OSError(self._number, os.strerror(self._number))
            return call(*words, **named)

        return counted


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "no-space"),
        (errno.EDQUOT, "no-space"),
        (errno.EIO, "io"),
        (errno.EROFS, "read-only"),
    ],
    ids=["ENOSPC", "EDQUOT", "EIO", "EROFS"],
)
def test_copy_ends_whole_or_not_at_all_when_any_call_fails(
    tmp_path: Path, sources: list[Path], number: int, reason: str
) -> None:
    """A full or dying disk picks its moment freely."""
    truth = {f"deep/{path.name}": path.read_bytes() for path in sources}
    reasons = set()
    for when in itertools.count(1):
        ssd = tmp_path / f"ssd-{when}"
        ssd.mkdir()
        with pytest.MonkeyPatch.context() as patch, a_copier() as copying:
            fault = Fault(patch, when, number)
            ended = copying.copy(an_order(sources, ssd, names=list(truth)))
            patch.undo()
            reasons.add(ended.reason)
            assert visible(ssd) == (truth if ended.reason == "done" else {}), when
            assert ended.reason == "done" or not leftovers(ssd), when
            copying.survey(ssd)
            assert not leftovers(ssd), when
            assert visible(ssd) == (truth if ended.reason == "done" else {}), when
            assert all(copying.copier.is_ours(str(ssd), name) for name in visible(ssd)), when
        shutil.rmtree(ssd)
        if fault.count < when:  # it was not hit any more
            break
    assert when > 30
    assert reason in reasons
    assert reasons <= {reason, "done", "io", "missing"}


INJECTIONS = [
    ("fsync:error=EIO:when=2+", "io"),
    ("pwritev2:error=ENOSPC:when=2+", "no-space"),
    ("fallocate:error=ENOSPC", "no-space"),
    ("fallocate:error=EDQUOT:when=2+", "no-space"),
    ("preadv2:error=EIO", "io"),
    ("renameat2:error=EROFS:when=2", "read-only"),
]


@pytest.mark.parametrize(("injection", "reason"), INJECTIONS, ids=[each[0] for each in INJECTIONS])
def test_copy_ends_with_its_reason_when_the_kernel_says_no(
    ssd: Path, sources: list[Path], injection: str, reason: str
) -> None:
    """The same with the kernel's own answers, past everything that Python does."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    with a_copier() as copying:  # so that the list of copies is there, and its syncs are not hit
        copying.copy(an_order(sources[0], ssd, names=["x.gguf"]))
        copying.remove(ssd, "x.gguf")
    call = injection.split(":", maxsplit=1)[0]
    words = [strace, "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={injection}"]
    words += [sys.executable, "-m", "tests.support.copy_victim", str(ssd), "1000000"]
    words += [str(path) for path in sources]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}"}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    if "ptrace" in done.stderr:
        pytest.skip("nothing can be traced here")

    assert done.stdout.splitlines() == ["ready", reason], done.stderr
    assert not visible(ssd)
    assert not leftovers(ssd)


def test_copy_is_refused_where_too_little_would_stay_free(
    copying: Copying, ssd: Path, sources: list[Path]
) -> None:
    """Whoever fills a disk to the last byte breaks everything else on it."""
    ended = copying.copy(an_order(sources, ssd, min_free_bytes=1 << 60))

    assert ended.reason == "no-space"
    assert not list(ssd.iterdir())


@pytest.mark.parametrize("size_mib", [2, 5, 8])
def test_copy_ends_at_a_full_disk(copying: Copying, tmp_path: Path, size_mib: int) -> None:
    """Somebody else filled it between the look and the write."""
    source = tmp_path / "a.gguf"
    source.write_bytes(os.urandom(6 * MIB))
    with a_small_disk(tmp_path / "ssd", size_mib * MIB) as ssd:
        ended = copying.copy(an_order(source, ssd, min_free_bytes=-(1 << 40)))

        assert ended.reason == ("done" if size_mib == 8 else "no-space")
        assert (visible(ssd) == {}) == (size_mib != 8)
        assert not leftovers(ssd)


def test_second_copy_succeeds_after_space_was_made(copying: Copying, tmp_path: Path) -> None:
    """A full disk must not need a restart."""
    first, second = tmp_path / "1.gguf", tmp_path / "2.gguf"
    for path in (first, second):
        path.write_bytes(os.urandom(5 * MIB))
    with a_small_disk(tmp_path / "ssd", 8 * MIB) as ssd:
        copying.copy(an_order(first, ssd))
        assert copying.copy(an_order(second, ssd)).reason == "no-space"
        assert copying.remove(ssd, "1.gguf").freed_bytes == 5 * MIB

        assert copying.copy(an_order(second, ssd)).reason == "done"


def test_copy_ends_on_a_disk_that_became_read_only(
    copying: Copying, tmp_path: Path, sources: list[Path]
) -> None:
    """That is how a file system answers to errors of its disk."""
    with a_small_disk(tmp_path / "ssd", 64 * MIB) as ssd:
        subprocess.run(["mount", "-o", "remount,ro", ssd], check=True)

        assert "read-only" in copying.survey(ssd).problem
        assert copying.copy(an_order(sources, ssd)).reason == "read-only"


def test_copy_ends_where_the_folder_is_missing(
    copying: Copying, tmp_path: Path, sources: list[Path]
) -> None:
    """The disk was not mounted: nothing may be made in its place."""
    ended = copying.copy(an_order(sources, tmp_path / "gone"))

    assert ended.reason == "missing"
    assert not (tmp_path / "gone").exists()


# --- what happens to the source -----------------------------------------------------------------


def interfere(copying: Copying, source: Path, ssd: Path, change: Callable[[], object]) -> CopyEnded:
    """Do something to the source while it is being copied."""
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)
    copying.call(lambda: copying.copier.pause("c"))
    change()
    copying.call(lambda: copying.copier.make_urgent("c"))
    copying.call(lambda: copying.copier.resume("c"))
    return copying.ended()


def test_copy_of_a_source_that_grows_is_given_up(
    copying: Copying, ssd: Path, sources: list[Path]
) -> None:
    """A download that goes on is no model yet."""

    def grow() -> None:
        with sources[0].open("ab") as file:
            file.write(b"more")

    ended = interfere(copying, sources[0], ssd, grow)

    assert ended.reason == "source-changed"
    assert not visible(ssd)
    assert not leftovers(ssd)


@pytest.mark.parametrize("what", ["truncate", "unlink", "replace", "overwrite"])
def test_copy_of_a_source_that_changes_is_given_up(
    copying: Copying, ssd: Path, sources: list[Path], what: str
) -> None:
    """Half of the old and half of the new is a model that nobody made."""
    source = sources[0]
    size = source.stat().st_size

    def overwrite() -> None:
        with source.open("r+b") as file:
            file.write(bytes(100))

    def replace() -> None:
        other = source.with_suffix(".new")
        other.write_bytes(bytes(size))
        other.rename(source)

    change = {
        "truncate": lambda: os.truncate(source, size // 2),
        "unlink": source.unlink,
        "replace": replace,
        "overwrite": overwrite,
    }[what]

    assert interfere(copying, source, ssd, change).reason == "source-changed"
    assert not visible(ssd)
    assert not leftovers(ssd)


def test_copy_of_a_source_that_is_not_as_catalogued_is_refused(
    copying: Copying, ssd: Path, sources: list[Path]
) -> None:
    """The decision was about another file."""
    order = an_order(sources[0], ssd)
    os.utime(sources[0], ns=(0, 0))

    assert copying.copy(order).reason == "source-changed"


def test_copy_of_a_source_that_is_gone_says_so(
    copying: Copying, ssd: Path, sources: list[Path]
) -> None:
    """It was deleted since the scan."""
    order = an_order(sources, ssd)
    sources[1].unlink()

    assert copying.copy(order).reason == "missing"
    assert not list(ssd.iterdir())


def test_copy_never_waits_for_a_pipe(copying: Copying, ssd: Path, sources: list[Path]) -> None:
    """Opening a FIFO blocks until somebody writes to it."""
    order = an_order(sources[0], ssd)
    sources[0].unlink()
    os.mkfifo(sources[0])

    assert copying.copy(order).reason == "source-changed"
