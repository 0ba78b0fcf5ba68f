"""The last words of the user, wherever a dialect has them."""

import json

import pytest

from modeld.gateway import tasks


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
