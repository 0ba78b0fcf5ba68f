"""Text of `list`, `ps`, `status` and `show`, on a terminal and in a pipe."""

import msgspec
import pytest

from modelctl.render.models import (
    header_text,
    list_text,
    list_warnings,
    one_status_text,
    ps_text,
    show_text,
    status_text,
    tier_mark,
)
from modelctl.render.screen import Screen
from modeld.wire.models import (
    FailedRow,
    GpuRow,
    LoadedModel,
    ModelRow,
    Models,
    ServerRow,
    Servers,
    Shown,
    StatusReport,
)

NOW = 1_795_262_400.0  # 2026-11-21T12:00:00Z
GIB = 1 << 30
TERMINAL = Screen(width=120, terminal=True)
PIPE = Screen()
TODAY, LONG_AGO = "2026-11-21T11:50:00Z", "2026-09-01T00:00:00Z"
QWEN = ModelRow(
    name="qwen3-8b-q4",
    id="chat/qwen3-8b-q4",
    nicknames=("tiny",),
    slots=("tool",),
    tiers=("ssd", "hdd1"),
    size_bytes=5 * GIB,
    quantisation="Q4_K_M",
    parameters=8_190_000_000,
    context_tokens=32768,
    rank=46,
    uses=412,
    last_used=TODAY,
    state="ready",
    path="/ssd/qwen3-8b-q4.gguf",
)
ALONE = ModelRow(name="alone", id="alone", tiers=("ssd",), size_bytes=GIB, last_used=LONG_AGO)
GONE = ModelRow(name="gone", id="gone", rank=-12.5, uses=3)
READY = ServerRow(
    server_id="s" * 16,
    name="qwen3-8b-q4",
    id="q",
    nicknames=("tiny",),
    slots=("tool",),
    state="ready",
    pid=88121,
    tier="ssd",
    context_tokens=8192,
    memory_bytes=int(5.6 * GIB),
    measured=True,
    idle_seconds=252,
    left_seconds=48,
)
LOADING = ServerRow(
    server_id="t" * 16,
    name="gemma3-27b",
    id="g",
    state="loading",
    fraction=0.43,
    memory_bytes=17 * GIB,
    port=8081,
    pinned=True,
)
FAILED = FailedRow(name="phi4", id="p", deaths=3, retry_in_s=38, cause="exited 1: no memory")


def status(**changes: object) -> StatusReport:
    """Return a report with the numbers of Airganizer's example."""
    fields: dict[str, object] = {
        "total_ram_gb": 16.0,
        "used_ram_gb": 11.5,
        "available_ram_gb": 4.5,
        "loaded_models_count": 2,
        "local_models_count": 2,
        "loaded_models": (
            LoadedModel(name="llama3.2", ram_gb=4.5, provider="local", idle_seconds=12.4),
            LoadedModel(name="codellama", ram_gb=7.0, provider="local", idle_seconds=212),
        ),
        "version": "0.1.0",
        "pid": 4121,
        "up_seconds": 273_600.0,
        "launcher": "systemd",
        "binary": "/usr/bin/llama-server",
        "binary_version": "b11669",
        "gateway": ("127.0.0.1:8080",),
        "models_on_disk": 14,
        "scanning": False,
        "disk_bytes": {"ssd": 212 * GIB, "hdd1": 1400 * GIB},
        **changes,
    }
    return StatusReport(**fields)  # type: ignore[arg-type]


def test_status_calls_the_embedded_engine_by_its_name() -> None:
    """Its command line is long, and nobody types it."""
    command = "/usr/bin/python3 -P /usr/lib/modeld/modeld/embedded.py"

    assert "  engine   the embedded one\n" in status_text(status(binary=command), PIPE)
    assert "  engine   /usr/bin/llama-server\n" in status_text(status(), PIPE)


def test_status_says_that_the_gateway_wants_a_key() -> None:
    """Whoever gets 401 looks here first."""
    locked = status_text(status(key_file="/home/u/keys"), PIPE)

    assert "  gateway  http://127.0.0.1:8080, with a key\n" in locked
    assert "with a key" not in status_text(status(), PIPE)


def test_list_shows_the_documented_columns_in_their_order() -> None:
    """Scripts that cut columns depend on it."""
    text = list_text(Models(models=(QWEN,)), TERMINAL, now=NOW, verbose=False)

    assert text.split("\n")[0].split("  ")[0] == "NAME"
    assert " ".join(text.split("\n")[0].split()) == (
        "NAME NICK TIER SIZE QUANT PARAMS CTX RANK USES LAST USED"
    )


def test_list_row_in_a_pipe() -> None:
    """The same fields, one tab between them."""
    text = list_text(Models(models=(QWEN,)), PIPE, now=NOW, verbose=False)

    assert text == (
        "qwen3-8b-q4\t@tool,tiny\tSSD+HDD1\t5.0 GB\tQ4_K_M\t8.19B\t32768\t46.0\t412\t10m ago\n"
    )


def test_list_keeps_the_order_of_the_daemon() -> None:
    """Lowest rank first, so that the best stand at the prompt."""
    text = list_text(Models(models=(GONE, ALONE, QWEN)), PIPE, now=NOW, verbose=False)

    assert [line.split("\t")[0] for line in text.splitlines()] == ["gone", "alone", "qwen3-8b-q4"]


def test_list_sums_up_below_the_table_on_a_terminal() -> None:
    """How much is on which disk is the next question."""
    text = list_text(Models(models=(QWEN, ALONE)), TERMINAL, now=NOW, verbose=False)

    assert text.splitlines()[-1] == "2 models, 6.0 GB (ssd 6.0 GB, hdd1 5.0 GB)"


def test_list_without_models_says_so_on_a_terminal_and_nothing_in_a_pipe() -> None:
    """An empty list is no error; a script counts lines."""
    assert list_text(Models(models=()), TERMINAL, now=NOW, verbose=False) == "no models found\n"
    assert list_text(Models(models=()), PIPE, now=NOW, verbose=False) == ""


def test_list_verbose_adds_columns_and_titles_in_a_pipe() -> None:
    """The path is what one copies next."""
    text = list_text(Models(models=(QWEN,)), PIPE, now=NOW, verbose=True)

    assert text.splitlines()[0].endswith("LAST USED\tSTATE\tFILE")
    assert text.splitlines()[1].endswith("ready\t/ssd/qwen3-8b-q4.gguf")


@pytest.mark.parametrize(
    ("tiers", "last_used", "mark"),
    [
        (("ssd", "hdd1"), TODAY, "SSD+HDD1"),
        (("ssd", "hdd1"), LONG_AGO, "ssd+HDD1"),
        (("ssd",), TODAY, "SSD***"),
        (("ssd",), "", "ssd***"),
        (("hdd2",), TODAY, "HDD2"),
        ((), TODAY, "st"),
    ],
)
def test_tier_marks_are_those_of_llama_pack(
    tiers: tuple[str, ...], last_used: str, mark: str
) -> None:
    """S0-C6: SSD hot, ssd cold, HDD permanent, st only remembered, *** on the SSD alone."""
    assert tier_mark(ModelRow(name="m", id="m", tiers=tiers, last_used=last_used), NOW) == mark


def test_list_warns_of_models_on_the_ssd_alone() -> None:
    """S0-14: they are never expired, so they can fill the SSD for good."""
    assert list_warnings(Models(models=(QWEN, ALONE))) == [
        "*** on the SSD only; these are never expired from it, even if space is low: alone"
    ]


def test_list_does_not_warn_of_the_ssd_where_there_is_no_other_disk() -> None:
    """Every model would be warned about, and no warning read again."""
    assert list_warnings(Models(models=(ALONE,), has_hdd=False)) == []


def test_list_warns_of_models_that_can_not_be_loaded() -> None:
    """A damaged file should be found before it is needed."""
    broken = ModelRow(name="b", id="b", tiers=("hdd1",), problem="truncated")

    assert list_warnings(Models(models=(broken,))) == ["b can't be loaded: truncated"]


def test_ps_shows_the_documented_columns() -> None:
    """NAME first, as everywhere."""
    text = ps_text(Servers(servers=(READY,)), TERMINAL, verbose=False)

    assert text.splitlines()[0].split() == (
        [
            "NAME",
            "NICK",
            "STATE",
            "PID",
            "CONTEXT",
            "MEMORY",
            "TIER",
            "PORT",
            "REQUESTS",
            "IDLE",
            "UNTIL",
        ]
    )
    assert "● ready" in text


def test_ps_row_in_a_pipe_has_the_bare_state() -> None:
    """`awk '$3 == "ready"'` must work while a model is pinned, or half loaded."""
    lines = ps_text(Servers(servers=(READY, LOADING)), PIPE, verbose=False).splitlines()

    assert lines[0].split("\t") == [
        "qwen3-8b-q4", "@tool,tiny", "ready", "88121", "8192", "5.6 GB", "ssd", "-", "0", "4m 12s",
        "in 48 s",
    ]  # fmt: skip
    assert lines[1].split("\t")[2] == "loading"


def test_ps_tells_percent_and_pin_on_a_terminal() -> None:
    """The two things one wants to know of a server that loads."""
    assert "◐ loading 43 %, pinned" in ps_text(Servers(servers=(LOADING,)), TERMINAL, verbose=False)


def test_ps_marks_memory_that_was_not_measured() -> None:
    """An estimate must not look like a measurement."""
    assert "~17.0 GB" in ps_text(Servers(servers=(LOADING,)), PIPE, verbose=False)


def test_ps_lists_failed_models_below_with_cause_and_retry() -> None:
    """A model that is gone without a word sends people to the logs."""
    text = ps_text(Servers(servers=(READY,), failed=(FAILED,)), TERMINAL, verbose=False)

    assert text.splitlines()[-1] == (
        "✖ failed  phi4  died 3 times, next try in 38 s: exited 1: no memory"
    )


def test_ps_gives_a_failed_model_as_many_fields_as_the_others_in_a_pipe() -> None:
    """A short row shifts every column of a script."""
    text = ps_text(Servers(servers=(READY,), failed=(FAILED,)), PIPE, verbose=False)
    lines = [line.split("\t") for line in text.splitlines()]

    assert len(lines[0]) == len(lines[1]) == 11
    assert lines[1][:3] == ["phi4", "-", "failed"]


def test_ps_without_servers_says_so_on_a_terminal_and_nothing_in_a_pipe() -> None:
    """Nothing loaded is a state, not an error."""
    assert ps_text(Servers(servers=()), TERMINAL, verbose=False) == "no model is loaded\n"
    assert ps_text(Servers(servers=()), PIPE, verbose=False) == ""


def test_status_has_the_layout_of_airganizer() -> None:
    """S4-14, to the letter."""
    text = status_text(status(), PIPE)

    assert text[text.index("Model Manager Status:") :] == (
        "Model Manager Status:\n"
        "  RAM: 11.5/16.0GB used\n"
        "  Available: 4.5GB\n"
        "  Loaded: 2 models (2 local)\n"
        "\n"
        "  Currently loaded:\n"
        "    • llama3.2             |     4.5GB | idle:     12s\n"
        "    • codellama            |     7.0GB | idle:    212s\n"
    )


def test_status_leaves_the_list_out_when_nothing_is_loaded() -> None:
    """A heading over nothing looks like a fault."""
    text = status_text(status(loaded_models=(), loaded_models_count=0, local_models_count=0), PIPE)

    assert text.endswith("  Loaded: 0 models (0 local)\n")


def test_status_tells_where_modeld_is_and_what_it_runs() -> None:
    """One screen that answers what is going on."""
    text = status_text(status(), TERMINAL)

    assert text.startswith("● modeld 0.1.0  pid 4121  up 3d 4h\n")
    assert "http://127.0.0.1:8080" in text
    assert "/usr/bin/llama-server" in text
    assert "14 models (ssd 212 GB, hdd1 1.4 TB)" in text


def test_status_says_that_state_is_not_saved() -> None:
    """A full disk loses what people do from now on."""
    text = status_text(status(saved="since 12:00: no space left"), PIPE)

    assert "NOT SAVED since 12:00: no space left" in text


def test_status_is_cleaned_of_what_drives_terminals() -> None:
    """Model names come from file names."""
    evil = LoadedModel(name="\x1b[2J", ram_gb=1, provider="local", idle_seconds=0)

    assert "\x1b" not in status_text(status(loaded_models=(evil,)), TERMINAL)


@pytest.mark.parametrize(
    ("exists", "loaded", "words"),
    [
        (True, True, "● m  loaded  last used 10m ago"),
        (True, False, "○ m  not loaded  last used 10m ago"),
        (False, False, "○ m  not found  last used 10m ago"),
    ],
)
def test_status_of_one_model(exists: bool, loaded: bool, words: str) -> None:
    """S1-09: exists, loaded, last used."""
    report = status(exists=exists, loaded=loaded, last_used=TODAY)

    assert one_status_text("m", report, TERMINAL, now=NOW) == f"{words}\n"


def test_show_leaves_out_what_is_not_known() -> None:
    """Twenty labels without values hide the two that have one."""
    reply = Shown(model=GONE, locations=(), header={})
    labels = [line.split("\t")[0] for line in show_text(reply, PIPE, now=NOW).splitlines()]

    assert labels == ["name", "id", "state", "pinned", "size", "rank", "uses", "last used"]


def test_show_explains_the_rank_and_quotes_the_command() -> None:
    """The command line can be pasted, the rank added up."""
    reply = Shown(
        model=QWEN,
        locations=({"tier": "ssd", "path": "/ssd/q.gguf"}, {"tier": "hdd1", "path": "/h/q.gguf"}),
        header={"layers": 36},
        need_bytes=6 * GIB,
        need_source="measured",
        rank_terms={"recent 7d": 30.0, "idle": -2.0},
        argv=("/usr/bin/llama-server", "-m", "/ssd/my model.gguf"),
        request=("strip user", "set seed 1"),
        variants={"cold": ("set seed 1", "set temperature 0.0")},
    )
    text = show_text(reply, PIPE, now=NOW)

    assert "rank\t46.0 = 30.0 recent 7d - 2.0 idle\n" in text
    assert "command\t/usr/bin/llama-server -m '/ssd/my model.gguf'\n" in text
    assert "file\t/ssd/q.gguf (ssd)\nfile\t/h/q.gguf (hdd1)\n" in text
    assert "memory\t6.0 GB (measured)\n" in text
    assert "requests\tstrip user; set seed 1\n" in text
    assert "variant\tcold (set seed 1; set temperature 0.0)\n" in text
    assert header_text(reply, PIPE) == "layers\t36\n"


def test_ps_and_status_show_gpus_only_where_there_are_some() -> None:
    """Columns and lines of things that a machine has not got are noise."""
    on_gpu = msgspec.structs.replace(READY, gpu_bytes=(6 * GIB, GIB))
    lines = ps_text(Servers(servers=(on_gpu, LOADING)), TERMINAL, verbose=False).splitlines()
    gpu = GpuRow(name="A card", total_bytes=24 * GIB, booked_bytes=7 * GIB, in_use_bytes=8 * GIB)

    assert "VRAM" not in ps_text(Servers(servers=(READY,)), TERMINAL, verbose=False)
    assert lines[0].split()[-1] == "VRAM"
    assert lines[1].endswith("7.0 GB")
    assert "  GPU 0: 7.0/24.0GB used (A card)\n" in status_text(status(gpus=(gpu,)), PIPE)
    assert "GPU" not in status_text(status(), PIPE)


def test_show_tells_what_a_need_is_made_of() -> None:
    """A refusal for memory is understood only by what takes it."""
    parts = {"weights": 4 * GIB, "cache": GIB}
    reply = Shown(
        model=GONE, locations=(), header={}, need_bytes=5 * GIB, need_source="header",
        need_parts=parts, need_gpu_bytes=(0, GIB),
    )  # fmt: skip
    text = show_text(reply, PIPE, now=NOW)

    assert "memory\t5.0 GB (header: weights 4.0 GB, cache 1.0 GB)\n" in text
    assert "GPU 1\t1.0 GB\n" in text
    assert "GPU 0" not in text
