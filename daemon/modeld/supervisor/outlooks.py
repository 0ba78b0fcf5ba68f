"""
What is known ahead of every model, kept, and brought up to date a few models at a time.

What a model would be loaded with depends on its file, its names, what is kept of it and a part of
the configuration; what it can do, on its file and the user's table.  Either is computed anew only
where something of that has changed, and never for more than `SLICE_MODELS` models in one go: for
thousands of them it would hold the loop up for longer than a token takes.  Nothing is published
here.
"""

from collections.abc import Iterator

from msgspec import Struct

from modeld.core.entities import Model
from modeld.core.plan import can_load
from modeld.supervisor import settings
from modeld.supervisor.guide import Outlook, Prospect, outlook
from modeld.supervisor.memory_views import want_of
from modeld.supervisor.world import World

SLICE_MODELS = 50
"""2 to 8 ms; what else waits for the loop has its turn before the next ones."""


class _Kept(Struct, frozen=True):
    """What was found out of one model, with what it was made of."""

    made_of: tuple[object, ...]
    prospect: Prospect
    known_by: tuple[object, ...]
    outlook: Outlook


class Outlooks:
    """The outlook of every model."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[str, _Kept] = {}
        self._left: list[tuple[Model, tuple[object, ...]]] = []
        """Models that have to be looked at, each with what it is made of now."""
        self._common: object = None
        """What all prospects are made of."""

    def begin(self) -> None:
        """Find out which models have to be looked at: something may have changed."""
        world = self._world
        config = world.config
        budget = settings.budget(config, world.machine)
        common = (config.servers, config.models.entries, budget, world.binary, len(world.told))
        if common != self._common:  # else the very same: models are compared with it one by one
            self._common = common
        nicknames: dict[str, list[str]] = {}  # they choose a model's entry
        for nickname, model_id in world.state.nicknames.items():
            nicknames.setdefault(model_id, []).append(nickname)
        self._kept = {key: kept for key, kept in self._kept.items() if key in world.models}
        self._left = []
        for key, model in world.models.items():
            stats, kept = world.stats_of(key), self._kept.get(key)
            own = (model, stats.arguments, stats.measured, nicknames.get(key), self._common)
            if kept is None or kept.made_of != own or kept.known_by != (model, world.limits):
                self._left.append((model, own))
        self._left.reverse()

    def advance(self) -> bool:
        """Look at some of them; return whether every model has been looked at."""
        for _ in range(min(SLICE_MODELS, len(self._left))):
            model, made_of = self._left.pop()
            self._kept[model.id] = self._look(model, made_of)
        return not self._left

    def all(self) -> Iterator[Outlook]:
        """Yield the outlook of every model, in the order of the catalogue."""
        return (self._kept[key].outlook for key in self._world.models)

    def _look(self, model: Model, made_of: tuple[object, ...]) -> _Kept:
        kept, known_by = self._kept.get(model.id), (model, self._world.limits)
        if kept is not None and kept.made_of == made_of:
            ahead = kept.prospect
        else:
            ahead = prospect(self._world, model)
        return _Kept(made_of, ahead, known_by, outlook(model, ahead, self._world.limits))


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
