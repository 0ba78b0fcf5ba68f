"""
The Anthropic dialect: messages, the counting of their tokens, and its errors.

llama-server speaks it itself, but for its errors, so nothing else is translated.  What differs is
where in a message a URL is only talked about: what a tool was called with, and what it returned.
"""

import msgspec
from msgspec import Struct

from modeld.gateway import fields, tasks
from modeld.gateway.http import Problem
from modeld.gateway.openai import sign_of_life
from modeld.gateway.table import Call, Dialect, Relayed, Row, Wanted

_encoder = msgspec.json.Encoder()
_PROSE = fields.PROSE | {"input", "signature", "citations"}
"""Nothing below these is followed; a picture is in `source`, wherever it is."""
# The types of platform.claude.com/docs/en/api/errors; clients retry by status, people read these.
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class _Error(Struct, frozen=True):
    type: str
    message: str


class _Failure(Struct, frozen=True, tag="error"):
    error: _Error


class _Request(fields.Checked, kw_only=True):
    """A request whose instructions stand beside its messages."""

    system: str | list[object] | None = None


_decoder = msgspec.json.Decoder(_Request)


def error_body(problem: Problem) -> bytes:
    """Return an error as Anthropic's API has it."""
    other = "invalid_request_error" if problem.status < 500 else "api_error"
    return _encoder.encode(_Failure(_Error(_KINDS.get(problem.status, other), problem.message)))


def stream_error(problem: Problem) -> bytes:
    """Return an error as an event of a stream."""
    return b"event: error\ndata: %b\n\n" % error_body(problem)


ANTHROPIC = Dialect(
    error_body=error_body,
    stream_type=b"text/event-stream",
    stream_error=stream_error,
    sign_of_life=sign_of_life,
    rewords_errors=True,
)


def _passed_on(path: str) -> Row:
    def prepare(call: Call) -> Wanted:
        found = fields.read(_decoder, call.body, _PROSE)
        if isinstance(found.system, list):
            fields.refuse_links(found.system, _PROSE)
        return Wanted(
            model=found.model or "",
            is_stream=bool(found.stream),
            path=path,
            body=call.body,
            task=tasks.of_chat(call.body),
            has_tools=fields.has_tools(found),
            keep_alive_seconds=fields.keep_alive_seconds(found),
        )

    return Row(method="POST", path=path, dialect=ANTHROPIC, action=Relayed(prepare))


ROWS = (_passed_on("/v1/messages"), _passed_on("/v1/messages/count_tokens"))
