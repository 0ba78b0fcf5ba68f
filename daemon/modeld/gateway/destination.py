"""
Where a request goes: the model that it names or that is chosen for it, and what is asked of it.

One decision, made before anything is loaded or sent, from the published routes alone: no I/O, no
waiting.  What was decided is told to the client in headers.  A request that names a model pays
for none of the rest.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from msgspec import Struct, structs

from modeld.core.entities import Model
from modeld.core.routing import AUTO, Ask, Decision, is_choice
from modeld.errors import UnknownModel
from modeld.gateway import rewriting
from modeld.gateway.http import Body, Problem, header_line
from modeld.gateway.table import Call, Wanted
from modeld.supervisor.door import Routes

PROFILE_HEADER = b"x-modeld-profile"
_PICTURE = re.compile(
    rb'"(?:image_url|input_image)"\s*[:,}]|"type"\s*:\s*"image"|"images"\s*:\s*\[\s*"'
)
"""How the dialects say that there is a picture; in a text, its quotes are escaped."""


class Destination(Struct, frozen=True, kw_only=True):
    """What was decided."""

    model: Model
    wanted: Wanted
    """As it was asked, or rewritten."""
    headers: bytes
    """Lines that tell the client."""
    decision: Decision | None = None
    """How the model was chosen; None where the request names it."""


def decide(routes: Routes, wanted: Wanted, call: Call) -> Destination:
    """
    Return where a request goes.

    Raises:
        Problem: It names no model and none can be chosen, or it wants what the model can't do.
        ModeldError: There is no such model, or several.
    """
    name, decision = wanted.model, wanted.decision
    if decision is None:
        model, decision = find(routes, call, name, wanted.task, has_tools=wanted.has_tools)
    else:
        model = routes.models[decision.model_id]
    if wanted.has_tools and routes.guide.tools_are_refused(model):
        # what follows the name is what clients look for before they try again without tools
        raise Problem(400, f"{model.name}: the model does not support tools")
    if decision is None:
        wanted = rewriting.apply(routes, name or routes.default_model, model, wanted)
        return Destination(model=model, wanted=wanted, headers=_lines(model.name, "explicit"))
    wanted = rewriting.apply(routes, decision.name, model, _with_defaults(routes, wanted, decision))
    return Destination(
        model=model,
        wanted=wanted,
        headers=_lines(model.name, decision.route),
        decision=decision,
    )


def find(
    routes: Routes,
    call: Call,
    name: str,
    task: Callable[[], str] | None,
    *,
    has_tools: bool = False,
) -> tuple[Model, Decision | None]:
    """
    Return the model that a request names, or else the one that is chosen for it, and how.

    Args:
        routes: The newest.
        call: The request, whose headers may name a profile.
        name: As given; real names come before the words that ask for a choice.
        task: Returns what the request is about; None where that chooses no model.
        has_tools: The request offers tools.

    Raises:
        Problem: 400, nothing is named and nothing can be chosen.
        ModeldError: There is no such model or profile, or several models.
    """
    if name in routes.index or not is_choice(name):
        return routes.find(name), None
    profile = call.head.headers.get(PROFILE_HEADER, b"").decode("latin-1")
    bare = name.removesuffix(":latest")
    if task is None and not profile and bare in {"", AUTO}:
        if not routes.default_model and bare:
            raise Problem(400, f"'{AUTO}' is models.default where no words decide, and none is set")
        if not routes.default_model:
            raise _unnamed("no models.default is set")
        return routes.find(routes.default_model), None
    needs = _needs(call.body, has_tools=has_tools)
    ask = Ask(name=bare, profile=profile, text=task, capabilities=needs)
    try:
        decision = routes.guide.router.decide(ask)
    except UnknownModel as error:
        if bare or profile:
            raise
        raise _unnamed(error.message) from None
    return routes.models[decision.model_id], decision


def _needs(body: Body, *, has_tools: bool) -> frozenset[str]:
    """Return what a request needs of whichever model is chosen."""
    needs = {"tools"} if has_tools else set()
    if _PICTURE.search(body) is not None:
        needs.add("vision")
    return frozenset(needs)


def _unnamed(why: str) -> Problem:
    return Problem(400, f"model name is missing from the request: {why}")


def _with_defaults(routes: Routes, wanted: Wanted, decision: Decision) -> Wanted:
    """Return what is asked, with what is configured for it where the request says nothing."""
    guide = routes.guide
    defaults = guide.defaults(decision.model_id, decision.profile)
    if not defaults:
        return wanted
    body = wanted.body
    if body and not wanted.is_verbatim:
        body = rewriting.rewritten(body, wanted.path, defaults)
    wish = guide.context_wish(decision.model_id, decision.profile)
    return structs.replace(wanted, body=body, context_tokens=wish)


@lru_cache(maxsize=512)
def _lines(name: str, route: str) -> bytes:
    """Return the headers that tell the model and the route; the rest is percent-encoded."""
    model = quote(name, safe=" !#$&'()*+,/:;=?@[]~").encode("ascii")
    return header_line(b"X-Modeld-Model", model) + header_line(
        b"X-Modeld-Route", route.encode("ascii")
    )
