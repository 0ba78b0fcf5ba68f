"""Questions are answered with the same words whether a daemon runs or not."""

import json
from pathlib import Path

import pytest

from modeld.wire.codec import Failure
from modeld.wire.configuration import AskConfig
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon


def test_modeld_is_asked_where_no_daemon_runs(modelctl: Call, tmp_path: Path) -> None:
    """And it is said whose answer it is."""
    done = modelctl("config", "show", "load", HOME=str(tmp_path))

    assert (done.status, done.out) == (0, "load.replace = true\n")
    assert "modeld is not running" in done.err


def test_its_refusal_has_the_same_status(modelctl: Call, tmp_path: Path) -> None:
    """A script needs not know which it was."""
    done = modelctl("config", "get", "load.replaces", "--json", HOME=str(tmp_path))

    assert done.status == 2
    assert json.loads(done.out)["error"]["code"] == "usage"


def test_daemon_that_refuses_is_not_asked_around(daemon: FakeDaemon, modelctl: Call) -> None:
    """Its word is the last: it knows its environment and its options."""
    daemon.on(AskConfig, Failure("config", "no"))

    assert modelctl("config", "show").status == 78
    assert len(daemon.requests) == 1


def test_folder_of_the_same_name_is_not_run(
    modelctl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever types the command in a stranger's folder must not run the stranger's program."""
    (tmp_path / "modeld").mkdir()
    (tmp_path / "modeld" / "__init__.py").write_text("")
    (tmp_path / "modeld" / "__main__.py").write_text("raise SystemExit('stranger')")
    monkeypatch.chdir(tmp_path)
    done = modelctl("config", "get", "load.replace", HOME=str(tmp_path))

    assert (done.status, done.out) == (0, "true\n")


def test_modeld_that_can_not_answer_is_told(
    modelctl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation, say."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    done = modelctl("config", "get", "load.replace", HOME=str(tmp_path))

    assert done.status == 70
    assert "could not be asked" in done.err
