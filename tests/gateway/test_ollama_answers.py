"""A llama-server's answers in Ollama's words: any cut, any nonsense, within bounds."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.gateway.http import Problem
from modeld.gateway.ollama_answers import MAX_ARGUMENTS_BYTES, MAX_CALLS, Teller, Words
from tests.support.cutting import cut

DONE = b"data: [DONE]\n\n"


class Still:
    """A clock that stands, so that answers can be compared."""

    def now(self) -> float:
        """Return one moment."""
        return 1_700_000_000.5

    def monotonic(self) -> float:
        """Return one moment."""
        return 5.0


def translator() -> Words:
    """Return one for a chat."""
    return Words(Teller("tiny", Still(), is_chat=True))


def event(**delta: object) -> bytes:
    """Return an event of a stream with something new."""
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta}]}).encode()


def finish(reason: str = "stop") -> bytes:
    """Return the event that says why it ends."""
    chunk = {"choices": [{"delta": {}, "finish_reason": reason}]}
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def call_part(index: int, name: str, arguments: str) -> bytes:
    """Return an event with a part of a tool call."""
    function = {"name": name, "arguments": arguments}
    return event(tool_calls=[{"index": index, "function": function}])


def lines(data: bytes) -> list[dict[str, object]]:
    """Return the objects of an NDJSON body; every line must be one."""
    assert data.endswith(b"\n")
    found = [json.loads(line) for line in data.splitlines()]
    assert all(isinstance(each, dict) for each in found)
    return found


def translate(data: bytes, places: list[int] | None = None) -> bytes:
    """Return what a whole stream becomes."""
    words = translator()
    return b"".join(words.piece(piece) for piece in cut(data, places or [])) + words.end()


EVENTS = st.one_of(
    st.text(max_size=8).map(lambda text: event(content=text)),
    st.text(max_size=8).map(lambda text: event(reasoning_content=text)),
    st.builds(
        call_part, st.integers(0, 2), st.sampled_from(["", "f"]), st.text('{}"a:', max_size=5)
    ),
    st.sampled_from(
        (
            b": ping\n\n",
            finish(),
            finish("length"),
            finish("tool_calls"),
            b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
            b'data: {"error":{"message":"out of memory"}}\n\n',
            DONE,
        )
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=8).map(b"".join), st.lists(st.integers(0, 600), max_size=8))
def test_stream_does_not_depend_on_how_its_bytes_are_cut(data: bytes, places: list[int]) -> None:
    """The network cuts where it likes, also inside of a character."""
    told = translate(data, places)

    assert told == translate(data)
    objects = lines(told)
    ends = [each for each in objects if each.get("done") or "error" in each]
    assert ends == objects[-1:]  # exactly one, and nothing after it


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_nonsense_becomes_an_error_in_the_stream(data: bytes, is_event: bool) -> None:
    """A server may send whatever it likes."""
    told = translate(b"data: %b\n\n" % data if is_event else data)

    assert set(lines(told)[-1]) >= {"error"} or lines(told)[-1]["done"] is True


def test_each_event_is_a_line_at_once() -> None:
    """A reader waits for every word."""
    words = translator()

    line = words.piece(event(content="héllo"))

    assert lines(line) == [
        {
            "model": "tiny",
            "created_at": "2023-11-14T22:13:20.500000Z",
            "message": {"role": "assistant", "content": "héllo"},
            "done": False,
        }
    ]


def test_thoughts_are_apart_from_words() -> None:
    """Clients show them differently."""
    found = lines(translate(event(reasoning_content="hm") + event(content="so") + finish()))

    assert [each["message"] for each in found[:2]] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "so"},
    ]


def test_calls_in_parts_become_whole_ones() -> None:
    """Two at once, their arguments as objects."""
    parts = [(0, "f", '{"a":'), (1, "g", ""), (0, "", "1}")]
    data = b"".join(call_part(*part) for part in parts)

    called, last = lines(translate(data + finish("tool_calls") + DONE))

    message = called["message"]
    assert isinstance(message, dict)
    assert message["tool_calls"] == [
        {"function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
        {"function": {"index": 1, "name": "g", "arguments": {}}},
    ]
    assert last["done_reason"] == "stop"


def test_a_call_that_a_limit_cut_short_is_not_made() -> None:
    """Half of its arguments may mean something else."""
    (last,) = lines(translate(call_part(0, "f", '{"path":"/') + finish("length") + DONE))

    assert (last["done"], last["done_reason"]) == (True, "length")


@pytest.mark.parametrize("arguments", ["[1]", '{"a"', "x"])
def test_arguments_that_are_no_object_are_an_error(arguments: str) -> None:
    """Better than a call that nobody meant."""
    (last,) = lines(translate(call_part(0, "f", arguments) + finish("tool_calls") + DONE))

    assert "no object" in str(last["error"])


@pytest.mark.parametrize(
    "part",
    [
        [call_part(n, "f", "") for n in range(MAX_CALLS + 1)],
        [call_part(0, "f", "x" * 70_000)] * (MAX_ARGUMENTS_BYTES // 70_000 + 1),
    ],
)
def test_calls_without_end_are_an_error(part: list[bytes]) -> None:
    """They are kept in memory until they are whole."""
    assert "more tool calls" in str(lines(translate(b"".join(part)))[-1]["error"])


def test_a_stream_that_only_stops_is_an_error() -> None:
    """A half answer must not pass for a whole one."""
    assert "part of its answer" in str(lines(translate(event(content="x")))[-1]["error"])


def test_nothing_is_kept_after_an_error() -> None:
    """A server that goes on for ever must not fill the memory."""
    words = translator()
    assert b"error" in words.piece(b"data: {\n\n")

    assert words.piece(b"x" * 3_000_000) == b""
    assert words.end() == b""


@pytest.mark.parametrize("body", [b"", b"{}", b'{"choices":[]}', b"[1]", b"\xff"])
def test_an_answer_without_words_is_refused(body: bytes) -> None:
    """It would look like silence."""
    with pytest.raises(Problem) as raised:
        translator().whole(body)

    assert raised.value.status == 502
