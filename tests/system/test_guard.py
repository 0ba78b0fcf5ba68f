"""The guard on a real daemon with a real engine: keys, secrets, stalls, links and large bodies."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.daemon import BIN, Daemon, a_daemon
from tests.support.engines import engines
from tests.support.rigged_engine import write_engine
from tests.support.tiny_gguf import write_model
from tests.system.test_bad_input import refusal, undisturbed
from tests.system.test_main_job import SENTENCES, wait_for, with_models

pytestmark = pytest.mark.engine
KEY = "canary-key-of-a-client"
PROMPT = "canary-prompt-of-a-person"
ANSWER = "canary answers nightingale ."
STALL_SECONDS = 3
"""Long enough for the good engine's first token on a machine that is busy."""
PATIENCE = f"servers.stall_seconds = {STALL_SECONDS}\nservers.stop_grace_seconds = 0.3"
MIB = 1 << 20


class Answered:
    """What came of a request."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


def post(daemon: Daemon, path: str, body: object, **headers: str) -> Answered:
    """Post JSON, or bytes as they are; underscores in headers for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.request("POST", path, data, {"Content-Type": "application/json", **named})
        return Answered(connection.getresponse())


def key_file(daemon: Daemon, text: str = f"# of a test\n{KEY}\n", mode: int = 0o600) -> Path:
    """Write a file of keys."""
    path = daemon.home / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


# --- keys -----------------------------------------------------------------------------------


def test_keys_are_demanded_changed_by_reload_and_kept_where_the_file_is_bad(
    embedded_daemon: Daemon,
) -> None:
    """S2-16 on a daemon: a mistake in the file must neither lock out nor let in."""
    daemon = embedded_daemon
    path = key_file(daemon)
    daemon.configure(f'gateway.key_file = "{path}"')
    with_models(daemon, "alpha")
    chat = {"model": "alpha", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return post(daemon, "/v1/chat/completions", chat, **headers).status

    assert (status(""), status("wrong-key"), status(KEY)) == (401, 403, 200)
    key_file(daemon, "another-key-of-a-client\n", 0o644)
    error = refusal(daemon, "reload", status=78)
    assert "mode 0644" in error["message"]
    assert "chmod 600" in error["hint"]
    assert (status(KEY), status("another-key-of-a-client")) == (200, 403)
    path.chmod(0o600)
    told = daemon.modelctl("reload").stdout
    assert told.startswith("keys of the gateway: 1 new, 1 gone, 1 in all\n")
    assert (status(KEY), status("another-key-of-a-client")) == (403, 200)
    assert daemon.json("status")["key_file"] == str(path)


@pytest.mark.parametrize(
    ("settings", "mode", "told"),
    [
        ('gateway.key_file = "{path}"', 0o644, "mode 0644"),
        ('gateway.key_file = "{path}.none"', 0o600, "No such file"),
        ('gateway.key_file = "keys"', 0o600, "expected an absolute path"),
    ],
)
def test_keys_that_are_not_as_they_must_be_refuse_the_start(
    embedded_daemon: Daemon, settings: str, mode: int, told: str
) -> None:
    """`--check` finds it too, before anybody restarts anything."""
    daemon = embedded_daemon
    path = key_file(daemon, mode=mode)
    daemon.configure(settings.format(path=path))
    for arguments in ((), ("--check",)):
        done = daemon.refuses_to_start(*arguments)
        assert done.returncode == 78
        assert told in done.stderr
        assert "hint:" in done.stderr
        assert KEY not in done.stderr


def test_address_that_others_reach_is_served_with_keys_only(embedded_daemon: Daemon) -> None:
    """X-22: said by `--check` with its line, and by the start."""
    daemon = embedded_daemon
    wide = daemon.config.read_text().replace("127.0.0.1:", "0.0.0.0:")
    daemon.config.write_text(wide)
    done = daemon.refuses_to_start("--check")
    assert done.returncode == 78
    assert "gateway.listen" in done.stderr
    assert "gateway.key_file must be set" in done.stderr

    daemon.config.write_text(f'{wide}gateway.key_file = "{key_file(daemon)}"\n')
    with_models(daemon, "alpha")
    assert post(daemon, "/v1/embeddings", {}).status == 401
    assert post(daemon, "/v1/embeddings", {}, X_Api_Key=KEY).status == 400


def test_env_lets_an_official_client_in_without_a_word(embedded_daemon: Daemon) -> None:
    """`eval "$(modelctl env)"`, and the program that was written for the cloud works here."""
    daemon = embedded_daemon
    daemon.configure(f'gateway.key_file = "{key_file(daemon)}"')
    with_models(daemon, "alpha")
    program = (
        "import openai, anthropic, ollama\n"
        "print([m.id for m in openai.OpenAI().models.list()])\n"
        "m = anthropic.Anthropic().messages.create(model='alpha', max_tokens=9,"
        " messages=[{'role': 'user', 'content': 'hi'}])\n"
        "print(m.content[0].text.strip())\n"
        "print(ollama.Client().list().models[0].model)\n"
    )
    script = 'eval "$(modelctl env --shell sh)" && exec "$0" -c "$1"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, program],
        env={**daemon.environment, "PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['alpha']", SENTENCES["alpha"], "alpha"]
    assert KEY not in daemon.modelctl("env").stdout


# --- what must not be written down ------------------------------------------------------------


def say_it_everywhere(daemon: Daemon) -> None:
    """Send the prompt and the key in all ways: answered, refused, malformed, left half way."""
    said = [{"role": "user", "content": PROMPT}]
    headers = {"Authorization": f"Bearer {KEY}"}
    requests: list[tuple[str, object]] = [
        ("/v1/chat/completions", {"model": "alpha", "messages": said, "max_tokens": 8}),
        ("/v1/chat/completions", {"model": "alpha", "messages": said, "stream": True}),
        ("/v1/completions", {"model": "alpha", "prompt": PROMPT, "max_tokens": 8}),
        ("/v1/responses", {"model": "alpha", "input": PROMPT, "max_output_tokens": 8}),
        ("/v1/embeddings", {"model": "alpha", "input": PROMPT}),
        ("/v1/messages", {"model": "alpha", "messages": said, "max_tokens": 8}),
        ("/v1/messages/count_tokens", {"model": "alpha", "messages": said}),
        ("/api/chat", {"model": "alpha", "messages": said, "stream": False}),
        ("/api/generate", {"model": "alpha", "prompt": PROMPT}),
        ("/tokenize", {"model": "alpha", "content": PROMPT}),
        ("/apply-template", {"model": "alpha", "messages": said}),
        (
            "/completion",
            {"model": "alpha", "prompt": PROMPT, "n_predict": 4, "grammar": "root ::="},
        ),
        ("/v1/chat/completions", {"model": "alpha", "messages": said, "n": PROMPT}),
        ("/v1/chat/completions", {"model": "alpha", "messages": said, "temperature": PROMPT}),
        ("/v1/chat/completions", {"model": "alpha", "messages": [{"role": PROMPT}]}),
        ("/v1/chat/completions", {"model": "alpha", "messages": said, "response_format": PROMPT}),
        ("/v1/chat/completions", f'{{"model":"alpha","messages":[{PROMPT}'.encode()),
        ("/v1/chat/completions", {"model": "alpha", "messages": said * 900}),
        (
            "/v1/chat/completions",
            {
                "model": "alpha",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": f"http://{PROMPT}/"}},
                            {"type": "image_url", "image_url": {"url": f"data:a/b,{PROMPT}"}},
                        ],
                    }
                ],
            },
        ),
    ]
    for path, body in requests:
        post(daemon, path, body, **headers)
        post(daemon, path, body, X_Api_Key=f"{KEY}-and-more")
    data = json.dumps({"model": "alpha", "messages": said, "stream": True}).encode()
    for size in (40, len(data)):  # half a body, and a client that leaves at once
        with socket.create_connection(("127.0.0.1", daemon.port)) as raw:
            raw.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Api-Key: %b\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (daemon.port, KEY.encode(), len(data), data[:size])
            )


def written_down(daemon: Daemon) -> Iterator[tuple[str, bytes]]:
    """Return everything that is kept: logs, state, records, caches, and what the commands show."""
    for path in daemon.home.rglob("*"):
        if path.is_file() and path.suffix != ".gguf" and path.name != "keys":
            yield str(path), path.read_bytes()
    for words in (
        ("logs", "alpha", "-n", "2000"),
        ("logs", "-n", "2000"),
        ("events", "-n", "1000", "--no-follow", "--json"),
        ("status", "--json"),
        ("ps", "--json"),
        ("show", "alpha", "--json"),
    ):
        yield " ".join(words), daemon.modelctl(*words, status=None).stdout.encode()
    for pid in daemon.engines():
        for name in ("environ", "cmdline"):
            yield f"{name} of the engine", Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.mark.parametrize("level", ["debug", "info"])
def test_prompts_answers_and_keys_are_written_nowhere(daemon: Daemon, level: str) -> None:
    """F14: whatever happens to a request, and however much is logged."""
    write_model(daemon.models / "alpha.gguf", sentence=ANSWER, name="alpha")
    daemon.configure(
        f'gateway.key_file = "{key_file(daemon)}"\nlog.level = "{level}"\n'
        "gateway.rate_limit_per_minute = 6000\ngateway.rate_burst = 500\n"
        "gateway.log_requests = true"
    )
    daemon.start()
    chat = {"model": "alpha", "messages": [{"role": "user", "content": PROMPT}]}
    answer = post(daemon, "/v1/chat/completions", chat, X_Api_Key=KEY)
    assert ANSWER.encode() in answer.body  # the canary does sing
    say_it_everywhere(daemon)
    (pid,) = daemon.engines()
    places = dict(written_down(daemon))
    psutil.Process(pid).kill()  # a death is told with the engine's last words
    wait_for(lambda: "server-died" in daemon.log.read_text() or daemon.engines() != [pid])
    daemon.modelctl("unload", "--all")
    daemon.stop()
    places |= {
        f"{path} (after)": path.read_bytes()
        for path in daemon.home.rglob("*")
        if path.is_file() and path.suffix != ".gguf" and path.name != "keys"
    }

    assert any("modeld.log" in name for name in places)
    assert any(b" /v1/chat/completions 200 in " in data for data in places.values())
    assert any(".log" in name and "kids" in name for name in places)
    for name, data in places.items():
        for secret in (PROMPT, ANSWER, "nightingale", KEY):
            assert secret.encode() not in data, f"{secret!r} in {name}"


# --- a server that stalls ---------------------------------------------------------------------


def begin_stream(daemon: Daemon, model: str) -> socket.socket:
    """Ask for a stream, and wait until the server has begun it."""
    body = json.dumps({"model": model, "stream": True, "messages": []}).encode()
    raw = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
    raw.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (daemon.port, len(body), body)
    )
    seen = b""
    while b'{"a":1}' not in seen:
        data = raw.recv(65536)
        assert data, seen
        seen += data
    return raw


def test_server_that_hangs_after_an_abort_is_replaced_and_its_clients_are_told(
    embedded_daemon: Daemon,
) -> None:
    """F8: one client leaves, the other one's answer stops (llama.cpp#27604); A4 ends it."""
    daemon = embedded_daemon
    daemon.engine = write_engine(daemon.home / "engine", {"beta": "stall"})
    daemon.configure(PATIENCE)
    with_models(daemon, "alpha", "beta")
    with undisturbed(daemon):
        daemon.modelctl("load", "beta", "--nokill")
        pid = next(row["pid"] for row in daemon.servers() if row["name"] == "beta")
        leaving, staying = begin_stream(daemon, "beta"), begin_stream(daemon, "beta")
        write_engine(daemon.home / "engine", {})  # for the next one: modeld may start it first
        leaving.close()
        began = time.monotonic()
        rest = b""
        with staying:
            while data := staying.recv(65536):
                assert daemon.chat("kept") == SENTENCES["alpha"]
                rest += data
        assert time.monotonic() - began < STALL_SECONDS + 12
        assert b'data: {"error":' in rest
        assert rest.endswith(b"0\r\n\r\n")
        assert "server-stalled" in daemon.log.read_text()
        wait_for(lambda: not psutil.pid_exists(pid))

        daemon.modelctl("load", "beta", "--nokill")
        assert daemon.chat("beta") == SENTENCES["beta"]


# --- what reaches an engine -------------------------------------------------------------------


@pytest.fixture(scope="module", params=engines(), ids=lambda engine: engine.name)
def loaded(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Return a daemon with one loaded model on each engine, for tests that change nothing."""
    with a_daemon(engine=request.param.binary, start=False) as daemon:
        with_models(daemon, "alpha")
        daemon.modelctl("load", "alpha")
        yield daemon


@contextlib.contextmanager
def canary() -> Iterator[tuple[int, list[Any]]]:
    """Listen, and keep whoever connects."""
    caught: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        is_over = threading.Event()

        def accept() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    caught.append(listening.accept())

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1], caught
        finally:
            is_over.set()
            thread.join()


def test_no_link_in_a_request_is_followed(loaded: Daemon) -> None:
    """F9: neither the gateway nor the engine fetches what a prompt points at, or reads a file."""
    secret = loaded.home / "secret.png"
    secret.write_bytes(b"\x89PNG")
    with canary() as (port, caught):
        for link in (
            f"http://127.0.0.1:{port}/a.png", f"HTTP://localhost:{port}/a.png",
            f"http://[::ffff:127.0.0.1]:{port}/a", f"//127.0.0.1:{port}/a.png",
            f"ftp://127.0.0.1:{port}/a", f"file://{secret}", f"file:{secret}", str(secret),
        ):  # fmt: skip
            for part in (
                {"type": "image_url", "image_url": {"url": link}},
                {"type": "image_url", "image_url": link},
                {"type": "input_image", "image_url": link},
                {"type": "image", "source": {"type": "url", "url": link}},
                {"type": "input_audio", "input_audio": {"data": link, "format": "wav"}},
                {"type": "video_url", "video_url": {"url": link}},
                {"type": "input_file", "file_url": link},
            ):
                said = [{"role": "user", "content": [part]}]
                for path, body in (
                    ("/v1/chat/completions", {"messages": said}),
                    ("/v1/messages", {"messages": said, "max_tokens": 1}),
                    ("/v1/responses", {"input": said}),
                    ("/v1/responses", {"input": [part]}),
                    ("/apply-template", {"messages": said}),
                ):
                    reply = post(loaded, path, {"model": "alpha", **body})
                    assert reply.status == 400 or ":" not in link[:6], (path, part)
            for path in ("/api/chat", "/api/generate"):
                said = [{"role": "user", "content": "a", "images": [link]}]
                body = {"model": "alpha", "messages": said, "prompt": "a", "images": [link]}
                assert post(loaded, path, body).status in {400, 500}
        time.sleep(0.2)  # for a connection that is on its way
        assert caught == []
    assert loaded.chat("alpha") == SENTENCES["alpha"]


EXTREMES = (-(2**63), -(2**31) - 1, -(2**31), -3, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**64, 1e308)
FIELDS = """
    n_predict max_tokens max_completion_tokens n_keep n_discard n_cmpl n n_probs min_keep top_k
    top_p min_p typical_p temperature dynatemp_range dynatemp_exponent repeat_last_n repeat_penalty
    presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length
    dry_penalty_last_n mirostat mirostat_tau mirostat_eta xtc_probability xtc_threshold
    top_n_sigma seed id_slot n_indent t_max_predict_ms t_max_prompt_ms top_logprobs logprobs
    logit_bias stop grammar json_schema samplers lora reasoning_budget_tokens
    speculative.n_max speculative.n_min speculative.p_min adaptive_target adaptive_decay
"""


def test_no_extreme_number_kills_the_engine(loaded: Daemon) -> None:
    """F11: what is known to write outside the heap is refused, and the rest is survived."""
    (pid,) = loaded.engines()
    connection = http.client.HTTPConnection("127.0.0.1", loaded.port, timeout=60)
    with contextlib.closing(connection):
        for field in FIELDS.split():
            for value in (*EXTREMES, [], {}, "x", [[1, -(2**63)]], [2**40]):
                body = {"model": "alpha", "prompt": "hi", "max_tokens": 2, "n_predict": 2}
                data = json.dumps({**body, field: value})
                connection.request(
                    "POST", "/completion", data, {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                response.read()
                assert response.status in {200, 400, 500}, (field, value, response.status)
                assert response.status != 500 or loaded.engines() == [pid]

    assert loaded.engines() == [pid]
    assert loaded.chat("alpha") == SENTENCES["alpha"]


def test_huge_and_deep_bodies_cost_no_memory(loaded: Daemon) -> None:
    """F6: a gigabyte in chunks, and a hundred thousand brackets, in less than 64 MiB."""
    assert loaded.process is not None
    process = psutil.Process(loaded.process.pid)
    before = process.memory_info().rss
    peak = before
    chunk = b"100000\r\n" + b"[" * MIB + b"\r\n"
    for path in ("/v1/chat/completions", "/api/chat", "/v1/messages"):
        with socket.create_connection(("127.0.0.1", loaded.port), timeout=30) as raw:
            raw.sendall(
                b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" % (path.encode(), loaded.port)
            )
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(1024):
                    raw.sendall(chunk)
                    peak = max(peak, process.memory_info().rss)
            assert raw.recv(65536).startswith(b"HTTP/1.1 413 ")
        deep = b'{"model":"alpha","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        assert post(loaded, path, deep).status == 400
        peak = max(peak, process.memory_info().rss)

    assert peak - before < 64 * MIB, f"{(peak - before) / MIB:.0f} MiB"
    assert loaded.chat("alpha") == SENTENCES["alpha"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing_a_thousand_times(loaded: Daemon) -> None:
    """F3: on loopback anybody can connect."""
    ask = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "port, got = int(sys.argv[1]), set()\n"
        "for _ in range(1000):\n"
        "    with socket.socket() as s:\n"
        "        s.connect(('127.0.0.1', port))\n"
        "        try:\n"
        "            s.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost:%d\\r\\n\\r\\n' % port)\n"
        "            got.add(s.recv(65536)[9:12])\n"
        "        except OSError: pass\n"
        "print(got - {b''})\n"
    )
    command = [sys.executable, "-c", ask, str(loaded.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            assert loaded.chat("alpha") == SENTENCES["alpha"]
        assert process.stdout is not None
        told = process.stdout.read()

    assert (process.returncode, told) == (0, "{b'403'}\n")


@pytest.mark.parametrize("unit", ["modeld.service", "modeld-llama@.service"])
def test_units_leave_no_core(unit: str) -> None:
    """F14: a core of either has every prompt in it."""
    text = (Path(__file__).parents[2] / "systemd" / unit).read_text()

    assert "\nLimitCORE=0\n" in text
