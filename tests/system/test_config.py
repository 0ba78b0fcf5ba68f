"""`modelctl config` with a real modeld, and where none runs."""

import json

from tests.support.daemon import a_daemon


def test_settings_are_read_changed_and_in_force() -> None:
    """The whole way: convert, check, write, reload, report."""
    with a_daemon() as daemon:
        daemon.modelctl("config", "set", "gateway.max_body_mb", "7")
        shown = daemon.json("config", "show", "gateway.max_body_mb")["settings"][0]
        assert (shown["value"], shown["origin"].rpartition(":")[0]) == (7, str(daemon.config))

        before = daemon.config.read_text()
        refused = daemon.modelctl("config", "set", "gateway.listen", "0.0.0.0:1", status=78)
        assert "gateway.key_file" in refused.stderr
        assert daemon.config.read_text() == before

        restarted = daemon.modelctl("config", "set", "log.level", "debug")
        assert "only a restart applies it" in restarted.stderr
        daemon.modelctl("config", "unset", "gateway.max_body_mb")
        assert daemon.modelctl("config", "get", "gateway.max_body_mb").stdout == "32\n"


def test_drop_in_and_variable_win_and_are_named() -> None:
    """Where the change has no effect, the reader learns why."""
    with a_daemon(start=False) as daemon:
        parts = daemon.config.parent / "modeld.d"
        parts.mkdir()
        (parts / "a.toml").write_text("load.replace = false\n")
        daemon.start(MODELD_GATEWAY__MAX_WAITING="9", OLLM_TEMPERATURE="0.5", OLLM_HOST="x")

        dropped = daemon.modelctl("config", "set", "load.replace", "true")
        assert f"{parts / 'a.toml'}:1 too, which wins" in dropped.stderr
        overruled = daemon.modelctl("config", "set", "gateway.max_waiting", "5")
        assert "$MODELD_GATEWAY__MAX_WAITING too, which wins" in overruled.stderr
        report = daemon.json("config", "show")
        found = {one["key"]: one for one in report["settings"]}
        assert found["gateway.max_waiting"]["value"] == 9
        assert found["routing.options.fast.temperature"]["origin"] == "$OLLM_TEMPERATURE"
        assert report["notes"][0].startswith("$OLLM_HOST is not used")
        assert "$OLLM_HOST is not used" in daemon.modelctl("logs").stdout


def test_file_is_read_changed_and_mended_without_a_daemon() -> None:
    """Before the first start, and after an edit that keeps modeld from starting."""
    with a_daemon(start=False) as daemon:
        daemon.config.write_text("gateway.max_body_mb = 0  # oops\n")
        told = daemon.modelctl("config", "show", status=78).stderr
        assert f"{daemon.config}:1: gateway.max_body_mb = 0" in told
        assert daemon.modelctl("config", "check", status=78).stderr.startswith("error: ")

        mended = daemon.modelctl("config", "set", "gateway.max_body_mb", "64")
        assert "modeld is not running" in mended.stderr
        assert daemon.config.read_text() == "gateway.max_body_mb = 64  # oops\n"
        assert daemon.modelctl("config", "get", "gateway.max_body_mb").stdout == "64\n"
        assert daemon.json("config", "show", "gateway")["daemon"] is False
        assert daemon.modelctl("config", "path").stdout == f"{daemon.config}\n"
        assert json.loads(daemon.modelctl("config", "schema").stdout)["title"] == "modeld.toml"
        assert daemon.modelctl("config", "get", "gateway.lisen", status=2).stdout == ""
        assert daemon.modelctl("config", "get", "a\nb", status=2).stdout == ""
        daemon.modelctl("config", "set", "models.default", "a\x7fb")
        assert daemon.modelctl("config", "get", "models.default").stdout == "a\x7fb\n"
