"""
The routes, published anew whenever something that they show has changed.

Compared are values that the world replaces as wholes, and tuples look first whether they hold the
very same: so a look costs next to nothing when nothing has changed.  The loop asks after every
batch of events.  Names, models and what is known of them are published together, once all of them
are up to date; until then the old ones stay, and only what becomes of servers is shown.
"""

from msgspec.structs import replace

from modeld.core.entities import Server
from modeld.supervisor.choosing import naming_of
from modeld.supervisor.door import Route, Routes
from modeld.supervisor.guide import default_model, guide
from modeld.supervisor.naming import Naming
from modeld.supervisor.outlooks import Outlooks
from modeld.supervisor.world import World


class Publisher:
    """Writes `world.routes`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._outlooks = Outlooks(world)
        self._naming: Naming | None = None
        self._guided: tuple[object, ...] = ()
        self._shown: tuple[object, ...] = ()
        self._is_whole = False
        """Whether `_made` is all that is known of names and models."""
        self._made = world.routes
        """The last routes that were whole; of servers it knows nothing."""
        self._published = self._made
        self._stats: object = None
        self._stored: dict[str, tuple[str, ...]] = {}

    @property
    def is_behind(self) -> bool:
        """Whether `advance` has something to do."""
        if not self._is_whole or self._naming is not naming_of(self._world):
            return True
        return self._guided != self._guided_by()

    def advance(self) -> bool:
        """
        Bring names and what is known of models up to date, as far as one turn allows.

        Returns whether they are; the next turn goes on where this one has ended.
        """
        world = self._world
        names, guided = naming_of(world), self._guided_by()
        if self._naming is not names:
            self._naming, self._guided, self._is_whole = names, (), False
            return False  # with thousands of models, they have taken a turn's time
        if self._guided != guided:
            self._outlooks.begin()
            self._is_whole = False
        self._guided = guided
        if not self._is_whole and self._outlooks.advance():
            self._is_whole = True
            self._made = Routes(
                index=names.index,
                variants=names.variants,
                rewrites=names.rewrites,
                models=world.models,
                default_model=default_model(world.config, names.index),
                guide=guide(world.config, self._outlooks.all(), names.index),
            )
        return self._is_whole

    def publish(self) -> bool:
        """Publish new routes if they would differ; return whether it did."""
        world, made = self._world, self._made
        # what is said of names that are not known yet would be wrong
        problem = world.problem if self._is_whole else world.routes.problem
        shown: tuple[object, ...] = (
            problem,
            tuple((each.id, each.state, _fraction(each)) for each in world.servers.values()),
            # no route shows them; whoever waits for a model is told when its load has failed
            tuple(job.want.model_id for job in world.jobs),
        )
        if self._published is made and self._shown == shown:
            return False
        self._published, self._shown = made, shown
        world.routes = replace(
            made,
            servers={
                each.record.model_id: _route(each)
                for each in world.servers.values()
                if each.is_routed
            },
            problem=problem,
        )
        return True

    def _guided_by(self) -> tuple[object, ...]:
        """Return what else the guide is made of."""
        world = self._world
        stored, memory_bytes = self._stored_arguments(), world.machine.memory_bytes
        return (world.config, world.limits, stored, memory_bytes, world.binary)

    def _stored_arguments(self) -> dict[str, tuple[str, ...]]:
        """Return the arguments that are kept by model; the very same dict while they stay."""
        models = self._world.state.models
        if models is not self._stats:
            self._stats = models
            stored = {key: stats.arguments for key, stats in models.items() if stats.arguments}
            if stored != self._stored:
                self._stored = stored
        return self._stored


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
