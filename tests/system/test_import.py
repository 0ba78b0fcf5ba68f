"""`modelctl import-config` against a real daemon: written, in force, remembered, and only once."""

import json
import os
import tomllib
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, a_daemon
from tests.support.tiny_gguf import write_model

pytestmark = pytest.mark.engine
DATA = Path(__file__).parents[1] / "ctl" / "importing" / "data"


def drop_in(daemon: Daemon, kind: str) -> Path:
    """Return where an import writes."""
    return daemon.config.parent / "modeld.d" / f"50-import-{kind}.toml"


def llama_pack(daemon: Daemon, **changes: object) -> Path:
    """Write llama-pack's two files, about models in an archive; return the configuration."""
    archive = daemon.home / "archive"
    for name in ("one/twin", "two/twin", "alone"):
        path = archive / f"{name}.gguf"
        write_model(path, sentence=f"I am {name.replace('/', '-')} .", name=name)
    config = {"hdd_path": str(archive), "stats_file": str(daemon.home / "stats.json"), **changes}
    (daemon.home / "config.json").write_text(json.dumps(config))
    record = {
        "path": str(archive / "two" / "twin.gguf"),
        "total_uses": 5,
        "last_used": "2026-10-30T18:20:01",
        "use_timestamps": ["2026-10-29T18:20:01", "2026-10-30T18:20:01"],
        "total_runtime_seconds": 500,
        "llama_args": ["-c", "256", "--port", "8080"],
        "tags": ["CHAT"],
    }
    lost = {"path": "/elsewhere/lost.gguf", "total_uses": 2}
    stats = {"twin.gguf": record, "lost.gguf": lost}
    (daemon.home / "stats.json").write_text(json.dumps(stats))
    return daemon.home / "config.json"


def uses(daemon: Daemon) -> dict[str, int]:
    """Return how often each model was used, as modeld has it."""
    return {row["id"]: row["uses"] for row in daemon.json("list")["models"]}


def test_llama_pack_moves_in(daemon: Daemon) -> None:
    """Folders first, so that the records find their models; all of it once."""
    config = llama_pack(daemon, global_llama_args=["--flash-attn", "--no-such-thing"])
    daemon.start()
    report = daemon.json("import-config", "llama-pack", str(config))

    written = tomllib.loads(drop_in(daemon, "llama-pack").read_text())
    assert written == {"storage": {"hdd_paths": [str(daemon.home / "archive")]}}
    assert uses(daemon) == {"one/twin": 0, "two/twin": 5, "alone": 0}
    shown = daemon.json("show", "two/twin")
    assert shown["arguments"] == ["-c", "256"]
    assert shown["runtime_seconds"] == 500.0
    reasons = {left["source"]: left["reason"] for left in report["left"]}
    assert "no-such-thing" in reasons["global_llama_args"]
    assert "*.tags" in reasons
    assert [row["model"] != "" for row in report["history"]] == [True, False]

    again = daemon.json("import-config", "llama-pack", str(config))

    assert uses(daemon)["two/twin"] == 5
    assert again["written"] == []
    daemon.stop()
    daemon.start()
    assert uses(daemon)["two/twin"] == 5


def test_dry_run_changes_nothing(daemon: Daemon) -> None:
    """It tells the same, and that is all."""
    config = llama_pack(daemon, ssd_min_free_gb=77)
    daemon.start()
    report = daemon.json("import-config", "--dry-run", "llama-pack", str(config))

    assert "cache.ssd_min_free_gb: 30.0 -> 77.0" in report["changed"]
    assert not drop_in(daemon, "llama-pack").exists()
    assert daemon.json("list")["models"] == []


def test_import_is_in_force_at_once(daemon: Daemon) -> None:
    """S3-01: the roles and rules of RustyClaw route here, the good ones."""
    daemon.start()
    report = daemon.json(
        "import-config", "rustyclaw", str(DATA / "rustyclaw-config.yaml"), status=1
    )

    assert 'keep_alive.strategy: "" -> "ssd"' in report["changed"]
    assert [left["line"] for left in report["left"] if left["wrong"]] == [22]


def test_broken_file_is_told_with_lines_and_exit_status(daemon: Daemon) -> None:
    """S3-02."""
    daemon.start()
    done = daemon.modelctl(
        "import-config", "rustyclaw", str(DATA / "rustyclaw-broken.yaml"), status=1
    )

    assert "wrong\tllm.models.type\tline 11: misplaced" in done.stdout
    assert "on line 17 and on line 19" in done.stdout


def test_import_works_before_modeld_ever_ran(daemon: Daemon) -> None:
    """Whoever moves in imports first; what needs the daemon is said to be left."""
    config = llama_pack(daemon, ssd_min_free_gb=77)
    report = daemon.json("import-config", "llama-pack", str(config))

    assert drop_in(daemon, "llama-pack").exists()
    (left,) = [left for left in report["left"] if "records" in left["source"]]
    assert "modeld is not running" in left["reason"]
    daemon.start()
    daemon.json("import-config", "llama-pack", str(config))
    assert uses(daemon)["two/twin"] == 5


def test_other_drop_in_is_replaced_only_when_that_is_said(daemon: Daemon) -> None:
    """A person may have edited it."""
    daemon.start()
    kind, source = "airganizer", str(DATA / "airganizer-config.json")
    drop_in(daemon, kind).parent.mkdir()
    drop_in(daemon, kind).write_text("# mine\n")
    done = daemon.modelctl("import-config", kind, source, status=2)

    assert "--yes replaces it" in done.stderr
    assert drop_in(daemon, kind).read_text() == "# mine\n"
    daemon.modelctl("import-config", "--yes", kind, source)
    assert tomllib.loads(drop_in(daemon, kind).read_text())["memory"] == {"limit_gb": 12.0}


def test_import_that_would_break_the_configuration_changes_nothing(daemon: Daemon) -> None:
    """All of it is checked together, before anything is written."""
    inside = daemon.models / "below"
    (daemon.home / "config.json").write_text(json.dumps({"hdd_path": str(inside)}))
    daemon.start()
    done = daemon.modelctl(
        "import-config", "llama-pack", str(daemon.home / "config.json"), status=78
    )

    assert "lie inside each other" in done.stderr
    assert not drop_in(daemon, "llama-pack").exists()


def test_folders_come_beside_those_that_are_there() -> None:
    """A list replaces a list: nobody's models may vanish."""
    with a_daemon(start=False) as daemon:
        mine = daemon.home / "mine"
        mine.mkdir()
        daemon.configure(f'storage.hdd_paths = ["{mine}"]')
        config = llama_pack(daemon)
        daemon.start()
        for _ in range(2):
            daemon.json("import-config", "llama-pack", str(config))

        assert tomllib.loads(drop_in(daemon, "llama-pack").read_text())["storage"] == {
            "hdd_paths": [str(mine), str(daemon.home / "archive")]
        }


def test_table_of_models_is_added_to_the_users_own(daemon: Daemon) -> None:
    """Rows that are there already stay as they are; a second import adds nothing."""
    limits = daemon.config.parent / "limits.toml"
    daemon.configure(f'models.limits_file = "{limits}"')
    limits.write_text('# mine\n[[model]]\npattern = "lab-*"\ncontext_tokens = 1234\n')
    daemon.start()
    for _ in range(2):
        daemon.json("import-config", "ollm", str(DATA / "ollm-user_models.json"), status=1)
    rows = tomllib.loads(limits.read_text())["model"]

    assert limits.read_text().startswith("# mine\n")
    assert [(row["pattern"], row["context_tokens"]) for row in rows] == [
        ("lab-*", 1234),
        ("my-coder:13b", 65536),
    ]


@pytest.mark.parametrize("kind", ["llama-pack", "ollm", "karen", "rustyclaw", "airganizer"])
def test_files_that_are_none_end_in_words(daemon: Daemon, kind: str) -> None:
    """Broken, binary, huge, missing, no file at all: told, and nothing is changed."""
    daemon.start()
    folder = daemon.home / "bad"
    folder.mkdir()
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "broken.json").write_text('{"a": ')
    (folder / "broken.yaml").write_text("a: [1\nb: }")
    (folder / "empty").touch()
    with (folder / "huge").open("wb") as file:
        file.truncate(20 << 20)
    os.mkfifo(folder / "fifo")
    for name in ("binary", "broken.json", "broken.yaml", "empty", "huge", "fifo", "missing", "."):
        done = daemon.modelctl("import-config", kind, str(folder / name), status=2)
        assert done.stderr.startswith("error: ")

    assert not drop_in(daemon, kind).parent.exists()
