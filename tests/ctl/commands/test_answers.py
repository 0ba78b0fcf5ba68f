"""What commands print, where, and how they end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.commands.daemon import unseen
from modeld.errors import STATUSES, ErrorCode
from modeld.wire.codec import Failure, Progress
from modeld.wire.daemon import (
    AskLogs,
    AskVersion,
    Happened,
    Logs,
    Reload,
    Reloaded,
    Subscribe,
    VersionReport,
)
from modeld.wire.load import Candidate, CanLoad, Done, Load, Loaded, Unload, Unloaded, Verdict
from modeld.wire.models import (
    AskStatus,
    FailedRow,
    ListModels,
    ModelRow,
    Models,
    Ps,
    ServerRow,
    Servers,
    Show,
    Shown,
)
from modeld.wire.names import AllNames, ChangeNames, ListNames, Named
from tests.ctl.commands.test_requests import STATUS
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

LOADED = Loaded(model="m", server_id="s", address="", seconds=1, message="m is ready in 1.0 s")
SERVERS = Servers(
    servers=(ServerRow(server_id="s", name="m", id="m", state="ready", memory_bytes=1 << 30),),
    failed=(FailedRow(name="f", id="f", deaths=1, retry_in_s=0, cause="signal 9"),),
)
VERSION = VersionReport(version="0.2", protocol=1, python="3.11", engine="/l", engine_version="b1")


def test_ps_json_has_raw_numbers(daemon: FakeDaemon, modelctl: Call) -> None:
    """Humane units are for people."""
    daemon.on(Ps, SERVERS)
    answer = json.loads(modelctl("ps", "--json").out)

    assert (answer["v"], answer["ok"]) == (1, True)
    assert answer["servers"][0]["memory_bytes"] == 1 << 30
    assert answer["failed"][0]["cause"] == "signal 9"
    assert "type" not in answer


@pytest.mark.parametrize(
    ("line", "request_", "reply", "keys"),
    [
        ("list", ListModels, Models(models=()), {"models", "warnings", "scanning", "has_hdd"}),
        ("can-load m", CanLoad, Verdict(can_load=True, reason="r"), {"can_load", "reason"}),
        ("unload m", Unload, Unloaded(models=("m",)), {"models", "freed_bytes", "kept"}),
        ("load m", Load, LOADED, {"model", "server_id", "address", "seconds", "already"}),
        ("nick set m a", ChangeNames, Named(model="m", changes=()), {"model", "changes"}),
        ("nick list", ListNames, AllNames(nicknames={"a": "m"}, slots={}), {"nicknames"}),
        ("slot list", ListNames, AllNames(nicknames={}, slots={"a": "m"}), {"slots"}),
        ("reload", Reload, Reloaded(changed=()), {"changed", "needs_restart", "kept"}),
        ("logs", AskLogs, Logs(lines=("a",), source="s"), {"lines", "source"}),
        ("version", AskVersion, VERSION, {"modelctl", "modeld"}),
        (
            "show m",
            Show,
            Shown(model=ModelRow(name="m", id="m"), locations=(), header={}),
            {"model", "locations", "header", "argv", "rank_terms", "need_bytes"},
        ),
    ],
)
def test_every_command_answers_in_json(
    line: str,
    request_: type,
    reply: object,
    keys: set[str],
    daemon: FakeDaemon,
    modelctl: Call,
) -> None:
    """One object, on one line, on stdout, and nothing else anywhere."""
    daemon.on(request_, reply)  # type: ignore[arg-type]
    result = modelctl("--json", *line.split())
    answer = json.loads(result.out)

    assert answer["ok"] is True
    assert keys <= set(answer)
    assert result.out.count("\n") == 1
    assert result.err == ""


def test_status_json_has_the_keys_of_airganizer(daemon: FakeDaemon, modelctl: Call) -> None:
    """S4-13."""
    daemon.on(AskStatus, STATUS)
    answer = json.loads(modelctl("status", "--json").out)

    assert {
        "total_ram_gb",
        "used_ram_gb",
        "available_ram_gb",
        "loaded_models_count",
        "local_models_count",
        "loaded_models",
    } <= set(answer)
    assert "exists" not in answer


def test_status_of_a_model_json_has_the_keys_of_ollm(daemon: FakeDaemon, modelctl: Call) -> None:
    """S1-09: exists, loaded, lastUsed."""
    daemon.on(AskStatus, STATUS)
    answer = json.loads(modelctl("status", "m", "--json").out)

    assert answer == {
        "v": 1,
        "ok": True,
        "model": "m",
        "exists": True,
        "loaded": True,
        "lastUsed": None,
    }


@pytest.mark.parametrize(
    ("exists", "loaded", "status"), [(True, True, 0), (True, False, 3), (False, False, 4)]
)
def test_status_of_a_model_ends_as_systemctl_would(
    exists: bool, loaded: bool, status: int, daemon: FakeDaemon, modelctl: Call
) -> None:
    """`modelctl status tool && ...`."""
    from msgspec.structs import replace

    daemon.on(AskStatus, replace(STATUS, exists=exists, loaded=loaded))

    assert modelctl("status", "-n1", "tool").status == status
    assert modelctl("status", "-n1", "tool", "-q").out == ""


@pytest.mark.parametrize(("can", "status"), [(True, 0), (False, 1)])
def test_can_load_ends_with_its_verdict(
    can: bool, status: int, daemon: FakeDaemon, modelctl: Call
) -> None:
    """S4-01: exit 0 or 1, and the reason."""
    daemon.on(CanLoad, Verdict(can_load=can, reason="Max concurrent models (2) reached"))
    result = modelctl("can-load", "m")

    assert (result.status, result.out) == (status, "Max concurrent models (2) reached\n")


@pytest.mark.parametrize("line", ["ps -q", "list -q", "load m -q", "unload m -q", "nick list -q"])
def test_quiet_prints_names_alone(line: str, daemon: FakeDaemon, modelctl: Call) -> None:
    """For `for model in $(modelctl ps -q)`."""
    daemon.on(Ps, SERVERS)
    daemon.on(ListModels, Models(models=(ModelRow(name="m", id="m", problem="bad"),)))
    daemon.on(Load, Progress(phase="start"), LOADED)
    daemon.on(Unload, Unloaded(models=("m",)))
    daemon.on(ListNames, AllNames(nicknames={"m": "x"}, slots={}))
    result = modelctl(*line.split())

    assert (result.out, result.err) == ("m\n", "")


def test_list_of_no_models_says_how_to_name_a_folder(daemon: FakeDaemon, modelctl: Call) -> None:
    """The first thing that a new user sees."""
    daemon.on(ListModels, Models(models=()))
    done = modelctl("list")

    assert "config set storage.ssd_path" in done.err
    assert modelctl("list", "nobody").err == ""


def test_load_puts_data_on_stdout_and_talk_on_stderr(daemon: FakeDaemon, modelctl: Call) -> None:
    """`modelctl load m > log` still shows what goes on."""
    candidates = (Candidate(model="m", rank=2), Candidate(model="n", rank=1))
    reply = Loaded(
        model="m",
        server_id="s",
        address="",
        seconds=1,
        message="m is ready in 1.0 s",
        candidates=candidates,
        warnings=("little memory",),
    )
    daemon.on(Load, Progress(phase="load", model="m", fraction=0.5), reply)
    result = modelctl("load", "m")

    assert result.out == "m is ready in 1.0 s\n"
    assert result.err.splitlines() == [
        "load: m 50 %",
        "2 models fit; the highest rank is taken:",
        "  →      2.0  m",
        "         1.0  n",
        "warning: little memory",
    ]


def test_load_progress_json_is_a_stream_that_ends_with_the_answer(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """One reader, one stream, and the last line says how it went."""
    daemon.on(Load, Progress(phase="start"), Progress(phase="load", fraction=0.5), LOADED)
    result = modelctl("load", "m", "--progress", "json")
    items = [json.loads(line) for line in result.out.splitlines()]

    assert [item["type"] for item in items] == ["progress", "progress", "loaded"]
    assert items[-1]["ok"] is True


def test_load_progress_json_ends_with_the_failure(daemon: FakeDaemon, modelctl: Call) -> None:
    """The reader must not wait for a line that never comes."""
    daemon.on(Load, Progress(phase="start"), Failure("server_failed", "it died", "logs"))
    result = modelctl("load", "m", "--progress", "json")
    last = json.loads(result.out.splitlines()[-1])

    assert (result.status, last["ok"], last["error"]["code"]) == (1, False, "server_failed")
    assert result.err == "error: it died\nhint: logs\n"


def test_load_progress_none_is_silent(daemon: FakeDaemon, modelctl: Call) -> None:
    """Cron mails whatever is said."""
    daemon.on(Load, Progress(phase="start"), LOADED)

    assert modelctl("load", "m", "--progress", "none").err == ""


def test_load_without_waiting_returns_once_the_load_has_begun(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """A queue is not a beginning: what is refused is refused there."""
    daemon.on(Load, Progress(phase="queue"), Progress(phase="start", model="m"))
    result = modelctl("load", "-n1", "tool", "--no-wait")

    assert (result.status, result.out) == (0, "m is being loaded; modelctl wait @tool\n")


def test_load_without_waiting_still_tells_a_refusal(daemon: FakeDaemon, modelctl: Call) -> None:
    """S0-27: the throttle's words are interface."""
    daemon.on(
        Load, Failure("throttled", "Too soon to reload. Wait 12s.", "", {"retry_after_s": 12})
    )
    result = modelctl("load", "m", "--no-wait")

    assert (result.status, result.err) == (75, "error: Too soon to reload. Wait 12s.\n")


@pytest.mark.parametrize("code", list(ErrorCode))
def test_failure_ends_with_its_exit_status(
    code: ErrorCode, daemon: FakeDaemon, modelctl: Call
) -> None:
    """The one table in modeld.errors holds for the shell too."""
    daemon.on(Ps, Failure(str(code), "no", ""))

    assert modelctl("ps").status == STATUSES[code].exit_status


def test_failure_in_json_is_on_stdout_and_its_words_on_stderr(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """A program reads one, the person who watches the other."""
    daemon.on(Ps, Failure("busy", "full", "later", {"retry_after_s": 3}))
    result = modelctl("ps", "--json")

    assert json.loads(result.out) == {
        "v": 1,
        "ok": False,
        "error": {
            "code": "busy",
            "exit": 75,
            "message": "full",
            "hint": "later",
            "retry_after_s": 3,
        },
    }
    assert result.err == "error: full\nhint: later\n"


def test_failed_models_are_told_on_stderr_in_a_pipe(daemon: FakeDaemon, modelctl: Call) -> None:
    """The table has no column for the cause."""
    daemon.on(Ps, SERVERS)

    assert modelctl("ps").err == ("warning: f died once, not tried again until asked: signal 9\n")


def test_events_are_one_line_each_until_the_daemon_ends_them(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """JSON Lines for programs, tab-separated for pipes."""
    events = [Happened(event="ready", message=f"m{n}", at="2026-11-21T02:25:04Z") for n in "12"]
    daemon.on(Subscribe, *events, Done())
    text = modelctl("events", "--no-follow")
    items = [
        json.loads(one) for one in modelctl("events", "--json", "--no-follow").out.splitlines()
    ]

    assert text.out.splitlines()[1] == "2026-11-21T02:25:04Z\t6\tready\tm2"
    assert [(item["type"], item["message"]) for item in items] == [("event", "m1"), ("event", "m2")]


def test_logs_print_as_many_lines_as_were_asked_for(daemon: FakeDaemon, modelctl: Call) -> None:
    """Oldest first, as a file would have them; the source only for those who ask."""
    daemon.on(AskLogs, Logs(lines=("a", "b", "c"), source="journalctl --user"))

    assert modelctl("logs", "-n", "2").out == "b\nc\n"
    assert modelctl("logs", "-v").err == "more: journalctl --user\n"


def test_logs_follow_prints_each_line_once(
    daemon: FakeDaemon, modelctl: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again and again, and must not repeat what it has shown."""
    monkeypatch.setattr("modelctl.commands.daemon.LOOK_AGAIN_S", 0.001)
    looks = iter([("a", "b"), ("a", "b"), ("a", "b", "c"), ("b", "c", "d", "e")])
    daemon.on_call(AskLogs, lambda *_: [_next_look(looks)])
    result = modelctl("logs", "-f")

    assert (result.status, result.out) == (75, "a\nb\nc\nd\ne\n")


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(3, 12))
def test_unseen_finds_every_line_that_was_written_meanwhile(growth: list[int], window: int) -> None:
    """Whatever the pace, as long as it is slower than the window that is looked through."""
    log: list[str] = []
    printed: list[str] = []
    seen: tuple[str, ...] = ()
    for count in growth:
        log += [str(len(log) + n) for n in range(min(count, window - 1))]
        now = tuple(log[-window:])
        printed += unseen(seen, now)
        seen = now

    assert printed == log


def test_unseen_takes_a_log_that_began_anew_for_new() -> None:
    """A model that is loaded again has another server, and another log."""
    assert unseen(("a", "b"), ("x", "y")) == ("x", "y")


def test_logs_follow_begins_with_as_many_lines_as_were_asked_for(
    daemon: FakeDaemon, modelctl: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-n 0 -f` shows only what is new."""
    monkeypatch.setattr("modelctl.commands.daemon.LOOK_AGAIN_S", 0.001)
    looks = iter([("a", "b"), ("a", "b", "c")])
    daemon.on_call(AskLogs, lambda *_: [_next_look(looks)])

    assert modelctl("logs", "-f", "-n", "0").out == "c\n"


def _next_look(looks: "object") -> "Logs | Failure":
    lines = next(looks, None)  # type: ignore[call-overload]
    return Failure("busy", "enough") if lines is None else Logs(lines=lines, source="")


def test_wait_tells_that_it_is_so(daemon: FakeDaemon, modelctl: Call) -> None:
    """The daemon's sentence, or nothing."""
    from modeld.wire.load import Wait

    daemon.on(Wait, Done(message="m is ready"))

    assert modelctl("wait", "m").out == "m is ready\n"


def test_wait_without_a_model_tells_that_modeld_answers(daemon: FakeDaemon, modelctl: Call) -> None:
    """After `systemctl --user start modeld` in a script."""
    daemon.on(AskVersion, VERSION)

    assert modelctl("wait").out == "modeld 0.2 answers\n"


def test_wait_without_a_model_runs_out_of_time(modelctl: Call) -> None:
    """124, as timeout(1)."""
    result = modelctl("wait", "--timeout", "0.1")

    assert result.status == 124
    assert "modeld is not running" in result.err


def test_version_works_without_a_daemon(modelctl: Call) -> None:
    """It is what one is asked for when nothing works."""
    result = modelctl("version")

    assert (result.status, result.out.splitlines()[1]) == (0, "modeld is not running")
    assert json.loads(modelctl("version", "--json").out)["modeld"] is None


def test_version_tells_of_a_daemon_of_another_protocol(socket_path: str, modelctl: Call) -> None:
    """The upgrade was half done; the cure is in the hint."""
    with FakeDaemon(socket_path, version=2, program="modeld 9.0") as daemon:
        daemon.on(AskVersion, VERSION)
        result = modelctl("version")

    assert result.status == 76
    assert "modeld 9.0 speaks protocol 2" in result.err
    assert "systemctl --user restart modeld" in result.err


def test_reload_warns_of_what_only_a_restart_applies(daemon: FakeDaemon, modelctl: Call) -> None:
    """Otherwise an edit seems to have been taken that was not."""
    daemon.on(Reload, Reloaded(changed=("a: 1 -> 2",), needs_restart=("gateway.listen",)))
    result = modelctl("reload")

    assert result.out == "a: 1 -> 2\n"
    assert result.err.startswith("warning: gateway.listen: only a restart applies it")


def test_reload_warns_of_what_has_no_effect(daemon: FakeDaemon, modelctl: Call) -> None:
    """A name that stays another's looks like a bug of modeld where nobody says so."""
    daemon.on(Reload, Reloaded(changed=("a: 1 -> 2",), warnings=("variant 'x' has no effect",)))

    assert modelctl("reload").err == "warning: variant 'x' has no effect\n"
