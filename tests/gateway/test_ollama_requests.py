"""Ollama's requests in a llama-server's words."""

import json
import time

import pytest

from modeld.gateway import ollama_requests as requests
from modeld.gateway.http import Problem


@pytest.mark.parametrize("body", [b'{"keep_alive":true}', b'{"keep_alive":[1]}', b"[]", b"{"])
def test_what_makes_no_sense_is_refused(body: bytes) -> None:
    """With 400, before any model is loaded."""
    with pytest.raises(Problem) as raised:
        requests.read_chat(body)

    assert raised.value.status == 400


def test_a_stream_is_wanted_unless_it_is_refused() -> None:
    """Ollama's default is the opposite of OpenAI's."""
    assert requests.read_chat(b"{}").is_stream
    assert requests.read_chat(b'{"stream":null}').is_stream
    assert not requests.read_chat(b'{"stream":false}').is_stream


def test_every_option_reaches_the_server_by_its_name_there() -> None:
    """And what belongs to the load does not."""
    options = {
        "num_predict": -1,
        "num_keep": 4,
        "num_ctx": 8192,
        "num_thread": 4,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "repeat_last_n": -1,
        "presence_penalty": 0.5,
        "mirostat": 2,
        "seed": 42,
        "stop": "a",
    }
    ask = requests.read_generate(json.dumps({"prompt": "x", "options": options}).encode())

    body = json.loads(requests.raw_body(ask))

    assert body.pop("prompt") == "x"
    assert body.pop("stream") is True
    assert body.pop("stream_options") == {"include_usage": True}
    expected = {k: v for k, v in options.items() if k not in {"num_ctx", "num_thread"}}
    expected["n_predict"] = expected.pop("num_predict")
    expected["n_keep"] = expected.pop("num_keep")
    assert body == expected


@pytest.mark.parametrize(
    ("image", "kind"), [("/9j/AA==", "jpeg"), ("R0lGAA==", "gif"), ("UklGAA==", "webp")]
)
def test_pictures_become_data(image: str, kind: str) -> None:
    """A server fetches nothing for whoever wrote the prompt."""
    ask = requests.read_generate(json.dumps({"prompt": "x", "images": [image]}).encode())

    message = json.loads(requests.prompt_body(ask))["messages"][0]

    assert message["content"][1]["image_url"]["url"] == f"data:image/{kind};base64,{image}"


def test_results_of_tools_find_their_calls() -> None:
    """By name where it is given, in order otherwise; Ollama's messages have no ids."""
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("f", "g", "f")]
    turns = [
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "2", "tool_name": "g"},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "3", "tool_call_id": "mine"},
    ]
    ask = requests.read_chat(json.dumps({"messages": turns}).encode())

    called, *results = json.loads(requests.chat_body(ask))["messages"]

    ids = [call["id"] for call in called["tool_calls"]]
    assert len(set(ids)) == 3
    assert [result["tool_call_id"] for result in results] == [ids[1], ids[0], "mine"]


@pytest.mark.parametrize(
    "image", ["A" + "\n" * 1_000_000 + "!", "A" * 1_000_000 + "!", "A=" + " " * 1_000_000 + "!"]
)
def test_picture_that_is_none_is_refused_at_once(image: str) -> None:
    """One image of 16 kB took a second, and one of 1 MB an hour: of everybody."""
    ask = requests.Chat(messages=[requests.Turn(images=[image])])
    began = time.monotonic()
    with pytest.raises(Problem, match="base64"):
        requests.chat_body(ask)

    assert time.monotonic() - began < 5


@pytest.mark.parametrize("image", ["AAAA", "AA==", "AA=\n", "AA\r\nAA\r\n", "AA\n==\n \n"])
def test_picture_may_have_lines(image: str) -> None:
    """As encoders write them."""
    requests.chat_body(requests.Chat(messages=[requests.Turn(images=[image])]))


def test_results_find_their_calls_in_no_time_however_many_there_are() -> None:
    """A megabyte of results whose tool nobody had called took half a minute, of everybody."""
    calls = [{"function": {"name": "f"}}] * 18_000
    turns = [{"role": "assistant", "tool_calls": calls}]
    turns += [{"role": "tool", "tool_name": "g"}] * 18_000  # type: ignore[list-item]
    ask = requests.read_chat(json.dumps({"messages": turns}).encode())
    began = time.monotonic()
    messages = json.loads(requests.chat_body(ask))["messages"]

    assert time.monotonic() - began < 5
    assert {each["tool_call_id"] for each in messages[1:]} == {"call"}


def test_more_pictures_than_anybody_sends_are_refused() -> None:
    """Each becomes three objects: 30 MB of tiny ones became gigabytes."""
    turns = [{"images": ["aaaa"] * 500}] * 2
    requests.chat_body(requests.read_chat(json.dumps({"messages": turns}).encode()))
    turns.append({"images": ["aaaa"]})
    ask = requests.read_chat(json.dumps({"messages": turns}).encode())

    with pytest.raises(Problem, match="1000 images") as raised:
        requests.chat_body(ask)
    assert raised.value.status == 400


def test_pictures_by_url_in_a_message_are_refused() -> None:
    """Lists of parts are no words of Ollama's, and must not be a way around."""
    content = [{"type": "image_url", "image_url": {"url": "http://evil/x.png"}}]
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()

    with pytest.raises(Problem, match="data: URL"):
        requests.read_chat(body)
