"""What each command line asks of the daemon, to the last field."""

import shlex

import pytest
from msgspec import Struct

from modeld.wire.common import Names, Selector
from modeld.wire.daemon import (
    AskLogs,
    AskVersion,
    Logs,
    Reload,
    Reloaded,
    Subscribe,
    VersionReport,
)
from modeld.wire.load import (
    CanLoad,
    Done,
    Load,
    Loaded,
    Planned,
    Unload,
    Unloaded,
    Verdict,
    Wait,
)
from modeld.wire.models import (
    AskStatus,
    ListModels,
    ModelRow,
    Models,
    Ps,
    Servers,
    Show,
    Shown,
    StatusReport,
)
from modeld.wire.names import AllNames, ChangeNames, ListNames, Named, Pin
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

M = Selector(pattern="m")
NAMED = Named(model="m", changes=())
STATUS = StatusReport(
    total_ram_gb=16,
    used_ram_gb=0,
    available_ram_gb=16,
    loaded_models_count=0,
    local_models_count=0,
    loaded_models=(),
    version="0",
    pid=1,
    up_seconds=1,
    launcher="direct",
    binary="",
    binary_version="",
    gateway=(),
    models_on_disk=0,
    scanning=False,
    disk_bytes={},
    exists=True,
    loaded=True,
)
REPLIES: dict[type[Struct], Struct] = {
    Load: Loaded(model="m", server_id="s", address="", seconds=1, message="m is ready"),
    Unload: Unloaded(models=("m",)),
    CanLoad: Verdict(can_load=True, reason="Model can be loaded"),
    Wait: Done(),
    Ps: Servers(servers=()),
    ListModels: Models(models=()),
    Show: Shown(model=ModelRow(name="m", id="m"), locations=(), header={}),
    AskStatus: STATUS,
    ChangeNames: NAMED,
    ListNames: AllNames(nicknames={}, slots={}),
    Pin: NAMED,
    Reload: Reloaded(changed=()),
    Subscribe: Done(),
    AskLogs: Logs(lines=(), source=""),
    AskVersion: VersionReport(version="0", protocol=1, python="", engine="", engine_version=""),
}

LOADS = {
    "load m": Load(selector=M),
    "load -m m": Load(selector=M),
    "load -n foo": Load(selector=Selector(nickname="foo")),
    "load -n 1": Load(selector=Selector(nickname="1")),
    "load -n1 tool": Load(selector=Selector(slot="tool")),
    "load m --rank1": Load(selector=Selector(pattern="m", best=True)),
    "load m --no-multi-match": Load(selector=Selector(pattern="m", only=True)),
    "load m -p 8081": Load(selector=M, port=8081),
    "load m --nokill": Load(selector=M, keep_others=True),
    "load m --force": Load(selector=M, force=True),
    "load m --force-pinned": Load(selector=M, force_pinned=True),
    "load m --pin": Load(selector=M, pin=True),
    "load m --keep-alive 10m": Load(selector=M, keep_alive_seconds=600),
    "load m --keep-alive 0": Load(selector=M, keep_alive_seconds=0),
    "load m --keep-alive=-1": Load(selector=M, keep_alive_seconds=-1),
    "load m --keep-alive -1": Load(selector=M, keep_alive_seconds=-1),
    "load m --store -- -c 4096": Load(selector=M, store=True, arguments=("-c", "4096")),
    "load m --": Load(selector=M, arguments=()),
    "load --nickname foo -m m": Load(selector=M, names=Names(set_nickname="foo")),
    "load m --na a --nickadd b": Load(selector=M, names=Names(add_nicknames=("a", "b"))),
    "load m --nickdel a": Load(selector=M, names=Names(delete_nicknames=("a",))),
    "load m --nick1 tool": Load(selector=M, names=Names(set_slot="tool")),
    "load m --nickname foo --move": Load(selector=M, names=Names(set_nickname="foo", move=True)),
}
OTHERS = {
    "unload a b": Unload(selectors=(Selector(pattern="a"), Selector(pattern="b"))),
    "unload -n1 tool --now": Unload(selectors=(Selector(slot="tool"),), now=True),
    "unload -n foo": Unload(selectors=(Selector(nickname="foo"),)),
    "unload --all --force-pinned": Unload(everything=True, force_pinned=True),
    "unload --idle": Unload(idle=True),
    "can-load m": CanLoad(selector=M),
    "wait m": Wait(selector=M),
    "wait m --for gone": Wait(selector=M, until="gone"),
    "ps": Ps(),
    "list": ListModels(),
    "ls a 'b*' --refresh": ListModels(patterns=("a", "b*"), refresh=True),
    "show -n1 tool": Show(selector=Selector(slot="tool")),
    "status": AskStatus(),
    "status m": AskStatus(selector=M),
    "nick set m foo --move": ChangeNames(selector=M, change=Names(set_nickname="foo", move=True)),
    "nick add m a b": ChangeNames(selector=M, change=Names(add_nicknames=("a", "b"))),
    "nick rm a b": ChangeNames(change=Names(delete_nicknames=("a", "b"))),
    "nick rm a -m m": ChangeNames(selector=M, change=Names(delete_nicknames=("a",))),
    "nick list": ListNames(),
    "slot set tool m": ChangeNames(selector=M, change=Names(set_slot="tool")),
    "slot clear tool": ChangeNames(change=Names(clear_slot="tool")),
    "slot ls": ListNames(),
    "pin m": Pin(selector=M, pinned=True),
    "keep m": Pin(selector=M, pinned=True),
    "unpin m": Pin(selector=M, pinned=False),
    "reload": Reload(),
    "events": Subscribe(),
    "events -n 5 --no-follow": Subscribe(backlog=5, follow=False),
    "logs": AskLogs(),
    "logs m -n 7": AskLogs(selector=M, lines=7),
    "version": AskVersion(),
}


@pytest.mark.parametrize(("line", "request_"), [*LOADS.items(), *OTHERS.items()])
def test_command_asks_exactly_for_what_it_says(
    line: str, request_: Struct, daemon: FakeDaemon, modelctl: Call
) -> None:
    """A flag that is parsed and then forgotten does nothing, silently."""
    daemon.on(type(request_), REPLIES[type(request_)])
    result = modelctl(*shlex.split(line))

    assert (result.status, daemon.requests) == (0, [request_]), result.err


def test_load_without_loading_asks_for_names_only(daemon: FakeDaemon, modelctl: Call) -> None:
    """S0-02: with `--no-load` nothing is started, stopped or signalled."""
    daemon.on(Load, NAMED)
    modelctl("load", "m", "--nickname", "foo", "--no-load")

    assert daemon.requests == [Load(selector=M, names=Names(set_nickname="foo"), names_only=True)]


def test_load_dry_run_asks_for_a_plan(daemon: FakeDaemon, modelctl: Call) -> None:
    """The reply is another one, and must be understood."""
    daemon.on(Load, Planned(model="m", steps=(), reason="1.0 GB <= 2.0 GB"))
    result = modelctl("load", "m", "--dry-run")

    assert result.status == 0
    assert daemon.requests == [Load(selector=M, dry_run=True)]


@pytest.mark.parametrize(
    "line",
    [
        "load",
        "load a -m b",
        "load -n a -n1 b",
        "load m --no-load",
        "load m --store",
        "unload",
        "unload a --all",
        "unload a --idle",
        "unload --all --idle",
        "warm",
        "load m --keep-alive soon",
        "load m --no-load --nickname foo --keep-alive 1m",
        "show",
        "can-load",
        "pin",
        "wait --for gone",
    ],
)
def test_command_that_does_not_say_what_is_refused_without_asking(
    line: str, daemon: FakeDaemon, modelctl: Call
) -> None:
    """Guessing what was meant is for people."""
    result = modelctl(*line.split())

    assert result.status == 2
    assert result.err.startswith("error: ")
    assert daemon.requests == []


@pytest.mark.parametrize("line", ["unload --all --idle", "unload m --all", "unload m --idle"])
def test_unload_says_which_words_contradict_each_other(
    line: str, daemon: FakeDaemon, modelctl: Call
) -> None:
    """To be asked "which models?" after naming them twice helps nobody."""
    result = modelctl(*line.split())

    assert result.status == 2
    assert "MODEL, --all and --idle contradict each other" in result.err
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("load m", 600), ("wait m", 600), ("ps", 30), ("ps --timeout 5", 5), ("events", 0)],
)
def test_command_waits_as_long_as_its_kind_of_work_takes(
    line: str, seconds: int, daemon: FakeDaemon, modelctl: Call
) -> None:
    """Minutes for a load from a slow disk; a glance must not hang for that long."""
    for request, reply in REPLIES.items():
        daemon.on(request, reply)
    modelctl(*line.split())

    assert daemon.headers[0].deadline_ms == seconds * 1000


def test_timeout_may_come_from_the_environment(daemon: FakeDaemon, modelctl: Call) -> None:
    """A machine with slow disks sets it once."""
    daemon.on(Ps, REPLIES[Ps])
    modelctl("ps", MODELCTL_TIMEOUT="2m")

    assert daemon.headers[0].deadline_ms == 120_000


def test_bad_timeout_in_the_environment_is_named(daemon: FakeDaemon, modelctl: Call) -> None:
    """A variable that is silently ignored is found after hours."""
    result = modelctl("ps", MODELCTL_TIMEOUT="soon")

    assert result.status == 2
    assert "MODELCTL_TIMEOUT" in result.err


def test_socket_option_wins_over_the_environment(
    daemon: FakeDaemon, modelctl: Call, socket_path: str
) -> None:
    """A flag is nearer than a variable."""
    daemon.on(Ps, REPLIES[Ps])

    assert modelctl("ps", "--socket", socket_path, MODELD_SOCKET="/nowhere").status == 0
