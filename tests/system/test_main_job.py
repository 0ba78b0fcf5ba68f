"""The main job through the front doors: a real daemon, a real engine, real sockets."""

import json
import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_mmproj, write_model, write_shards

pytestmark = pytest.mark.engine
SENTENCES = {"alpha": "I am alpha .", "beta": "This is beta .", "gamma": "Here speaks gamma ."}


def with_models(daemon: Daemon, *names: str) -> Daemon:
    """Put models on the disk and start the daemon."""
    for name in names:
        write_model(daemon.models / f"{name}.gguf", sentence=SENTENCES[name], name=name)
    return daemon.start()


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; bounded."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_slot_is_loaded_and_answers_with_its_own_sentence(daemon: Daemon) -> None:
    """`modelctl load -n1 tool`: what everything else is for."""
    with_models(daemon, "alpha", "beta")
    daemon.modelctl("slot", "set", "tool", "alpha")
    done = daemon.modelctl("load", "-n1", "tool")

    assert "alpha is ready" in done.stdout
    assert daemon.chat("tool") == SENTENCES["alpha"]
    assert daemon.chat("@tool") == daemon.chat("alpha.gguf") == SENTENCES["alpha"]


def test_request_loads_the_model_that_it_names(daemon: Daemon) -> None:
    """The gateway's first route."""
    with_models(daemon, "alpha", "beta")

    assert daemon.chat("beta") == SENTENCES["beta"]
    assert [row["name"] for row in daemon.servers()] == ["beta"]


def test_swap_answers_each_request_by_the_model_it_named(daemon: Daemon) -> None:
    """Three models and two places: the least recently used one goes."""
    with_models(daemon, "alpha", "beta", "gamma")
    for name in ("alpha", "beta", "gamma", "alpha"):
        assert daemon.chat(name) == SENTENCES[name]

    assert {row["name"] for row in daemon.servers()} == {"gamma", "alpha"}


def test_openai_client_lists_chats_and_streams(daemon: Daemon) -> None:
    """The official client makes its ordinary calls."""
    from openai import NotFoundError, OpenAI

    with_models(daemon, "alpha")
    daemon.modelctl("nick", "set", "alpha", "first")
    with OpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="any") as client:
        said = client.chat.completions.create(
            model="first", messages=[{"role": "user", "content": "hi"}]
        )
        parts = client.chat.completions.create(
            model="first", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        listed = [model.id for model in client.models.list()]
        with pytest.raises(NotFoundError):
            client.chat.completions.create(
                model="nothing", messages=[{"role": "user", "content": "hi"}]
            )

    assert (said.choices[0].message.content or "").strip() == text.strip() == SENTENCES["alpha"]
    assert "alpha" in listed


def test_loaded_model_survives_kill_9_of_the_daemon(daemon: Daemon) -> None:
    """Promise 2: the same pid, and it answers."""
    with_models(daemon, "alpha")
    daemon.modelctl("load", "alpha", "--", "--temp", "0.3")
    before = daemon.servers()[0]
    daemon.kill()
    daemon.start()
    after = daemon.servers()[0]

    assert (after["pid"], after["state"], after["adopted"]) == (before["pid"], "ready", True)
    assert daemon.chat("alpha") == SENTENCES["alpha"]
    assert "already running" in daemon.modelctl("load", "alpha", "--", "--temp", "0.3").stdout


def test_loaded_model_survives_a_restart_that_is_meant(daemon: Daemon) -> None:
    """SIGUSR1: an upgrade where there is no service manager."""
    with_models(daemon, "alpha")
    daemon.modelctl("load", "alpha")
    before = daemon.servers()[0]
    assert daemon.stop(signal.SIGUSR1) == 0
    daemon.start()

    assert daemon.servers()[0]["pid"] == before["pid"]


def test_deliberate_stop_frees_everything(daemon: Daemon) -> None:
    """Promise 2, the other half: nothing is left, no process and no file."""
    with_models(daemon, "alpha", "beta")
    daemon.chat("alpha")
    daemon.chat("beta")
    pids = [row["pid"] for row in daemon.servers()]
    assert daemon.stop() == 0

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list((daemon.runtime / "kids").iterdir()) == []
    assert list((daemon.runtime / "launch").iterdir()) == []


def test_names_pins_and_uses_survive_kill_9(embedded_daemon: Daemon) -> None:
    """Promise 1: what was acknowledged is on the disk."""
    daemon = with_models(embedded_daemon, "alpha", "beta")
    daemon.modelctl("nick", "set", "alpha", "foo")
    daemon.modelctl("slot", "set", "tool", "beta")
    daemon.modelctl("pin", "alpha")
    daemon.kill()
    daemon.start()

    rows = {row["name"]: row for row in daemon.json("list")["models"]}
    assert rows["alpha"]["nicknames"] == ["foo"]
    assert rows["alpha"]["pinned"]
    assert rows["beta"]["slots"] == ["tool"]

    daemon.modelctl("unpin", "alpha")
    daemon.kill()
    daemon.start()
    assert not any(row["pinned"] for row in daemon.json("list")["models"])


def test_server_that_crashes_comes_back_and_says_why(daemon: Daemon) -> None:
    """A3, with a real process."""
    with_models(daemon, "alpha")
    daemon.modelctl("load", "alpha")
    first = daemon.servers()[0]["pid"]
    os.kill(first, signal.SIGSEGV)

    wait_for(lambda: bool(daemon.json("ps")["failed"]))
    assert "SIGSEGV" in daemon.json("ps")["failed"][0]["cause"]

    wait_for(lambda: any(row["state"] == "ready" for row in daemon.servers()))
    assert daemon.servers()[0]["pid"] != first
    assert daemon.chat("alpha") == SENTENCES["alpha"]


def test_shards_are_one_model_and_load_from_the_first(daemon: Daemon) -> None:
    """A model in parts is served as a whole."""
    write_shards(daemon.models, "whole", count=3, sentence="All parts speak .")
    daemon.start()

    assert [row["name"] for row in daemon.json("list")["models"]] == ["whole"]
    assert daemon.chat("whole") == "All parts speak ."


def test_mmproj_is_no_model(embedded_daemon: Daemon) -> None:
    """S0-C7."""
    write_mmproj(embedded_daemon.models / "mmproj-alpha.gguf")
    daemon = with_models(embedded_daemon, "alpha")

    assert [row["name"] for row in daemon.json("list")["models"]] == ["alpha"]


def test_new_file_is_known_within_seconds_without_being_asked(embedded_daemon: Daemon) -> None:
    """The catalogue is watched, not only scanned."""
    daemon = with_models(embedded_daemon, "alpha")
    write_model(daemon.models / "beta.gguf", sentence=SENTENCES["beta"])

    wait_for(lambda: len(daemon.json("list")["models"]) == 2, 5)
    (daemon.models / "alpha.gguf").unlink()
    wait_for(lambda: [row["name"] for row in daemon.json("list")["models"]] == ["beta"], 5)


def test_port_of_its_own_serves_raw_http(daemon: Daemon) -> None:
    """`-p PORT`: for clients that want the server itself."""
    import http.client

    from tests.support.daemon import free_port

    with_models(daemon, "alpha")
    port = free_port()
    daemon.modelctl("load", "alpha", "-p", str(port))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/health")

    assert connection.getresponse().status == 200
    connection.close()


def test_environment_of_the_user_never_reaches_a_server(daemon: Daemon) -> None:
    """G4: `LLAMA_ARG_*` would open tools and listeners."""
    write_model(daemon.models / "alpha.gguf", sentence=SENTENCES["alpha"])
    daemon.start(LLAMA_ARG_HOST="0.0.0.0", LLAMA_ARG_TOOLS="all", LD_PRELOAD="", SECRET="x")
    daemon.modelctl("load", "alpha")
    process = psutil.Process(daemon.servers()[0]["pid"])

    assert not {"LLAMA_ARG_HOST", "LLAMA_ARG_TOOLS", "SECRET"} & process.environ().keys()
    assert not [each for each in process.net_connections("inet") if each.status == "LISTEN"]


def test_list_and_status_tell_the_same_in_json_as_on_the_page(embedded_daemon: Daemon) -> None:
    """S4-13 and S4-14 on a real daemon."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.modelctl("load", "alpha")
    status = daemon.json("status")
    page = daemon.modelctl("status").stdout

    assert {
        "total_ram_gb", "used_ram_gb", "available_ram_gb", "loaded_models_count",
        "local_models_count", "loaded_models",
    } <= status.keys()  # fmt: skip
    assert "Model Manager Status:" in page
    assert "  Loaded: 1 models (1 local)" in page
    assert json.loads(daemon.modelctl("list", "--json").stdout)["v"] == 1


def test_reload_applies_a_new_folder_and_keeps_the_model(embedded_daemon: Daemon) -> None:
    """S2-19, by the command and by SIGHUP."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.modelctl("load", "alpha")
    pid = daemon.servers()[0]["pid"]
    more = daemon.home / "more"
    more.mkdir()
    write_model(more / "beta.gguf", sentence=SENTENCES["beta"])
    daemon.configure(f'storage.hdd_paths = ["{more}"]')
    daemon.modelctl("reload")

    wait_for(lambda: len(daemon.json("list")["models"]) == 2, 5)
    assert daemon.servers()[0]["pid"] == pid

    daemon.configure("models.max_concurrent_loaded = 5")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "max_concurrent_loaded" in daemon.log.read_text(), 5)
    assert daemon.servers()[0]["pid"] == pid


def test_events_stream_what_happens(embedded_daemon: Daemon) -> None:
    """`modelctl events`: the same names as in the journal."""
    import subprocess
    import sys

    daemon = with_models(embedded_daemon, "alpha")
    words = [sys.executable, "-m", "modelctl", "events", "--json", "-n", "100"]
    with subprocess.Popen(
        words, env=daemon.environment, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            seen = [json.loads(child.stdout.readline())["event"]]
            daemon.modelctl("load", "alpha")
            while "server-ready" not in seen:
                seen.append(json.loads(child.stdout.readline())["event"])
        finally:
            child.kill()

    assert {"started", "server-starting", "server-ready"} <= set(seen)


def test_stop_lets_an_answer_end_before_the_server_goes(embedded_daemon: Daemon) -> None:
    """SIGTERM drains: the model must still be there for what is being answered."""
    import http.client

    daemon = embedded_daemon
    write_model(daemon.models / "alpha.gguf", sentence="I am alpha .", context_tokens=8192)
    daemon.start()
    daemon.modelctl("load", "alpha")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    body = {"model": "alpha", "messages": [{"role": "user", "content": "hi"}], "stream": True,
            "ignore_eos": True, "n_predict": 4000}  # fmt: skip
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    response.read(10)
    assert daemon.process is not None
    daemon.process.terminate()
    rest = response.read().decode()
    response.close()
    connection.close()

    assert rest.count("data: ") > 3000
    assert rest.rstrip().endswith("data: [DONE]")
    assert daemon.process.wait(20) == 0


def test_wait_ends_when_the_model_is_ready_or_gone(embedded_daemon: Daemon) -> None:
    """For scripts."""
    daemon = with_models(embedded_daemon, "alpha")
    daemon.modelctl("wait", "alpha", status=3)
    daemon.modelctl("load", "alpha")
    daemon.modelctl("wait", "alpha")
    daemon.modelctl("unload", "alpha")
    daemon.modelctl("wait", "alpha", "--for", "gone")


def test_logs_show_what_the_engine_said(daemon: Daemon) -> None:
    """Without a journal too."""
    with_models(daemon, "alpha")
    daemon.modelctl("load", "alpha")

    assert "llama" in daemon.modelctl("logs", "alpha").stdout.lower()
