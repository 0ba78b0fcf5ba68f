"""What of a body is read, and what no server ever sees."""

import json
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.gateway import fields
from modeld.gateway.fields import Checked
from modeld.gateway.http import Problem

DECODER = msgspec.json.Decoder(Checked)


def read(body: bytes) -> Checked:
    """Read a body."""
    return fields.read(DECODER, body)


def status(body: bytes) -> int:
    """Return 200 for a body that may pass."""
    try:
        read(body)
    except Problem as problem:
        return problem.status
    return 200


def parts(*content: object) -> bytes:
    """Return a chat whose only message has these parts."""
    return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()


def test_read_finds_model_and_stream_among_everything_else() -> None:
    """These two decide where the request goes, and how long errors keep their status."""
    found = read(b'{"x":[1,{"model":"no"}],"model":"tiny","stream":true,"y":null}')

    assert (found.model, found.stream) == ("tiny", True)


def test_read_takes_null_for_absent() -> None:
    """Typed clients send every field."""
    found = read(b'{"model":null,"stream":null,"n":null,"max_tokens":null,"messages":[]}')

    assert (found.model, found.stream) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nul",
        b"[]",
        b'"model"',
        b'{"model":3}',
        b'{"model":"a"',
        b'{"model":"a"} x',
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b'{"stream":1}',
        b'{"x":NaN}',
        b'{"messages":"hi"}',
        b'\xef\xbb\xbf{"model":"a"}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":[{"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_read_refuses_what_is_no_request(body: bytes) -> None:
    """A body that breaks our reader would break the server's, or the daemon."""
    with pytest.raises(Problem) as raised:
        read(body)

    assert raised.value.status == 400


def test_read_refuses_a_million_tiny_objects_in_a_big_body() -> None:
    """Decoded they take fifty times the room of their two bytes."""
    with pytest.raises(Problem):
        read(b'{"messages":[' + b"{}," * 700_000 + b"{}]}")


@pytest.mark.parametrize(
    "value", [" " * 20_000_000, "a" * 20_000_000, ("a" + " " * 9) * 2_000_000], ids=range(3)
)
def test_read_looks_for_a_link_where_one_begins(value: str) -> None:
    """A text of 30 MB is looked at for as long as it takes to read it, and no longer."""
    began = time.monotonic()

    assert status(parts({"type": "x", "url": value})) == 200
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("depth", [100, 400, 700, 900])
def test_read_sees_a_link_however_deep_it_is(depth: int) -> None:
    """What was deep enough to be read and too deep to be looked through was "a bug in modeld"."""
    for before, after in ((b'{"a":', b"}"), (b"[", b"]")):
        for link, expected in ((b'"http://x/"', 400), (b'"data:,"', 200)):
            nested = before * depth + link + after * depth
            assert status(b'{"messages":[{"content":[{"b":%b}]}]}' % nested) == expected


@pytest.mark.parametrize(
    "piece",
    [b"1,", b'"",', rb'"\"",', rb'"\\",', b'"k":1,', rb'"\\\"",', b"[1],", b"1 ,"],
)
def test_read_refuses_millions_of_values_in_a_big_body(piece: bytes) -> None:
    """Each is an object, and is walked over: 30 MB of them held everybody up for seconds."""
    body = b'{"messages":[{"content":[%b1]}]}' % (piece * 2_000_000)

    with pytest.raises(Problem, match="a body may have") as raised:
        read(body)
    assert raised.value.status == 400


@pytest.mark.parametrize("text", [b"a, b, ", rb"say \"a\", ", rb"c:\\a, ", b"1,2,"])
def test_read_counts_nothing_within_a_text(text: bytes) -> None:
    """A book and a table have commas and quotes by the million."""
    read(b'{"messages":[{"content":"%b"}],"prompt":[%b1]}' % (text * 1_000_000, b"1," * 900_000))


@pytest.mark.parametrize(
    "field",
    [
        '"n_discard":-1',
        '"n_discard":-2147483648',
        '"n_discard":2147483648',
        '"n_discard":99999999999999999999',
        '"n_discard":1e300',
        '"n":0',
        '"n":65',
        '"n_cmpl":1000000',
        '"n_keep":-3',
        '"n_predict":-9',
        '"max_tokens":99999999999',
        '"dry_allowed_length":-1',
        '"dry_penalty_last_n":-99',
        '"repeat_last_n":-99',
        '"n_probs":1000000',
        '"top_logprobs":-1',
        '"min_keep":-1',
        '"id_slot":-9',
        '"\\u006e_discard":-1',
        '"n_discard":0,"n_discard":-1',
    ],
)
def test_read_refuses_numbers_that_break_llama_server(field: str) -> None:
    """CVE-2026-21869: one request with a negative n_discard writes outside the heap."""
    with pytest.raises(Problem) as raised:
        read(f"{{{field}}}".encode())

    assert raised.value.status == 400


@pytest.mark.parametrize(
    "field",
    [
        '"n_discard":0',
        '"n":1',
        '"max_tokens":-1',
        '"max_tokens":100.0',
        '"n_predict":-2',
        '"temperature":0.7',
        '"seed":-1',
        '"top_k":0',
        '"id_slot":-1',
        '"unknown":{"deep":[1]}',
    ],
)
def test_read_accepts_the_numbers_that_clients_send(field: str) -> None:
    """A guard that refuses honest requests is switched off."""
    read(f"{{{field}}}".encode())


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": {"url": "HTTPS://evil.example/a.png"}},
        {"type": "image_url", "image_url": "http://evil.example/a.png"},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "file:/etc/passwd"}},
        {"type": "image_url", "image_url": {"url": " http://evil.example"}},
        {"type": "image_url", "image_url": {"url": "ftp://evil.example/a"}},
        {"type": "image_url", "image_url": {"url": "http:evil"}},
        {"type": "video_url", "video_url": {"url": "https://evil.example/a.mp4"}},
        {"type": "input_image", "image_url": "https://evil.example/a.png"},
        {"type": "input_audio", "input_audio": {"data": "https://evil.example/a.wav"}},
        {"type": "text", "image_url": {"url": "http://evil.example"}},
        {"image_url": {"url": "http://evil.example"}},
        {"type": "image", "source": {"type": "url", "url": "https://evil.example"}},
        {"type": "tool_result", "content": [{"source": {"url": "https://evil.example"}}]},
    ],
)
def test_read_refuses_media_by_url(part: object) -> None:
    """The server would fetch it: any page of a prompt could reach the whole network."""
    with pytest.raises(Problem) as raised:
        read(parts({"type": "text", "text": "look"}, part))

    assert raised.value.code == "media_url_denied"


def test_read_refuses_media_by_url_when_it_is_escaped() -> None:
    """JSON has many spellings of one string."""
    body = b'{"messages":[{"content":[{"type":"x","\\u0075rl":"\\u0068ttp://evil"}]}]}'

    with pytest.raises(Problem):
        read(body)


@pytest.mark.parametrize(
    "content",
    [
        "http://example.org is a page",
        [{"type": "text", "text": "http://example.org is a page"}],
        [{"type": "refusal", "refusal": "https://example.org: no"}],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
        [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"},
            }
        ],
        [{"type": "input_audio", "input_audio": {"data": "AAAA//BB", "format": "wav"}}],
        [],
        None,
    ],
)
def test_read_accepts_text_about_urls_and_media_by_value(content: object) -> None:
    """People ask about pages all the time."""
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()

    assert len(read(body).messages) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["model", "stream", "messages", "content", "n", "url"]), inner
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_read_never_breaks_when_json_is_wild(value: object) -> None:
    """It is a request, or a 400."""
    assert status(json.dumps(value).encode()) in {200, 400}


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_read_never_breaks_when_bytes_are_random(body: bytes) -> None:
    """It is a request, or a 400."""
    assert status(body) in {200, 400}


def test_read_says_that_a_body_is_missing() -> None:
    """A request without a length has none, whatever its client meant to send."""
    with pytest.raises(Problem, match="empty"):
        read(b"")
