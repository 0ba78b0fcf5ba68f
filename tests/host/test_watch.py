"""The watcher, on real folders."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from modeld.core.events import Event, FolderChanged
from modeld.host.watch import FolderWatcher, mounts, watcher
from modeld.host.watch.mounts import read_mounts, why_polled
from modeld.host.watch.tree import Tree
from modeld.supervisor.ports import Folder

DEADLINE_SECONDS = 10.0
QUIET_SECONDS = 0.15


@pytest.fixture(autouse=True)
def _quick_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after folders, and pass hints on, faster than people need it."""
    monkeypatch.setattr(watcher, "UPKEEP_SECONDS", 0.05)
    monkeypatch.setattr(watcher, "DEBOUNCE_SECONDS", 0.03)


class Watched:
    """A watcher at work, and what it emits."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.watcher = FolderWatcher(self._take)
        self._thread = threading.get_ident()

    def _take(self, event: Event) -> None:
        assert threading.get_ident() == self._thread
        self.events.put_nowait(event)

    async def change(self) -> FolderChanged:
        """Wait for the next event."""
        event = await asyncio.wait_for(self.events.get(), DEADLINE_SECONDS)
        assert isinstance(event, FolderChanged)
        return event

    async def quiet(self) -> None:
        """Make sure that nothing more comes."""
        await asyncio.sleep(QUIET_SECONDS)
        assert self.events.empty()


@asynccontextmanager
async def watched(*paths: Path) -> AsyncIterator[Watched]:
    """Watch folders that are there, as ssd, hdd1, ..., from the moment that all are watched."""
    tiers = ("ssd", "hdd1", "hdd2")
    one = Watched()
    folders = [Folder(tier=t, path=str(path)) for t, path in zip(tiers, paths, strict=False)]
    assert one.watcher.watch(folders) == ()
    for _ in paths:
        assert (await one.change()).reason == "watched from now on"
    try:
        yield one
    finally:
        await one.watcher.close()


CHANGES: dict[str, Callable[[Path], object]] = {
    "new file": lambda top: (top / "new.gguf").write_bytes(b"x"),
    "new file in a folder": lambda top: (top / "sub" / "deep" / "new.gguf").write_bytes(b"x"),
    "upper case": lambda top: (top / "new.GGUF").write_bytes(b"x"),
    "link": lambda top: (top / "link.gguf").symlink_to("m.gguf"),
    "rename into place": lambda top: (top / "m.part").rename(top / "done.gguf"),
    "rename away": lambda top: (top / "m.gguf").rename(top / "m.old"),
    "move out": lambda top: (top / "m.gguf").rename(top.parent / "m.gguf"),
    "removal": lambda top: (top / "m.gguf").unlink(),
    "overwriting": lambda top: (top / "m.gguf").write_bytes(b"y"),
    "new folder": lambda top: (top / "fresh").mkdir(),
    "removed folder": lambda top: shutil.rmtree(top / "sub"),
    "renamed folder": lambda top: (top / "sub").rename(top / "sup"),
    "folder moved in": lambda top: (top.parent / "outside").rename(top / "inside"),
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Return a folder with a model, a download and folders."""
    top = tmp_path / "models"
    (top / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (top / "m.gguf").touch()
    (top / "m.part").touch()
    return top


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_noticed(top: Path, name: str) -> None:
    """A model that somebody just downloaded must be there when he asks for it."""

    async def run() -> None:
        async with watched(top) as one:
            CHANGES[name](top)
            assert (await one.change()).tier == "ssd"

    asyncio.run(run())


IRRELEVANT: dict[str, Callable[[Path], object]] = {
    "other file": lambda top: (top / "notes.txt").write_text("x"),
    "download that goes on": lambda top: (top / "m.part").write_bytes(b"y"),
    "hidden file": lambda top: (top / ".m.gguf").touch(),
    "hidden folder": lambda top: (top / ".cache").mkdir(),
    "reading": lambda top: (top / "m.gguf").read_bytes(),
}


@pytest.mark.parametrize("name", IRRELEVANT)
def test_what_is_no_model_is_not_told(top: Path, name: str) -> None:
    """A download of an hour would be an hour of scans."""

    async def run() -> None:
        async with watched(top) as one:
            IRRELEVANT[name](top)
            await one.quiet()

    asyncio.run(run())


def test_changes_in_new_moved_and_returned_folders_are_noticed(top: Path) -> None:
    """Watches follow folders by hand: inotify knows no trees."""

    async def run() -> None:
        async with watched(top) as one:
            for make in (
                lambda: (top / "a" / "b").mkdir(parents=True),
                lambda: (top / "a").rename(top / "c"),
                lambda: shutil.rmtree(top / "c"),
                lambda: (top / "c" / "b").mkdir(parents=True),
                lambda: (top / "c").rename(top.parent / "c"),
                lambda: (top.parent / "c").rename(top / "c"),
            ):
                make()
                await one.change()
            await one.quiet()
            (top / "c" / "b" / "n.gguf").touch()
            await one.change()

    asyncio.run(run())


def test_folder_that_was_moved_out_is_watched_no_more(top: Path) -> None:
    """Its events would be told under a path that it has no more."""

    async def run() -> None:
        async with watched(top) as one:
            (top / "sub").rename(top.parent / "away")
            await one.change()
            (top.parent / "away" / "deep" / "n.gguf").touch()
            await one.quiet()

    asyncio.run(run())


def test_many_events_become_one(top: Path) -> None:
    """A thousand files unpacked are one reason for one scan."""

    async def run() -> None:
        async with watched(top) as one:
            for number in range(200):
                (top / f"{number}.gguf").touch()
            await one.change()
            await one.quiet()

    asyncio.run(run())


def test_each_tier_is_told_by_its_name(top: Path, tmp_path: Path) -> None:
    """The log says which disk changed."""

    async def run() -> None:
        async with watched(top, tmp_path / "outside") as one:
            (tmp_path / "outside" / "n.gguf").touch()
            assert await one.change() == FolderChanged(tier="hdd1", reason="changed")

    asyncio.run(run())


def test_missing_folder_is_watched_when_it_appears(tmp_path: Path) -> None:
    """A disk that is mounted after the start must not need a restart."""

    async def run() -> None:
        one = Watched()
        top = tmp_path / "not" / "yet"
        assert one.watcher.watch([Folder(tier="ssd", path=str(top))]) == ()
        await one.quiet()
        top.mkdir(parents=True)
        assert (await one.change()).reason == "watched from now on"
        (top / "n.gguf").touch()
        assert (await one.change()).reason == "changed"
        await one.watcher.close()

    asyncio.run(run())
    assert not (tmp_path / "other").exists()


def test_folder_that_goes_away_and_returns_is_watched_again(top: Path) -> None:
    """Unmounting and mounting a disk is exactly that."""

    async def run() -> None:
        async with watched(top) as one:
            top.rename(top.parent / "away")
            assert (await one.change()).reason == "the folder went away"
            top.mkdir()
            while (await one.change()).reason != "watched from now on":
                pass
            (top / "n.gguf").touch()
            assert (await one.change()).reason == "changed"

    asyncio.run(run())


def test_other_folders_replace_the_ones_before(top: Path, tmp_path: Path) -> None:
    """After a reload the old folders are nobody's business."""

    async def run() -> None:
        async with watched(top) as one:
            folders = [Folder(tier="ssd", path=str(tmp_path / "outside"))]
            assert one.watcher.watch(folders) == ()
            await one.change()
            (top / "n.gguf").touch()
            await one.quiet()
            assert one.watcher.watch(folders) == ()
            await one.quiet()
            (tmp_path / "outside" / "n.gguf").touch()
            await one.change()

    asyncio.run(run())


def test_close_leaves_no_thread_and_no_descriptor(top: Path) -> None:
    """Each reload would leak one of the 128 inotify instances that a user has."""

    async def run() -> None:
        async with watched(top):
            pass

    threads = threading.active_count()

    def files_when_threads_are_gone() -> int:
        deadline = time.monotonic() + 5
        while threading.active_count() > threads:  # what was told to end takes a moment to do so
            assert time.monotonic() < deadline, threading.enumerate()
            time.sleep(0.01)
        return open_files()

    asyncio.run(run())
    before = files_when_threads_are_gone()
    asyncio.run(run())
    assert files_when_threads_are_gone() == before


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_lost_events_are_told_and_the_tree_is_watched_anew(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops events when its queue is full, and so would models be."""
    held = threading.Event()
    real = Tree.on_event
    reasons: list[str] = []

    def slow(self: Tree, event: object) -> None:
        held.wait()
        real(self, event)  # type: ignore[arg-type]

    async def run() -> None:
        async with watched(top) as one:
            monkeypatch.setattr(Tree, "on_event", slow)
            limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
            for number in range(limit // 2 + 100):
                (top / f"{number}.gguf").touch()
            (top / "unseen").mkdir()
            held.set()
            while "changes came faster than they could be noticed" not in reasons:
                reasons.append((await one.change()).reason)
            await one.quiet()
            (top / "unseen" / "n.gguf").touch()
            await one.change()

    asyncio.run(run())


@pytest.fixture
def _polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll more often than people need it."""
    monkeypatch.setattr(watcher, "POLL_SECONDS", 0.2)


@pytest.mark.usefixtures("_polls")
def test_network_folder_is_polled_and_said_so(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's changes never reach inotify."""
    monkeypatch.setattr(watcher, "read_mounts", lambda: {"/": "ext4", str(top): "nfs4"})

    async def run() -> None:
        one = Watched()
        (sentence,) = one.watcher.watch([Folder(tier="hdd1", path=str(top))])
        assert str(top) in sentence
        assert "network file system (nfs4)" in sentence
        started = time.monotonic()
        for _ in range(2):
            assert await one.change() == FolderChanged(tier="hdd1", reason="polled")
        assert time.monotonic() - started >= 0.4
        await one.watcher.close()

    asyncio.run(run())


@pytest.mark.usefixtures("_polls")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])
def test_limit_of_inotify_is_told_and_the_folder_polled(
    top: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Editors use up the watches of a user; models must appear all the same."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    name = "add_callback" if code == errno.ENOSPC else "_create_inotify_fd"
    monkeypatch.setattr(InotifyFD, name, refuse)

    async def run() -> None:
        one = Watched()
        (sentence,) = one.watcher.watch([Folder(tier="ssd", path=str(top))])
        assert "fs.inotify.max_user_" in sentence
        assert (await one.change()).reason == "polled"
        await one.watcher.close()

    asyncio.run(run())


@pytest.mark.usefixtures("_polls")
def test_limit_that_is_reached_on_the_way_is_told(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenth of a hundred folders may be the one that is too many."""
    monkeypatch.setattr("modeld.host.watch.tree.MAX_WATCHES", 2)

    async def run() -> None:
        one = Watched()
        assert one.watcher.watch([Folder(tier="ssd", path=str(top))]) == ()
        assert "max_user_watches" in (await one.change()).reason
        while (await one.change()).reason != "polled":
            pass
        await one.watcher.close()

    asyncio.run(run())


def test_real_limit_of_a_user_is_noticed(top: Path) -> None:
    """The kernel's own refusal, where a user namespace can be made."""
    script = (
        "import sys; from modeld.host.watch.tree import Tree\n"
        "from watchdog.observers.inotify_c import InotifyFD\n"
        "said = []; notifier = InotifyFD(); notifier.start()\n"
        "tree = Tree(notifier, sys.argv[1], said.append); tree.open(); tree.fill()\n"
        "print(tree.limit)\n"
    )
    shell = 'echo 2 > /proc/sys/user/max_inotify_watches && exec "$@"'
    result = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", shell, "sh", sys.executable, "-c", script, str(top)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode and "Traceback" not in result.stderr:
        pytest.skip(f"no user namespace with a limit of its own: {result.stderr}")
    assert "max_user_watches" in result.stdout


def test_mounts_are_read_with_their_types() -> None:
    """/proc is what every machine has."""
    assert read_mounts()["/proc"] == "proc"


def test_mounts_with_blanks_in_their_paths_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disks are named by people."""
    info = tmp_path / "mountinfo"
    info.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "99 22 0:50 / /mnt/My\\040Disk rw shared:2 master:1 - fuse.sshfs a@b: rw\n"
        "garbage\n"
    )
    monkeypatch.setattr(mounts, "MOUNT_INFO", info)
    assert read_mounts() == {"/": "ext4", "/mnt/My Disk": "fuse.sshfs"}


def test_polled_file_systems_are_those_that_others_write_to(tmp_path: Path) -> None:
    """On all others inotify sees everything, NTFS and overlays included."""
    table = {"/": "overlay", "/nas": "nfs4", "/far": "fuse.sshfs", "/win": "fuseblk"}
    assert "nfs4" in why_polled("/nas/models", table)
    assert "fuse.sshfs" in why_polled("/far", table)
    assert why_polled("/win/models", table) == ""
    assert why_polled("/nasty", table) == ""
    assert why_polled("/nas", {}) == ""
    (tmp_path / "link").symlink_to("/nas/models")
    assert "nfs4" in why_polled(str(tmp_path / "link"), table)
