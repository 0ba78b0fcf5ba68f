"""The stand-in must be taken for llama-server by everything that starts one."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeld import embedded
from modeld.core.argv import parse_help
from tests.support.daemon import free_port
from tests.support.server_rig import catches_sigterm
from tests.support.tiny_gguf import SENTENCE, write_model

COMMAND = [sys.executable, "-P", embedded.__file__]
HELP = embedded.help_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path and a model."""
    directory = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    write_model(directory / "tiny.gguf")
    yield directory
    shutil.rmtree(directory)


def run(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [sys.executable, "-c", code] if code else COMMAND
    return subprocess.run(
        [*command, *words], capture_output=True, text=True, timeout=20, check=False, stdin=0
    )


class Running:
    """A stand-in that is ready."""

    def __init__(self, folder: Path, *words: str, router: bool = True) -> None:
        self.socket_path = str(folder / "x.sock")
        reader, self.stdin = os.pipe()
        host = () if "--host" in words else ("--host", self.socket_path)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "-m", str(folder / "tiny.gguf"), "-c", "256", *host, *words],
                stdin=reader,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"LLAMA_SERVER_ROUTER_PORT": "1"} if router else {},
            )
        os.close(reader)
        self.lines = []
        while router:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, (folder / "log").read_text()
            self.lines.append(json.loads(line.split(b"state:", 1)[1]))
            if self.lines[-1]["state"] == "ready":
                break
        while not catches_sigterm(self.process.pid):
            time.sleep(0.001)


@contextlib.contextmanager
def running(folder: Path, *words: str, router: bool = True) -> Iterator[Running]:
    """A stand-in, ended whatever happens."""
    server = Running(folder, *words, router=router)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()
        with contextlib.suppress(OSError):
            os.close(server.stdin)


def ask(address: str | tuple[str, int], request: bytes) -> bytes:
    """Send one request and return the whole answer."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect(address)
        connection.sendall(request)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return answer


def chat(address: str) -> str:
    """Return what the model says."""
    body = b'{"messages":[{"role":"user","content":"hi"}]}'
    answer = ask(
        address,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
    )
    content = json.loads(answer.split(b"\r\n\r\n", 1)[1])["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


@pytest.mark.engine
def test_chat_is_answered_over_the_unix_socket(folder: Path) -> None:
    """It is an engine, not a mock."""
    with running(folder) as server:
        said = chat(server.socket_path)

    assert said.strip() == SENTENCE


@pytest.mark.engine
def test_states_are_told_on_stdout(folder: Path) -> None:
    """Progress and readiness come from these lines."""
    with running(folder, "-a", "nick") as server:
        states = server.lines

    assert [state["state"] for state in states] == ["loading", "loading", "ready"]
    assert states[-1]["payload"]["id"] == "nick"
    assert states[-1]["payload"]["meta"]["n_ctx"] == 256


@pytest.mark.engine
def test_several_addresses_are_listened_on(folder: Path) -> None:
    """`load -p PORT` adds a loopback port to the socket."""
    port = free_port()
    health = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    hosts = f"{folder}/x.sock,127.0.0.1"
    with running(folder, "--host", hosts, "--port", str(port)) as server:
        answers = [ask(server.socket_path, health), ask(("127.0.0.1", port), health)]

    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.engine
@pytest.mark.parametrize("way", ["line", "end of stdin", "term", "interrupt", "all at once"])
def test_end_is_clean_whichever_way_it_is_asked_for(folder: Path, way: str) -> None:
    """An end that was asked for must not look like a crash."""
    with running(folder) as server:
        if way in {"line", "all at once"}:
            os.write(server.stdin, b"cmd_router_to_child:exit\n")
        if way == "end of stdin":
            os.close(server.stdin)
        if way in {"term", "all at once"}:
            server.process.send_signal(signal.SIGTERM)
        if way == "interrupt":
            server.process.send_signal(signal.SIGINT)
        status = server.process.wait(10)

    assert status == 0


@pytest.mark.engine
def test_stdin_means_nothing_without_a_router(folder: Path) -> None:
    """Run by hand with `< /dev/null` it must stay."""
    with running(folder, router=False) as server:
        os.close(server.stdin)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(10)
        server.stdin = os.open("/dev/null", os.O_RDONLY)

    assert status == 0


@pytest.mark.engine
def test_every_kind_of_option_is_taken(folder: Path) -> None:
    """Each reaches the engine in the type that it wants."""
    words = [
        *("-t", "1", "-tb", "1", "-b", "64", "-ub", "64", "-n", "5", "-fa", "on", "-ngl", "all"),
        *("-ctk", "q8_0", "-ctv", "f16", "-lm", "mmap", "-sm", "none", "-ts", "3,1", "-fit", "off"),
        *("--no-kv-offload", "-s", "-1", "--temp", "0.2", "--samplers", "top_k;temperature"),
        *("-np", "2", "--no-warmup", "--pooling", "mean", "-cb", "--metrics", "--no-slots"),
        *("--jinja", "--reasoning-format", "none", "-rea", "off", "--no-ui", "--ctx_size", "512"),
        *("-to", "5", "--chat-template-kwargs", '{"deep":true}', "--lora", "", "-a", "one,two"),
    ]
    with running(folder, *words) as server:
        said = chat(server.socket_path)
        slots = ask(server.socket_path, b"GET /slots HTTP/1.0\r\n\r\n")
        metrics = ask(server.socket_path, b"GET /metrics HTTP/1.0\r\n\r\n")

    assert SENTENCE.startswith(said.strip())
    assert said.strip() != SENTENCE
    assert slots.startswith(b"HTTP/1.1 501")
    assert b"llamacpp:" in metrics


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--bogus"], "invalid argument: --bogus"),
        (["-c"], "expected value for argument"),
        (["-m", "x.gguf", "-c", "many"], 'handling argument "-c"'),
        (["-m", "x.gguf", "-ctk", "q9"], "invalid value: q9"),
        (["-m", "x.gguf", "-ngl", "some"], "invalid value: some"),
        (["-m", "x.gguf", "-fit", "maybe"], "invalid value: maybe"),
        (["-m", "x.gguf", "-s", "1" * 5000], "invalid value"),
        (["-m", "x.gguf", "--chat-template-kwargs", "[1]"], "invalid value: [1]"),
        (["-m", "x.gguf", "--chat-template-file", "/nowhere/at/all"], "No such file"),
        (["--models-dir", "/tmp"], "invalid argument"),
        (["--tools", "all"], "invalid argument"),
        (["-hf", "some/model"], "invalid argument"),
        ([], "no model"),
    ],
)
def test_bad_argument_ends_it_with_status_one(words: list[str], complaint: str) -> None:
    """As in llama-server; and it never becomes a router or reaches out."""
    done = run(*words)

    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_model_that_does_not_load_ends_it_with_status_one(folder: Path) -> None:
    """The engine's own log says why."""
    (folder / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    done = run("-m", str(folder / "bad.gguf"), "--host", str(folder / "x.sock"))

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_missing_engine_is_told_with_its_cure() -> None:
    """Whoever installed without the extra needs one line."""
    code = (
        "import sys, importlib.util, modeld.embedded as e\n"
        "importlib.util.find_spec = lambda name: None\n"
        "sys.exit(e.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "-m", "x.gguf"],
        capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(Path(embedded.__file__).parent.parent)},
    )  # fmt: skip

    assert done.returncode == 69
    assert "pip install 'modeld[engine]'" in done.stderr


def test_help_is_read_like_that_of_llama_server() -> None:
    """One parser for both."""
    grammar = parse_help(HELP)

    assert grammar.flags["--model"]
    assert grammar.flags["-np"]
    assert not grammar.flags["--no-warmup"]
    assert grammar.canonical["-ngl"] == grammar.canonical["--n-gpu-layers"] == "--gpu-layers"
    assert len(grammar.flags) > 100


def test_help_needs_no_engine() -> None:
    """It is what tells which engine there is."""
    done = run("--help")

    assert done.returncode == 0
    assert done.stdout.strip() == HELP


def test_version_names_the_build() -> None:
    """Minimum builds are checked against it."""
    done = run("--version")

    assert done.returncode == 0
    assert "version: " in done.stderr
    assert "(build " in done.stderr


@pytest.mark.parametrize("name", sorted(parse_help(HELP).flags))
def test_option_has_a_field_of_the_engine(name: str) -> None:
    """A typing error in the table would be found by a user."""
    engine = embedded.load_engine()
    samples = {
        "integer": "1", "real": "1", "seed": "1", "layers": "1", "flash": "on", "rope": "none",
        "cache": "f16", "load": "mmap", "split": "layer", "pooling": "mean", "on-off": "on",
        "reasoning": "none", "tristate": "on", "mapping": "{}", "shares": "1", "adapters": "a",
        "file": "/dev/null", "list": "a", "names": "a",
    }  # fmt: skip
    if name in {"-h", "--help", "--usage", "--version"}:
        return
    ((option, _, _),) = embedded.parse([name, "x"] if parse_help(HELP).flags[name] else [name])
    word = "top_k" if "sampling.samplers" in option.fields else samples.get(option.kind, "x")
    if option.fields == ["tensor_buft_overrides"]:
        word = "x=CPU"

    option.store(engine, engine.CommonParams(), name, word)
