"""The scanner, on real files and with its real worker process."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from modeld.core.entities import FoundFile
from modeld.core.events import Event, FilesFound
from modeld.host.scan import FileScanner, headers, scanner
from modeld.host.scan.answer import Answer
from modeld.host.scan.walk import walk
from modeld.supervisor.ports import Folder
from tests.support.tiny_gguf import write_model, write_shards, write_vocabulary

DEADLINE_SECONDS = 20.0


@pytest.fixture
def cache_path(tmp_path: Path) -> Path:
    """Return where the scanner remembers headers."""
    return tmp_path / "cache" / "headers.msgpack"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a model folder with one model."""
    write_model(tmp_path / "models" / "m.gguf")
    return tmp_path / "models"


async def scanned(
    cache_path: Path, folders: Sequence[Folder], scans: int = 1, ask: int = 1
) -> list[FilesFound]:
    """Scan as the supervisor does, `ask` times at once, and return the first `scans` results."""
    queue: asyncio.Queue[Event] = asyncio.Queue()
    one = FileScanner(queue.put_nowait, cache_path)
    for _ in range(ask):
        one.scan(folders)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            events = [await queue.get() for _ in range(scans)]
    finally:
        await one.close()
    assert queue.empty()
    return [event for event in events if isinstance(event, FilesFound)]


def scan_once(cache_path: Path, *paths: Path) -> FilesFound:
    """Scan the folders, the SSD first, and return what was found."""
    tiers = ("ssd", "hdd1", "hdd2")
    folders = [Folder(tier=t, path=str(path)) for t, path in zip(tiers, paths, strict=False)]
    (found,) = asyncio.run(scanned(cache_path, folders))
    return found


def problems(found: FilesFound) -> dict[str, str]:
    """Return what is wrong with files, by the path below their folder."""
    return {file.relative_path: file.problem for file in found.files if file.problem}


def test_scan_finds_models_in_all_folders_with_their_headers(
    cache_path: Path, tmp_path: Path, models: Path
) -> None:
    """Everything else works on what this returns."""
    write_model(tmp_path / "hdd" / "deep" / "er" / "N.GGUF", name="Second")
    found = scan_once(cache_path, models, tmp_path / "hdd")
    assert found.problems == ()
    assert found.header_reads == 2
    assert found.seconds > 0
    first, second = found.files
    status = (models / "m.gguf").stat()
    assert (first.tier, first.relative_path, first.path) == ("ssd", "m.gguf", f"{models}/m.gguf")
    assert (first.size_bytes, first.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (first.device, first.inode) == (status.st_dev, status.st_ino)
    assert first.header is not None
    assert first.header.architecture == "llama"
    assert (second.tier, second.relative_path) == ("hdd1", "deep/er/N.GGUF")
    assert second.header is not None
    assert second.header.name == "Second"


def test_restart_reads_no_header_again(cache_path: Path, tmp_path: Path) -> None:
    """Two thousand models on a disk would delay every start by minutes."""
    for number in range(2000):
        path = tmp_path / "models" / f"{number % 20}" / f"m{number}.gguf"
        if number < 1:
            write_model(path)
            content = path.read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[:16384])
        os.truncate(path, len(content))
    first = scan_once(cache_path, tmp_path / "models")
    assert first.header_reads == 2000
    started = time.monotonic()
    again = scan_once(cache_path, tmp_path / "models")
    assert time.monotonic() - started < 5
    assert again.header_reads == 0
    assert len(again.files) == len(again.catalog.models) == 2000
    assert again.catalog is first.catalog
    assert all(file.header is not None for file in again.files)


def test_changed_file_is_read_again(cache_path: Path, models: Path) -> None:
    """A model that was replaced must not keep the old one's numbers."""
    scan_once(cache_path, models)
    write_model(models / "m.gguf", name="Changed")
    found = scan_once(cache_path, models)
    assert found.header_reads == 1
    assert found.files[0].header is not None
    assert found.files[0].header.name == "Changed"


def test_touched_file_is_read_again_though_it_kept_its_size(cache_path: Path, models: Path) -> None:
    """Two tunings of one model have the same size."""
    scan_once(cache_path, models)
    os.utime(models / "m.gguf", ns=(1, 1))
    assert scan_once(cache_path, models).header_reads == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff" * 100,
        msgspec.msgpack.encode({"version": 0, "files": []}),
        msgspec.msgpack.encode({"version": 1, "files": [{}]}),
    ],
)
def test_damaged_cache_is_forgotten(cache_path: Path, models: Path, damage: bytes) -> None:
    """A cache may cost time, and nothing else."""
    scan_once(cache_path, models)
    cache_path.write_bytes(damage)
    assert scan_once(cache_path, models).header_reads == 1
    assert scan_once(cache_path, models).header_reads == 0


def test_cache_that_cannot_be_written_is_no_problem(models: Path, tmp_path: Path) -> None:
    """A full disk must not end the scan."""
    (tmp_path / "file").touch()
    assert scan_once(tmp_path / "file" / "headers.msgpack", models).header_reads == 1


def test_cache_leaves_no_temporary_file(cache_path: Path, models: Path) -> None:
    """They would pile up with every start."""
    scan_once(cache_path, models)
    assert [path.name for path in cache_path.parent.iterdir()] == ["headers.msgpack"]


def test_bad_file_is_told_about_and_not_read_again(cache_path: Path, models: Path) -> None:
    """One bad download must not cost a read on every scan."""
    (models / "bad.gguf").write_bytes(b"no model")
    os.utime(models / "bad.gguf", ns=(1, 1))
    found = scan_once(cache_path, models)
    assert problems(found) == {"bad.gguf": "it is not a GGUF file"}
    assert scan_once(cache_path, models).header_reads == 0


def test_bad_file_that_just_changed_is_read_again(cache_path: Path, models: Path) -> None:
    """A download that goes on within one tick of the disk's clock would stay bad for ever."""
    (models / "half.gguf").write_bytes((models / "m.gguf").read_bytes()[:-100])
    assert "truncated" in problems(scan_once(cache_path, models))["half.gguf"]
    assert scan_once(cache_path, models).header_reads == 1


def test_missing_folder_is_told_about_and_not_made(cache_path: Path, tmp_path: Path) -> None:
    """A folder on a disk that is not mounted would be made on the wrong disk."""
    found = scan_once(cache_path, tmp_path / "none")
    assert found.problems == (f"{tmp_path / 'none'} does not exist; it is not created",)
    assert not (tmp_path / "none").exists()


def test_folder_that_is_a_file_or_unreadable_is_told_about(
    cache_path: Path, tmp_path: Path, models: Path
) -> None:
    """Whoever misses models wants to know why."""
    found = scan_once(cache_path, models / "m.gguf")
    assert found.problems == (f"{models / 'm.gguf'} is not a folder",)
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0)
        (sentence,) = scan_once(cache_path, tmp_path / "closed").problems
        assert "Permission denied" in sentence


def test_folder_configured_twice_is_walked_once(cache_path: Path, models: Path) -> None:
    """Each model would be its own copy."""
    found = scan_once(cache_path, models, Path(f"{models}/../models/"))
    assert len(found.files) == 1
    assert found.problems == (f"{models} is configured twice, as ssd and hdd1",)


def test_folder_within_another_belongs_to_its_own_tier(cache_path: Path, models: Path) -> None:
    """The same file would be on two tiers."""
    write_model(models / "fast" / "n.gguf")
    found = scan_once(cache_path, models / "fast", models)
    assert [(file.tier, file.relative_path) for file in found.files] == [
        ("ssd", "n.gguf"),
        ("hdd1", "m.gguf"),
    ]


def test_symbolic_links_are_followed_once(cache_path: Path, tmp_path: Path, models: Path) -> None:
    """People link models into place, and links in a circle must end."""
    write_model(tmp_path / "elsewhere" / "n.gguf")
    (models / "circle").symlink_to(models)
    (models / "a-link").symlink_to(tmp_path / "elsewhere")
    (models / "z-link").symlink_to(tmp_path / "elsewhere")
    (models / "file.gguf").symlink_to(tmp_path / "elsewhere" / "n.gguf")
    (models / "self.gguf").symlink_to("self.gguf")
    (models / "gone.gguf").symlink_to("nothing.gguf")
    found = scan_once(cache_path, models)
    assert sorted(file.relative_path for file in found.files if file.header is not None) == [
        "a-link/n.gguf",
        "file.gguf",
        "m.gguf",
    ]
    assert problems(found)["gone.gguf"] == "it is a symbolic link to nothing"
    assert "self.gguf" in problems(found)


def test_what_is_no_regular_file_is_never_opened(cache_path: Path, models: Path) -> None:
    """Opening a FIFO waits for ever; reading a device may do anything."""
    os.mkfifo(models / "pipe.gguf")
    (models / "null.gguf").symlink_to("/dev/null")
    (models / "folder.gguf").mkdir()
    found = scan_once(cache_path, models)
    assert problems(found) == {
        "null.gguf": "it is not a regular file",
        "pipe.gguf": "it is not a regular file",
    }


def test_hidden_files_and_folders_are_left_out(cache_path: Path, models: Path) -> None:
    """A model in the recycle bin is no model, and half-made copies are hidden."""
    for name in (".Trash-1000/m.gguf", "._m.gguf", "sub/.tmp/m.gguf"):
        write_model(models / name)
    assert [file.relative_path for file in scan_once(cache_path, models).files] == ["m.gguf"]


def test_names_that_cannot_be_told_are_a_problem(cache_path: Path, models: Path) -> None:
    """Such a name would break JSON, or the terminal of whoever lists models."""
    content = (models / "m.gguf").read_bytes()
    for name in (b"caf\xe9.gguf", b"two\nlines.gguf", b"red\x1b[31m.gguf"):
        Path(os.fsdecode(bytes(models) + b"/" + name)).write_bytes(content)
    found = scan_once(cache_path, models)
    assert len(problems(found)) == 3
    assert all(file.path.isprintable() for file in found.files)
    assert msgspec.json.encode(found.files)


def test_worker_ends_with_the_scan_and_does_not_start_without_need(
    cache_path: Path, models: Path
) -> None:
    """A process that waits for nothing is memory that a model could have."""
    children: list[int] = []
    real = subprocess.Popen

    class Counted(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **options: object) -> None:
            real.__init__(self, *args, **options)  # type: ignore[call-overload]
            children.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers.subprocess, "Popen", Counted)
        scan_once(cache_path, models)
        scan_once(cache_path, models)
    assert len(children) == 1
    assert not psutil.pid_exists(children[0])


def test_call_during_a_scan_makes_it_run_once_more(cache_path: Path, models: Path) -> None:
    """The change that made somebody call may have come behind the walk's back."""
    folders = [Folder(tier="ssd", path=str(models))]
    first, second = asyncio.run(scanned(cache_path, folders, scans=2, ask=5))
    assert (first.header_reads, second.header_reads) == (1, 0)


def test_loop_is_not_blocked_by_a_scan(cache_path: Path, models: Path) -> None:
    """Answers stream through the same loop."""

    async def longest_gap() -> float:
        results: asyncio.Queue[Event] = asyncio.Queue()
        one = FileScanner(results.put_nowait, cache_path)
        one.scan([Folder(tier="ssd", path=str(models))])
        gap, last = 0.0, time.monotonic()
        while results.empty():
            await asyncio.sleep(0)
            now = time.monotonic()
            gap, last = max(gap, now - last), now
        await one.close()
        return gap

    write_vocabulary(models / "v.gguf", 300_000)
    assert asyncio.run(longest_gap()) < 0.1


def test_close_ends_a_scan_at_once(cache_path: Path, models: Path) -> None:
    """A daemon that is to stop must not wait for two thousand headers."""

    async def close_early() -> float:
        results: list[Event] = []
        one = FileScanner(results.append, cache_path)
        one.scan([Folder(tier="ssd", path=str(models))])
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await one.close()
        one.scan([Folder(tier="ssd", path=str(models))])
        assert results == []
        return time.monotonic() - started

    write_vocabulary(models / "v.gguf", 50_000)
    for number in range(200):
        (models / f"v{number}.gguf").hardlink_to(models / "v.gguf")
    assert asyncio.run(close_early()) < 2


def test_folder_that_does_not_answer_does_not_hide_the_others(
    cache_path: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead network mount holds whoever looks at it, for ever."""
    released = False

    def hang_on_hdd(folder: Folder, others: set[str], is_stopped: Callable[[], bool]) -> object:
        while folder.tier == "hdd1" and not released:
            time.sleep(0.01)
        return walk(folder, others, is_stopped)

    monkeypatch.setattr(scanner, "walk", hang_on_hdd)
    monkeypatch.setattr(scanner, "SILENT_SECONDS", 0.2)

    async def scan_twice() -> list[FilesFound]:
        results: asyncio.Queue[Event] = asyncio.Queue()
        one = FileScanner(results.put_nowait, cache_path)
        for _ in range(2):
            one.scan(
                [Folder(tier="hdd1", path=str(tmp_path)), Folder(tier="ssd", path=str(models))]
            )
            await results.get()
        one.scan([Folder(tier="ssd", path=str(models))])
        last = await results.get()
        await one.close()
        assert isinstance(last, FilesFound)
        return [last]

    try:
        (last,) = asyncio.run(scan_twice())
        assert [file.tier for file in last.files] == ["ssd"]
    finally:
        released = True


def answer_to(worker: subprocess.Popen[bytes], path: Path) -> Answer:
    """Ask a worker for one header."""
    status = path.stat()
    file = FoundFile(
        tier="ssd",
        path=str(path),
        relative_path=path.name,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        device=status.st_dev,
        inode=status.st_ino,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(msgspec.json.encode(file) + b"\n")
    worker.stdin.flush()
    return msgspec.json.decode(worker.stdout.readline(), type=Answer)


def test_worker_has_little_memory_and_ends_with_its_stdin(models: Path) -> None:
    """A hostile header must not take the machine's memory, nor an orphan stay behind."""
    with subprocess.Popen(
        [sys.executable, "-m", "modeld.host.scan.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as worker:
        assert answer_to(worker, models / "m.gguf").header is not None
        limit = psutil.Process(worker.pid).rlimit(psutil.RLIMIT_AS)
        assert limit == (512 * 1024**2,) * 2
        with (models / "huge.gguf").open("wb") as sparse:
            sparse.truncate(2**40)
        assert answer_to(worker, models / "huge.gguf").problem
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(DEADLINE_SECONDS) == 0


DEADLY_WORKER = """
import os, signal, sys
from modeld.host.scan import worker
real = worker.read_file
def read_file(file):
    if "prof" in file.path: os.kill(os.getpid(), signal.SIGPROF)
    if "kill" in file.path: os.kill(os.getpid(), signal.SIGKILL)
    if "exit" in file.path: os._exit(3)
    if "sleep" in file.path: signal.pause()
    return real(file)
worker.read_file = read_file
worker.main()
"""


def use_deadly_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the scanner start a worker that dies or sleeps where a file's name says so."""
    real = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", DEADLY_WORKER], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(headers.subprocess, "Popen", start)


def test_worker_that_dies_of_a_file_is_replaced(
    cache_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file must not hide all files behind it."""
    for name in ("a-prof.gguf", "b-kill.gguf", "c-exit.gguf"):
        write_model(models / name)
        os.utime(models / name, ns=(1, 1))
    use_deadly_worker(monkeypatch)
    found = scan_once(cache_path, models)
    assert problems(found) == {
        "a-prof.gguf": "its header takes more than 2 s to read",
        "b-kill.gguf": "the process that read it ended with -9",
        "c-exit.gguf": "the process that read it ended with 3",
    }
    assert found.files[-1].header is not None
    # What the processor's time ended is remembered, for it would only happen again.
    assert scan_once(cache_path, models).header_reads == 2


def test_processor_time_for_one_file_is_limited() -> None:
    """Whatever a header makes the reader do, it ends."""
    spin = (
        "from modeld.host.scan import worker\n"
        "worker.PROCESSOR_SECONDS = 0.1\n"
        "def spin(file):\n"
        "    while True: pass\n"
        "worker.read_file = spin\n"
        "worker.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", spin],
        stdin=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as worker:
        assert worker.stdin is not None
        file = FoundFile(tier="ssd", path="/x", relative_path="x", size_bytes=0, mtime_ns=0)
        worker.stdin.write(msgspec.json.encode(file) + b"\n")
        worker.stdin.flush()
        assert worker.wait(DEADLINE_SECONDS) == -signal.SIGPROF


def test_disk_that_gives_no_header_is_not_asked_again(
    cache_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred files on a dead disk would take half an hour."""
    for name in ("a-sleep.gguf", "b-sleep.gguf"):
        write_model(models / name)
    use_deadly_worker(monkeypatch)
    monkeypatch.setattr(headers, "DISK_SECONDS", 0.5)
    found = scan_once(cache_path, models)
    assert found.header_reads == 1
    assert problems(found) == {
        "a-sleep.gguf": "its disk did not answer within 0.5 s",
        "b-sleep.gguf": "its disk does not answer",
        "m.gguf": "its disk does not answer",
    }


def test_shards_are_found_one_by_one(cache_path: Path, tmp_path: Path) -> None:
    """The catalogue puts them together."""
    write_shards(tmp_path / "s", "big", 3)
    files = scan_once(cache_path, tmp_path / "s").files
    assert [file.header.shard_index for file in files if file.header is not None] == [0, 1, 2]


def test_headers_share_common_words(cache_path: Path, models: Path) -> None:
    """Two thousand models must not hold two thousand times `llama`."""
    write_model(models / "n.gguf")
    for _ in range(2):  # read, then remembered
        first, second = scan_once(cache_path, models).files
        assert first.header is not None
        assert second.header is not None
        assert first.header.architecture is second.header.architecture
        assert first.header.quantisation is second.header.quantisation
