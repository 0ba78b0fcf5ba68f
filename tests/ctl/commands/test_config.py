"""`modelctl config`: what it prints, what it writes, and when it leaves everything alone."""

import json
import sys
from pathlib import Path

import pytest

from modeld.wire.codec import Failure
from modeld.wire.configuration import (
    AskConfig,
    AskConfigSchema,
    CheckConfig,
    ConfigChecked,
    ConfigFile,
    ConfigReport,
    ConfigSchema,
    Converted,
    ConvertSetting,
    Setting,
)
from modeld.wire.daemon import Reload, Reloaded
from modeld.wire.models import ModelRow, Show, Shown
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon
from tests.support.terminal import Terminal

BODY = Setting(key="gateway.max_body_mb", value=7, text="7", origin="/etc/m.toml:3")
DEFAULT = Setting(key="models.default", value="tool", text='"tool"')
UNSET = Setting(key="memory.limit_gb", value=None, text="")
INVALID = Failure("config", "m.toml:1: x = 0: expected 1\nm.toml:2: y = 0: expected 1", "see")


def _report(*settings: Setting, user_file: str = "/u.toml") -> ConfigReport:
    files = (ConfigFile(path="/e", exists=False), ConfigFile(path=user_file, exists=True))
    return ConfigReport(settings=settings, files=files, user_file=user_file, notes=("$X is not",))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The user's file."""
    path = tmp_path / "modeld.toml"
    path.write_text("# mine\n[load]\nreplace = true # why\n")
    return path


def test_show_prints_toml(daemon: FakeDaemon, modelctl: Call) -> None:
    """What is printed can be pasted into the file."""
    daemon.on(AskConfig, _report(BODY, DEFAULT, UNSET))
    done = modelctl("config", "show")

    assert done.out == (
        'gateway.max_body_mb = 7\nmodels.default = "tool"\n# memory.limit_gb is unset\n'
    )
    assert "$X is not" in done.err


def test_show_with_origin_says_where_each_is_set(daemon: FakeDaemon, modelctl: Call) -> None:
    """S1-26."""
    daemon.on(AskConfig, _report(BODY, DEFAULT))
    lines = modelctl("config", "show", "--origin").out.splitlines()

    assert lines[0].split("  #")[1] == " /etc/m.toml:3"
    assert lines[1].endswith("# built in")


def test_show_changed_leaves_out_what_is_built_in(daemon: FakeDaemon, modelctl: Call) -> None:
    """A report of a problem needs these and no others."""
    daemon.on(AskConfig, _report(BODY, DEFAULT))

    assert modelctl("config", "show", "--changed").out == "gateway.max_body_mb = 7\n"


def test_show_changed_says_so_where_nothing_is(daemon: FakeDaemon, modelctl: Call) -> None:
    """An empty screen leaves one wondering."""
    daemon.on(AskConfig, _report(DEFAULT))
    done = modelctl("config", "show", "--changed")

    assert (done.status, done.out) == (0, "")
    assert "as it is built in" in done.err


def test_config_alone_shows(daemon: FakeDaemon, modelctl: Call) -> None:
    """The word that everybody tries first."""
    daemon.on(AskConfig, _report(BODY))
    answer = json.loads(modelctl("config", "--json").out)

    assert answer["settings"][0]["value"] == 7
    assert answer["daemon"] is True


@pytest.mark.parametrize(
    ("setting", "printed"),
    [
        (BODY, "7\n"),
        (DEFAULT, "tool\n"),
        (UNSET, "\n"),
        (Setting(key="a", value=("x",), text='["x"]'), '["x"]\n'),
        (Setting(key="a", value=True, text="true"), "true\n"),
    ],
)
def test_get_prints_the_value_alone(
    daemon: FakeDaemon, modelctl: Call, setting: Setting, printed: str
) -> None:
    """For scripts."""
    daemon.on(AskConfig, _report(setting))

    assert modelctl("config", "get", "k").out == printed


def test_get_of_a_table_is_refused(daemon: FakeDaemon, modelctl: Call) -> None:
    """One value was asked for."""
    daemon.on(AskConfig, _report(BODY, DEFAULT))
    done = modelctl("config", "get", "gateway")

    assert (done.status, done.out) == (2, "")
    assert "modelctl config show gateway" in done.err


def _ready_to_set(daemon: FakeDaemon, file: Path, origin: str = "") -> FakeDaemon:
    found = Converted(path=("load", "replace"), text="false")
    shown = Setting(key="load.replace", value=False, text="false", origin=origin or f"{file}:3")
    change = "load.replace: true -> false"
    return (
        daemon.on(ConvertSetting, found)
        .on(AskConfig, _report(user_file=str(file)))
        .on(CheckConfig, ConfigChecked(changed=(change,), needs_restart=(), settings=(shown,)))
        .on(Reload, Reloaded(changed=(change,)))
    )


def test_set_writes_checks_and_reloads(daemon: FakeDaemon, modelctl: Call, file: Path) -> None:
    """S2-19: validated, applied, and the comments stay."""
    _ready_to_set(daemon, file)
    done = modelctl("config", "set", "load.replace", "false")

    assert done.status == 0
    assert "load.replace: true -> false" in done.out
    assert file.read_text() == "# mine\n[load]\nreplace = false # why\n"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (("qwen",), "qwen3-8b-q4"),
        (("qwen3-8b-q4",), "qwen3-8b-q4"),
        (("tiny",), "tiny"),
        (("@tool",), "tool"),
        (("-n", "tiny"), "tiny"),
        (("-n1", "tool"), "tool"),
    ],
)
def test_use_writes_the_model_that_is_meant(
    daemon: FakeDaemon, modelctl: Call, file: Path, words: tuple[str, ...], written: str
) -> None:
    """S1-10: the default model lasts; a role stays a role, whoever has it tomorrow."""
    row = ModelRow(name="qwen3-8b-q4", id="q/qwen3-8b-q4", nicknames=("tiny",), slots=("tool",))
    _ready_to_set(daemon, file)
    daemon.on(Show, Shown(model=row, locations=(), header={}))
    daemon.on(ConvertSetting, Converted(path=("models", "default"), text=f'"{written}"'))
    done = modelctl("use", *words)

    assert done.status == 0
    asked = [each for each in daemon.requests if isinstance(each, ConvertSetting)]
    assert asked == [ConvertSetting(key="models.default", word=written)]
    assert f'default = "{written}"' in file.read_text()


def test_use_of_a_model_that_is_not_there_changes_nothing(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """Else every request that names no model would fail from now on."""
    before = file.read_text()
    daemon.on(Show, Failure("model_not_found", "Model 'x' not found.", ""))

    assert modelctl("use", "x").status == 4
    assert file.read_text() == before


def test_set_that_makes_it_invalid_changes_nothing(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """All mistakes are told; the file and the daemon stay as they are."""
    before = file.read_text()
    daemon.on(ConvertSetting, Converted(path=("load", "replace"), text="false"))
    daemon.on(AskConfig, _report(user_file=str(file))).on(CheckConfig, INVALID)
    done = modelctl("config", "set", "load.replace", "false")

    assert done.status == 78
    assert "m.toml:1" in done.err
    assert "m.toml:2" in done.err
    assert file.read_text() == before


def test_set_that_another_place_overrules_says_so(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """A change without effect and without a word is the worst of all."""
    _ready_to_set(daemon, file, "$MODELD_LOAD__REPLACE")
    done = modelctl("config", "set", "load.replace", "false")
    assert "$MODELD_LOAD__REPLACE too, which wins" in done.err

    file.write_text("")
    answer = json.loads(modelctl("config", "set", "load.replace", "false", "--json").out)
    assert answer["overruled_by"] == "$MODELD_LOAD__REPLACE"
    assert answer["reloaded"] is True


def test_set_without_reload_leaves_the_daemon_alone(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """Several changes, one reload."""
    daemon.on(ConvertSetting, Converted(path=("load", "replace"), text="false"))
    daemon.on(AskConfig, _report(user_file=str(file)))
    daemon.on(CheckConfig, ConfigChecked(changed=("a",), needs_restart=("gateway.listen",)))
    done = modelctl("config", "set", "load.replace", "false", "--no-reload")

    assert done.status == 0
    assert "only a restart" in done.err
    assert "replace = false" in file.read_text()


def test_set_of_what_is_so_already_says_so(daemon: FakeDaemon, modelctl: Call, file: Path) -> None:
    """Nothing is written, nothing reloaded."""
    daemon.on(ConvertSetting, Converted(path=("load", "replace"), text="true"))
    daemon.on(AskConfig, _report(user_file=str(file)))
    done = modelctl("config", "set", "load.replace", "true")

    assert (done.status, done.out) == (0, "")
    assert "nothing has changed" in done.err


def test_unset_takes_the_key_out(daemon: FakeDaemon, modelctl: Call, file: Path) -> None:
    """And the rest of the file stays."""
    _ready_to_set(daemon, file)
    assert modelctl("config", "unset", "load.replace").status == 0

    assert file.read_text() == "# mine\n[load]\n"


def test_unset_of_what_is_set_elsewhere_says_where(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """The file is not the only place."""
    daemon.on(ConvertSetting, Converted(path=("gateway", "max_body_mb"), text=""))
    daemon.on(AskConfig, _report(BODY, user_file=str(file)))
    done = modelctl("config", "unset", "gateway.max_body_mb")

    assert done.status == 2
    assert "it is set by /etc/m.toml:3" in done.err


def test_unset_says_what_holds_instead(daemon: FakeDaemon, modelctl: Call, file: Path) -> None:
    """A preset does not win over the file; without the file's word it is what there is."""
    _ready_to_set(daemon, file, "models.preset")
    done = modelctl("config", "unset", "load.replace")

    assert "load.replace is not as it is built in: models.preset sets it" in done.err
    assert "wins over" not in done.err


def test_check_tells_what_a_reload_would_change(daemon: FakeDaemon, modelctl: Call) -> None:
    """As `nginx -t` does, and then some."""
    checked = ConfigChecked(changed=("a: 1 -> 2",), needs_restart=("log.level",))
    daemon.on(CheckConfig, checked)
    done = modelctl("config", "check")

    assert done.status == 0
    assert "a reload would change a: 1 -> 2" in done.out
    assert "log.level: only a restart" in done.err


def test_check_of_a_file_with_mistakes_tells_them_all(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """Exit status 78, as modeld's own."""
    daemon.on(CheckConfig, INVALID)
    done = modelctl("config", "check", str(file))

    assert done.status == 78
    assert "m.toml:2" in done.err


def test_check_of_no_file_is_bad_usage(daemon: FakeDaemon, modelctl: Call, tmp_path: Path) -> None:
    """It is not an empty configuration."""
    assert modelctl("config", "check", str(tmp_path / "none")).status == 2


def test_schema_is_printed_as_it_is(daemon: FakeDaemon, modelctl: Call) -> None:
    """It is redirected into a file."""
    daemon.on(AskConfigSchema, ConfigSchema(text='{"a": 1}'))

    assert json.loads(modelctl("config", "schema").out) == {"a": 1}
    assert json.loads(modelctl("config", "schema", "--json").out)["schema"] == {"a": 1}


def test_path_is_the_users_file(daemon: FakeDaemon, modelctl: Call) -> None:
    """`$EDITOR "$(modelctl config path)"`."""
    daemon.on(AskConfig, _report())

    assert modelctl("config", "path").out == "/u.toml\n"
    assert modelctl("config", "path", "-v").out == "/e  (not there)\n/u.toml\n"


def _editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_edit_replaces_the_file_by_a_valid_one(
    daemon: FakeDaemon, modelctl: Call, file: Path, tmp_path: Path
) -> None:
    """The editor had a copy."""
    _ready_to_set(daemon, file)
    done = modelctl("config", "edit", EDITOR=_editor(tmp_path, "sed -i s/true/false/ $1"))

    assert done.status == 0
    assert "replace = false" in file.read_text()


def test_edit_that_is_invalid_changes_nothing_and_keeps_the_work(
    daemon: FakeDaemon, modelctl: Call, file: Path, tmp_path: Path
) -> None:
    """Nobody is there to be asked, so it ends; what was typed is still there."""
    before = file.read_text()
    daemon.on(AskConfig, _report(user_file=str(file))).on(CheckConfig, INVALID)
    done = modelctl("config", "edit", VISUAL=_editor(tmp_path, "echo x = 1 >> $1"), EDITOR="false")
    kept = Path(done.err.split("your edit is in ")[1].strip())

    assert done.status == 78
    assert file.read_text() == before
    assert kept.read_text().endswith("x = 1\n")
    assert kept.parent.stat().st_mode & 0o077 == 0
    kept.unlink()
    kept.parent.rmdir()


@pytest.mark.parametrize(
    ("ending", "told"), [("exit 3", "ended with 3"), ("kill -9 $$", "was ended by SIGKILL")]
)
def test_edit_whose_editor_fails_keeps_the_work(
    daemon: FakeDaemon, modelctl: Call, file: Path, tmp_path: Path, ending: str, told: str
) -> None:
    """A terminal that is closed must not take an hour's typing with it."""
    before = file.read_text()
    daemon.on(AskConfig, _report(user_file=str(file)))
    done = modelctl("config", "edit", EDITOR=_editor(tmp_path, f"echo x = 1 >> $1; {ending}"))
    kept = Path(done.err.split("your edit is in ")[1].strip())

    assert done.status == 5
    assert f"{told}; nothing was changed" in done.err
    assert file.read_text() == before
    assert kept.read_text().endswith("x = 1\n")
    kept.unlink()
    kept.parent.rmdir()


def test_edit_that_removes_the_copy_changes_nothing(
    daemon: FakeDaemon, modelctl: Call, file: Path
) -> None:
    """What is not there is no empty configuration, and no bug."""
    before = file.read_text()
    daemon.on(AskConfig, _report(user_file=str(file)))
    done = modelctl("config", "edit", EDITOR="rm")

    assert done.status == 5
    assert "rm left no file: No such file or directory; nothing was changed" in done.err
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("editor", "status"), [("false", 5), ("true", 0), ("/none/at/all", 5), ("a 'b", 2)]
)
def test_edit_without_an_edit_changes_nothing(
    daemon: FakeDaemon, modelctl: Call, file: Path, editor: str, status: int
) -> None:
    """An editor that fails, or that changes nothing, is no edit."""
    before = file.read_text()
    daemon.on(AskConfig, _report(user_file=str(file)))

    assert modelctl("config", "edit", EDITOR=editor, PATH="/bin:/usr/bin").status == status
    assert file.read_text() == before


def test_new_file_is_edited_from_a_few_words(
    daemon: FakeDaemon, modelctl: Call, tmp_path: Path
) -> None:
    """An empty screen says nothing; saved as it is, it is no file."""
    path = tmp_path / "new.toml"
    daemon.on(AskConfig, _report(user_file=str(path)))
    editor = _editor(tmp_path, f"cp $1 {tmp_path}/seen")

    assert modelctl("config", "edit", EDITOR=editor).status == 0
    assert "modeld.toml(5)" in (tmp_path / "seen").read_text()
    assert not path.exists()


def test_edit_that_is_invalid_is_edited_again_where_somebody_is_there(
    daemon: FakeDaemon, socket_path: str, file: Path, tmp_path: Path
) -> None:
    """The work of minutes is not thrown away for one letter."""
    answers = iter([INVALID, ConfigChecked(changed=("a",), needs_restart=())])
    daemon.on(AskConfig, _report(user_file=str(file)))
    daemon.on_call(CheckConfig, lambda *_: [next(answers)])
    daemon.on(Reload, Reloaded(changed=("a",)))
    environment = {
        "MODELD_SOCKET": socket_path,
        "PATH": "/usr/bin:/bin",
        "TERM": "xterm",
        "EDITOR": _editor(tmp_path, 'echo "# again" >> $1'),
    }
    argv = [sys.executable, "-m", "modelctl", "config", "edit"]
    with Terminal(argv, environment) as terminal:
        terminal.read_until("edit again? [Y/n] ")
        assert "m.toml:2" in terminal.text
        terminal.type("\n")
        assert terminal.wait() == 0

    assert file.read_text().endswith("# again\n# again\n")


def test_key_that_is_no_text_is_bad_usage(daemon: FakeDaemon, modelctl: Call) -> None:
    """It is no bug of ours."""
    assert modelctl("config", "set", "models.default", "\udcff").status == 2
    assert modelctl("config", "get", "a\nb").status == 2


def test_edit_of_a_file_that_changed_meanwhile_is_not_lost(
    daemon: FakeDaemon, modelctl: Call, file: Path, tmp_path: Path
) -> None:
    """Neither the edit nor what the other one wrote."""
    _ready_to_set(daemon, file)
    done = modelctl("config", "edit", EDITOR=_editor(tmp_path, f"echo >> $1; echo x > {file}"))
    kept = Path(done.err.split("your edit is in ")[1].strip())

    assert done.status == 5
    assert "somebody else" in done.err
    assert file.read_text() == "x\n"
    assert kept.read_text().startswith("# mine")
    kept.unlink()
    kept.parent.rmdir()
