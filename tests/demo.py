"""
`make demo`: the main job, on a real llama.cpp, with the commands that a person would type.

Everything happens in a temporary directory: models, state, sockets.  The user's own set-up,
systemd and any running modeld are left alone.  Each step prints its command, runs it on a terminal
of its own, and checks what came of it.  What a Python program does with modeld comes last, in
`tests.demo_manager`.  Exit status 0 when all checks passed, 1 when one failed.
"""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import demo_manager
from tests.support.terminal import Terminal
from tests.support.tiny_gguf import write_model

SENTENCES = {
    "tiny-tool": "I am the tool model : this answer came out of a real llama.cpp run .",
    "tiny-chat": "Hello , this is tiny-chat speaking through the gateway of modeld .",
    "tiny-code": "def answer() : return 42",
    "big-slow": "From the slow disk to an SSD : 28 megabytes speak .",
    "giant": "Nobody hears me .",
}
BIG = "big-slow"
GIANT = "giant"
WISH = "Write a function that adds two numbers"
BIN = Path(sys.executable).parent
START_SECONDS = 20.0
COMMAND_SECONDS = 120.0
COLUMNS = 100


class Demo:
    """Runs commands, shows them, and counts what was checked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.models = home / "models"
        self.slow = home / "slow"
        self.passed = self.failed = 0
        self.port = free_port()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MODELD_")},
            "XDG_RUNTIME_DIR": str(home / "run"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
            "TERM": "dumb",  # tables, and progress as lines
            "LANG": "C.UTF-8",
        }
        if not sys.stdout.isatty():
            self.environment["NO_COLOR"] = "1"
        self.environment.pop("NOTIFY_SOCKET", None)

    def say(self, text: str) -> None:
        """Print a heading."""
        bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
        print(f"\n{bold[0]}# {text}{bold[1]}", flush=True)

    def check(self, what: str, ok: bool) -> None:
        """Count one check, and say so where it failed."""
        self.passed += ok
        self.failed += not ok
        if not ok:
            print(f"FAILED: {what}", flush=True)

    def run(self, *words: str, status: int = 0, shows: str = "") -> str:
        """Show and run one command; check its exit status and what it shows."""
        line = shlex.join(words)
        print(f"$ {line}", flush=True)
        with Terminal(words, self.environment, columns=COLUMNS) as terminal:
            ended = terminal.wait(timeout_s=COMMAND_SECONDS)
        text = terminal.text.replace("\r\n", "\n")
        print(text, end="", flush=True)
        if status:
            print(f"(exit {ended})", flush=True)
        self.check(f"{line} exits {status}", ended == status)
        if shows:
            self.check(f"{line} shows {shows!r}", shows in text)
        return text

    def chat(
        self, model: str, sentence: str, *, message: str = "Who are you?", route: str = "explicit"
    ) -> None:
        """Ask a model through the gateway, and check by its sentence which one answered."""
        body = {"model": model, "messages": [{"role": "user", "content": message}]}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        print(f"$ curl {url} -H 'Content-Type: application/json' -d '{json.dumps(body)}'")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        name, found = (response.getheader(f"X-Modeld-{key}") for key in ("Model", "Route"))
        answer = json.loads(response.read())
        connection.close()
        said = answer.get("choices", [{}])[0].get("message", {}).get("content", str(answer)).strip()
        why = "" if found == "explicit" else f" (X-Modeld-Route: {found})"
        print(f"{name}{why} says: {said}", flush=True)
        self.check(f"{model} answers with its own sentence", said == sentence)
        self.check(f"{model} is found by {route}", found == route)

    def watch_copy(self, model: str) -> None:
        """Look at a copy until it is published."""
        end = time.monotonic() + 30
        seen = ""
        while not (self.models / f"{model}.gguf").exists() and time.monotonic() < end:
            seen += self.run("modelctl", "cache")
            time.sleep(0.4)
        self.check("the copy could be watched", "%" in seen)
        self.check("the copy is published", (self.models / f"{model}.gguf").exists())
        while time.monotonic() < end:  # the catalogue follows within a moment
            words = (str(BIN / "modelctl"), "show", model, "--json")
            shown = subprocess.run(words, env=self.environment, capture_output=True, check=False)
            if len(json.loads(shown.stdout).get("locations", ())) == 2:
                break
            time.sleep(0.05)


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def daemon(demo: Demo) -> Iterator["subprocess.Popen[bytes]"]:
    """Run modeld for the length of the demo."""
    config = demo.home / "config" / "modeld"
    config.mkdir(parents=True)
    (config / "modeld.toml").write_text(
        f'[storage]\nssd_path = "{demo.models}"\nhdd_paths = ["{demo.slow}"]\n'
        f'[gateway]\nlisten = ["127.0.0.1:{demo.port}"]\n[servers]\nlauncher = "direct"\n'
        "[cache]\nssd_min_free_gb = 0.01\ncopy_limit_mb_per_second = 25\n"
    )
    (demo.home / "run").mkdir(mode=0o700)
    log = demo.home / "modeld.log"
    print("$ modeld &")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / "modeld"], env=demo.environment, stdout=output, stderr=output
        )
    try:
        wait_for_socket(demo.home / "run" / "modeld" / "rpc.sock", process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_socket(path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until modeld listens; bounded."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        time.sleep(0.02)
    print(log.read_text(), file=sys.stderr)
    raise SystemExit("modeld did not start")


def play(demo: Demo) -> None:
    """Show the main job."""
    demo.say("four tiny models and a larger one on a slow disk, each with its own sentence")
    demo.run("modelctl", "list", shows="tiny-tool")
    demo.say("names: a nickname, and the global slot 'tool'")
    demo.run("modelctl", "nick", "set", "tiny-chat", "helper", shows="helper")
    demo.run("modelctl", "slot", "set", "tool", "tiny-tool", shows="tool")
    demo.say("load the holder of the slot")
    demo.run("modelctl", "load", "-n1", "tool", shows="ready")
    demo.run("modelctl", "ps", shows="tiny-tool")
    demo.chat("tool", SENTENCES["tiny-tool"])
    demo.say("loading what runs already is no work")
    demo.run("modelctl", "load", "-n1", "tool", shows="already running")
    demo.say("a program names another model: it is loaded beside the first, and answers")
    demo.chat("helper", SENTENCES["tiny-chat"])
    demo.run("modelctl", "ps", shows="tiny-chat")
    demo.say("two places, three models: the least recently used one makes room")
    demo.chat("tiny-code", SENTENCES["tiny-code"])
    left = demo.run("modelctl", "ps", shows="tiny-code")
    demo.check("tiny-tool was swapped out", "tiny-tool" not in left)
    demo.say("an operator who loads again too soon is held back")
    demo.run("modelctl", "load", "tiny-tool", status=75, shows="Too soon to reload. Wait")
    demo.say("a model on a slow disk: copied to the SSD in the background, 25 MB/s here")
    demo.run("modelctl", "cache", "promote", BIG, shows=BIG)
    demo.watch_copy(BIG)
    demo.run("modelctl", "list", BIG, shows="ssd")
    demo.chat(BIG, SENTENCES[BIG])


def play_choices(demo: Demo) -> None:
    """Show what modeld decides by itself, why, and what it cost."""
    demo.say("a program names no model: its words choose one, and the answer says why")
    demo.run("modelctl", "config", "set", "routing.roles.code", "tiny-code", shows="tiny-code")
    demo.run("modelctl", "route", WISH, shows="tiny-code")
    demo.chat("auto", SENTENCES["tiny-code"], message=WISH, route="heuristic:code")
    demo.say("what does not fit is refused, with the sum: here one that is said to need 9,000 GB")
    demo.run("modelctl", "config", "set", f"models.entries.{GIANT}.memory_gb", "9000")
    demo.run("modelctl", "can-load", GIANT, status=1, shows="Insufficient RAM: need 9000.0GB")
    demo.say("what it all cost")
    demo.run("modelctl", "stats", shows="tiny-code")
    demo.say("and everything can be unloaded")
    demo.run("modelctl", "unload", "--all", shows="tiny-code")
    left = demo.run("modelctl", "ps", "--json")
    demo.check("nothing is loaded any more", json.loads(left)["servers"] == [])


def main() -> int:
    """Run the demo; return its exit status."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="modeld-demo-"))
    try:
        demo = Demo(home)
        demo.models.mkdir()
        demo.slow.mkdir()
        for name, sentence in SENTENCES.items():
            folder, padding = (demo.slow, 16384) if name == BIG else (demo.models, 32)
            path = folder / f"{name}.gguf"
            write_model(path, sentence=sentence, name=name, pad_ff=padding)
        with daemon(demo) as process:
            play(demo)
            play_choices(demo)
            print("$ kill %1")
        demo.check("modeld ends with status 0", process.returncode == 0)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    passed, failed = demo_manager.run()
    demo.passed, demo.failed = demo.passed + passed, demo.failed + failed
    if demo.failed:
        print(f"\ndemo: {demo.failed} of {demo.passed + demo.failed} checks FAILED")
        return 1
    print(f"\ndemo: {demo.passed} checks passed in {time.monotonic() - began:.1f} s")
    print("next: make test                    the whole suite")
    print("      make install PREFIX=~/.local  then: systemctl --user enable --now modeld")
    return 0


if __name__ == "__main__":
    sys.exit(main())
