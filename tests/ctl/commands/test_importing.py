"""`import-config`: what is asked, what is written, what is shown, and what is put back."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec import Struct, msgpack

from modelctl.commands.importing import MAX_BATCH_BYTES
from modeld.wire.codec import Failure, Header
from modeld.wire.configuration import (
    AskConfig,
    CheckConfig,
    ConfigChecked,
    ConfigFile,
    ConfigReport,
    Setting,
)
from modeld.wire.daemon import Reload, Reloaded
from modeld.wire.history import MAX_RECORDS, HistoryImported, HistoryRow, ImportHistory
from modeld.wire.models import ListModels
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

DATA = Path(__file__).parents[1] / "importing" / "data"
AIRGANIZER = str(DATA / "airganizer-config.json")


@pytest.fixture
def folder(daemon: FakeDaemon, tmp_path: Path) -> Path:
    """Where a daemon that agrees to everything has its configuration."""
    user_file = str(tmp_path / "modeld.toml")
    files = tuple(ConfigFile(path=path, exists=True) for path in ("/etc/modeld.toml", user_file))

    def report(request: Struct, header: Header) -> Iterable[Struct]:
        key = request.key if isinstance(request, AskConfig) else ""
        setting = Setting(key=key, value=None, text="")
        return [ConfigReport(settings=(setting,), files=files, user_file=user_file)]

    daemon.on_call(AskConfig, report)
    daemon.on(CheckConfig, ConfigChecked(changed=("a: 1 -> 2",), needs_restart=()))
    daemon.on(Reload, Reloaded(changed=("a: 1 -> 2",)))
    daemon.on_call(ImportHistory, taken)
    return tmp_path


def taken(request: Struct, header: Header) -> Iterable[Struct]:
    """Say that every record was taken."""
    assert isinstance(request, ImportHistory)
    rows = [HistoryRow(path=past.path, model="m", taken=("1 use",)) for past in request.records]
    return [HistoryImported(records=tuple(rows))]


def asked(daemon: FakeDaemon, kind: type[Struct]) -> list[Struct]:
    """Return the requests of one kind."""
    return [request for request in daemon.requests if isinstance(request, kind)]


def test_import_is_checked_before_it_is_written(
    daemon: FakeDaemon, modelctl: Call, folder: Path
) -> None:
    """What modeld would not have never lies where it would read it."""
    daemon.on(CheckConfig, Failure(code="config", message="no such thing"))
    done = modelctl("import-config", "airganizer", AIRGANIZER)

    assert done.status == 78
    assert not (folder / "modeld.d").exists()


def test_import_that_is_refused_after_all_is_put_back(
    daemon: FakeDaemon, modelctl: Call, folder: Path
) -> None:
    """The configuration in force and the one on the disk must not part."""
    daemon.on(Reload, Failure(code="config", message="a mistake elsewhere"))
    drop_in = folder / "modeld.d" / "50-import-airganizer.toml"
    assert modelctl("import-config", "airganizer", AIRGANIZER).status == 78
    assert not drop_in.exists()
    drop_in.write_text("# before\n")

    assert modelctl("import-config", "--yes", "airganizer", AIRGANIZER).status == 78
    assert drop_in.read_text() == "# before\n"


def test_dry_run_asks_and_writes_nothing(daemon: FakeDaemon, modelctl: Call, folder: Path) -> None:
    """Only what looks is asked."""
    done = modelctl("import-config", "--dry-run", "airganizer", AIRGANIZER, "--json")

    assert json.loads(done.out)["changed"] == ["a: 1 -> 2"]
    assert not asked(daemon, Reload)
    assert list(folder.iterdir()) == []


def test_rows_in_a_pipe_say_all(daemon: FakeDaemon, modelctl: Call, folder: Path) -> None:
    """One key a line, what became of it, and why."""
    done = modelctl("import-config", "airganizer", AIRGANIZER)
    lines = done.out.splitlines()

    assert done.status == 0
    assert "taken\tsystem.max_ram_usage_gb\tmemory.limit_gb = 12.0" in lines
    assert "left\tmodels.auto_download\tmodeld downloads nothing by itself" in lines
    assert modelctl("import-config", "-q", "airganizer", AIRGANIZER).out == ""


@pytest.mark.parametrize("words", [(), ("--json",), ("--dry-run", "-v")])
def test_no_secret_is_printed_or_written(
    daemon: FakeDaemon, modelctl: Call, folder: Path, words: tuple[str, ...]
) -> None:
    """Terminals are filmed, and drop-ins are shared."""
    for name in ("karen-template.json", "karen-installed.json"):
        done = modelctl("import-config", "karen", str(DATA / name), "--yes", *words)
        written = "".join(path.read_text() for path in folder.rglob("*.toml"))
        for secret in ('secret"', "never-show", "neither-this", "first-secret", "neverever"):
            assert secret not in done.out + done.err + written


def test_history_goes_in_portions_that_fit_a_message(
    daemon: FakeDaemon, modelctl: Call, folder: Path
) -> None:
    """A frame that is too large ends the connection."""
    stamps = ["2026-01-01T00:00:00"] * 100
    arguments = ["--override-kv", "x" * 4000] * 20
    stats = {
        f"{number}.gguf": {"total_uses": 1, "use_timestamps": stamps, "llama_args": arguments}
        for number in range(MAX_RECORDS + 10)
    }
    (folder / "stats.json").write_text(json.dumps(stats))
    done = modelctl("import-config", "llama-pack", str(folder / "stats.json"), "--json")
    requests = asked(daemon, ImportHistory)

    assert len(json.loads(done.out)["history"]) == MAX_RECORDS + 10
    assert all(len(msgpack.encode(request)) < 2 * MAX_BATCH_BYTES for request in requests)
    assert {request.dry_run for request in requests} == {True, False}  # type: ignore[attr-defined]


def test_records_wait_for_the_new_folders(daemon: FakeDaemon, modelctl: Call, folder: Path) -> None:
    """Their models are found there first."""
    (folder / "stats.json").write_text('{"a.gguf": {"total_uses": 1}}')
    (folder / "config.json").write_text(f'{{"hdd_path": "{folder}"}}')
    daemon.on(ListModels, Failure(code="timed_out", message="the disks are slow"))
    done = modelctl("import-config", "llama-pack", str(folder / "config.json"))
    kinds = [type(request) for request in daemon.requests]

    assert kinds.index(Reload) < kinds.index(ListModels) < len(kinds) - 1
    assert kinds[-1] is ImportHistory
    assert "the disks are slow: run this again" in done.err


def test_unknown_program_is_told_with_those_that_are_known(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """Five words to choose from."""
    done = modelctl("import-config", "lmstudio", AIRGANIZER)

    assert done.status == 2
    assert "llama-pack, ollm, karen, rustyclaw, airganizer" in done.err


def test_modeld_that_reads_one_file_is_left_alone(
    daemon: FakeDaemon, modelctl: Call, folder: Path
) -> None:
    """A drop-in would never be read."""
    one = (ConfigFile(path="/my.toml", exists=True),)
    daemon.on(AskConfig, ConfigReport(settings=(), files=one, user_file="/my.toml"))
    done = modelctl("import-config", "airganizer", AIRGANIZER)

    assert done.status == 2
    assert "reads /my.toml and no drop-ins" in done.err
