"""
Requests as the configuration wants a model's server to see them: fields taken out, put in.

A model without changes costs one look into a table, and its requests stay as they came to the
byte.  Otherwise only the fields that change are new, and every other value passes in the bytes
that the client chose.  Each kind of request has its own names for the same thing; what a kind
can't say is left out, since llama-server would not obey it.  Pure: no I/O, no decision of where.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Struct, structs

from modeld.config.schema import Parameters, Rewrite
from modeld.core.entities import Model
from modeld.gateway.http import Body, Problem
from modeld.gateway.table import Wanted
from modeld.supervisor.door import Routes

Fields = dict[str, msgspec.Raw]
_NULL: Final = b"null"
_KWARGS: Final = "chat_template_kwargs"
_THINKING: Final = "enable_thinking"
_SYNONYMS: Final = {
    "max_tokens": ("n_predict", "max_tokens", "max_completion_tokens", "max_output_tokens"),
    "stop": ("stop", "stop_sequences"),
}
"""
Names of one thing.  llama-server obeys several of the first kind at one path, the first of them
before the others, so that none may be left beside the one that is set.
"""
_SAMPLING: Final = frozenset(structs.asdict(Parameters())) - {_THINKING}


class _Words(Struct, frozen=True, kw_only=True):
    """How one kind of request says things."""

    max_tokens: str = "max_tokens"
    stop: str = "stop"
    sampling: frozenset[str] = _SAMPLING
    """What it can say; the rest llama-server does not obey there.  Tried on b11669."""
    has_template: bool = True
    """Whether a chat template makes the prompt."""


_CHAT: Final = _Words()
_NATIVE: Final = _Words(max_tokens="n_predict", has_template=False)
_NO_WORDS: Final = _Words(sampling=frozenset(), has_template=False)
_TEMPLATE: Final = _Words(sampling=frozenset())
_BY_PATH: Final = {
    "/v1/chat/completions": _CHAT,
    "/v1/responses": _Words(max_tokens="max_output_tokens"),
    "/v1/messages": _Words(
        stop="stop_sequences",
        sampling=frozenset(("temperature", "top_p", "top_k", "max_tokens", "stop")),
    ),
    "/v1/messages/count_tokens": _TEMPLATE,
    "/apply-template": _TEMPLATE,
    "/v1/completions": _Words(has_template=False),
    "/completion": _NATIVE,
    "/completions": _NATIVE,
    "/infill": _NATIVE,
}
_decoder = msgspec.json.Decoder(Fields)
_encoder = msgspec.json.Encoder()


def apply(routes: Routes, name: str, model: Model, wanted: Wanted) -> Wanted:
    """Return what is asked of a server, with the changes of the model, or of its variant `name`."""
    if not routes.rewrites or wanted.is_verbatim or not wanted.body:
        return wanted
    changes = routes.rewrites.get(name) or routes.rewrites.get(model.id)
    if not changes:
        return wanted
    body = rewritten(wanted.body, wanted.path, changes)
    return wanted if body is wanted.body else structs.replace(wanted, body=body)


def rewritten(body: Body, path: str, changes: Sequence[Rewrite]) -> Body:
    """
    Return the body of a request after these changes; the very same where none changes anything.

    Args:
        body: A JSON object, that was read before.
        path: The server's own.
        changes: One after the other.

    Raises:
        Problem: 400, a field's name is no text.
    """
    try:
        fields = _decoder.decode(body)
    except UnicodeError as error:  # which goes unseen where only a few fields are looked for
        raise Problem(400, f"the body is not JSON: {error}") from None
    before = dict(fields)
    words = _BY_PATH.get(path, _NO_WORDS)
    for change in changes:
        for name in change.strip:
            fields.pop(name, None)
        for names, value in _puts(change.default, words):
            if all(_is_silent(fields.get(name)) for name in names):
                fields[names[0]] = value
        for names, value in _puts(change.set, words):
            for name in names[1:]:
                fields.pop(name, None)
            fields[names[0]] = value
        if words.has_template:
            _put_thinking(fields, change)
    return body if fields == before else _encoder.encode(fields)


def _is_silent(value: msgspec.Raw | None) -> bool:
    """Whether a field says nothing: clients write null for what they leave open."""
    return value is None or bytes(value) == _NULL


@lru_cache(maxsize=256)
def _puts(parameters: Parameters, words: _Words) -> tuple[tuple[tuple[str, ...], msgspec.Raw], ...]:
    """Return each parameter that this kind of request can say: its names, the best first."""
    found = []
    for name, value in structs.asdict(parameters).items():
        if value is not None and name in words.sampling:
            raw = msgspec.Raw(_encoder.encode(value))
            found.append((tuple(_names(name, words)), raw))
    return tuple(found)


def _names(parameter: str, words: _Words) -> Iterable[str]:
    best = {"max_tokens": words.max_tokens, "stop": words.stop}.get(parameter, parameter)
    yield best
    yield from (name for name in _SYNONYMS.get(parameter, ()) if name != best)


def _put_thinking(fields: Fields, change: Rewrite) -> None:
    """Tell the chat template whether to think; what else it is told stays."""
    default, wanted = change.default.enable_thinking, change.set.enable_thinking
    if default is None and wanted is None:
        return
    told: Fields = {}
    given = fields.get(_KWARGS)
    if not _is_silent(given):
        try:
            told = _decoder.decode(given or b"")
        except (msgspec.MsgspecError, UnicodeError):
            return  # no object: the server says so
    if wanted is None and not _is_silent(told.get(_THINKING)):
        return
    value = default if wanted is None else wanted
    told[_THINKING] = msgspec.Raw(_encoder.encode(value))
    fields[_KWARGS] = msgspec.Raw(_encoder.encode(told))
