"""`modelctl doctor` against a daemon that says what it is told to, a machine made up, and none."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from modeld.wire.codec import Failure
from modeld.wire.configuration import AskConfig, CheckConfig, ConfigChecked, ConfigReport, Setting
from modeld.wire.daemon import Happened, Subscribe
from modeld.wire.load import Done
from modeld.wire.models import (
    AskStatus,
    FailedRow,
    GpuRow,
    ListModels,
    ModelRow,
    Models,
    Ps,
    Servers,
)
from tests.ctl.commands.test_requests import STATUS
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

RUNNING = replace(STATUS, binary="/usr/bin/llama-server", binary_version="b1")
GOOD = ModelRow(name="good", id="good", tiers=("ssd",), size_bytes=5 << 30)


class Rig:
    """A home, a daemon that is well, and programs that systemd's are replaced by."""

    def __init__(self, home: Path, daemon: FakeDaemon, modelctl: Call) -> None:
        self.home, self.daemon, self._modelctl = home, daemon, modelctl
        self.ssd = home / "my models"
        self.ssd.mkdir()
        (home / "bin").mkdir()
        self.settings: dict[str, object] = {
            "storage.ssd_path": "~/my models",
            "cache.ssd_min_free_gb": 0.0,
            "gateway.listen": (),
        }
        daemon.on(AskStatus, RUNNING).on(CheckConfig, ConfigChecked(changed=(), needs_restart=()))
        daemon.on_call(AskConfig, lambda *_: [self._report()])
        daemon.on(ListModels, Models(models=(GOOD,))).on(Ps, Servers(servers=()))
        daemon.on(Subscribe, Done())

    def _report(self) -> ConfigReport:
        settings = tuple(
            Setting(key=key, value=value, text="", origin="m.toml:1")  # type: ignore[arg-type]
            for key, value in self.settings.items()
        )
        return ConfigReport(settings=settings, files=(), user_file="")

    def program(self, name: str, says: str) -> None:
        """Put a program in the way that prints this."""
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
        path.chmod(0o755)

    def doctor(self) -> tuple[int, dict[str, list[tuple[str, str, str]]]]:
        """Return the exit status, and what was found by check: state, text and cure."""
        paths = f"{self.home / 'bin'}:/usr/bin:/bin"
        result = self._modelctl("--json", "doctor", HOME=str(self.home), PATH=paths)
        answer = json.loads(result.out)
        found: dict[str, list[tuple[str, str, str]]] = {}
        for each in answer["findings"]:
            row = each["state"], each["found"], each["cure"]
            found.setdefault(each["check"], []).append(row)
        states = [row[0] for rows in found.values() for row in rows]
        assert answer["failures"] == states.count("failure")
        assert answer["warnings"] == states.count("warning")
        return result.status, found


@pytest.fixture
def rig(tmp_path: Path, daemon: FakeDaemon, modelctl: Call) -> Rig:
    """Return a machine on which all is well."""
    made = Rig(tmp_path, daemon, modelctl)
    made.program(
        "systemctl",
        "Id=modeld.service\nLoadState=loaded\nUnitFileState=enabled\n\n"
        "Id=modeld.socket\nLoadState=loaded\nUnitFileState=enabled",
    )
    made.program("loginctl", "Linger=yes")
    return made


def test_doctor_finds_nothing_where_all_is_well(rig: Rig) -> None:
    """A doctor who always finds something is asked no more."""
    status, found = rig.doctor()

    assert status == 0
    assert {row[0] for check, rows in found.items() if check != "gpus" for row in rows} == {"ok"}
    assert not any(row[2] for check, rows in found.items() if check != "gpus" for row in rows)
    assert found["engine"] == [("ok", "/usr/bin/llama-server, b1", "")]
    assert found["models"] == [("ok", "1 model, 5.0 GB", "")]
    assert {"daemon", "service", "linger", "configuration", "folders", "space", "memory"} < {*found}


def test_doctor_works_without_a_daemon(tmp_path: Path, modelctl: Call) -> None:
    """That is when it is needed most."""
    result = modelctl("doctor", HOME=str(tmp_path), PATH=str(tmp_path))

    assert result.status == 1
    first = result.out.splitlines()[0].split("\t")
    assert first[:2] == ["failure", "daemon"]
    assert first[3] == "systemctl --user start modeld"
    assert "ok\tconfiguration\t" in result.out
    (folders,) = [each for each in result.out.splitlines() if "\tfolders\t" in each]
    assert folders.endswith(", and no folder is configured\tmodelctl init")


def test_doctor_tells_a_configuration_with_mistakes_without_a_daemon(
    tmp_path: Path, modelctl: Call
) -> None:
    """Modeld does not start for it, so nobody else tells."""
    file = tmp_path / "modeld.toml"
    file.write_text("[gateway]\nlisten = 5\n")
    result = modelctl("doctor", HOME=str(tmp_path), MODELD_CONFIG=str(file))

    assert result.status == 1
    (line,) = [each for each in result.out.splitlines() if "\tconfiguration\t" in each]
    assert line.startswith("failure")
    assert "gateway.listen" in line


def test_doctor_sees_units_that_are_not_enabled_and_no_lingering(rig: Rig) -> None:
    """Both are noticed only after the next reboot, or the next logout."""
    rig.program(
        "systemctl",
        "Id=modeld.service\nLoadState=loaded\nUnitFileState=disabled\n\n"
        "Id=modeld.socket\nLoadState=loaded\nUnitFileState=disabled",
    )
    rig.program("loginctl", "Linger=no")
    status, found = rig.doctor()

    assert status == 0  # warnings alone
    cure = "systemctl --user enable modeld.socket modeld.service"
    assert (found["service"][0][0], found["service"][0][2]) == ("warning", cure)
    assert (found["linger"][0][0], found["linger"][0][2]) == ("warning", "loginctl enable-linger")


def test_doctor_sees_that_the_units_are_not_installed(rig: Rig) -> None:
    """Systemctl answers all the same."""
    rig.program("systemctl", "Id=modeld.service\nLoadState=not-found\nUnitFileState=")
    assert rig.doctor()[1]["service"][0][::2] == ("warning", "make install")


def test_doctor_quotes_paths_in_what_is_to_be_typed(rig: Rig) -> None:
    """What is pasted must not do something else."""
    rig.ssd.rmdir()
    assert rig.doctor()[1]["folders"] == [
        ("warning", f"{rig.ssd} is not there", f"mkdir -p '{rig.ssd}'")
    ]


def test_doctor_measures_the_space_on_the_ssd(rig: Rig) -> None:
    """Nothing is copied once it is short, and nobody says why."""
    rig.settings |= {"cache.ssd_min_free_gb": 1e9, "storage.hdd_paths": (str(rig.home),)}
    short, same = rig.doctor()[1]["space"]
    assert short[::2] == ("warning", "modelctl cache plan")
    assert "same disk" in same[1]


def test_doctor_sees_a_key_file_that_others_can_read(rig: Rig) -> None:
    """A key that others can read is none."""
    keys = rig.home / "keys"
    rig.settings["gateway.key_file"] = str(keys)
    assert rig.doctor()[1]["keys"][0][0] == "failure"
    keys.write_text("secret\n")
    keys.chmod(0o640)
    status, found = rig.doctor()
    assert (status, found["keys"]) == (
        1,
        [("failure", f"{keys} has the mode 0640", f"chmod 600 {keys}")],
    )
    keys.chmod(0o600)
    assert rig.doctor()[1]["keys"][0][0] == "ok"


def test_doctor_sees_a_damaged_state_file(rig: Rig) -> None:
    """And none, which is well before the first load."""
    folder = rig.home / ".local/state/modeld"
    folder.mkdir(parents=True)
    (folder / "stats.json").write_text("{}")
    assert rig.doctor()[1]["state"][0][0] == "ok"
    (folder / "stats.json").write_text("{")
    assert rig.doctor()[1]["state"][0][0] == "warning"
    rig.daemon.on(AskStatus, replace(RUNNING, saved="disk full since 12:00"))
    assert rig.doctor()[1]["state"][0][:2] == ("failure", "disk full since 12:00")


def test_doctor_names_models_that_can_not_be_used(rig: Rig) -> None:
    """They are listed, and no request reaches them."""
    bad = ModelRow(name="bad", id="bad", problem="truncated", tiers=("ssd",))
    rig.daemon.on(ListModels, Models(models=(bad,)))
    none, unusable = rig.doctor()[1]["models"]
    assert none[0] == "warning"
    assert unusable == ("warning", "1 can't be used: bad (truncated)", "modelctl show bad")


def test_doctor_tells_gpus_and_a_limit_beyond_the_machine(rig: Rig) -> None:
    """In numbers."""
    gpu = GpuRow(name="CUDA0", total_bytes=24 << 30, booked_bytes=0, in_use_bytes=1 << 30)
    rig.daemon.on(AskStatus, replace(RUNNING, gpus=(gpu,)))
    rig.settings["memory.limit_gb"] = 1e6
    _, found = rig.doctor()
    assert found["gpus"][0][:2] == (
        "ok",
        "CUDA0: 24.0 GB for models, 0 B taken; 1.0 GB in use by everybody",
    )
    assert found["memory"][0][::2] == ("warning", "modelctl config unset memory.limit_gb")


def test_doctor_tells_what_died_and_the_errors_of_the_last_day(rig: Rig) -> None:
    """Whoever comes in the morning asks what happened in the night."""
    failed = FailedRow(name="tool", id="tool", deaths=3, retry_in_s=0, cause="signal 9")
    rig.daemon.on(Ps, Servers(servers=(), failed=(failed,)))
    now = datetime.now(UTC).isoformat()
    rig.daemon.on(
        Subscribe,
        Happened(event="server-failed", message="old", at="2020-01-01T00:00:00Z", priority=3),
        Happened(event="server-failed", message="tool died", at=now, priority=3),
        Happened(event="loaded", message="fine", at=now, priority=6),
        Done(),
    )
    status, found = rig.doctor()
    assert (status, found["failures"]) == (
        1,
        [
            ("failure", "tool died, 3 times: signal 9", "modelctl logs tool"),
            (
                "warning",
                "1 error in the last day, the last: tool died",
                "modelctl events -n 1000 --no-follow",
            ),
        ],
    )


def test_doctor_tells_a_configuration_that_is_not_in_force(rig: Rig) -> None:
    """An edit without a reload is the commonest mistake of all."""
    changed = ConfigChecked(changed=("load.replace: true -> false",), needs_restart=())
    rig.daemon.on(CheckConfig, changed)
    assert rig.doctor()[1]["configuration"][1][::2] == ("warning", "modelctl reload")
    rig.daemon.on(CheckConfig, Failure(code="config", message="gateway.x: no such key"))
    status, found = rig.doctor()
    assert (status, found["configuration"][0][:2]) == (1, ("failure", "gateway.x: no such key"))


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Answer every request with this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (500, "failure")])
def test_doctor_asks_the_gateway_itself(rig: Rig, status: int, state: str) -> None:
    """That modeld believes it listens is not yet an answer."""
    with answering(status) as address:
        rig.daemon.on(AskStatus, replace(RUNNING, gateway=(address,)))
        assert rig.doctor()[1]["gateway"][0][0] == state
    assert "does not answer" in rig.doctor()[1]["gateway"][0][1]


def test_doctor_names_only_what_is_not_well_where_it_is_to_be_quiet(
    tmp_path: Path, modelctl: Call
) -> None:
    """For a script."""
    result = modelctl("-q", "doctor", HOME=str(tmp_path), PATH=str(tmp_path))
    assert result.out.splitlines()[:2] == ["daemon", "service"]
