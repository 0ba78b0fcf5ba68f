"""`modeld.client` against a real daemon and a real engine: what a program may rely on."""

import os
import threading

import pytest

from modeld.client import ModelManager, get_model_manager
from tests import demo_manager
from tests.support.daemon import Daemon, a_daemon
from tests.support.tiny_gguf import write_model
from tests.system.test_main_job import wait_for

pytestmark = pytest.mark.engine


def manager_of(daemon: Daemon) -> ModelManager:
    """Return a manager that says nothing."""
    return ModelManager(str(daemon.runtime / "rpc.sock"), say=lambda line: None)


def test_demonstration_passes_all_of_its_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """S4-18, S4-23: load, limit, force, clean-up and status, in these figures."""
    assert demo_manager.run() == (18, 0)

    shown = capsys.readouterr().out
    assert "Unloaded llama3.2-1b to make room" in shown
    assert "  RAM: 12.0/16.0GB used\n  Available: 4.0GB\n  Loaded: 1 models (1 local)" in shown


def test_program_is_not_throttled_and_takes_what_runs() -> None:
    """The throttle is there for people; a person's own arguments are good enough for a program."""
    with a_daemon(start=False) as daemon:
        daemon.configure(throttle=30)
        for name in ("alpha", "beta"):
            write_model(daemon.models / f"{name}.gguf", sentence="Yes .", name=name)
        daemon.start()
        manager = manager_of(daemon)
        daemon.modelctl("load", "alpha", "--", "--ctx-size", "256")
        pid = daemon.servers()[0]["pid"]

        assert manager.load_model("alpha")
        assert daemon.servers()[0]["pid"] == pid
        assert manager.load_model("beta")
        assert manager.load_model("beta")
        assert daemon.modelctl("load", "beta", "--", "--ctx-size", "128", status=75).stderr
        manager.close()


def test_idle_models_go_when_asked() -> None:
    """S4-09: later than the time, not at it; by itself or by this call."""
    with a_daemon(settings="models.idle_timeout_seconds = 0.5\n", start=False) as daemon:
        write_model(daemon.models / "alpha.gguf", sentence="Yes .", name="alpha")
        daemon.start()
        manager = manager_of(daemon)
        assert manager.load_model("alpha")

        def nothing_is_loaded() -> bool:
            manager.unload_idle_models()
            return manager.get_loaded_models() == []

        wait_for(nothing_is_loaded)
        manager.close()


def test_calls_from_many_threads_are_all_answered() -> None:
    """One connection serves one call at a time; there are more where they are needed."""
    with a_daemon(start=False) as daemon:
        write_model(daemon.models / "alpha.gguf", sentence="Yes .", name="alpha")
        daemon.start()
        manager = manager_of(daemon)
        answers: list[bool] = []

        def work() -> None:
            answers.append(manager.load_model("alpha"))
            answers.append(manager.get_status()["loaded_models_count"] == 1)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert answers == [True] * 24
        assert len(daemon.servers()) == 1
        manager.close()


def test_manager_works_on_in_a_forked_process() -> None:
    """Web servers fork after their imports; ZeroMQ's sockets do not survive that."""
    with a_daemon(start=False) as daemon:
        daemon.start()
        manager = manager_of(daemon)
        free_gb = manager.get_available_ram()
        child = os.fork()
        if not child:
            os._exit(0 if manager.get_available_ram() == free_gb else 1)
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert manager.get_available_ram() == free_gb
        manager.close()


def test_manager_finds_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the user's needs no configuration."""
    with a_daemon(start=False) as daemon:
        write_model(daemon.models / "alpha.gguf", sentence="Yes .", name="alpha")
        daemon.start()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(daemon.home / "run"))
        monkeypatch.delenv("MODELD_SOCKET", raising=False)
        monkeypatch.setattr("modeld.client._managers", [])

        assert get_model_manager() is get_model_manager()
        assert get_model_manager().can_load_model("alpha") == (True, "Model can be loaded")
        get_model_manager().close()
