"""
When the engine itself is asked what a model would take, and how long that is waited for.

Asked of what nobody measured or configured: before its first load, which waits for an answer for
`PATIENCE_SECONDS` at most, and one model after another while nothing else goes on, of models on
the fast disk only, so that no disk is woken.
"""

from msgspec.structs import replace

from modeld.core.entities import Model
from modeld.core.estimate import question
from modeld.core.events import NeedTold
from modeld.supervisor import settings
from modeld.supervisor.copies import on_ssd
from modeld.supervisor.world import Job, World

PATIENCE_SECONDS = 2.0
MAX_TOLD = 1024
MAX_AHEAD = 200
"""Models that are asked about before anybody wants them."""
LOOKS_A_TICK = 10
"""Models of which it is found out whether there is something to ask: a millisecond in all."""


class Estimates:
    """All questions to llama-fit-params."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked_at: dict[str, float] = {}
        """By key.  [monotonic s]"""
        self._ahead: list[str] = []
        """Ids of the models that are looked at next, the last one first."""
        self._ahead_of: tuple[object, ...] = ()
        """What they were listed by: nothing is looked at twice while it stays."""

    def are_awaited(self, job: Job) -> bool:
        """Whether a load waits for an answer; with one it wants what the answer says."""
        world = self._world
        model = world.models.get(job.want.model_id)
        key = self._ask(model, job.arguments) if model is not None else ""
        if model is None or not key:
            return False
        if key not in world.told:
            began = max(self._asked_at[key], job.begun_at)
            return world.ports.clock.monotonic() - began < PATIENCE_SECONDS
        need = settings.need_of(world, model, job.arguments)
        job.want = replace(job.want, need_bytes=need.need_bytes, need_gpu_bytes=need.gpu_bytes)
        return False

    def on_told(self, event: NeedTold) -> None:
        """Keep an answer, if only that there is none."""
        told = self._world.told
        told[event.key] = event.told
        while len(told) > MAX_TOLD:
            forgotten = next(iter(told))
            del told[forgotten]
            self._asked_at.pop(forgotten, None)

    def tick(self) -> None:
        """Ask about the next model, while nothing else goes on."""
        world = self._world
        if world.jobs or not self._is_there() or len(self._asked_at) >= MAX_AHEAD:
            return
        if any(key not in world.told for key in self._asked_at):
            return
        listed_by = (world.models, world.config, world.binary)
        if self._ahead_of != listed_by:
            self._ahead = [key for key, each in world.models.items() if on_ssd(each) is not None]
            self._ahead.reverse()
        self._ahead_of = listed_by
        for _ in range(min(LOOKS_A_TICK, len(self._ahead))):
            model = world.models[self._ahead.pop()]
            if model.id in world.gone:
                continue
            asked = settings.arguments(world, model, None)
            before = len(self._asked_at)
            self._ask(model, asked)
            if len(self._asked_at) > before:
                return

    def _is_there(self) -> bool:
        world = self._world
        return (
            world.config.memory.fit_params
            and world.binary is not None
            and bool(world.binary.estimator)
        )

    def _ask(self, model: Model, asked: tuple[str, ...]) -> str:
        """Ask about a model once; return by what key, empty where it is not asked about."""
        world = self._world
        if not self._is_there():
            return ""
        assert world.binary is not None
        if settings.need_of(world, model, asked).source in {"measured", "configured"}:
            return ""
        demand = settings.demand_of(world, model, asked)
        words = question(model.location.path, demand.cache.context_tokens, asked, world.binary)
        if not words:
            return ""
        key = settings.fit_key(world, model, demand)
        if key not in self._asked_at:
            self._asked_at[key] = world.ports.clock.monotonic()
            world.ports.estimator.ask(key, words)
        return key
