"""
The routes, published anew whenever something that they show has changed.

Compared are values that the world replaces as wholes, so that a look costs next to nothing when
nothing has changed: the loop asks after every batch of events.
"""

from modeld.core.entities import Server
from modeld.supervisor.door import Route, Routes
from modeld.supervisor.naming import naming
from modeld.supervisor.world import World


class Publisher:
    """Writes `world.routes`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._shown: tuple[object, ...] = ()

    def publish(self, *, anew: bool = False) -> bool:
        """Publish new routes if they would differ, or `anew` in any case; return whether it did."""
        world = self._world
        names = (
            world.models,
            world.state.nicknames,
            world.state.slots,
            world.config.models.entries,
        )
        shown: tuple[object, ...] = (
            *names,
            world.config.models.default,
            world.problem,
            tuple((each.id, each.state, _fraction(each)) for each in world.servers.values()),
            # no route shows them; whoever waits for a model is told when its load has failed
            tuple(job.want.model_id for job in world.jobs),
        )
        before, self._shown = self._shown, shown
        if not anew and before and _equal(before, shown):
            return False
        if anew or not _equal(before[: len(names)], names):
            world.naming = naming(world.models, world.state, world.config.models.entries)
        world.routes = Routes(
            index=world.naming.index,
            variants=world.naming.variants,
            rewrites=world.naming.rewrites,
            models=world.models,
            servers={
                each.record.model_id: _route(each)
                for each in world.servers.values()
                if each.is_routed
            },
            default_model=world.config.models.default,
            problem=world.problem,
        )
        return True


def _equal(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    if len(before) != len(now):
        return False
    return all(a is b or a == b for a, b in zip(before, now, strict=True))


def _fraction(server: Server) -> float:
    return round(server.fraction, 2)


def _route(server: Server) -> Route:
    return Route(
        server_id=server.id,
        model_id=server.record.model_id,
        socket_path=server.record.socket_path,
        state=server.state,
        context_tokens=server.context_tokens,
        fraction=_fraction(server),
    )
