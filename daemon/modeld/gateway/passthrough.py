"""
`/upstream/MODEL/...`: a server's own paths, as llama-swap gives them.  Off, unless asked for.

Whatever llama-server offers can be asked through here, so nothing is passed that could be read in
two ways: a path of plain segments, the query's own characters, JSON, three methods, no headers.
What no server should see is refused here too; the rest of the body stays as it is.  Looks at a
server load nothing.
"""

import re
from typing import Final
from urllib.parse import unquote

import msgspec

from modeld.errors import UnknownModel
from modeld.gateway import fields
from modeld.gateway.guard import may_be_of_page
from modeld.gateway.http import Problem
from modeld.gateway.openai import OPENAI
from modeld.gateway.table import NO_RETRY, Call, Relayed, Row, Wanted
from modeld.supervisor.door import Routes

PREFIX: Final = "/upstream/"
MAX_SEGMENTS: Final = 16
"""Of a path in which a model's name is looked for."""
LOOKS: Final = frozenset(
    (
        "/health",
        "/v1/health",
        "/metrics",
        "/slots",
        "/props",
        "/models",
        "/v1/models",
        "/lora-adapters",
    )
)
"""What is asked again and again, by GET: it loads nothing, and does not count as use."""
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_QUERY: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_decoder = msgspec.json.Decoder(fields.Checked)
_list_decoder = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def to_upstream(call: Call) -> Wanted:
    """
    Return what asks a model's server for one of its own paths.

    Raises:
        Problem: 403, this is off, or a web page asks; 400, it is ambiguous or no server's to see.
        UnknownModel: No model is named.
        Ambiguous: Several are.
    """
    if not call.config.upstream:
        raise Problem(
            403,
            "nothing is passed to servers this way (gateway.upstream is false)",
            code="upstream_off",
            kind="permission_error",
            headers=(NO_RETRY,),
        )
    head = call.head
    if may_be_of_page(head):
        raise Problem(403, "a page may not ask a server")
    name, path = _split(call.door.routes, head.path.removeprefix(PREFIX))
    if not _QUERY.fullmatch(head.query):
        raise Problem(400, "the query has characters that must be percent-encoded")
    method = "GET" if head.method == "HEAD" else head.method
    return Wanted(
        model=name,
        is_stream=_is_stream(call),
        path=f"{path}?{head.query}" if head.query else path,
        body=call.body,
        method=method,
        is_verbatim=True,
        is_look=method == "GET" and path in LOOKS,
    )


def _split(routes: Routes, rest: str) -> tuple[str, str]:
    """
    Return the name of the model, and the server's path; the longest name that there is.

    Names may have slashes in them, as ids do.

    Raises:
        Problem: 400, the path could be read in two ways.
        UnknownModel: There is no such model.
    """
    segments = rest.split("/", MAX_SEGMENTS)
    for count in range(len(segments), 0, -1):
        name = unquote("/".join(segments[:count]))
        if name in routes.index or f"{name}:latest" in routes.index:
            path = "".join(f"/{each}" for each in segments[count:])
            if path in {"", "/"}:
                raise Problem(
                    400, f"{PREFIX}MODEL/PATH asks a server: a path of its own is missing"
                )
            if not _PATH.fullmatch(path):
                raise Problem(400, "a server's path has plain segments: no dots alone, no %, no //")
            return name, path
    raise UnknownModel(f"there is no model in '{rest}'", hint="GET /v1/models lists them")


def _is_stream(call: Call) -> bool:
    """Return whether the body asks for a stream; refuse what no server should see."""
    if not call.body:
        return False
    if call.body.lstrip()[:1] == b"[":
        fields.refuse_intricate(call.body)
        try:
            _list_decoder.decode(call.body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise Problem(400, "the body is not a list of JSON objects") from None
        return False
    return bool(fields.read(_decoder, call.body).stream)


ROWS = tuple(
    Row(method=method, path=f"{PREFIX}*", dialect=OPENAI, action=Relayed(to_upstream))
    for method in ("GET", "POST", "DELETE")
)
