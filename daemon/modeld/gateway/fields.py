"""
Reading the few fields of a body that matter here, and refusing what no server should see.

The body itself passes on as it came.  What is refused: JSON that is malformed or too deep,
numbers that are known to break llama-server, and pictures or sounds by URL, which would have
it fetch from the network or the disk on behalf of whoever wrote the prompt.  Whether the rest
makes sense is the server's to judge.
"""

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from modeld.gateway.http import Body, Problem
from modeld.units import parse_keep_alive

_MAX_INT = 2**31 - 1
"""llama-server reads counts as C ints, and wraps silently."""
_BIG_BODY_BYTES = 1 << 20
_MAX_BRACKETS = 200_000
"""In a big body: each may cost 50 times its size when decoded, and none is that intricate."""
_MAX_STRINGS = 500_000
_MAX_VALUES = 1_000_000
"""As many tokens as the longest prompts have; each costs what forty letters do."""
_STRING = re.compile(rb'"[^"]*"')

_UNSAID = msgspec.Raw(b"null")
Count = Annotated[int, Meta(ge=0, le=_MAX_INT)] | Annotated[float, Meta(ge=0, le=_MAX_INT)] | None
CountOrLess = (
    Annotated[int, Meta(ge=-2, le=_MAX_INT)] | Annotated[float, Meta(ge=-2, le=_MAX_INT)] | None
)
"""A count, -1 for no limit or -2 for the context; clients write 1.0 for 1 now and then."""


class Message(Struct, gc=False):
    """A turn of a chat."""

    content: str | list[object] | None = None


class Checked(Struct, kw_only=True):
    """
    The fields that are looked at in every request which a server will see.

    Source of the bounds: CVE-2026-21869 and llama.cpp issues 22267 and 24786 (a negative
    n_discard writes outside the heap) and 24017 (n_cmpl); the others are counts of its
    documentation that index or size something.
    """

    model: str | None = None
    stream: bool | None = None
    keep_alive: float | str | None = None
    """Ollama's, in every dialect: how long the model is to stay.  No server minds it."""
    messages: list[Message] = []
    tools: msgspec.Raw = _UNSAID
    n: Annotated[int, Meta(ge=1, le=64)] | None = None
    n_cmpl: Annotated[int, Meta(ge=1, le=64)] | None = None
    n_discard: Count = None
    n_keep: CountOrLess = None
    n_predict: CountOrLess = None
    max_tokens: CountOrLess = None
    max_completion_tokens: CountOrLess = None
    max_output_tokens: CountOrLess = None
    top_n: Count = None
    n_probs: Annotated[int, Meta(ge=0, le=1024)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=1024)] | None = None
    top_k: CountOrLess = None
    min_keep: Count = None
    n_indent: Count = None
    repeat_last_n: CountOrLess = None
    dry_allowed_length: Count = None
    dry_penalty_last_n: CountOrLess = None
    t_max_predict_ms: CountOrLess = None
    id_slot: CountOrLess = None


Fields = TypeVar("Fields", bound=Checked)
_NO_TOOLS = re.compile(rb"null|\[\s*\]")
_LINK = re.compile(r"\s*+(?:[a-z][a-z0-9+.-]*+://|file:|http)", re.IGNORECASE)
PROSE = frozenset(("text", "refusal", "thinking", "reasoning"))
"""Keys whose values are read, not followed; a dialect may have more of them."""
_PROSE_IF_STRING = frozenset(("content", "output"))
"""Keys of tools' results, which may hold pictures too."""


def read(
    decoder: "msgspec.json.Decoder[Fields]", body: Body, prose: frozenset[str] = PROSE
) -> Fields:
    """
    Return the fields of a request's body.

    Args:
        decoder: Of the fields that matter.
        body: As it came.
        prose: Keys of messages' parts whose values are read, not followed.

    Raises:
        Problem: 400, for what no server should see.
    """
    refuse_intricate(body)
    try:
        fields = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(400, f"invalid request: {error}") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        why = str(error) if body else "it is empty"
        raise Problem(400, f"the body is not JSON: {why}") from None
    except RecursionError:
        raise Problem(400, "the JSON of the body is nested too deeply") from None
    for message in fields.messages:
        if isinstance(message.content, list):
            refuse_links(message.content, prose)
    return fields


def refuse_intricate(body: Body) -> None:
    """
    Check that a big body does not hold the loop up, and memory, for longer than it is worth.

    Raises:
        Problem: 400, it would.
    """
    if len(body) <= _BIG_BODY_BYTES:
        return
    if body.count(b"{") + body.count(b"[") > _MAX_BRACKETS:
        raise Problem(400, f"a body may have {_MAX_BRACKETS} objects and lists")
    if body.count(b'"') <= 2 * _MAX_STRINGS and body.count(b",") <= _MAX_VALUES:
        return
    # most are within a text; what is left of the quotes ends strings, well-formed or not
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 2 * _MAX_STRINGS:
        raise Problem(400, f"a body may have {_MAX_STRINGS} strings")
    if _STRING.sub(b"", bare).count(b",") > _MAX_VALUES:
        raise Problem(400, f"a body may have {_MAX_VALUES} values")


def has_tools(fields: Checked) -> bool:
    """Return whether a request offers any tool; unread, for it may offer many."""
    return fields.tools is not _UNSAID and _NO_TOOLS.match(fields.tools) is None


def keep_alive_seconds(fields: Checked) -> float | None:
    """
    Return for how long a model is to stay after its answer; negative for ever, None for unsaid.

    Numbers are seconds; words are durations, such as `5m`, `1h30m` or `-1m`.

    Raises:
        Problem: 400, it is neither.
    """
    value = fields.keep_alive
    if not isinstance(value, str):
        return value
    try:
        return parse_keep_alive(value)
    except ValueError as error:
        raise Problem(400, f"invalid keep_alive: {error}") from None


def refuse_links(parts: list[object], prose: frozenset[str] = PROSE) -> None:
    """
    Check that no part of a message but text holds a URL, unless it is a `data:` URL.

    Raises:
        Problem: 400, one does.
    """
    if any(isinstance(part, dict) and _has_link(part, prose) for part in parts):
        raise Problem(
            400, "media by URL is not fetched; send it as a data: URL", code="media_url_denied"
        )


def _has_link(part: object, prose: frozenset[str]) -> bool:
    """Whether there is one anywhere in it; by a list of what is to be seen, however deep it is."""
    waiting = [part]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if _LINK.match(value) is not None:
                return True
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += (
                inner
                for key, inner in value.items()
                if key not in prose and not (isinstance(inner, str) and key in _PROSE_IF_STRING)
            )
    return False
