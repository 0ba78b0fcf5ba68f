"""A real modeld, managed over HTTP: what people promised each other holds there too."""

import http.client
import json
import time
from typing import NamedTuple

import anthropic
import pytest

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

SENTENCES = {"alpha": "I am alpha .", "beta": "This is beta .", "gamma": "Here speaks gamma ."}
PATIENCE_SECONDS = 10.0


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """Return it decoded."""
        decoded: dict[str, object] = json.loads(self.body)
        return decoded


def ask(daemon: Daemon, method: str, path: str, body: object = None) -> Reply:
    """Ask the gateway for something."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    data = json.dumps(body) if body is not None else None
    headers = {"Content-Type": "application/json"} if data else {}
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    reply = Reply(response.status, response.read())
    connection.close()
    return reply


def wait_until_ready(daemon: Daemon) -> None:
    """Wait as a script does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while ask(daemon, "GET", "/ready").status != 200:
        assert time.monotonic() < end, "it was never ready"
        time.sleep(0.02)


@pytest.mark.engine
def test_programs_load_and_unload_within_what_people_promised(daemon: Daemon) -> None:
    """A pinned model stays, whatever a program asks for; looking loads nothing."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    daemon.start()
    wait_until_ready(daemon)

    assert ask(daemon, "POST", "/models/load", {"model": "alpha"}).json["success"]
    daemon.modelctl("pin", "alpha")
    assert ask(daemon, "POST", "/models/load", {"model_id": "beta"}).status == 200
    assert ask(daemon, "GET", "/models").json["loaded"] == ["alpha", "beta"]
    assert ask(daemon, "GET", "/props?model=beta").status == 200

    refused = ask(daemon, "POST", "/models/unload/alpha")
    assert refused.status == 409
    assert b"pinned" in refused.body
    assert ask(daemon, "GET", "/unload").body == b"OK"
    models = ask(daemon, "GET", "/models").json
    assert models["loaded"] == ["alpha"]
    assert models["current"] == {"id": "alpha"}
    assert ask(daemon, "GET", "/props?model=beta").status == 409
    assert ask(daemon, "GET", "/models").json["loaded"] == ["alpha"]


@pytest.mark.engine
def test_anthropic_s_client_gets_the_model_that_it_names(daemon: Daemon) -> None:
    """Loaded when it asks, under the name that it insists on."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    daemon.start()
    wait_until_ready(daemon)
    daemon.modelctl("nick", "add", "beta", "claude")

    with anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{daemon.port}", api_key="x", max_retries=0, timeout=30
    ) as client:
        for name, sentence in (*SENTENCES.items(), ("claude", SENTENCES["beta"])):
            message = client.messages.create(
                model=name, max_tokens=32, messages=[{"role": "user", "content": "hi"}]
            )
            assert message.content[0].type == "text"
            assert message.content[0].text.strip() == sentence
