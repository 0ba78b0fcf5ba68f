"""
The routes, published anew whenever something that they show has changed.

Compared are values that the world replaces as wholes, and tuples look first whether they hold the
very same: so a look costs next to nothing when nothing has changed.  The loop asks after every
batch of events.  What a model would be loaded with is computed anew only where something of it has
changed: for thousands of models it would hold the loop up for longer than a token takes.
"""

from modeld.core.entities import Model, Server
from modeld.core.plan import can_load
from modeld.supervisor import settings
from modeld.supervisor.door import Route, Routes
from modeld.supervisor.guide import Guide, Prospect, guide
from modeld.supervisor.memory_views import want_of
from modeld.supervisor.naming import naming
from modeld.supervisor.world import World


class Publisher:
    """Writes `world.routes`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names: tuple[object, ...] = ()
        self._guided: tuple[object, ...] = ()
        self._shown: tuple[object, ...] = ()
        self._guide = Guide()
        self._prospects: dict[str, tuple[object, Prospect]] = {}
        """By model id, with what each was made of."""
        self._common: object = None
        """What all of them were made of besides."""
        self._stats: object = None
        self._stored: dict[str, tuple[str, ...]] = {}

    def publish(self) -> bool:
        """Publish new routes if they would differ; return whether it did."""
        world = self._world
        names = (
            world.models,
            world.state.nicknames,
            world.state.slots,
            world.config.models.entries,
        )
        guided = (
            world.config,
            world.limits,
            self._stored_arguments(),
            world.machine.memory_bytes,
            world.binary,
        )
        shown: tuple[object, ...] = (
            world.problem,
            tuple((each.id, each.state, _fraction(each)) for each in world.servers.values()),
            # no route shows them; whoever waits for a model is told when its load has failed
            tuple(job.want.model_id for job in world.jobs),
        )
        is_named_anew = self._names != names
        is_guided_anew = is_named_anew or self._guided != guided
        if not is_guided_anew and self._shown == shown:
            return False
        self._names, self._guided, self._shown = names, guided, shown
        if is_named_anew:
            world.naming = naming(world.models, world.state, world.config.models.entries)
        if is_guided_anew:
            self._guide = self._guide_anew()
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
            guide=self._guide,
            problem=world.problem,
        )
        return True

    def _stored_arguments(self) -> dict[str, tuple[str, ...]]:
        """Return the arguments that are kept by model; the very same dict while they stay."""
        models = self._world.state.models
        if models is not self._stats:
            self._stats = models
            stored = {key: stats.arguments for key, stats in models.items() if stats.arguments}
            if stored != self._stored:
                self._stored = stored
        return self._stored

    def _guide_anew(self) -> Guide:
        world = self._world
        self._look_ahead()
        models = [(each, self._prospects[key][1]) for key, each in world.models.items()]
        return guide(world.config, models, world.naming.index, world.limits)

    def _look_ahead(self) -> None:
        """Bring the prospects up to date, each where what it is made of has changed."""
        world = self._world
        budget = settings.budget(world.config, world.machine)
        common = (world.config, budget, world.binary, len(world.told))
        before = self._prospects if common == self._common else {}
        self._common, self._prospects = common, {}
        nicknames: dict[str, list[str]] = {}  # they choose a model's entry
        for nickname, model_id in world.state.nicknames.items():
            nicknames.setdefault(model_id, []).append(nickname)
        for key, model in world.models.items():
            stats = world.stats_of(key)
            own = (model, stats.arguments, stats.measured, nicknames.get(key))
            made_of, found = before.get(key, (None, None))
            if found is None or made_of != own:
                found = prospect(world, model)
            self._prospects[key] = own, found


def prospect(world: World, model: Model) -> Prospect:
    """Return what a model would be loaded with, as everything is now."""
    asked = settings.arguments(world, model, None)
    need = settings.need_of(world, model, asked)
    budget = settings.budget(world.config, world.machine)
    # an empty machine that can't have it will never have it
    is_possible, reason = can_load(want_of(model, need), (), budget)
    return Prospect(
        arguments=asked,
        context_tokens=settings.context_tokens(world.config, model, world.state, asked),
        options=settings.entry(world.config, model, world.state).options,
        impossible="" if is_possible or not budget.memory_bytes else reason,
    )


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
