"""The README: every command works, on a real modeld with models of those names."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import BIN, Daemon, a_daemon, free_port
from tests.support.tiny_gguf import write_model

README = (Path(__file__).parent.parent / "README.md").read_text()
ELSEWHERE = {"make", "systemctl", "journalctl", "docker"}
"""First words of what is tested by the tests of packages, units and containers."""
MODELS = ("qwen3-8b", "qwen3-coder", "gemma", "phi")
SECONDS = 60


def blocks(language: str) -> list[str]:
    """Return the blocks of one language, lines that go on joined."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", "") for block in found]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A modeld that knows the models that the README names, one of them on a slow disk alone."""
    with a_daemon(settings="cache.ssd_min_free_gb = 0.01", start=False) as one:
        for name in MODELS:
            write_model(
                one.models / f"{name}.gguf", sentence=f"I am {name} .", context_tokens=32768
            )
        write_model(one.home / "hdd1" / "huge.gguf", sentence="I am huge .")
        (one.home / "hdd2").mkdir()
        old = one.home / "config" / "llama-pack" / "config.json"
        old.parent.mkdir()
        old.write_text(f'{{"ssd_path": "{one.models}", "default_port": 8080}}')
        yield one.start()


def here(text: str, daemon: Daemon) -> str:
    """Return a text with the README's places and ports put where this modeld has them."""
    places = {
        "/ssd/models": str(daemon.models),
        "/hdd1/models": str(daemon.home / "hdd1"),
        "/hdd2/models": str(daemon.home / "hdd2"),
        "~/.config": str(daemon.home / "config"),
        "127.0.0.1:8080": f"127.0.0.1:{daemon.port}",
        "-p 8081": f"-p {free_port()}",
        # this machine may have models of its own
        "modelctl init  ": "modelctl init --dry-run ",
    }
    for written, actual in places.items():
        text = text.replace(written, actual)
    return text


def test_every_command_works_in_the_order_of_the_page(daemon: Daemon) -> None:
    """A front page that is wrong once is not believed again."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(lines) > 30
    for line in lines:
        if line.split()[0] in ELSEWHERE:
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", here(line, daemon)],
            cwd=daemon.home, env=daemon.environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert '"error"' not in done.stdout, (line, done.stdout)


def test_every_configuration_is_valid(daemon: Daemon) -> None:
    """What is copied from there must not keep modeld from starting."""
    for block in blocks("toml"):
        done = subprocess.run(
            [BIN / "modelctl", "config", "check", "-"],
            input=here(block, daemon), env=daemon.environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_the_program_runs(daemon: Daemon) -> None:
    """As it stands."""
    (program,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=daemon.environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "qwen3-8b" in done.stdout
    assert "Insufficient" not in done.stdout
