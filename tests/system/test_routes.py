"""A real modeld and a real engine: variants, what is told as it happens, a server's own paths."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import openai
import pytest

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

SETTINGS = """
gateway.upstream = true
[models.entries.alpha.variants."alpha:terse"]
set = { max_tokens = 1 }
"""
PATIENCE_SECONDS = 15.0


@pytest.fixture
def ready(daemon: Daemon) -> Daemon:
    """Run a modeld with one model and a variant of it."""
    write_model(daemon.models / "alpha.gguf", sentence="I am alpha .", name="alpha")
    daemon.configure(SETTINGS)
    daemon.start()
    end = time.monotonic() + PATIENCE_SECONDS
    while ask(daemon, "GET", "/ready")[0] != 200:
        assert time.monotonic() < end, "it was never ready"
        time.sleep(0.02)
    return daemon


def ask(daemon: Daemon, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Ask the gateway for something."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    data = json.dumps(body) if body is not None else None
    connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


class Reader:
    """Reads an answer without end in a thread, and keeps what came."""

    def __init__(self, daemon: Daemon, path: str) -> None:
        self.text = b""
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        self._connection.request("GET", path)
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(http.client.IncompleteRead, OSError):  # `close`
            while piece := self._response.read1(65536):
                self.text += piece

    def until(self, wanted: bytes) -> None:
        """Wait until this has come; bounded."""
        end = time.monotonic() + PATIENCE_SECONDS
        while wanted not in self.text:
            assert time.monotonic() < end, f"{wanted!r} never came: {self.text!r}"
            time.sleep(0.01)

    def events(self) -> list[dict[str, object]]:
        """Return the events so far."""
        lines = [line for line in self.text.split(b"\n\n") if line.startswith(b"data: ")]
        return [json.loads(line[6:]) for line in lines]

    def close(self) -> None:
        """Be gone, whatever is being read."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._thread.join(PATIENCE_SECONDS)
        self._connection.close()


@contextmanager
def reading(daemon: Daemon, path: str) -> Iterator[Reader]:
    """Follow a path."""
    reader = Reader(daemon, path)
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.engine
def test_a_variant_is_its_model_with_parameters_of_its_own(ready: Daemon) -> None:
    """The engine itself must obey what the configuration put into the request."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{ready.port}/v1", api_key="x") as client:
        answers = {
            name: client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "hi"}], max_completion_tokens=50
            )
            for name in ("alpha", "alpha:terse")
        }
        assert {model.id for model in client.models.list()} == {"alpha", "alpha:terse"}

    whole, terse = answers["alpha"].choices[0], answers["alpha:terse"].choices[0]
    assert (whole.message.content or "").strip() == "I am alpha ."
    assert terse.finish_reason == "length"
    usage = answers["alpha:terse"].usage
    assert usage is not None
    assert usage.completion_tokens == 1
    shown = ready.modelctl("show", "alpha")
    assert "alpha:terse (set max_tokens 1)" in shown.stdout


@pytest.mark.engine
def test_a_load_and_its_log_can_be_watched(ready: Daemon) -> None:
    """Whoever waits for a model sees how far it is, and what its server says."""
    with reading(ready, "/models/sse") as events, reading(ready, "/logs/stream/alpha") as log:
        assert ask(ready, "POST", "/models/load", {"model": "alpha"})[0] == 200
        events.until(b'"status":"loaded"')
        log.until(b"srv")
        assert ask(ready, "POST", "/models/unload", {"model": "alpha"})[0] == 200
        events.until(b'"status":"unloaded"')
    told = [(each["event"], each["data"]["status"]) for each in events.events()]  # type: ignore[index]
    assert told[0] == ("model_status", "loading")
    assert told[-2:] == [("status_change", "loaded"), ("status_change", "unloaded")]
    assert b"alpha" in ask(ready, "GET", "/logs")[1]


@pytest.mark.engine
def test_a_servers_own_paths_are_there_where_that_is_wanted(ready: Daemon) -> None:
    """It loads for work, and not for a look."""
    assert ask(ready, "GET", "/upstream/alpha/props")[0] == 409
    status, body = ask(ready, "POST", "/upstream/alpha/tokenize", {"content": "alpha"})
    assert status == 200
    assert json.loads(body)["tokens"]
    status, body = ask(ready, "GET", "/upstream/alpha/props")
    assert status == 200
    assert "default_generation_settings" in json.loads(body)


@pytest.mark.engine
def test_a_model_that_hears_nothing_says_so_to_openais_client(ready: Daemon) -> None:
    """The engine's own refusal, as the client's own exception."""
    address = f"http://127.0.0.1:{ready.port}/v1"
    with (
        openai.OpenAI(base_url=address, api_key="x", max_retries=0) as client,
        pytest.raises(openai.APIStatusError, match="audio") as caught,
    ):
        client.audio.transcriptions.create(model="alpha", file=("a.wav", b"RIFF", "audio/wav"))

    assert caught.value.status_code == 501
