"""Questions about the configuration are answered alike by a daemon and by a modeld for one."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, msgpack

from modeld.config.load import Source, load
from modeld.errors import Usage
from modeld.host.config_files import ConfigFiles
from modeld.rpc.configuration import answer_alone, answer_now, settings
from modeld.wire import configuration as wire

FILE = ".config/modeld/modeld.toml"


@pytest.fixture
def files(tmp_path: Path) -> ConfigFiles:
    """A home directory with one file."""
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_text('[gateway]\nmax_body_mb = 7\n[[routing.rules]]\npattern = "x"\nmodel = "m"\n')
    return ConfigFiles({"OLLM_HOST": "x"}, home=str(tmp_path))


def _keys(found: tuple[wire.Setting, ...]) -> list[str]:
    return [one.key for one in found]


def test_report_has_every_key_with_its_origin(files: ConfigFiles) -> None:
    """S1-26: where does this come from?"""
    report = answer_now(wire.AskConfig(), files, files.read())
    assert isinstance(report, wire.ConfigReport)
    found = {one.key: one for one in report.settings}

    assert found["gateway.max_body_mb"].value == 7
    assert found["gateway.max_body_mb"].origin.endswith(f"{FILE}:2")
    assert found["gateway.max_waiting"].origin == ""
    assert found["memory.limit_gb"] == wire.Setting(key="memory.limit_gb", value=None, text="")
    assert found["routing.rules[1].model"].text == '"m"'
    assert report.user_file.endswith(FILE)
    assert report.notes[0].startswith("$OLLM_HOST")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("load", ["load.replace"]),
        ("load.replace", ["load.replace"]),
        ("routing.rules", ["routing.rules[1].pattern", "routing.rules[1].model"]),
        ("routing.rules[1].model", ["routing.rules[1].model"]),
        ("routing.overrides", []),
        ("models.entries.a.keep_alive", ["models.entries.a.keep_alive"]),
        ("models.entries.a", []),
        ("routing.rules[2].model", ["routing.rules[2].model"]),
    ],
)
def test_part_of_the_settings_is_found_by_its_name(
    files: ConfigFiles, key: str, found: list[str]
) -> None:
    """A key, or everything below a table, and a key that nobody set as it is then."""
    assert _keys(settings(files.read(), key)) == found


def test_key_that_begins_alike_is_another() -> None:
    """`gateway.max` is no key, and `models.entries.a` is not `models.entries.ab`."""
    loaded = load([Source("x", "models.entries.ab.memory_gb = 1")], {}, ())

    assert settings(loaded, "models.entries.a") == ()
    with pytest.raises(Usage):
        settings(loaded, "gateway.max")


def test_check_tells_what_would_change_and_changes_nothing(
    files: ConfigFiles, tmp_path: Path
) -> None:
    """What a reload would do, before the file is there."""
    path = tmp_path / FILE
    before = path.read_text()
    text = before.replace("= 7", "= 8\nlisten = []")
    ask = wire.CheckConfig(path=str(path), text=text, key="gateway.max_body_mb")
    checked = answer_now(ask, files, files.read())
    assert isinstance(checked, wire.ConfigChecked)

    assert checked.changed == (
        'gateway.listen: ["127.0.0.1:8080"] -> []',
        "gateway.max_body_mb: 7 -> 8",
    )
    assert checked.needs_restart == ("gateway.listen",)
    assert [one.value for one in checked.settings] == [8]
    assert path.read_text() == before


def test_word_is_converted(files: ConfigFiles) -> None:
    """The client knows no schema."""
    reply = answer_now(wire.ConvertSetting(key="gateway.listen", word="a"), files, files.read())

    assert reply == wire.Converted(path=("gateway", "listen"), text='["a"]')


def test_schema_is_json(files: ConfigFiles) -> None:
    """It goes into a file as it is."""
    reply = answer_now(wire.AskConfigSchema(), files, files.read())
    assert isinstance(reply, wire.ConfigSchema)

    assert json.loads(reply.text)["$schema"].endswith("2020-12/schema")


def _alone(files: ConfigFiles, request: Struct) -> tuple[str, dict[str, Any]]:
    kind, body = msgpack.decode(answer_alone(msgpack.encode(request), files))
    return kind, body


def test_modeld_without_a_daemon_answers_from_the_files(files: ConfigFiles) -> None:
    """`modelctl config get` works before the first start."""
    kind, body = _alone(files, wire.AskConfig(key="gateway.max_body_mb"))

    assert kind == "reply"
    assert body["settings"][0]["value"] == 7


def test_modeld_without_a_daemon_says_no_with_the_same_words(files: ConfigFiles) -> None:
    """The exit status is the same, whoever answers."""
    kind, body = _alone(files, wire.AskConfig(key="gateway.max"))

    assert (kind, body["code"]) == ("failure", "usage")


def test_invalid_files_can_be_found_checked_and_mended(files: ConfigFiles, tmp_path: Path) -> None:
    """Whoever broke the file must be able to mend it with the same command."""
    path = tmp_path / FILE
    path.write_text("gateway.max_body_mb = 0\n")

    assert _alone(files, wire.AskConfig())[1]["code"] == "config"
    kind, body = _alone(files, wire.AskConfig(files_only=True))
    assert (kind, body["user_file"], body["settings"]) == ("reply", str(path), [])
    assert _alone(files, wire.CheckConfig())[1]["code"] == "config"
    text = "gateway.max_body_mb = 1\n"
    assert _alone(files, wire.CheckConfig(path=str(path), text=text))[0] == "reply"


def test_modeld_without_a_daemon_asks_for_no_restart(files: ConfigFiles, tmp_path: Path) -> None:
    """There is nothing to restart."""
    text = 'gateway.listen = ["127.0.0.1:1"]\n'
    kind, body = _alone(files, wire.CheckConfig(path=str(tmp_path / FILE), text=text))

    assert kind == "reply"
    assert any("gateway.listen" in line for line in body["changed"])
    assert not body.get("needs_restart")
