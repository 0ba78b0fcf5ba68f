"""
llama.cpp's own requests, each passed to the server of the model that it names.

A look at a server's properties loads nothing and does not count as use, since programs ask for
them again and again.  Errors are in OpenAI's words, as llama-server's own are.
"""

from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from modeld.gateway.http import Answer, Problem
from modeld.gateway.openai import OPENAI, to_server
from modeld.gateway.table import Call, Relayed, Row, Wanted
from modeld.version import VERSION

_MAX_PARAMETERS = 16


class _NoSettings(Struct, frozen=True):
    params: dict[str, str] = {}
    n_ctx: int = 0


class _RouterProperties(Struct, frozen=True, kw_only=True):
    """What llama.cpp's router says of itself where no model is named; its web page reads them."""

    role: str = "router"
    models_autoload: bool = True
    model_alias: str = "modeld"
    model_path: str = "none"
    default_generation_settings: _NoSettings = _NoSettings()
    build_info: str = f"modeld {VERSION}"


_ROUTER_PROPERTIES = msgspec.json.encode(_RouterProperties())


def to_properties(call: Call) -> Wanted | Answer:
    """Return what looks at the named model's server; the router's own where none is named."""
    try:
        named = parse_qs(call.head.query, max_num_fields=_MAX_PARAMETERS).get("model", [])
    except ValueError:
        raise Problem(400, f"a query may have {_MAX_PARAMETERS} parameters") from None
    if len(named) > 1:
        raise Problem(400, "one model at a time")
    if not named:
        return Answer(body=_ROUTER_PROPERTIES)
    return Wanted(
        model=named[0], is_stream=False, path="/props", body=b"", method="GET", is_look=True
    )


def _passed_on(path: str) -> Row:
    return Row(method="POST", path=path, dialect=OPENAI, action=Relayed(to_server(path)))


ROWS = (
    Row(method="GET", path="/props", dialect=OPENAI, action=Relayed(to_properties)),
    _passed_on("/completion"),
    _passed_on("/completions"),
    _passed_on("/infill"),
    _passed_on("/embedding"),
    _passed_on("/embeddings"),
    _passed_on("/tokenize"),
    _passed_on("/detokenize"),
    _passed_on("/apply-template"),
)
