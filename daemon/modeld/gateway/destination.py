"""
Where a request goes: the model that it names or that is chosen for it, and what is asked of it.

One decision, made before anything is loaded or sent, from the published routes alone: no I/O, no
waiting.  What was decided is told to the client in headers.
"""

from functools import lru_cache
from urllib.parse import quote

from msgspec import Struct

from modeld.core.entities import Model
from modeld.gateway import rewriting
from modeld.gateway.http import Problem, header_line
from modeld.gateway.table import Call, Wanted
from modeld.supervisor.door import Routes


class Destination(Struct, frozen=True, kw_only=True):
    """What was decided."""

    model: Model
    wanted: Wanted
    """As it was asked, or rewritten."""
    headers: bytes
    """Lines that tell the client."""


def decide(routes: Routes, wanted: Wanted, call: Call) -> Destination:
    """
    Return where a request goes.

    Raises:
        Problem: It names no model, and none answers such requests.
        ModeldError: There is no such model, or several.
    """
    del call
    name = wanted.model or routes.default_model
    if not name:
        raise Problem(400, "model name is missing from the request, and no models.default is set")
    model = routes.find(name)
    wanted = rewriting.apply(routes, name, model, wanted)
    return Destination(model=model, wanted=wanted, headers=_model_line(model.name))


@lru_cache(maxsize=256)
def _model_line(name: str) -> bytes:
    """Return the header that names the model; what headers can't carry is percent-encoded."""
    return header_line(b"X-Modeld-Model", quote(name, safe=" !#$&'()*+,/:;=?@[]~").encode("ascii"))
