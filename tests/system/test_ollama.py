"""Ollama's own client and a real modeld: it names a model, and gets that model's words."""

import json
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ollama
import pytest

from tests.support.daemon import Daemon, free_port
from tests.support.tiny_gguf import write_model

SENTENCES = {"alpha": "I am alpha .", "beta": "This is beta .", "gamma": "Here speaks gamma ."}
MESSAGES = [{"role": "user", "content": "hi"}]
PATIENCE_SECONDS = 10.0


class Rig(NamedTuple):
    """A modeld that listens where Ollama would, and its client."""

    daemon: Daemon
    client: ollama.Client

    def loaded(self) -> set[str]:
        """Return the models that run."""
        return {model.model or "" for model in self.client.ps().models}

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Wait until something is so; bounded."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not what():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)


@pytest.fixture
def rig(daemon: Daemon) -> Iterator[Rig]:
    """Run a modeld with two addresses, and three models for two places."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    second = free_port()
    listen = json.dumps([f"127.0.0.1:{daemon.port}", f"127.0.0.1:{second}"])
    lines = daemon.config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("gateway.listen")]
    daemon.config.write_text("\n".join((*kept, f"gateway.listen = {listen}", "")))
    with ollama.Client(host=f"http://127.0.0.1:{second}", timeout=30) as client:
        yield Rig(daemon.start(), client)


def test_client_swaps_models_loads_and_unloads(rig: Rig) -> None:
    """What a person does in an afternoon with two programs and too little memory."""
    for name, sentence in SENTENCES.items():
        assert (rig.client.chat(name, MESSAGES).message.content or "").strip() == sentence
        stream = rig.client.generate(f"{name}:latest", "hi", stream=True)
        assert "".join(part.response for part in stream).strip() == sentence
    assert len(rig.loaded()) == 2

    assert rig.client.generate("gamma", "", keep_alive=0).done_reason == "unload"
    assert rig.loaded() == {"beta"}
    assert rig.client.generate("alpha", "").done_reason == "load"
    assert rig.loaded() == {"alpha", "beta"}
    rig.client.chat("beta", MESSAGES, keep_alive=0)
    rig.wait_for(lambda: rig.loaded() == {"alpha"})


def test_copy_and_delete_change_nicknames_alone(rig: Rig) -> None:
    """A client that tidies up must not cost anybody 40 GB."""
    rig.client.copy("alpha", "first:latest")
    assert (rig.client.chat("first", MESSAGES).message.content or "").strip() == "I am alpha ."
    rig.client.delete("first")
    with pytest.raises(ollama.ResponseError, match="model 'first' not found"):
        rig.client.chat("first", MESSAGES)
    with pytest.raises(ollama.ResponseError, match="deletes no model files"):
        rig.client.delete("alpha")
    assert {model.model for model in rig.client.list().models} == set(SENTENCES)
    assert rig.client.show("alpha").capabilities is not None
