"""`modeld.client`: what a program gets for each answer of modeld, and for none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from modelctl.errors import Refusal
from modeld.client import LoadedModel, ModelManager
from modeld.errors import Unavailable
from modeld.wire.codec import Failure
from modeld.wire.common import Selector
from modeld.wire.load import CanLoad, Load, Loaded, Unload, Unloaded, Verdict
from modeld.wire.models import AskStatus, Ps, ServerRow, Servers, StatusReport
from modeld.wire.models import LoadedModel as Row
from tests.ctl.conftest import daemon, socket_path  # noqa: F401 (fixtures)
from tests.support.fake_daemon import GO_AWAY, FakeDaemon

TOO_LARGE = Failure(
    code="does_not_fit", message="Insufficient RAM: need 12.0GB, have 4.5GB available"
)
STATUS = StatusReport(
    total_ram_gb=16.0,
    used_ram_gb=11.5,
    available_ram_gb=4.5,
    loaded_models_count=2,
    local_models_count=2,
    loaded_models=(
        Row(name="llama3.2", ram_gb=4.5, provider="llama.cpp", idle_seconds=12.4),
        Row(name="codellama", ram_gb=7.0, provider="llama.cpp", idle_seconds=3.0),
    ),
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
)


@pytest.fixture
def lines() -> list[str]:
    """What the manager says."""
    return []


@pytest.fixture
def manager(daemon: FakeDaemon, lines: list[str]) -> Iterator[ModelManager]:  # noqa: F811
    """A manager of the fake daemon."""
    managed = ModelManager(daemon.path, say=lines.append)
    yield managed
    managed.close()


def test_can_load_passes_on_the_reason(manager: ModelManager, daemon: FakeDaemon) -> None:  # noqa: F811
    """S4-01: the words are the daemon's."""
    daemon.on(CanLoad, Verdict(can_load=False, reason="Max concurrent models (2) reached"))

    assert manager.can_load_model("x") == (False, "Max concurrent models (2) reached")
    assert daemon.requests == [CanLoad(selector=Selector(pattern="x", exact=True))]


def test_load_keeps_the_others_and_is_not_throttled(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
    lines: list[str],
) -> None:
    """S4-04: a program adds a model; only a person replaces one."""
    done = Loaded(
        model="x", server_id="s", address="", seconds=1.25, message="", memory_bytes=3 << 30
    )
    daemon.on(Load, done)

    assert manager.load_model("x", force=True)
    selector = Selector(pattern="x", exact=True)
    assert daemon.requests == [
        Load(selector=selector, keep_others=True, force=True, by_program=True)
    ]
    assert lines == ["Loaded x in 1.2 s (3.0GB RAM)"]


def test_load_that_is_refused_is_false_with_a_reason(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
    lines: list[str],
) -> None:
    """S4-04: blocked is an answer, not an accident."""
    daemon.on(Load, TOO_LARGE)

    assert not manager.load_model("big")
    assert manager.reason == TOO_LARGE.message
    assert lines == [f"Cannot load big: {TOO_LARGE.message}"]


def test_name_that_can_be_none_is_a_reason_and_no_exception(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
) -> None:
    """S4-04: what a user left empty is a model that is not there."""
    refusal = Failure(code="usage", message="no model is named")
    daemon.on(Load, refusal).on(CanLoad, refusal).on(Unload, refusal)

    assert manager.can_load_model("") == (False, "no model is named")
    assert not manager.load_model("")
    assert not manager.unload_model("")
    assert manager.reason == "no model is named"


@pytest.mark.parametrize("code", ["internal", "protocol", "a code of tomorrow"])
def test_what_says_nothing_about_the_model_is_an_exception(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
    code: str,
) -> None:
    """False would be believed."""
    daemon.on(Load, Failure(code=code, message="no"))

    with pytest.raises(Refusal):
        manager.load_model("x")


def test_no_daemon_is_an_exception() -> None:
    """A program must not take "nobody is there" for "it does not fit"."""
    manager = ModelManager("/tmp/no-such-folder/s")

    with pytest.raises(Unavailable):
        manager.load_model("x")
    with pytest.raises(Unavailable):
        manager.get_status()


def test_daemon_that_comes_back_is_asked_again(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
) -> None:
    """`systemctl restart modeld` must not break a program that runs for days."""
    answers = iter([GO_AWAY, STATUS, STATUS])
    daemon.on_call(AskStatus, lambda request, header: [next(answers)])

    assert manager.get_available_ram() == 4.5
    assert manager.get_available_ram() == 4.5


def test_unload_of_what_is_not_loaded_is_true(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
    lines: list[str],
) -> None:
    """S4-08: idempotent, for a name that means nothing too."""
    daemon.on(Unload, Unloaded(models=()))
    assert manager.unload_model("x")
    daemon.on(Unload, Failure(code="model_not_found", message="Model 'x' not found."))

    assert manager.unload_model("x")
    assert lines == []


def test_unload_of_a_pinned_model_is_false(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
) -> None:
    """A pin is a promise to somebody else."""
    daemon.on(Unload, Failure(code="pinned", message="x is pinned"))

    assert not manager.unload_model("x")
    assert manager.reason == "x is pinned"


def test_unload_idle_names_what_went(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
    lines: list[str],
) -> None:
    """S4-09."""
    daemon.on(Unload, Unloaded(models=("a", "b"), freed_bytes=3 << 30))

    assert manager.unload_idle_models() == ["a", "b"]
    assert daemon.requests == [Unload(idle=True)]
    assert lines == ["Unloaded a, b (freed 3.0GB)"]


def test_loaded_models_have_the_fields_of_the_original(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
) -> None:
    """S4-12."""
    ready = ServerRow(
        server_id="s",
        name="a",
        id="a",
        state="ready",
        up_seconds=60.0,
        idle_seconds=20.0,
        memory_bytes=2 << 30,
    )
    starting = ServerRow(server_id="t", name="b", id="b", state="loading")
    daemon.on(Ps, Servers(servers=(ready, starting)))
    (loaded,) = manager.get_loaded_models()

    assert LoadedModel._fields == ("name", "loaded_at", "ram_used_gb", "provider", "last_used")
    assert (loaded.name, loaded.ram_used_gb, loaded.provider) == ("a", 2.0, "llama.cpp")
    assert loaded.last_used - loaded.loaded_at == timedelta(seconds=40)
    assert abs(datetime.now(UTC) - loaded.last_used - timedelta(seconds=20)) < timedelta(seconds=5)


def test_status_has_the_keys_of_the_original(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
) -> None:
    """S4-13: these and no other."""
    daemon.on(AskStatus, STATUS)

    assert manager.get_status() == {
        "total_ram_gb": 16.0,
        "used_ram_gb": 11.5,
        "available_ram_gb": 4.5,
        "loaded_models_count": 2,
        "local_models_count": 2,
        "loaded_models": [
            {"name": "llama3.2", "ram_gb": 4.5, "provider": "llama.cpp", "idle_seconds": 12.4},
            {"name": "codellama", "ram_gb": 7.0, "provider": "llama.cpp", "idle_seconds": 3.0},
        ],
    }


def test_printed_status_has_the_layout_of_the_original(
    manager: ModelManager,
    daemon: FakeDaemon,  # noqa: F811
    lines: list[str],
) -> None:
    """S4-14, to the letter."""
    daemon.on(AskStatus, STATUS)
    manager.print_status()

    assert "\n".join(lines) == (
        "Model Manager Status:\n"
        "  RAM: 11.5/16.0GB used\n"
        "  Available: 4.5GB\n"
        "  Loaded: 2 models (2 local)\n"
        "\n"
        "  Currently loaded:\n"
        "    • llama3.2             |     4.5GB | idle:     12s\n"
        "    • codellama            |     7.0GB | idle:      3s"
    )
