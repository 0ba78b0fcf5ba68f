"""Copies as they should go: the same bytes, one reader a disk, nothing of others touched."""

import mmap
import os
import time
from pathlib import Path

import pytest

from modeld.core.events import CopyMoved
from modeld.host.copy.kernel import cached_bytes
from modeld.supervisor.ports import Folder
from tests.support.copying import WORK_NAME, Copying, a_copier, an_order, leftovers, visible

MIB = 1024 * 1024
SLOW = 2 * MIB
"""[bytes/s] Slow enough that a test can step in."""


pytestmark = pytest.mark.usefixtures("no_clones")


def a_file(folder: Path, name: str = "a.gguf", size_bytes: int = 3 * MIB + 5) -> Path:
    """Write a file of random bytes."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size_bytes))
    return path


@pytest.mark.parametrize("size_bytes", [0, 1, 4096, 8 * MIB, 8 * MIB + 1, 20 * MIB + 4095])
@pytest.mark.parametrize("urgent", [False, True], ids=["background", "urgent"])
def test_copy_is_bit_identical(
    copying: Copying, hdd: Path, ssd: Path, size_bytes: int, urgent: bool
) -> None:
    """A model that differs in one bit answers something else."""
    source = a_file(hdd, size_bytes=size_bytes)

    ended = copying.copy(an_order(source, ssd, urgent=urgent))

    assert (ended.reason, ended.error) == ("done", "")
    assert visible(ssd) == {"a.gguf": source.read_bytes()}
    assert (ssd / "a.gguf").stat().st_mtime_ns == source.stat().st_mtime_ns
    assert not leftovers(ssd)


def test_shards_and_mmproj_arrive_together_in_their_folders(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """A model with a missing shard is no model."""
    names = [f"deep/er/m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    names.append("deep/mmproj-m.gguf")
    sources = [a_file(hdd, name, size_bytes=9 * MIB) for name in names]

    copying.copy(an_order(sources, ssd, names=names))

    assert visible(ssd) == {
        name: source.read_bytes() for name, source in zip(names, sources, strict=True)
    }


def test_first_shard_gets_its_name_last(
    copying: Copying, hdd: Path, ssd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks in the midst of it must not see a model that lacks half of itself."""
    from modeld.host.copy import publish

    order = an_order([a_file(hdd, f"{number}.gguf", 100) for number in range(3)], ssd)
    renamed = []
    rename = publish.rename_new

    def spy(directory: int, name: str, parent: int, target: str) -> None:
        renamed.append(target)
        rename(directory, name, parent, target)

    monkeypatch.setattr(publish, "rename_new", spy)
    copying.copy(order)

    assert renamed == ["2.gguf", "1.gguf", "0.gguf"]


def test_progress_tells_how_far_it_is_and_how_fast(copying: Copying, hdd: Path, ssd: Path) -> None:
    """Nobody waits well for something that does not say how long it takes."""
    source = a_file(hdd, size_bytes=4 * MIB)

    ended = copying.copy(an_order(source, ssd, rate_limit_bytes_per_s=4 * MIB))
    moved = [event for event in copying.events if isinstance(event, CopyMoved)]

    counts = [event.copied_bytes for event in moved]
    assert counts == sorted(counts)
    assert counts[-1] == moved[-1].total_bytes == 4 * MIB
    assert len(moved) <= 5 * ended.seconds + 4
    assert 0 < moved[-1].rate_bytes_per_s < 8 * MIB


def test_urgent_copy_keeps_its_pages_and_says_up_to_where(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """The server that loads behind it must find every byte in memory."""
    source = a_file(hdd, size_bytes=12 * MIB)
    drop(source)

    copying.copy(an_order(source, ssd, urgent=True))

    copying.moved(lambda event: event.read_bytes == 12 * MIB)
    with source.open("rb") as file:
        assert cached_bytes(file.fileno(), 0, 12 * MIB) == 12 * MIB


def test_background_copy_leaves_the_page_cache_as_it_was(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """A copy at night must not push out what people work with."""
    cold = a_file(hdd, "cold.gguf", size_bytes=16 * MIB)
    warm = a_file(hdd, "warm.gguf", size_bytes=16 * MIB)
    drop(cold)
    drop(warm)
    warm.read_bytes()

    copying.copy(an_order([cold, warm], ssd))

    found = {}
    for path in (cold, warm, ssd / "cold.gguf"):
        with path.open("rb") as file:
            found[str(path)] = cached_bytes(file.fileno(), 0, 16 * MIB)
    assert list(found.values()) == [0, 16 * MIB, 0]
    assert all(not event.read_bytes for event in copying.events if isinstance(event, CopyMoved))


def drop(path: Path) -> None:
    """Have a file leave the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_bytes(file.fileno(), 0, MIB):
            pytest.skip("this file system is the page cache")


def test_rate_limit_holds(copying: Copying, hdd: Path, ssd: Path) -> None:
    """A limit is there because somebody else needs the disk."""
    source = a_file(hdd, size_bytes=3 * MIB)

    ended = copying.copy(an_order(source, ssd, rate_limit_bytes_per_s=4 * MIB))

    assert ended.seconds >= 0.5


def test_urgency_lifts_the_rate_limit(copying: Copying, hdd: Path, ssd: Path) -> None:
    """Somebody waits now."""
    source = a_file(hdd, size_bytes=64 * MIB)
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=MIB))
    copying.moved(lambda event: event.copied_bytes > 0)

    copying.call(lambda: copying.copier.make_urgent("c"))

    assert copying.ended().seconds < 30


def test_copy_that_became_urgent_says_nothing_of_pages_that_it_dropped(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """A server that counts on them would read the disk a second time, seeking."""
    source = a_file(hdd, size_bytes=4 * MIB)
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)

    copying.call(lambda: copying.copier.make_urgent("c"))

    assert copying.ended().reason == "done"
    assert not any(event.read_bytes for event in copying.events if isinstance(event, CopyMoved))


def test_paused_copy_stands_still_and_goes_on(copying: Copying, hdd: Path, ssd: Path) -> None:
    """What is written already must not be read again."""
    source = a_file(hdd, size_bytes=4 * MIB)
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)

    copying.call(lambda: copying.copier.pause("c"))
    settled = standing(copying)
    assert settled < 4 * MIB
    assert not visible(ssd)
    copying.call(lambda: copying.copier.resume("c"))

    assert copying.ended().reason == "done"
    assert visible(ssd) == {"a.gguf": source.read_bytes()}


def standing(copying: Copying) -> int:
    """Return how far a copy is that does not move: the size of its file on the disk."""
    written, since = -1, time.monotonic()
    end = since + 10
    while time.monotonic() < end:
        moved = [event for event in copying.events if isinstance(event, CopyMoved)]
        now = moved[-1].copied_bytes if moved else 0
        if now != written:
            written, since = now, time.monotonic()
        if time.monotonic() - since > 0.4:
            return written
        time.sleep(0.01)
    raise TimeoutError("it moves on")


def test_cancelled_copy_leaves_nothing(copying: Copying, hdd: Path, ssd: Path) -> None:
    """Nobody cleans up by hand."""
    source = a_file(hdd, size_bytes=8 * MIB)
    copying.start(an_order(source, ssd, names=["new/a.gguf"], rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)

    copying.call(lambda: copying.copier.cancel("c"))
    ended = copying.ended()
    copying.call(lambda: copying.copier.cancel("c"))

    assert ended.reason == "cancelled"
    assert sorted(path.name for path in ssd.iterdir()) == [WORK_NAME]
    assert not leftovers(ssd)


def test_paused_copy_can_be_cancelled(copying: Copying, hdd: Path, ssd: Path) -> None:
    """It stands still, and must listen all the same."""
    source = a_file(hdd, size_bytes=8 * MIB)
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)
    copying.call(lambda: copying.copier.pause("c"))

    copying.call(lambda: copying.copier.cancel("c"))

    assert copying.ended().reason == "cancelled"


def test_two_copies_from_one_disk_are_read_one_after_the_other(
    copying: Copying, hdd: Path, ssd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers make a disk seek, and both slower than one after the other."""
    first, second = a_file(hdd, "1.gguf", 4 * MIB), a_file(hdd, "2.gguf", MIB)
    reads = spy_on_reads(monkeypatch)
    copying.start(an_order(first, ssd, copy_id="1", rate_limit_bytes_per_s=2 * SLOW))
    copying.moved(lambda event: event.copy_id == "1" and event.copied_bytes > 0)

    copying.start(an_order(second, ssd, copy_id="2"))
    copying.ended("2")

    assert copying.ended("1").reason == "done"
    assert reads == sorted(reads)


def spy_on_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a path with each chunk that is read."""
    from modeld.host.copy.source import Source

    reads: list[str] = []
    read = Source.read

    def spy(self: Source, buffer: mmap.mmap, offset: int, size: int, *, keep: bool) -> None:
        reads.append(self.path)
        read(self, buffer, offset, size, keep=keep)

    monkeypatch.setattr(Source, "read", spy)
    return reads


def test_urgent_copy_overtakes(copying: Copying, hdd: Path, ssd: Path) -> None:
    """Somebody waits for the second; nobody for the first."""
    first, second = a_file(hdd, "1.gguf", 40 * MIB), a_file(hdd, "2.gguf", 20 * MIB)
    copying.start(an_order(first, ssd, copy_id="1", rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copy_id == "1" and event.copied_bytes > 0)

    ended = copying.copy(an_order(second, ssd, copy_id="2", urgent=True))

    assert ended.seconds < 5
    copying.call(lambda: copying.copier.cancel("1"))
    assert copying.ended("1").reason == "cancelled"


def test_background_copy_holds_still_while_a_server_loads_from_its_disk(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """A load that somebody waits for must not share the disk's head."""
    source, other = a_file(hdd, size_bytes=4 * MIB), a_file(hdd, "other.gguf", 100)
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)

    copying.call(lambda: copying.copier.yield_to_load(str(other), True))
    assert standing(copying) < 4 * MIB
    copying.call(lambda: copying.copier.yield_to_load(str(other), False))

    assert copying.ended().reason == "done"


def test_urgent_copy_goes_on_while_a_server_loads(copying: Copying, hdd: Path, ssd: Path) -> None:
    """The server waits for just this copy."""
    source = a_file(hdd)
    copying.call(lambda: copying.copier.yield_to_load(str(source), True))

    assert copying.copy(an_order(source, ssd, urgent=True)).reason == "done"


# --- what is whose ------------------------------------------------------------------------------


def test_remove_takes_copies_and_the_folders_made_for_them(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """An expiry frees what the copy took, and leaves no empty folders behind."""
    (ssd / "own").mkdir()
    source = a_file(hdd, size_bytes=MIB)
    copying.copy(an_order(source, ssd, names=["own/made/a.gguf"]))

    removed = copying.remove(ssd, "own/made/a.gguf")

    assert (removed.error, removed.freed_bytes) == ("", MIB)
    assert [path.name for path in ssd.iterdir() if path.name != WORK_NAME] == ["own"]
    assert not list((ssd / "own").iterdir())
    assert not copying.copier.is_ours(str(ssd), "own/made/a.gguf")


def test_remove_never_touches_what_somebody_put_there(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """A person's only copy of a model is worth more than any space."""
    copying.copy(an_order(a_file(hdd), ssd))
    mine = a_file(ssd, "mine.gguf")

    removed = copying.remove(ssd, "a.gguf", "mine.gguf")

    assert "mine.gguf was not made by modeld" in removed.error
    assert mine.exists()
    assert (ssd / "a.gguf").exists()


def test_remove_never_touches_a_file_that_took_a_copys_name(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """Whoever replaces a copy by a file of their own owns that one."""
    source = a_file(hdd)
    copying.copy(an_order(source, ssd))
    (ssd / "a.gguf").unlink()
    (ssd / "a.gguf").write_bytes(source.read_bytes())
    os.utime(ssd / "a.gguf", ns=(0, source.stat().st_mtime_ns))

    removed = copying.remove(ssd, "a.gguf")

    assert "not the file any more" in removed.error
    assert (ssd / "a.gguf").exists()


def test_survey_forgets_copies_that_are_gone_or_replaced(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """What is not ours any more must not look expendable."""
    copying.copy(an_order([a_file(hdd, f"{number}.gguf") for number in range(3)], ssd))
    (ssd / "0.gguf").unlink()
    (ssd / "1.gguf").unlink()
    (ssd / "1.gguf").write_bytes(b"mine")

    copying.survey(ssd)

    ours = [copying.copier.is_ours(str(ssd), str(ssd / f"{number}.gguf")) for number in range(3)]
    assert ours == [False, False, True]


def test_next_daemon_knows_the_copies(hdd: Path, ssd: Path) -> None:
    """Otherwise every copy would be there for ever."""
    with a_copier() as copying:
        copying.copy(an_order(a_file(hdd), ssd))

    with a_copier() as copying:
        assert not copying.copier.is_ours(str(ssd), "a.gguf")
        copying.survey(ssd)

        assert copying.copier.is_ours(str(ssd), "a.gguf")
        assert copying.remove(ssd, "a.gguf").error == ""


def test_damaged_list_makes_copies_somebodys_own(hdd: Path, ssd: Path) -> None:
    """Where nobody knows, nothing is removed."""
    with a_copier() as copying:
        copying.copy(an_order(a_file(hdd), ssd))
    (ssd / WORK_NAME / "manifest.json").write_bytes(b"{\xff")

    with a_copier() as copying:
        copying.survey(ssd)

        assert not copying.copier.is_ours(str(ssd), "a.gguf")
        assert (ssd / WORK_NAME / "manifest.damaged").exists()


def test_list_of_a_newer_modeld_is_left_alone(hdd: Path, ssd: Path) -> None:
    """It may say things that this version would lose."""
    with a_copier() as copying:
        copying.copy(an_order(a_file(hdd), ssd))
    text = (ssd / WORK_NAME / "manifest.json").read_text().replace('"version": 1', '"version": 2')
    (ssd / WORK_NAME / "manifest.json").write_text(text)

    with a_copier() as copying:
        problem = copying.survey(ssd).problem

    assert "newer modeld" in problem
    assert (ssd / WORK_NAME / "manifest.json").read_text() == text


def test_server_that_has_a_removed_copy_mapped_goes_on(
    copying: Copying, hdd: Path, ssd: Path
) -> None:
    """A truncated file would end it by SIGBUS."""
    source = a_file(hdd, size_bytes=MIB)
    copying.copy(an_order(source, ssd))
    with (ssd / "a.gguf").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    copying.remove(ssd, "a.gguf")

    assert mapped[:] == source.read_bytes()
    mapped.close()


# --- survey and verify --------------------------------------------------------------------------


def test_survey_measures(copying: Copying, ssd: Path) -> None:
    """The policy counts with these numbers."""
    space = os.statvfs(ssd)

    measured = copying.survey(ssd, tier="ssd")

    assert (measured.tier, measured.problem) == ("ssd", "")
    assert measured.total_bytes == space.f_blocks * space.f_frsize
    assert 0 < measured.free_bytes <= measured.total_bytes


def test_survey_makes_nothing_on_a_disk_that_is_only_read(copying: Copying, hdd: Path) -> None:
    """A tier that nothing is copied to stays as its owner left it."""
    copying.survey(hdd, tier="hdd1")

    assert not list(hdd.iterdir())


def test_survey_says_what_is_missing(copying: Copying, tmp_path: Path) -> None:
    """The disk was not mounted, and somebody has to be told."""
    measured = copying.survey(tmp_path / "gone")

    assert "is not there" in measured.problem
    assert measured.free_bytes == 0


def test_survey_discards_what_an_earlier_daemon_left(copying: Copying, ssd: Path) -> None:
    """Half a model takes space and is good for nothing."""
    copying.survey(ssd)
    work = ssd / WORK_NAME
    work.mkdir(mode=0o700)
    (work / "README").touch()
    (work / "part-0123").mkdir()
    (work / "part-0123" / "0").write_bytes(bytes(MIB))
    (work / "somebody's").touch()

    copying.survey(ssd)

    assert leftovers(ssd) == ["somebody's"]


def test_survey_leaves_a_running_copy_alone(copying: Copying, hdd: Path, ssd: Path) -> None:
    """It is no leftover: somebody works on it."""
    source = a_file(hdd, size_bytes=2 * MIB)
    copying.start(an_order(source, ssd, rate_limit_bytes_per_s=SLOW))
    copying.moved(lambda event: event.copied_bytes > 0)

    copying.survey(ssd)

    assert copying.ended().reason == "done"
    assert visible(ssd) == {"a.gguf": source.read_bytes()}


def test_copies_have_to_be_verified_after_the_machine_went_down(hdd: Path, ssd: Path) -> None:
    """What the disk lost then shows as nonsense that a model talks."""
    crashed = Copying("boot-1")
    crashed.copy(an_order([a_file(hdd, f"{number}.gguf") for number in range(2)], ssd))
    data = bytearray((ssd / "1.gguf").read_bytes())
    status = (ssd / "1.gguf").stat()
    data[MIB] ^= 1
    with (ssd / "1.gguf").open("r+b") as file:
        file.write(data)
    os.utime(ssd / "1.gguf", ns=(0, status.st_mtime_ns))

    with a_copier("boot-2") as copying:
        copying.survey(ssd)
        assert not copying.copier.is_verified(str(ssd), "0.gguf")
        verified = copying.verify(ssd, "0.gguf", "1.gguf")

        assert (verified.intact, verified.damaged) == (("0.gguf",), ("1.gguf",))
        assert copying.copier.is_verified(str(ssd), "0.gguf")
        assert not copying.copier.is_verified(str(ssd), "1.gguf")
        assert copying.remove(ssd, "1.gguf").error == ""
    crashed.close()


@pytest.mark.parametrize("boot_id", ["boot-1", "boot-2"], ids=["same-boot", "next-boot"])
def test_copies_need_no_verifying_after_a_clean_stop(hdd: Path, ssd: Path, boot_id: str) -> None:
    """Reading all of an SSD at every start would take longer than it saves."""
    with a_copier("boot-1") as copying:
        copying.copy(an_order(a_file(hdd), ssd))

    with a_copier(boot_id) as copying:
        copying.survey(ssd)

        assert copying.copier.is_verified(str(ssd), "a.gguf")


def test_close_ends_a_copy_at_once_and_the_next_daemon_tidies(hdd: Path, ssd: Path) -> None:
    """A service manager gives a daemon only so long."""
    with a_copier() as copying:
        copying.start(an_order(a_file(hdd, size_bytes=MIB), ssd, rate_limit_bytes_per_s=1000))
        copying.moved()
        began = time.monotonic()

    assert time.monotonic() - began < 4
    assert not visible(ssd)
    with a_copier() as copying:
        copying.call(lambda: copying.copier.survey(Folder(tier="ssd", path=str(ssd))))
        copying.survey(ssd)
        assert not leftovers(ssd)
