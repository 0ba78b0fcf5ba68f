"""
What a request is about: the last thing that the user says in it.

Read only where words choose the model, from the body as it came; a request that names its model
never comes here.  The last message of the user that has any words counts: what a tool returned is
sent in the user's name by some dialects, and must not change the model in mid-conversation.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from msgspec import Struct

from modeld.gateway.http import Body, Problem

Task = Callable[[], str]
_TEXT_KINDS = ("text", "input_text")
"""Compared, not looked up: a kind may be anything that JSON has."""


class _Turn(Struct, gc=False):
    role: str | None = None
    content: str | list[object] | None = None


class _Chat(Struct, gc=False):
    messages: list[_Turn] = []


class _Response(Struct, gc=False):
    input: str | list[_Turn] | None = None


class _Completion(Struct, gc=False):
    prompt: str | list[object] | None = None


Found = TypeVar("Found")
_chat_decoder = msgspec.json.Decoder(_Chat)
_response_decoder = msgspec.json.Decoder(_Response)
_completion_decoder = msgspec.json.Decoder(_Completion)


def of_chat(body: Body) -> Task:
    """Return what reads OpenAI's and Anthropic's messages."""
    return lambda: last_words(
        (turn.role, turn.content) for turn in reversed(_decode(_chat_decoder, body).messages)
    )


def of_response(body: Body) -> Task:
    """Return what reads the input of a response."""

    def task() -> str:
        given = _decode(_response_decoder, body).input
        if isinstance(given, str):
            return given
        return last_words((turn.role, turn.content) for turn in reversed(given or []))

    return task


def of_completion(body: Body) -> Task:
    """Return what reads a prompt; one of tokens has no words."""

    def task() -> str:
        prompt = _decode(_completion_decoder, body).prompt
        if isinstance(prompt, list):
            return "\n".join(each for each in prompt if isinstance(each, str))
        return prompt or ""

    return task


def last_words(turns: Iterable[tuple[str | None, str | list[object] | None]]) -> str:
    """
    Return the words of the first of these turns that is the user's and has any.

    Args:
        turns: Role and content of each, the last one first.
    """
    return next(
        (words for role, content in turns if role == "user" and (words := _words(content))), ""
    )


def _words(content: str | list[object] | None) -> str:
    if isinstance(content, str):
        return content
    texts = (
        part.get("text")
        for part in content or ()
        if isinstance(part, dict) and part.get("type", "text") in _TEXT_KINDS
    )
    return "\n".join(text for text in texts if isinstance(text, str))


def _decode(decoder: "msgspec.json.Decoder[Found]", body: Body) -> Found:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Problem(400, f"invalid request: no model can be chosen for it: {error}") from None
    except RecursionError:
        raise Problem(400, "the JSON of the body is nested too deeply") from None


BY_PATH: dict[str, Callable[[Body], Task]] = {
    "/v1/chat/completions": of_chat,
    "/v1/completions": of_completion,
    "/v1/responses": of_response,
    "/v1/messages": of_chat,
    "/v1/messages/count_tokens": of_chat,
    "/apply-template": of_chat,
    "/completion": of_completion,
    "/completions": of_completion,
}
"""The server's path -> how its requests say what they are about; no other has a task."""
