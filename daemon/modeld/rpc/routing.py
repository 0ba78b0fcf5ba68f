"""Requests about routing: which model would answer, and which profiles a model suits."""

from collections.abc import Callable

from msgspec import Struct

from modeld.core.events import Selection
from modeld.supervisor.routing import route, suits
from modeld.supervisor.world import World
from modeld.wire.common import Selector
from modeld.wire.routing import AskRoute, AskSuits

REQUESTS: tuple[type[Struct], ...] = (AskRoute, AskSuits)


def answer(
    world: World, request: AskRoute | AskSuits, selection: Callable[[Selector], Selection]
) -> Struct:
    """
    Return the answer to a question about routing.

    Raises:
        ModeldError: No model would answer, or something that is named is not there.
    """
    if isinstance(request, AskRoute):
        return route(world, request)
    return suits(world, selection(request.selector), request.profile, request.capabilities)
