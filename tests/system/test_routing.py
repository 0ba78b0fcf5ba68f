"""Routing, options and limits on a real modeld with both engines."""

import http.client
import json
from typing import Any, NamedTuple

import pytest

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

SENTENCES = {
    "writer": "Here speaks the writer .",
    "coder": "This is the coder .",
    "llama3.1-8b": "A llama says this .",
}
SETTINGS = """
[models.entries.coder.options]
num_ctx = 256
max_tokens = 2

[routing.roles]
code = "coder"

[[routing.rules]]
pattern = "translate.*to"
model = "writer"
"""
WRITE = "Write a function"


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    json: dict[str, Any]

    @property
    def text(self) -> str:
        """What the model said."""
        return str(self.json["choices"][0]["message"]["content"]).strip()


def ask(daemon: Daemon, text: str, **more: object) -> Reply:
    """Ask for a chat's answer, and name no model."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    body = {"messages": [{"role": "user", "content": text}], **more}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    names = {name.lower(): value for name, value in response.getheaders()}
    reply = Reply(response.status, names, json.loads(response.read()))
    connection.close()
    return reply


@pytest.mark.engine
def test_a_message_reaches_the_model_that_is_meant_for_it(daemon: Daemon) -> None:
    """The sentence proves it, the headers say why, and `route` says the same beforehand."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    daemon.configure(SETTINGS)
    daemon.start()
    daemon.modelctl("list", "--refresh")

    for text, name, route in (
        ("translate this to French", "writer", "rule:1"),
        (WRITE, "coder", "heuristic:code"),
    ):
        assert daemon.json("route", text)["route"] == route
        reply = ask(daemon, text, model="auto")
        assert (reply.headers["x-modeld-model"], reply.headers["x-modeld-route"]) == (name, route)
        assert SENTENCES[name].startswith(reply.text)
    reply = ask(daemon, WRITE, model="writer")
    assert (reply.headers["x-modeld-route"], reply.text) == ("explicit", SENTENCES["writer"])


@pytest.mark.engine
def test_routed_requests_get_the_options_of_their_model(daemon: Daemon) -> None:
    """Its context where they load it, and its parameters where they say nothing."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    daemon.configure(SETTINGS)
    daemon.start()
    daemon.modelctl("list", "--refresh")

    assert ask(daemon, WRITE).json["usage"]["completion_tokens"] == 2
    assert ask(daemon, WRITE, max_tokens=3).json["usage"]["completion_tokens"] == 3
    assert ask(daemon, WRITE, model="coder").text == SENTENCES["coder"]
    assert [row["context_tokens"] for row in daemon.servers()] == [256]


@pytest.mark.engine
def test_a_prompt_that_is_too_long_is_counted_by_the_model_itself(daemon: Daemon) -> None:
    """To the token: what fits is answered, and what does not is refused before it is sent."""
    write_model(daemon.models / "writer.gguf", sentence=SENTENCES["writer"], name="writer")
    daemon.start()
    daemon.modelctl("list", "--refresh")
    padding = {"user": "x" * 512}  # so that the body has more bytes than the context has tokens

    # the tiny vocabulary has a token for each of these letters, and the template adds a few
    statuses = {}
    for letters in range(490, 512):
        reply = ask(daemon, "h" * letters, model="writer", **padding)
        statuses[letters] = reply.status
        if reply.status == 200:
            last = reply
        else:
            assert reply.json["error"]["code"] == "context_length_exceeded"
    assert statuses[490] == 200
    assert statuses[511] == 400
    assert sorted(statuses.values()) == list(statuses.values()), "once too long, always too long"
    assert last.json["usage"]["prompt_tokens"] == 511, "as long as llama-server takes it"
    assert last.headers["x-modeld-context"] == "1.00"

    far = ask(daemon, "h" * 20_000, model="writer")
    assert "estimated" in far.json["error"]["message"]


@pytest.mark.engine
def test_mistakes_in_the_limits_file_keep_the_old_configuration(daemon: Daemon) -> None:
    """As in any other file: all at once, and nothing changes."""
    write_model(daemon.models / "writer.gguf", sentence=SENTENCES["writer"], name="writer")
    path = daemon.home / "limits.toml"
    path.write_text('[[model]]\npattern = "wri*"\nfamily = "mine"\nprofiles = ["code"]\n')
    daemon.configure(f'models.limits_file = "{path}"')
    daemon.start()
    daemon.modelctl("list", "--refresh")
    assert daemon.json("route", "--check", "writer", status=1)["family"] == "mine"

    path.write_text("[[model]]\ntool = 1\n")
    told = daemon.modelctl("reload", status=78).stderr
    assert "did you mean 'tools'?" in told
    assert "pattern is missing" in told
    assert daemon.json("route", "--check", "writer", status=1)["family"] == "mine"

    path.write_text('[[model]]\npattern = "wri*"\nfamily = "another"\n')
    daemon.modelctl("reload")
    assert daemon.json("route", "--check", "writer", status=1)["family"] == "another"
