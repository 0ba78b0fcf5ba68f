"""The parts of a copy that need no disk, or only a little of one."""

import os
import threading
from pathlib import Path

import pytest

from modeld.host.copy import kernel, sink
from modeld.host.copy.disks import Turns, disk_of
from modeld.host.copy.pace import Bucket, RateMeter
from modeld.host.copy.sink import Sink, Way, Ways
from modeld.host.copy.source import Source
from tests.support.copying import a_copier, an_order, visible
from tests.support.small_disk import a_cloning_disk

MIB = 1024 * 1024


def test_bucket_makes_a_copy_wait_for_what_it_took() -> None:
    """A limit that is held on average only still starves others for a while."""
    bucket = Bucket(10.0, now=0.0)
    bucket.take(20, now=0.0)

    assert bucket.wait_seconds(0.0) == pytest.approx(2.0)
    assert bucket.wait_seconds(1.0) == pytest.approx(1.0)
    assert bucket.wait_seconds(2.0) == 0.0


def test_bucket_makes_no_copy_wait_without_a_limit() -> None:
    """No limit is the default."""
    bucket = Bucket(0.0, now=0.0)
    bucket.take(1 << 40, now=0.0)

    assert bucket.wait_seconds(0.0) == 0.0


def test_bucket_does_not_make_up_for_a_pause() -> None:
    """After an hour's pause the disk must not be taken for an hour's worth of bytes."""
    bucket = Bucket(100.0, now=0.0)
    bucket.wait_seconds(3600.0)
    bucket.take(100, now=3600.0)

    assert bucket.wait_seconds(3600.0) == pytest.approx(0.75)


def test_bucket_holds_its_rate_over_many_chunks() -> None:
    """The sum of small waits is what people see."""
    bucket, now = Bucket(1000.0, now=0.0), 0.0
    for _ in range(100):
        now += bucket.wait_seconds(now)
        bucket.take(100, now)

    assert now == pytest.approx(10.0, rel=0.02)


def test_rate_is_right_from_the_first_moment() -> None:
    """An estimate that starts near zero promises hours."""
    meter = RateMeter(0.0)

    assert meter.rate(50, 0.5) == pytest.approx(100.0)
    assert meter.rate(100, 1.0) == pytest.approx(100.0)


def test_rate_follows_a_change() -> None:
    """A copy that stands still must not look fast."""
    meter = RateMeter(0.0)
    meter.rate(1000, 10.0)

    assert meter.rate(1000, 40.0) < 1.0


def test_partitions_of_one_disk_are_one_disk(tmp_path: Path) -> None:
    """Two readers on two partitions move the same head."""
    disk = tmp_path / "devices" / "sda"
    for number in (1, 2):
        (disk / f"sda{number}").mkdir(parents=True)
        (disk / f"sda{number}" / "partition").write_text(str(number))
        (tmp_path / f"8:{number}").symlink_to(disk / f"sda{number}")

    assert disk_of(os.makedev(8, 1), tmp_path) == disk_of(os.makedev(8, 2), tmp_path) == "sda"


def test_mapped_device_is_the_disks_below_it(tmp_path: Path) -> None:
    """An encrypted disk has a number of its own, and the same head."""
    disk = tmp_path / "devices" / "sda"
    (disk / "sda1").mkdir(parents=True)
    (disk / "sda1" / "partition").write_text("1")
    mapped = tmp_path / "devices" / "dm-0"
    (mapped / "slaves").mkdir(parents=True)
    (mapped / "slaves" / "sda1").symlink_to(disk / "sda1")
    (tmp_path / "253:0").symlink_to(mapped)

    assert disk_of(os.makedev(253, 0), tmp_path) == "sda"


def test_device_that_no_disk_is_behind_is_its_own(tmp_path: Path) -> None:
    """A network file system has no head to share."""
    assert disk_of(os.makedev(0, 45), tmp_path) == "0:45"


class Someone:
    """A reader in a test."""

    disk = "sda"

    def __init__(self, *, urgent: bool = False) -> None:
        self.is_urgent = urgent
        self.is_paused = False

    def check(self) -> None:
        """Go on, always."""


def test_turns_let_one_read_at_a_time() -> None:
    """Two at a time make a disk seek."""
    turns, inside, most = Turns(), [0], [0]
    readers = [Someone(urgent=number == 3) for number in range(4)]
    for reader in readers:
        turns.enter(reader)

    def read(reader: Someone) -> None:
        for _ in range(20):
            with turns.turn(reader):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1
        turns.leave(reader)

    threads = [threading.Thread(target=read, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert most == [1]
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("way", list(Way), ids=lambda way: way.name)
def test_file_is_the_same_whichever_way_it_is_written(tmp_path: Path, way: Way) -> None:
    """What an old kernel or a strange file system makes of it must not differ."""

    class Fixed(Ways):
        def of(self, device: int) -> Way:
            return self._known.get(device, way)

    data = os.urandom(3 * sink.BEHIND_BYTES // 2 + 4097)
    (tmp_path / "source").write_bytes(data)
    source = Source(str(tmp_path / "source"))
    directory = os.open(tmp_path, os.O_RDONLY)
    target = Sink(directory, "target", source, Fixed())
    for offset in range(0, len(data), 8 * MIB):
        target.write(memoryview(data)[offset : offset + 8 * MIB], offset)

    entry = target.finish(source, 0.0)

    target.close()
    source.close()
    os.close(directory)
    assert (tmp_path / "target").read_bytes() == data
    assert entry.size_bytes == len(data)


def test_copy_is_the_same_where_the_kernel_knows_no_dropping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's kernel is older than that flag; the page cache is spared there, too."""
    from modeld.host.copy import source as module

    monkeypatch.setattr(module, "DONTCACHE", 1 << 20)
    monkeypatch.setattr(sink, "DONTCACHE", 1 << 20)
    monkeypatch.setattr(sink, "clone", lambda _source, _target: False)
    path, ssd = tmp_path / "a.gguf", tmp_path / "ssd"
    path.write_bytes(os.urandom(20 * MIB + 1))
    ssd.mkdir()
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if kernel.cached_bytes(file.fileno(), 0, MIB):
            pytest.skip("this file system is the page cache")

    with a_copier() as copying:
        copying.copy(an_order(path, ssd))

    cached = 0
    for each in (path, ssd / "a.gguf"):
        with each.open("rb") as file:
            cached += kernel.cached_bytes(file.fileno(), 0, 20 * MIB + 1)
    assert cached <= 2 * MIB
    assert visible(ssd) == {"a.gguf": path.read_bytes()}


def test_copy_within_a_disk_that_can_shares_its_blocks(tmp_path: Path) -> None:
    """Nothing has to be read or written, and nothing to be verified."""
    with a_cloning_disk(tmp_path / "disk", tmp_path / "image") as disk, a_copier() as copying:
        (disk / "ssd").mkdir()
        path = disk / "a.gguf"
        path.write_bytes(os.urandom(40 * MIB))
        os.sync()
        before = os.statvfs(disk).f_bfree

        ended = copying.copy(an_order(path, disk / "ssd"))

        assert ended.reason == "done"
        assert visible(disk / "ssd") == {"a.gguf": path.read_bytes()}
        used = (before - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_frsize
        assert used < 10 * MIB
        assert copying.verify(disk / "ssd", "a.gguf").intact == ("a.gguf",)


def test_both_ways_to_ask_the_page_cache_agree(tmp_path: Path) -> None:
    """Kernels before 6.5 have only the second."""
    path = tmp_path / "a"
    path.write_bytes(bytes(MIB + 1))

    with path.open("rb") as file:
        counts = (
            kernel.cached_bytes(file.fileno(), 8192, MIB - 8192),
            kernel._resident_bytes(file.fileno(), 8192, MIB - 8192),
        )

    assert counts == (MIB - 8192, MIB - 8192)


def test_rename_never_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file system can't be asked for that in one call."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileExistsError):
        kernel.rename_new(directory, "a", directory, "b")
    monkeypatch.setattr(kernel, "_libc", object())
    with pytest.raises(FileExistsError):
        kernel.rename_new(directory, "a", directory, "b")
    kernel.rename_new(directory, "a", directory, "c")

    os.close(directory)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    assert (tmp_path / "b").read_text() == "b"
