"""Every way in which a llama-server may fail its supervisor, while another one goes on serving."""

import os
import time
from pathlib import Path

import psutil
import pytest

from tests.support.daemon import Daemon
from tests.support.rigged_engine import OLD_HELP, write_engine
from tests.system.test_bad_input import refusal, undisturbed
from tests.system.test_main_job import SENTENCES, wait_for, with_models

pytestmark = pytest.mark.engine
IMPATIENT = "servers.start_stall_seconds = 1\nservers.stop_grace_seconds = 0.3"


def rigged(daemon: Daemon, **habits: str) -> Daemon:
    """Start a daemon on an engine that has these habits with these models."""
    daemon.engine = write_engine(daemon.home / "engine", habits)
    daemon.configure(IMPATIENT)
    return with_models(daemon, "alpha", "beta")


@pytest.mark.parametrize(
    ("habit", "cause", "words"),
    [
        ("crash", "llama-server exited with status 3", "complaint 29"),
        ("abort", "ended by signal 6 (SIGABRT)", "fake engine: abort"),
        ("loading", "made no progress for 1.0 s", "fake engine: loading"),
        ("mute", "made no progress for 1.0 s", "fake engine: mute"),
    ],
)
def test_server_that_fails_to_start_is_told_with_cause_and_last_words(
    embedded_daemon: Daemon, habit: str, cause: str, words: str
) -> None:
    """Whoever asked sees why, at once and later, and nothing is left behind."""
    daemon = rigged(embedded_daemon, beta=habit)
    with undisturbed(daemon):
        error = refusal(daemon, "load", "beta", "--nokill", status=1)
        assert cause in error["message"]
        assert words in error["message"]
        assert "modelctl logs beta" in error["hint"]
        assert words in daemon.modelctl("logs", "beta").stdout
        (failed,) = daemon.json("ps")["failed"]
        assert (failed["name"], failed["deaths"]) == ("beta", 1)
        assert cause in failed["cause"]

        write_engine(daemon.home / "engine", {})
        daemon.modelctl("load", "beta", "--nokill")
        assert daemon.chat("beta") == SENTENCES["beta"]
    daemon.modelctl("unload", "--all")
    assert (daemon.engines(), daemon.leftovers()) == ([], [])


def test_server_that_ignores_the_end_is_killed_after_its_grace(embedded_daemon: Daemon) -> None:
    """An engine that hangs must not keep its memory (A4)."""
    daemon = rigged(embedded_daemon, beta="stubborn")
    with undisturbed(daemon):
        daemon.modelctl("load", "beta", "--nokill")
        pid = next(row["pid"] for row in daemon.servers() if row["name"] == "beta")
        daemon.modelctl("unload", "beta")
        assert not psutil.pid_exists(pid)
        assert "server-killed: beta is killed: it was stopping for too long" in (
            daemon.log.read_text()
        )


def test_server_that_ignores_the_end_cannot_hold_up_the_daemon(embedded_daemon: Daemon) -> None:
    """A stop of modeld ends everything, politely or not."""
    daemon = rigged(embedded_daemon, beta="stubborn")
    daemon.modelctl("load", "beta")
    (pid,) = daemon.engines()

    assert daemon.stop() == 0
    assert not psutil.pid_exists(pid)
    assert daemon.leftovers() == []


def make_unusable(path: Path, how: str) -> str:
    """Put something in the engine's place, and return what has to be said of it."""
    path.unlink(missing_ok=True)
    match how:
        case "missing":
            return f"there is no {path}"
        case "not executable":
            path.write_text("#!/bin/sh\n")
            return "Permission denied"
        case "no program":
            path.write_bytes(os.urandom(64))
            path.chmod(0o755)
            return "Exec format error"
        case "another program":
            path.symlink_to("/bin/true")
            return "is no llama-server"
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize("how", ["missing", "not executable", "no program", "another program"])
def test_engine_that_cannot_be_used_refuses_loads_until_it_is_repaired(
    embedded_daemon: Daemon, how: str
) -> None:
    """The daemon serves all the same, and a reload is enough once the engine is there."""
    daemon = embedded_daemon
    engine = daemon.home / "engine"
    daemon.engine = str(engine)
    daemon.configure()
    said = make_unusable(engine, how)
    with_models(daemon, "alpha")
    daemon.modelctl("nick", "set", "alpha", "kept")

    error = refusal(daemon, "load", "alpha", status=1)
    assert said in error["message"]
    assert "modelctl reload" in error["hint"]
    assert any(said in each for each in daemon.json("status")["warnings"])

    engine.unlink(missing_ok=True)
    write_engine(engine)
    daemon.modelctl("reload")
    daemon.modelctl("load", "alpha")
    assert daemon.chat("kept") == SENTENCES["alpha"]


@pytest.mark.parametrize("how", ["missing", "not executable", "no program"])
def test_engine_that_breaks_while_modeld_runs_is_told(embedded_daemon: Daemon, how: str) -> None:
    """An upgrade that went wrong: what runs goes on."""
    daemon = rigged(embedded_daemon)
    with undisturbed(daemon):
        make_unusable(daemon.home / "engine", how)
        error = refusal(daemon, "load", "beta", "--nokill", status=1)
        assert "could not be started" in error["message"]
        assert "servers" in error["hint"] or "llama-server" in error["hint"]
    assert len(daemon.engines()) == 1


def test_old_engine_gets_only_what_it_knows(embedded_daemon: Daemon) -> None:
    """Flags differ between builds, so its own help decides (decision 3)."""
    daemon = embedded_daemon
    (daemon.home / "help").write_text(OLD_HELP)
    daemon.engine = write_engine(daemon.home / "engine", help_command=f"cat {daemon.home}/help")
    daemon.configure()
    with_models(daemon, "alpha")
    with undisturbed(daemon):
        error = refusal(daemon, "load", "alpha", "--", "--temp", "0.3", status=2)
        assert "this llama-server has no '--temp'" in error["message"]
        (pid,) = daemon.engines()
        given = [word for word in psutil.Process(pid).cmdline() if word.startswith("-")]
        assert given == ["-P", "--model", "--host", "--ctx-size"]


def test_engine_that_hangs_at_its_help_holds_up_only_loads(embedded_daemon: Daemon) -> None:
    """The daemon starts, adopts and serves; whoever wants to load waits ten seconds at most."""
    daemon = rigged(embedded_daemon)
    daemon.modelctl("load", "alpha", "--nickname", "kept")
    (pid,) = daemon.engines()
    daemon.kill()
    write_engine(daemon.home / "engine", help_command="sleep 1000")
    began = time.monotonic()
    daemon.start()
    assert time.monotonic() - began < 3

    with daemon.begin("--json", "load", "beta", "--nokill") as waiting:
        assert daemon.chat("kept") == SENTENCES["alpha"]
        assert daemon.modelctl("nick", "add", "alpha", "another").returncode == 0
        assert daemon.engines() == [pid]
        said = waiting.communicate(timeout=20)[0]
    assert waiting.returncode == 1
    assert "did not answer --help within 10 s" in said
    assert time.monotonic() - began < 15

    write_engine(daemon.home / "engine")
    daemon.modelctl("reload")
    daemon.modelctl("load", "beta", "--nokill")
    assert daemon.chat("kept") == SENTENCES["alpha"]
    wait_for(lambda: len(daemon.engines()) == 2)
