"""The state file is the only thing that can't be made again, so it is tested on real disks."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from modeld.core.entities import ModelStats, State
from modeld.core.events import Event, StateNotSaved, StateSaved
from modeld.core.usage import Totals
from modeld.host.store import FileStore, encode
from modeld.supervisor.ports import Loaded

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "data" / "stats-version-1.json"
MOMENT = datetime(2026, 11, 21, 2, 26, tzinfo=UTC)
STATE = State(
    generation=7,
    models={
        "qwen/coder-7b": ModelStats(
            total_uses=2,
            last_used=MOMENT,
            use_timestamps=(MOMENT, MOMENT),
            use_runtimes_seconds=(12.5, 0.0),
            total_runtime_seconds=12.5,
            last_runtime_seconds=12.5,
            arguments=("-c", "4096"),
            measured_bytes=123456789,
        ),
        "älter": ModelStats(total_uses=1),
    },
    nicknames={"tool": "qwen/coder-7b", "a": "älter"},
    slots={"tool": "qwen/coder-7b"},
    pins=("älter",),
    last_loads={"gateway": MOMENT, "8081": MOMENT},
    closed_servers=("abc",),
    counted_seconds={"def": 60.0},
)


def _save(directory: Path, *states: State) -> list[Event]:
    """Save states, and return what was told of it."""

    async def run() -> list[Event]:
        told: list[Event] = []
        store = FileStore(told.append, directory)
        store.load()
        for state in states:
            store.save(state)
        await store.close()
        await asyncio.sleep(0)
        return told

    return asyncio.run(run())


def _load(directory: Path) -> Loaded:
    return FileStore(lambda _: None, directory).load()


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _fails(*command: str) -> bool:
    return bool(subprocess.run(command, check=False, capture_output=True).returncode)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, env=_environment(), capture_output=True, text=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(disk)]
    if os.getuid() or _fails("mount", *options):
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_save_then_load_gives_the_same_state(tmp_path: Path) -> None:
    """Nothing is lost or turned into something else on the way."""
    assert _save(tmp_path, STATE) == [StateSaved(generation=7)]

    assert _load(tmp_path) == Loaded(state=STATE)


def test_sums_of_requests_are_saved_and_nonsense_in_them_is_damage(tmp_path: Path) -> None:
    """A number that can't be written again would fail every later save."""
    usage = {"älter": Totals(requests=3, hits=2, generated_tokens=7, generation_seconds=0.5)}
    _save(tmp_path, replace(STATE, usage=usage))

    assert _load(tmp_path).state.usage == usage

    path = tmp_path / "stats.json"
    path.write_text(path.read_text().replace('"requests": 3', '"requests": 9223372036854775807'))

    assert "beyond" in _load(tmp_path).problems[0]


def test_save_makes_the_directory(tmp_path: Path) -> None:
    """The first run has none, and others must not look into it."""
    directory = tmp_path / "a" / "state"

    assert _load(directory) == Loaded(state=State())
    assert _save(directory, STATE) == [StateSaved(generation=7)]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "stats.json").stat().st_mode) == 0o600


def test_file_is_for_people(tmp_path: Path) -> None:
    """S0-45: indented, names in order, RFC 3339 in UTC, letters as they are."""
    _save(tmp_path, STATE)
    text = (tmp_path / "stats.json").read_text("utf-8")

    assert text.startswith('{\n  "version": 1,\n  "generation": 7,\n  "models": {\n')
    assert '"last_used": "2026-11-21T02:26:00Z"' in text
    assert text.index('"a": "älter"') < text.index('"tool": "qwen/coder-7b"')
    assert text.endswith("}\n")
    assert json.loads(text)["saved_at"].endswith("Z")


def test_save_keeps_the_one_before(tmp_path: Path) -> None:
    """D4: a damaged file has a predecessor."""
    _save(tmp_path, STATE)
    _save(tmp_path, replace(STATE, generation=8))

    assert json.loads((tmp_path / "stats.json.prev").read_text())["generation"] == 7
    assert _names(tmp_path) == ["stats.json", "stats.json.prev"]


def test_every_generation_is_answered_though_only_the_newest_is_written(tmp_path: Path) -> None:
    """A burst of changes is one write, and each of them is acknowledged."""
    told = _save(tmp_path, *(replace(STATE, generation=number) for number in range(1, 40)))

    assert sorted(event.generation for event in told if isinstance(event, StateSaved)) == list(
        range(1, 40)
    )
    assert _load(tmp_path).state.generation == 39


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\x00" * 100, b'{"version": "1"}', b"{}", b'{"version": 0}',
             b'{"version": 1, "models": 3}', b'{"version": 1, "generation": 1e400}',
             b'{"version": 1, "generation": ' + b"9" * 60 + b"}", b"[" * 100_000,
             b'{"version": 1, "nicknames": {"\xff": "x"}}'],
)  # fmt: skip
def test_damaged_file_is_set_aside_and_the_one_before_used(tmp_path: Path, text: bytes) -> None:
    """D4: never a silent empty start, never a deleted original."""
    _save(tmp_path, STATE)
    _save(tmp_path, replace(STATE, generation=8))
    (tmp_path / "stats.json").write_bytes(text)

    loaded = _load(tmp_path)

    assert loaded.state == STATE
    assert not loaded.read_only
    assert "is damaged" in loaded.problems[0]
    assert "was used instead" in loaded.problems[1]
    aside = [path for path in tmp_path.iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in aside] == [text]


def test_two_damaged_files_are_both_kept_and_said(tmp_path: Path) -> None:
    """Even then nothing is thrown away, and the next save works."""
    (tmp_path / "stats.json").write_text("x")
    (tmp_path / "stats.json.prev").write_text("y")

    loaded = _load(tmp_path)

    assert loaded.state == State()
    assert loaded.problems[-1] == "modeld starts without names and statistics"
    assert len([name for name in _names(tmp_path) if "corrupt" in name]) == 2
    assert _save(tmp_path, STATE) == [StateSaved(generation=7)]


def test_damage_twice_in_a_second_keeps_both(tmp_path: Path) -> None:
    """The name has the time in seconds; the second must not overwrite the first."""
    for text in ("x", "y"):
        (tmp_path / "stats.json").write_text(text)
        _load(tmp_path)

    kept = {path.read_text() for path in tmp_path.iterdir() if "corrupt" in path.name}
    assert kept == {"x", "y"}


def test_file_that_somebody_removed_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    """D4: the last generation but one is better than none, and it is said."""
    _save(tmp_path, STATE)
    _save(tmp_path, replace(STATE, generation=8))
    (tmp_path / "stats.json").unlink()

    loaded = _load(tmp_path)

    assert loaded.state == STATE
    assert "was used instead" in loaded.problems[0]


def test_newer_file_is_used_and_never_overwritten(tmp_path: Path) -> None:
    """D5: going back a version must not cost what the newer one learned."""
    newer = json.loads(encode(STATE, MOMENT))
    newer |= {"version": 2, "invented_later": {"x": 1}}
    (tmp_path / "stats.json").write_text(json.dumps(newer))

    loaded = _load(tmp_path)
    told = _save(tmp_path, STATE)

    assert loaded.read_only
    assert loaded.state == STATE
    assert "newer modeld (version 2)" in loaded.problems[0]
    assert isinstance(told[0], StateNotSaved)
    assert json.loads((tmp_path / "stats.json").read_text()) == newer


def test_newer_file_that_is_not_understood_is_left_alone(tmp_path: Path) -> None:
    """D5: also where its fields have changed their types."""
    (tmp_path / "stats.json").write_text('{"version": 9, "models": "elsewhere"}')

    loaded = _load(tmp_path)

    assert loaded.read_only
    assert loaded.state == State()
    assert _names(tmp_path) == ["stats.json"]


def test_unknown_fields_of_this_version_are_tolerated(tmp_path: Path) -> None:
    """D5: a person's note in the file is no damage."""
    text = json.loads(encode(STATE, MOMENT))
    text["note"] = "mine"
    text["models"]["qwen/coder-7b"]["tags"] = ["CODE"]
    (tmp_path / "stats.json").write_text(json.dumps(text))

    assert _load(tmp_path) == Loaded(state=STATE)


def test_golden_file_of_version_1_loads() -> None:
    """D5: every released format must load for ever; never change this file."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shutil.copy(GOLDEN, directory / "stats.json")
        assert _load(directory) == Loaded(state=STATE)
    finally:
        shutil.rmtree(directory)


def test_golden_file_has_nothing_that_is_written_otherwise_today() -> None:
    """A field that changes its name or its form needs a new version; a new one, a default."""
    golden, today = json.loads(GOLDEN.read_text("utf-8")), json.loads(encode(STATE, MOMENT))

    assert {key: today.get(key) for key in golden} == golden


def test_times_without_a_zone_are_read_as_utc(tmp_path: Path) -> None:
    """X-16: written Z, read both; a local time would shift every rank."""
    text = encode(STATE, MOMENT).replace(b"02:26:00Z", b"02:26:00")
    (tmp_path / "stats.json").write_bytes(text)

    assert _load(tmp_path) == Loaded(state=STATE)


def test_something_else_in_its_place_is_set_aside(tmp_path: Path) -> None:
    """A FIFO would hold up the start for ever."""
    os.mkfifo(tmp_path / "stats.json")

    loaded = _load(tmp_path)

    assert "not a regular file" in loaded.problems[0]


def test_unreadable_file_is_never_overwritten(tmp_path: Path) -> None:
    """What can't be read may be intact: nothing is saved over it."""
    (tmp_path / "stats.json").symlink_to("stats.json")  # ELOOP, also for root

    loaded = _load(tmp_path)

    assert loaded.read_only
    assert isinstance(_save(tmp_path, STATE)[0], StateNotSaved)
    assert (tmp_path / "stats.json").is_symlink()


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    """D1: they would fill the disk, one for each crash."""
    (tmp_path / ".stats.json.new-12345").write_text("half")
    _save(tmp_path, STATE)

    assert _names(tmp_path) == ["stats.json"]


def test_change_by_somebody_else_is_kept(tmp_path: Path) -> None:
    """An editor's work while modeld runs is not lost without a trace (D6)."""

    async def run() -> None:
        store = FileStore(lambda _: None, tmp_path)
        store.load()
        (tmp_path / "stats.json").write_text("edited")
        store.save(STATE)
        await store.close()

    asyncio.run(run())

    kept = [path.read_text() for path in tmp_path.iterdir() if ".changed-" in path.name]
    assert kept == ["edited"]
    assert _load(tmp_path).state == STATE


def test_link_in_the_place_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    """C8: nothing outside the directory is ever written."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".stats.json.new-{os.getpid()}").symlink_to(victim)

    async def run() -> list[Event]:
        told: list[Event] = []
        store = FileStore(told.append, tmp_path)  # no load: nothing is tidied up before
        store.save(STATE)
        await store.close()
        await asyncio.sleep(0)
        return told

    assert isinstance(asyncio.run(run())[0], StateNotSaved)
    assert victim.read_text() == "precious"


def test_full_disk_is_told_and_the_old_file_stays(tiny_disk: Path) -> None:
    """D3: ENOSPC."""
    _save(tiny_disk, STATE)
    large = replace(STATE, generation=8, nicknames={f"n{i}": "m" * 50 for i in range(2000)})

    told = _save(tiny_disk, large)

    assert told == [
        StateNotSaved(generation=8, reason=f"No space left on device ({tiny_disk / 'stats.json'})")
    ]
    assert _load(tiny_disk).state == STATE
    assert not [name for name in _names(tiny_disk) if "new-" in name]
    assert _save(tiny_disk, replace(STATE, generation=9)) == [StateSaved(generation=9)]


def test_read_only_disk_is_told(tiny_disk: Path) -> None:
    """C4, D3: EROFS."""
    _save(tiny_disk, STATE)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)

    told = _save(tiny_disk, replace(STATE, generation=8))

    assert isinstance(told[0], StateNotSaved)
    assert "Read-only file system" in told[0].reason
    assert _load(tiny_disk).state == STATE


WRITER = """
import asyncio, sys, resource
from pathlib import Path
from msgspec.structs import replace
from modeld.core.entities import State
from modeld.host.store import FileStore

async def main(directory, count, limit):
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    answered = asyncio.Queue()
    store = FileStore(answered.put_nowait, Path(directory))
    state = store.load().state
    for number in range(count):
        state = replace(state, generation=state.generation + 1, nicknames={"n": str(number) * 500})
        store.save(state)
        event = await answered.get()
        print(type(event).__name__, event.generation, getattr(event, "reason", ""), flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def _writer(directory: Path, count: int, limit: int = 0) -> list[str]:
    return [sys.executable, "-c", WRITER, str(directory), str(count), str(limit)]


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "daemon"), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin"}


def test_file_size_limit_is_told_and_the_old_file_stays(tmp_path: Path) -> None:
    """D3: EFBIG, in the middle of writing."""
    _save(tmp_path, STATE)

    done = _run(_writer(tmp_path, 1, limit=256))

    assert done.stdout.startswith("StateNotSaved 8 File too large")
    assert _load(tmp_path).state == STATE
    assert _names(tmp_path) == ["stats.json"]


def test_kill_at_any_time_leaves_a_whole_file(tmp_path: Path) -> None:
    """D1: nothing unreadable, and nothing lost that was acknowledged."""
    acknowledged = 0
    for number in range(20):
        writer = subprocess.Popen(
            _writer(tmp_path, 100_000), env=_environment(), stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(0.003 * number)  # the moment of death, not a wait for anything
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines()
        saved = [line.split() for line in lines if line.startswith("StateSaved")]
        acknowledged = max(acknowledged, *(int(words[1]) for words in saved))

        loaded = _load(tmp_path)

        assert loaded.problems == ()
        assert loaded.state.generation >= acknowledged
    assert not [name for name in _names(tmp_path) if "new-" in name]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("call", "when", "saved"),
    [
        ("fsync", 1, False),
        ("fsync", 2, False),
        ("rename,renameat,renameat2", 1, False),
        ("link,linkat", 1, True),
    ],
)
def test_failing_system_call_is_never_taken_for_success(
    tmp_path: Path, call: str, when: int, *, saved: bool
) -> None:
    """C3, D3: EIO of file, directory or rename is told; a `.prev` that can't be made is no loss."""
    _save(tmp_path, STATE)
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    trace += ["-e", f"inject={call}:error=EIO:when={when}"]

    done = _run([*trace, *_writer(tmp_path, 2)])
    if "ptrace" in done.stderr:
        pytest.skip("tracing is not permitted")

    first, second = done.stdout.splitlines()
    assert first.startswith("StateSaved 8" if saved else "StateNotSaved 8 Input/output error")
    assert second.startswith("StateSaved 9")
    assert _load(tmp_path).state.generation == 9
    assert not [name for name in _names(tmp_path) if "new-" in name]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_survived_and_nothing_is_deleted(data: st.DataObject) -> None:
    """D4: whatever bytes stand there, modeld starts, and says so unless they are a state."""
    original = encode(STATE, MOMENT)
    position = data.draw(st.integers(0, len(original)))
    length = data.draw(st.integers(0, 40))
    mutated = original[:position] + data.draw(st.binary(max_size=8)) + original[position + length :]
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (directory / "stats.json").write_bytes(mutated)
        loaded = _load(directory)
        kept = [path.read_bytes() for path in directory.iterdir()]

        assert mutated in kept
        assert loaded.problems or loaded.state.version == 1
        assert _load(directory).state == loaded.state
    finally:
        shutil.rmtree(directory)


def test_only_good_file_outlives_a_save_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After damage the one before is all there is, until the new one is there."""
    _save(tmp_path, STATE, replace(STATE, generation=8))
    (tmp_path / "stats.json.prev").write_bytes(encode(STATE, MOMENT))
    (tmp_path / "stats.json").write_bytes(b"{")
    rename = os.rename

    def refuse(*names: str, **directories: int) -> None:
        if directories:  # what is set aside is renamed by its path
            raise OSError(5, "Input/output error")
        rename(*names)

    monkeypatch.setattr(os, "rename", refuse)
    (told,) = _save(tmp_path, replace(STATE, generation=9))

    assert isinstance(told, StateNotSaved)
    assert _load(tmp_path).state == STATE
