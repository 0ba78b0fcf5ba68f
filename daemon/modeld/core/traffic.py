"""
What the gateway tells the supervisor's loop of the requests that pass: starts, ends and costs.

A server answers thousands a second and the loop has better things to do, so what can wait a
moment is told together.  Nothing here has a word of what is asked or answered.
"""

from modeld.core.events import Event
from modeld.core.usage import Figures


class RequestStarted(Event, frozen=True, kw_only=True):
    """The gateway sent a request to a server."""

    server_id: str


class RequestsRouted(Event, frozen=True, kw_only=True):
    """The gateway chose a model for a request, or for several in the same way."""

    model_id: str
    route: str
    reason: str
    """Nothing of what the request says."""
    pattern: str = ""
    """Of the rule that fitted."""
    requests: int = 1


class RequestServed(Event, frozen=True, kw_only=True):
    """A request to a model is over, and is to be logged; its path is the route's, no more."""

    request_id: str
    path: str
    status: int  # 0 where the client left before
    figures: Figures


class RequestMoved(Event, frozen=True, kw_only=True):
    """Bytes of an answer came from a server; at most one a second."""

    server_id: str


class RequestsEnded(Event, frozen=True, kw_only=True):
    """Requests to a server are over, whichever way, and others took the places of some."""

    server_id: str
    ended: int = 1
    began: int = 0
    """Of which nobody was told when they were sent; never more than had ended before."""
    keep_alive_seconds: float | None = None
    """How long its model is to stay idle now; negative for ever, None where none of them says."""
    figures: tuple[Figures, ...] = ()
    """What they cost: of those that were for a model to answer, and do not go elsewhere."""


class RequestLost(Event, frozen=True, kw_only=True):
    """A request to a model is over, and no server has it: none ever did, or it died."""

    figures: Figures
