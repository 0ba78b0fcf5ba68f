"""The last words of the user, wherever a dialect has them."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.gateway import tasks
from modeld.gateway.http import Problem


def _chat(*turns: tuple[str, object]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return tasks.of_chat(json.dumps({"messages": messages}).encode())()


def test_of_chat_takes_the_last_message_of_the_user() -> None:
    """Not the last one: that may be the assistant's, or a tool's."""
    assert _chat(("user", "first"), ("user", "second"), ("assistant", "third")) == "second"


def test_of_chat_has_no_words_where_the_user_says_nothing() -> None:
    """Then the message is empty, and short."""
    assert _chat(("system", "be kind")) == ""
    assert tasks.of_chat(b"{}")() == ""


def test_of_chat_joins_the_texts_of_a_message_in_parts() -> None:
    """Pictures have no words."""
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "text", "text": "this?"},
    ]

    assert _chat(("user", parts)) == "what is\nthis?"


def test_of_chat_passes_over_results_of_tools() -> None:
    """Anthropic's clients send them as the user's: the model must not change for them."""
    result = [{"type": "tool_result", "tool_use_id": "x", "content": "debug output"}]

    assert _chat(("user", "tell me a story"), ("assistant", "..."), ("user", result)) == (
        "tell me a story"
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": "plain"}, "plain"),
        ({"input": [{"role": "user", "content": "words"}]}, "words"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "parts"}]}]},
            "parts",
        ),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, ""),
        ({}, ""),
    ],
)
def test_of_response_reads_the_input(body: dict[str, object], words: str) -> None:
    """A string, or items."""
    assert tasks.of_response(json.dumps(body).encode())() == words


@pytest.mark.parametrize(
    ("body", "words"),
    [({"prompt": "x"}, "x"), ({"prompt": ["a", "b"]}, "a\nb"), ({"prompt": [1, 2]}, ""), ({}, "")],
)
def test_of_completion_reads_the_prompt(body: dict[str, object], words: str) -> None:
    """A string or several; tokens have no words."""
    assert tasks.of_completion(json.dumps(body).encode())() == words


def test_of_chat_passes_over_parts_of_no_known_kind() -> None:
    """The server knows more kinds than this, and nonsense is for it to refuse."""
    parts = [{"type": ["text"], "text": "no"}, {"type": "text", "text": "yes"}]

    assert _chat(("user", parts)) == "yes"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "messages", "input", "prompt", "type", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_body_breaks_a_task(body: object) -> None:
    """What is in a body nobody has judged yet: it is refused, or has words, and nothing else."""
    data = json.dumps(body).encode()
    for task in tasks.BY_PATH.values():
        with suppress(Problem):
            assert isinstance(task(data)(), str)


@pytest.mark.parametrize("task", [tasks.of_chat, tasks.of_response, tasks.of_completion])
def test_what_is_nested_too_deeply_is_refused(task: object) -> None:
    """Instead of being a bug."""
    deep = b"[" * 100_000 + b"]" * 100_000
    body = b'{"messages":[{"content":%b}],"input":%b,"prompt":%b}' % (deep, deep, deep)

    with pytest.raises(Problem):
        task(body)()  # type: ignore[operator]
