"""
OpenAI's and Ollama's official clients for Node make their ordinary calls, on every engine.

The packages are installed once, into `build/npm`; where there is no Node or no registry, the
tests say so and are skipped.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

SCRIPTS = Path(__file__).parent / "npm"
PACKAGES = Path(__file__).parents[2] / "build" / "npm"
INSTALL_SECONDS = 120.0
RUN_SECONDS = 90.0
TOOL_TEMPLATE = (
    "{% if tools %}{{ tools | length }}{% endif %}"
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
)
SETTINGS = """
models.max_concurrent_loaded = 4
[models.entries."vectors"]
arguments = ["--embeddings", "--pooling", "mean"]
"""


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Install the clients; return where they are."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node here")
    wanted = (SCRIPTS / "package.json").read_text()
    installed = PACKAGES / "package.json"
    if not installed.exists() or installed.read_text() != wanted:
        try:
            PACKAGES.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            pytest.skip(f"nothing can be installed: {error}")
        words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
        (PACKAGES / "package.json").write_text(wanted)
        done = subprocess.run(
            [*words, str(PACKAGES)], capture_output=True, text=True, timeout=INSTALL_SECONDS,
            check=False,
        )  # fmt: skip
        if done.returncode:
            installed.unlink()
            pytest.skip(f"npm installs nothing here: {done.stderr[-300:]}")
        installed.write_text(wanted)
    return PACKAGES / "node_modules"


@pytest.fixture
def models(daemon: Daemon) -> Daemon:
    """Run modeld over models that say their own sentences."""
    write_model(daemon.models / "alpha.gguf", sentence="I am alpha .")
    write_model(daemon.models / "beta.gguf", sentence="This is beta .")
    metadata = {"tokenizer.chat_template": TOOL_TEMPLATE}
    write_model(daemon.models / "tools.gguf", sentence="No tools .", metadata=metadata)
    write_model(daemon.models / "vectors.gguf")
    daemon.configure(SETTINGS)
    return daemon.start()


def run(client: str, daemon: Daemon, node_modules: Path, tmp_path: Path) -> dict[str, Any]:
    """Run one of the scripts against the gateway; return what it found."""
    (tmp_path / "node_modules").symlink_to(node_modules)
    shutil.copy(SCRIPTS / f"{client}.mjs", tmp_path)
    done = subprocess.run(
        ["node", f"{client}.mjs", str(daemon.port)], cwd=tmp_path, capture_output=True, text=True,
        timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{daemon.log.read_text()[-3000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_openai_for_node_makes_its_ordinary_calls(
    models: Daemon, node_modules: Path, tmp_path: Path
) -> None:
    """The client that most web programs are made with must not notice a difference."""
    found = run("openai", models, node_modules, tmp_path)

    assert set(found["models"]) >= {"alpha", "beta", "tools", "vectors"}
    assert (found["chat"].strip(), found["finish"]) == ("I am alpha .", "stop")
    assert found["stream"].strip() == "This is beta ."
    assert found["tokens"] > 0
    assert found["streamTokens"] > 0
    assert "alpha" in found["completion"]
    assert found["withTools"].strip() == "No tools ."
    assert found["unknown"] == {
        "kind": "NotFoundError", "status": 404, "code": "model_not_found",
    }  # fmt: skip
    assert (found["malformed"]["kind"], found["malformed"]["status"]) == ("BadRequestError", 400)
    assert found["embedding"] > 0


def test_ollama_for_node_makes_its_ordinary_calls(
    models: Daemon, node_modules: Path, tmp_path: Path
) -> None:
    """Programs made for Ollama list, chat, stream, keep and unload as they are used to."""
    found = run("ollama", models, node_modules, tmp_path)

    assert set(found["models"]) >= {"alpha", "beta"}
    assert found["version"]
    assert found["chat"].strip() == "I am alpha ."
    assert found["done"] == [True, "stop", True, True]
    assert found["stream"].strip() == "This is beta ."
    assert "alpha" in found["generated"]
    assert found["withTools"] == "string"
    assert found["shown"] == ["gguf", True]
    assert found["embedding"] > 0
    assert (found["kept"], found["running"]) == ("load", True)
    assert (found["unloaded"], found["gone"]) == ("unload", True)
    assert found["unknown"] == ["ResponseError", 404, True]
