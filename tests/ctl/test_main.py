"""modelctl as a process: streams, signals, exit statuses, colours, start-up."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelctl.__main__ import screen_of
from modelctl.commands import models as models_commands
from modeld.errors import STATUSES
from modeld.wire.codec import Failure, Progress
from modeld.wire.common import Selector
from modeld.wire.daemon import Happened, Subscribe
from modeld.wire.load import Cancel, Done, Load, Loaded
from modeld.wire.models import ListModels, ModelRow, Models, Ps, ServerRow, Servers
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon
from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "modelctl")
SERVERS = Servers(servers=(ServerRow(server_id="s", name="qwen", id="q", state="ready"),))
LOADED = Loaded(model="m", server_id="s", address="", seconds=1, message="m is ready in 1.0 s")


@pytest.fixture
def environment(socket_path: str) -> dict[str, str]:
    """The variables of a shell in which modeld is at `socket_path`."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}/daemon:{ROOT}/ctl",
        "MODELD_SOCKET": socket_path,
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
    }


class Stream(io.StringIO):
    """A stream that may say that it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """Return what the test wants."""
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "option", "colour"),
    [
        (True, {}, "auto", True),
        (False, {}, "auto", False),
        (True, {"NO_COLOR": "1"}, "auto", False),
        (True, {"NO_COLOR": ""}, "auto", True),
        (True, {"TERM": "dumb"}, "auto", False),
        (False, {"FORCE_COLOR": "1"}, "auto", True),
        (False, {"CLICOLOR_FORCE": "1"}, "auto", True),
        (False, {"FORCE_COLOR": "0"}, "auto", False),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, "auto", False),
        (True, {"NO_COLOR": "1"}, "always", True),
        (False, {}, "always", True),
        (True, {"FORCE_COLOR": "1"}, "never", False),
    ],
)
def test_colour_follows_option_then_variables_then_terminal(
    terminal: bool, environment: Mapping[str, str], option: str, colour: bool
) -> None:
    """`--color` beats the environment, and NO_COLOR beats FORCE_COLOR."""
    assert screen_of(Stream(terminal=terminal), environment, option).colour is colour


def test_width_may_be_set_by_columns() -> None:
    """Where the terminal does not know its own."""
    assert screen_of(Stream(terminal=True), {"COLUMNS": "132"}, "auto").width == 132
    assert screen_of(Stream(terminal=True), {"COLUMNS": "wide"}, "auto").width == 80


def test_table_on_a_terminal_has_titles_symbols_and_colours(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """What people see."""
    daemon.on(Ps, SERVERS)
    with Terminal([*PROGRAM, "ps"], environment) as terminal:
        assert terminal.wait() == 0

    assert "\x1b[1mNAME\x1b[0m" in terminal.text
    assert "\x1b[32m● ready\x1b[0m" in terminal.text


def test_table_on_a_terminal_without_utf_8_has_ascii_symbols(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """An old console must not end in a traceback."""
    daemon.on(Ps, SERVERS)
    latin = {**environment, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    with Terminal([*PROGRAM, "ps"], latin) as terminal:
        assert terminal.wait() == 0

    assert "* ready" in terminal.text
    assert "\x1b" not in terminal.text


def test_json_on_a_terminal_is_spread_out(daemon: FakeDaemon, environment: dict[str, str]) -> None:
    """The same object, for eyes."""
    daemon.on(Ps, SERVERS)
    with Terminal([*PROGRAM, "ps", "--json"], environment) as terminal:
        terminal.wait()

    assert terminal.text.count("\n") > 10
    assert json.loads(terminal.text)["ok"] is True


def test_load_on_a_terminal_draws_its_progress(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """The bar, and after it the answer."""
    gate = threading.Event()
    daemon.on(Load, Progress(phase="load", model="m", fraction=0.43), gate, LOADED)
    with Terminal([*PROGRAM, "load", "m"], {**environment, "NO_COLOR": "1"}) as terminal:
        terminal.read_until("█████████░░░░░░░░░░░  43 %  m")
        gate.set()
        assert terminal.wait() == 0

    assert terminal.text.endswith("● m is ready in 1.0 s\r\n")


def test_interrupt_leaves_the_load_going_on(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """Ctrl-C returns at once, does no harm, and says how to come back."""
    daemon.on(Load, Progress(phase="load", model="m", fraction=0.43), threading.Event())
    with Terminal([*PROGRAM, "load", "-n1", "tool"], environment) as terminal:
        terminal.read_until("43 %")
        terminal.interrupt()
        status = terminal.wait()

    assert status == 130
    assert "detached:\x1b[0m the load goes on; modelctl wait @tool\r\n" in terminal.text
    assert daemon.requests == [Load(selector=Selector(slot="tool"))]


def test_interrupt_cancels_the_load_where_that_was_asked_for(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """The cancelled load is named by the id of its request, and its end waited for."""
    daemon.on(Load, Progress(phase="load", model="m", fraction=0.43), threading.Event())
    daemon.on(Cancel, Done())
    argv = [*PROGRAM, "load", "m", "--cancel-on-interrupt"]
    with Terminal(argv, {**environment, "NO_COLOR": "1"}) as terminal:
        terminal.read_until("43 %")
        terminal.interrupt()
        status = terminal.wait()

    assert status == 130
    assert "cancelled: the load was given up\r\n" in terminal.text
    assert daemon.requests[1] == Cancel(load_id=daemon.headers[0].id)


def test_interrupt_that_comes_too_late_to_cancel_says_so(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """The model may be loaded after all; the person must know."""
    daemon.on(Load, Progress(phase="load", fraction=0.99), threading.Event())
    daemon.on(Cancel, Failure("inactive", "no such load"))
    argv = [*PROGRAM, "load", "m", "--cancel-on-interrupt"]
    with Terminal(argv, {**environment, "NO_COLOR": "1"}) as terminal:
        terminal.read_until("99 %")
        terminal.interrupt()
        status = terminal.wait()

    assert status == 130
    assert "too late: the load was over already; modelctl ps\r\n" in terminal.text


def test_second_interrupt_does_not_wait_for_the_cancel(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """Whoever presses it twice wants out."""
    asked = threading.Event()
    daemon.on(Load, Progress(phase="load", fraction=0.5), threading.Event())
    daemon.on_call(Cancel, lambda *_: [asked.set() or threading.Event()])
    argv = [*PROGRAM, "load", "m", "--cancel-on-interrupt"]
    with Terminal(argv, environment) as terminal:
        terminal.read_until("50 %")
        terminal.interrupt()
        assert asked.wait(20)
        terminal.interrupt()
        assert terminal.wait(timeout_s=5) == 130


def test_interrupt_of_a_load_is_told_in_json_too(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """A program that wraps modelctl passes Ctrl-C on."""
    asked = threading.Event()
    daemon.on_call(Load, lambda *_: [Progress(phase="start"), asked.set() or threading.Event()])
    process = subprocess.Popen(
        [*PROGRAM, "load", "m", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert asked.wait(20)
    process.send_signal(2)
    out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "cancelled"
    assert err == "detached: the load goes on; modelctl wait m\n"


def test_interrupt_of_events_is_silent(daemon: FakeDaemon, environment: dict[str, str]) -> None:
    """It is how one ends them."""
    daemon.on(Subscribe, Happened(event="ready", message="m is ready", at=""), threading.Event())
    with Terminal([*PROGRAM, "events"], environment) as terminal:
        terminal.read_until("m is ready")
        before = terminal.text
        terminal.interrupt()
        assert terminal.wait() == 130

    assert "Traceback" not in terminal.text
    assert terminal.text.removeprefix(before).strip() in {"", "^C"}


def test_closed_pipe_ends_silently(daemon: FakeDaemon, environment: dict[str, str]) -> None:
    """`modelctl list | head -1`."""
    rows = tuple(ModelRow(name=f"model-{n}", id=str(n)) for n in range(2000))
    daemon.on(ListModels, Models(models=rows))
    process = subprocess.Popen(
        [*PROGRAM, "list"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith(b"model-0\t")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert process.wait(20) == 141
    assert err == b""


def test_no_daemon_is_told_with_the_cure(modelctl: Call, socket_path: str) -> None:
    """The most common failure of all."""
    result = modelctl("ps")

    assert result.status == 69
    assert result.err == (
        f"error: modeld is not running (no socket at {socket_path})\n"
        "hint: systemctl --user start modeld\n"
    )


def test_no_daemon_is_told_in_json(modelctl: Call) -> None:
    """The object on stdout, the words on stderr."""
    result = modelctl("ps", "--json")
    error = json.loads(result.out)["error"]

    assert (error["code"], error["exit"]) == ("unavailable", 69)
    assert result.err.startswith("error: ")


def test_bad_line_is_told_in_json_where_that_was_asked_for(modelctl: Call) -> None:
    """Even a line that makes no sense says what it wants."""
    result = modelctl("laod", "--json")

    assert result.status == 2
    assert json.loads(result.out)["error"]["message"] == (
        "no command 'laod' (did you mean 'load'?)"
    )


def test_bug_is_written_down_and_its_place_told(
    modelctl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback on the terminal helps nobody; a lost one neither."""

    def fail(session: object) -> int:
        raise ZeroDivisionError("the test")

    monkeypatch.setattr(models_commands, "ps", fail)
    result = modelctl("ps", XDG_STATE_HOME=str(tmp_path))
    (path,) = tmp_path.glob("modeld/crash-*.txt")

    assert result.status == 70
    assert str(path) in result.err
    assert "ZeroDivisionError: the test" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_bug_is_told_even_where_it_can_not_be_written_down(
    modelctl: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not hide it."""

    def fail(session: object) -> int:
        raise ZeroDivisionError("the test")

    monkeypatch.setattr(models_commands, "ps", fail)
    result = modelctl("ps", XDG_STATE_HOME="/proc/nowhere")

    assert result.status == 70
    assert "ZeroDivisionError('the test')" in result.err


def test_no_arguments_print_short_help_with_two_examples(modelctl: Call) -> None:
    """What somebody sees who has just installed it."""
    result = modelctl()

    assert result.status == 0
    assert "modelctl load qwen3" in result.out
    assert "modelctl ps" in result.out
    assert "--socket" not in result.out


@pytest.mark.parametrize("line", ["-h", "--help", "help"])
def test_help_lists_every_command_and_global_option(line: str, modelctl: Call) -> None:
    """All three spellings, as people try them in turn."""
    from modelctl.table import COMMANDS

    result = modelctl(line)

    assert result.status == 0
    assert all(f"  {command.name} " in result.out for command in COMMANDS)
    assert "--socket PATH" in result.out


def test_help_of_a_command_shows_its_options_and_examples(modelctl: Call) -> None:
    """From the table, so that it can't be out of date."""
    result = modelctl("help", "load")

    assert "modelctl load [OPTIONS] [MODEL] [-- ARGUMENT...]" in result.out
    assert "--nickadd, --na NICK" in result.out
    assert "modelctl load -n1 tool" in result.out


def test_help_fits_a_narrow_terminal(daemon: FakeDaemon, environment: dict[str, str]) -> None:
    """Beside an editor there are sixty columns."""
    narrow = {**environment, "NO_COLOR": "1", "COLUMNS": "60"}
    with Terminal([*PROGRAM, "help", "load"], narrow) as terminal:
        terminal.wait()

    assert max(map(len, terminal.text.splitlines())) <= 60


def test_help_of_a_command_says_how_long_it_waits_and_what_holds_otherwise(
    modelctl: Call,
) -> None:
    """Nobody reads the code to learn what happens without an option."""
    assert "as in 90 or 5m, by default 10m" in modelctl("help", "load").out
    assert "how many, by default 50" in modelctl("help", "logs").out
    assert "by default as long as it takes" in " ".join(modelctl("help", "events").out.split())


def test_help_about_exit_codes_fits_a_terminal(environment: dict[str, str]) -> None:
    """And is one line each in a pipe, as the next test reads it."""
    with Terminal([*PROGRAM, "help", "exit-codes"], environment, columns=80) as terminal:
        terminal.wait()

    assert max(map(len, terminal.text.splitlines())) <= 80


def test_help_about_exit_codes_is_the_table_of_errors(modelctl: Call) -> None:
    """Every status that modelctl can end with."""
    lines = modelctl("help", "exit-codes").out.splitlines()
    told = {int(line.split()[0]) for line in lines}
    in_json = {
        one["exit"]
        for one in json.loads(modelctl("help", "exit-codes", "--json").out)["exit_codes"]
    }

    assert told == in_json == {0, 130, 141, *(status.exit_status for status in STATUSES.values())}


def test_help_about_nothing_known_guesses(modelctl: Call) -> None:
    """`help lod`."""
    result = modelctl("help", "lod")

    assert result.status == 2
    assert "did you mean 'load'?" in result.err


def test_version_option_needs_no_daemon(modelctl: Call) -> None:
    """It is asked for by scripts that look whether modelctl is there."""
    result = modelctl("--version")

    assert (result.status, result.out.startswith("modelctl ")) == (0, True)


GUARDED = (
    "asyncio", "rich", "http", "email", "importlib.metadata", "psutil", "logging", "platformdirs",
    "urllib", "zmq.asyncio", "difflib", "shutil", "tempfile", "subprocess",
)  # fmt: skip


def test_ps_imports_nothing_that_costs_start_up_time(
    daemon: FakeDaemon, environment: dict[str, str]
) -> None:
    """Each of them is 3 to 50 ms on every call; one careless import brings them all back."""
    daemon.on(Ps, SERVERS)
    code = (
        "import sys, os; from modelctl.__main__ import run; "
        "run(['ps', '--json'], os.environ); sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    imported = set(done.stderr.split())

    assert '"ok":true' in done.stdout
    assert not imported & set(GUARDED)
    assert not [name for name in imported if re.match(r"modeld\.(core|supervisor|config)", name)]


@pytest.mark.parametrize("line", ["-h", "laod", "ps"])
def test_answers_without_a_daemon_do_not_import_zmq(line: str, environment: dict[str, str]) -> None:
    """Half of the start-up time is zmq; where nobody listens it is in vain."""
    code = (
        "import sys, os; from modelctl.__main__ import run; "
        f"run([{line!r}], os.environ); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert "zmq" not in done.stdout.split()


def _cpu_seconds(argv: list[str], environment: Mapping[str, str]) -> float:
    process = subprocess.Popen(
        argv, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def test_ps_starts_in_little_more_than_its_libraries_take(
    daemon: FakeDaemon, environment: dict[str, str], tmp_path: Path
) -> None:
    """
    A whole `ps --json` costs at most 1.3 times `import zmq, msgspec`.

    In CPU time and interleaved, so that other work on the machine counts for both; with byte code,
    as an installation has it.
    """
    daemon.on(Ps, SERVERS)
    compiled = {**environment, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    bare = [sys.executable, "-c", "import zmq, msgspec"]
    whole = [*PROGRAM, "ps", "--json"]
    ratios = []
    for _ in range(3):
        _cpu_seconds(whole, compiled)
        pairs = [(_cpu_seconds(bare, compiled), _cpu_seconds(whole, compiled)) for _ in range(9)]
        bare_s, whole_s = (sorted(times)[4] for times in zip(*pairs, strict=True))
        ratios.append(whole_s / bare_s)
        if ratios[-1] <= 1.3:
            break

    assert min(ratios) <= 1.3
