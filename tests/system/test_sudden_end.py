"""
Ends that nobody planned: of the daemon, of whoever waits, of a server while nobody watched.

The loops begin something, kill the daemon with SIGKILL at some moment of it, and look at what
the next daemon makes of that: each server is adopted or gone, none runs twice, none is unknown,
no file is left.  `MODELD_TEST_ROUNDS` says how often; `make soak` makes it a thousand.
"""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import msgspec
import psutil
import pytest

from modeld.core.entities import Process
from tests.support.daemon import Daemon
from tests.support.rigged_engine import write_engine
from tests.system.test_bad_input import undisturbed
from tests.system.test_main_job import SENTENCES, wait_for, with_models

pytestmark = pytest.mark.engine
ROUNDS = int(os.environ.get("MODELD_TEST_ROUNDS", "5"))
LONGEST_SECONDS = 15.0


def rigged(daemon: Daemon, **habits: str) -> Daemon:
    """Start a daemon on an engine that has these habits with these models."""
    daemon.engine = write_engine(daemon.home / "engine", habits)
    daemon.configure()
    return with_models(daemon, "alpha", "beta")


def told(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return how a modelctl ended, and what it said."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out + err


def known(daemon: Daemon) -> list[int]:
    """Return the pids of the servers that the daemon knows."""
    return sorted(row["pid"] for row in daemon.servers())


def settle(daemon: Daemon) -> None:
    """Wait until what runs is what the daemon knows, each model once, and all of it is ready."""

    def is_settled() -> bool:
        rows = daemon.servers()
        names = [row["name"] for row in rows]
        return (
            sorted(daemon.engines()) == sorted(row["pid"] for row in rows)
            and len(set(names)) == len(names)
            and all(row["state"] == "ready" for row in rows)
        )

    wait_for(is_settled, LONGEST_SECONDS)


def end_all(daemon: Daemon) -> None:
    """Unload everything, and check that nothing of it is left."""
    daemon.modelctl("unload", "--all")
    assert (daemon.engines(), daemon.leftovers()) == ([], [])


# --- the daemon ----------------------------------------------------------------------------------


def test_kill_9_during_a_launch_leaves_one_server_or_none(daemon: Daemon) -> None:
    """A2; and whoever waits for the load gets it from the next daemon."""
    with_models(daemon, "alpha")
    for number in range(ROUNDS):
        waiting = daemon.begin("load", "alpha")
        time.sleep(random.Random(number).uniform(0.05, 0.25))
        daemon.kill()
        daemon.start()
        status, said = told(waiting)
        settle(daemon)

        # 69: it was killed before the request was on its way
        assert status == 0 or (status == 69 and "not running" in said), said
        assert daemon.chat("alpha") == SENTENCES["alpha"]
        assert len(daemon.engines()) == 1
        end_all(daemon)


def test_kill_9_during_a_stop_leaves_the_server_whole_or_nothing(daemon: Daemon) -> None:
    """A2: what was asked to end ends, whoever asked; what was not asked goes on."""
    with_models(daemon, "alpha", "beta")
    for number in range(ROUNDS):
        daemon.modelctl("load", "alpha")
        daemon.modelctl("load", "beta", "--nokill")
        before = {row["name"]: row["pid"] for row in daemon.servers()}
        waiting = daemon.begin("unload", "beta")
        time.sleep(random.Random(number).uniform(0.03, 0.12))
        daemon.kill()
        daemon.start()
        status, said = told(waiting)
        settle(daemon)
        after = {row["name"]: row["pid"] for row in daemon.servers()}

        assert after["alpha"] == before["alpha"]
        assert after.get("beta", before["beta"]) == before["beta"]
        assert status == 0 or (status == 69 and "not running" in said), said
        assert status or "beta" not in after
        end_all(daemon)


def test_kill_9_while_servers_are_taken_over_changes_none(daemon: Daemon) -> None:
    """A1: daemons that die one after the other are no reason to load again."""
    with_models(daemon, "alpha", "beta")
    daemon.modelctl("load", "alpha")
    daemon.modelctl("load", "beta", "--nokill")
    before = known(daemon)
    for number in range(ROUNDS):
        daemon.kill()
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "modeld"],
            env=daemon.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(random.Random(number).uniform(0.05, 0.4))
    daemon.kill()
    daemon.start()

    assert known(daemon) == before
    settle(daemon)
    assert daemon.chat("alpha") == SENTENCES["alpha"]
    end_all(daemon)


def test_names_that_were_acknowledged_survive_any_kill_9(embedded_daemon: Daemon) -> None:
    """Promise 1: exit status 0 means that it is on the disk."""
    daemon = with_models(embedded_daemon, "alpha")
    acknowledged = set()
    for number in range(ROUNDS):
        waiting = [daemon.begin("nick", "add", "alpha", f"n{number}-{each}") for each in range(3)]
        time.sleep(random.Random(number).uniform(0.05, 0.2))
        daemon.kill()
        daemon.start()
        for each, process in enumerate(waiting):
            if told(process)[0] == 0:
                acknowledged.add(f"n{number}-{each}")

    assert acknowledged <= daemon.json("nick", "list")["nicknames"].keys()
    assert not list((daemon.home / "state" / "modeld").glob("*corrupt*"))


def test_load_that_waits_is_answered_by_the_next_daemon(embedded_daemon: Daemon) -> None:
    """The server that loads is adopted, not started a second time."""
    daemon = rigged(embedded_daemon, alpha="slow")
    waiting = daemon.begin("load", "alpha")
    wait_for(lambda: len(daemon.engines()) == 1)
    (pid,) = daemon.engines()
    daemon.kill()
    daemon.start()
    status, said = told(waiting)

    assert (status, daemon.engines()) == (0, [pid]), said


def test_load_that_waits_notices_that_no_daemon_comes_back(embedded_daemon: Daemon) -> None:
    """Nobody should look at a line that will never change."""
    daemon = rigged(embedded_daemon, alpha="slower")
    waiting = daemon.begin("load", "alpha")
    wait_for(lambda: len(daemon.engines()) == 1)
    began = time.monotonic()
    daemon.kill()
    status, said = told(waiting)

    assert status == 69
    assert "modeld went away, and did not come back" in said
    assert "hint" in said
    assert time.monotonic() - began < LONGEST_SECONDS


# --- whoever waits -------------------------------------------------------------------------------


def interrupted(daemon: Daemon, *options: str) -> str:
    """Begin to load beta, press Ctrl-C when its server has started, return what was said."""
    waiting = daemon.begin("load", "beta", "--nokill", *options)
    wait_for(lambda: len(daemon.engines()) == 2)
    waiting.send_signal(signal.SIGINT)
    status, said = told(waiting)
    assert status == 130
    return said


def test_interrupted_load_goes_on(embedded_daemon: Daemon) -> None:
    """Ctrl-C ends the waiting; what was begun is finished, and can be waited for again."""
    daemon = rigged(embedded_daemon, beta="slow")
    with undisturbed(daemon):
        assert "the load goes on; modelctl wait beta" in interrupted(daemon)
        daemon.modelctl("wait", "beta")
        assert daemon.chat("beta") == SENTENCES["beta"]


def test_interrupted_load_is_given_up_where_that_is_asked_for(embedded_daemon: Daemon) -> None:
    """`--cancel-on-interrupt`: the server goes too."""
    daemon = rigged(embedded_daemon, beta="slower")
    with undisturbed(daemon):
        said = interrupted(daemon, "--cancel-on-interrupt")
        assert "the load was given up" in said
        wait_for(lambda: len(daemon.engines()) == 1)


def test_second_load_of_a_model_joins_the_first(embedded_daemon: Daemon) -> None:
    """A15: one server for everybody who asks, and everybody is answered."""
    daemon = rigged(embedded_daemon, beta="slow")
    with undisturbed(daemon):
        waiting = [daemon.begin("load", "beta", "--nokill") for _ in range(4)]
        results = [told(each) for each in waiting]
        assert [status for status, _ in results] == [0] * 4, results
        assert len(daemon.engines()) == 2
        assert daemon.log.read_text().count("server-starting: starting beta") == 1


def test_load_of_another_model_waits_its_turn(embedded_daemon: Daemon) -> None:
    """Two that need room at once must not count on the same room."""
    daemon = rigged(embedded_daemon, alpha="slow", beta="slow")
    waiting = [daemon.begin("load", name, "--nokill") for name in ("alpha", "beta")]
    results = [told(each) for each in waiting]

    assert [status for status, _ in results] == [0, 0], results
    assert sorted(row["name"] for row in daemon.servers()) == ["alpha", "beta"]


# --- servers and their records -------------------------------------------------------------------


def test_pid_that_was_given_to_a_stranger_is_not_signalled(embedded_daemon: Daemon) -> None:
    """A6: a record says who it was; whoever has that pid now is somebody else."""
    daemon = with_models(embedded_daemon, "alpha", "beta")
    daemon.modelctl("load", "alpha")
    daemon.modelctl("load", "beta", "--nokill")
    daemon.kill()
    alpha = next(daemon.runtime.glob("launch/*.process.json"))
    was = msgspec.json.decode(alpha.read_bytes(), type=Process)
    os.kill(was.pid, signal.SIGKILL)
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            reused = msgspec.structs.replace(was, pid=stranger.pid)
            alpha.write_bytes(msgspec.json.encode(reused))
            daemon.start()
            assert len(daemon.servers()) == 1
            end_all(daemon)
            assert daemon.stop() == 0
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_server_that_died_while_nobody_watched_is_closed(embedded_daemon: Daemon) -> None:
    """Its run time counts, its death is told, and nothing is left of it."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.modelctl("load", "alpha")
    daemon.kill()
    (pid,) = daemon.engines()
    os.kill(pid, signal.SIGKILL)
    daemon.start()

    assert (daemon.servers(), daemon.leftovers()) == ([], [])
    assert "server-exited: alpha ended while modeld was away" in daemon.log.read_text()


def test_leftovers_of_a_crash_are_cleared_away(embedded_daemon: Daemon) -> None:
    """Half a record, a record of nobody, and one that makes no sense."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.modelctl("load", "alpha")
    daemon.kill()
    launch = daemon.runtime / "launch"
    (record,) = (path for path in launch.glob("*.json") if "process" not in path.name)
    nobody = record.read_text().replace(record.stem, "nobody0123456789")
    (launch / "nobody0123456789.json").write_text(nobody)
    (launch / ".half0123456789ab.json.new").write_text(nobody[:20])
    (launch / "senseless0123456.json").write_text(nobody[:20])
    (daemon.runtime / "kids" / "senseless0123456.sock").touch()
    daemon.start()

    assert [row["name"] for row in daemon.servers()] == ["alpha"]
    end = ["senseless0123456.json.damaged"]
    daemon.modelctl("unload", "--all")
    assert daemon.leftovers() == end


def test_daemon_leaves_no_zombies(embedded_daemon: Daemon) -> None:
    """A7: every child is waited for, however it ended."""
    daemon = rigged(embedded_daemon, beta="crash")
    assert daemon.process is not None
    for _ in range(ROUNDS):
        daemon.modelctl("load", "alpha")
        daemon.modelctl("load", "beta", "--nokill", status=1)
        os.kill(daemon.engines()[0], signal.SIGKILL)
        wait_for(lambda: not daemon.engines())
    children = psutil.Process(daemon.process.pid).children()

    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []


def test_run_time_goes_on_over_a_kill_9(embedded_daemon: Daemon) -> None:
    """D8: the next daemon counts from the start of the server, not from its own."""
    daemon = with_models(embedded_daemon, "alpha")
    began = datetime.now(UTC)
    daemon.modelctl("load", "alpha")
    daemon.kill()
    time.sleep(1)
    daemon.start()
    daemon.modelctl("unload", "alpha")
    seconds = daemon.json("show", "alpha")["runtime_seconds"]

    assert 1 < seconds <= (datetime.now(UTC) - began).total_seconds()
