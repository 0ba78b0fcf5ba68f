"""
Simulations for whoever asks: one at a time, in a thread, so that the loop never waits for one.

The thread is a daemon thread and not one of asyncio's pool, since the end of the process waits
for those.  It sees values only: what the loop knew when the question came.  What is simulated is
`core.simulate`'s business.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from msgspec import Struct, structs

from modeld.core.compare import Trace, compare
from modeld.core.entities import State
from modeld.core.replay import Rules
from modeld.core.scenario import DEFAULT_SSD_BYTES, Scenario, parse_file, parse_pattern, what_if
from modeld.core.simulate import Event, Run, Tag, history, loads_of, simulate
from modeld.core.timeline import svg
from modeld.errors import Busy, UnknownName, Usage
from modeld.supervisor.copies import SSD
from modeld.supervisor.loop import Supervisor
from modeld.supervisor.ranking import rules
from modeld.wire import simulate as wire

MAX_USES = 20_000
"""Of one simulation: about half a minute of one core."""
MAX_EVENTS = 5_000
"""Of one answer."""
OUTCOMES = {Tag.COPY: "copy", Tag.EXPIRE: "expire"}

Result = TypeVar("Result")


class Library(Protocol):
    """The scenarios that modeld brings."""

    def names(self) -> list[str]:
        """Return their names, sorted."""

    def text(self, name: str) -> str | None:
        """Return the TOML of one; None if there is none of that name."""


class Known(Struct, frozen=True, kw_only=True):
    """What the loop knew when somebody asked."""

    rules: Rules
    state: State
    sizes_bytes: Mapping[str, int]
    """Of every model, by id."""
    names: Mapping[str, int]
    """The same, by every name that means one model alone."""
    ssd_bytes: int
    """What the SSD would have free without any copies; 0 where there is none."""


def known(supervisor: Supervisor) -> Known:
    """Return what a simulation may know; none of it ever changes."""
    world, index = supervisor.world, supervisor.routes.index
    sizes = {model.id: model.location.size_bytes for model in world.models.values()}
    meant = {name: ids[0] for name, ids in index.items() if len(ids) == 1}
    ssd = supervisor.cache.space.get(SSD)
    copies = [
        location.size_bytes
        for model in world.models.values()
        for location in model.locations
        if location.tier == SSD and len(model.locations) > 1
    ]
    return Known(
        rules=rules(world.config),
        state=world.state,
        sizes_bytes=sizes,
        names={name: sizes[model_id] for name, model_id in meant.items() if model_id in sizes},
        ssd_bytes=ssd.free_bytes + sum(copies) if ssd is not None else 0,
    )


class Simulations:
    """Answers what would become of a scenario."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._busy = False

    async def simulate(self, ask: wire.Simulate, known: Known) -> wire.SimulationReport:
        """
        Return what becomes of a scenario.

        Raises:
            Usage: The scenario has a mistake, or is too long.
            UnknownName: modeld brings none of that name.
            Busy: Another one is under way.
        """
        return await self._aside(lambda: report(ask, known, self._library))

    async def scenarios(self, known: Known) -> wire.Scenarios:
        """
        Return the scenarios that modeld brings.

        Raises:
            Busy: A simulation is under way.
        """
        return await self._aside(lambda: _described(self._library, known))

    async def _aside(self, work: Callable[[], Result]) -> Result:
        """
        Do something in a thread of its own, to its end even if nobody waits any more.

        Raises:
            Busy: Something is being done.
        """
        if self._busy:
            raise Busy("a simulation is under way", retry_after_s=5)
        self._busy = True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def finish(set_outcome: Callable[[], None]) -> None:
            self._busy = False
            if not future.done():
                set_outcome()

        def body() -> None:
            outcome: Callable[[], None]
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 (it is the waiter's)
                failed = error
                outcome = lambda: future.set_exception(failed)  # noqa: E731
            else:
                outcome = lambda: future.set_result(result)  # noqa: E731
            with contextlib.suppress(RuntimeError):  # the loop is closed: modeld has ended
                loop.call_soon_threadsafe(finish, outcome)

        threading.Thread(target=body, name="simulation", daemon=True).start()
        return await future


def report(ask: wire.Simulate, known: Known, library: Library) -> wire.SimulationReport:
    """
    Return what becomes of a scenario.

    Raises:
        Usage: It has a mistake, or is too long.
        UnknownName: There is none of that name.
    """
    scenario = _scenario(ask, known, library)
    changes = {**scenario.changes, **ask.changes}
    free = scenario.ssd_free_bytes if ask.ssd_free_bytes is None else ask.ssd_free_bytes
    scenario = structs.replace(scenario, changes=changes, ssd_free_bytes=free)
    uses = sum(len(model.uses) for model in scenario.models)
    if uses > MAX_USES:
        raise Usage(f"{scenario.name} has {uses} uses", hint=f"at most {MAX_USES} at a time")
    run = simulate(scenario, known.rules)
    return wire.SimulationReport(
        scenario=scenario.name,
        description=scenario.description,
        policy=what_if(known.rules.policy, changes).policy,
        ssd_bytes=run.ssd_bytes,
        seconds=run.seconds,
        events=tuple(_event(one) for one in run.events[:MAX_EVENTS]),
        events_left_out=max(0, len(run.events) - MAX_EVENTS),
        summary=_summary(run),
        expects=scenario.expect is not None,
        unmet=run.unmet,
        comparison=_comparison(run, known.rules) if ask.compare else (),
        picture=svg(run) if ask.picture else "",
    )


def _scenario(ask: wire.Simulate, known: Known, library: Library) -> Scenario:
    """Return what is to be simulated."""
    if (bool(ask.name), bool(ask.text), ask.history).count(True) != 1:
        raise Usage("one scenario at a time", hint="modelctl simulate NAME, PATTERN or --history")
    if ask.history:
        free_bytes = known.ssd_bytes or DEFAULT_SSD_BYTES
        found = history(known.state, dict(known.sizes_bytes), free_bytes)
        if not any(model.uses for model in found.models):
            raise Usage("no use of any model is remembered yet", hint="modelctl simulate simple")
        return found
    if ask.name:
        text = library.text(ask.name)
        if text is None:
            names = ", ".join(library.names()) or "none"
            raise UnknownName(f"no scenario is called '{ask.name}'", hint=f"there are: {names}")
        return parse_file(text, ask.name, known.names, toml=True)
    title = ask.title or "pattern"
    if ask.form == "pattern":
        return parse_pattern(ask.text, known.names, title)
    return parse_file(ask.text, title, known.names, toml=ask.form == "toml")


def _event(event: Event) -> wire.EventRow:
    kept = event.tag is Tag.TRIGGER and event.numbers.get("hit")
    return wire.EventRow(
        at_s=event.at,
        tag=event.tag,
        outcome="keep" if kept else OUTCOMES.get(event.tag, ""),
        model=event.model,
        message=event.message,
        size_bytes=event.size_bytes,
    )


def _summary(run: Run) -> wire.SimulationSummary:
    return wire.SimulationSummary(**structs.asdict(run.summary))


def _comparison(run: Run, rules: Rules) -> tuple[wire.PolicyRow, ...]:
    """Return what every policy makes of the uses of a run."""
    rules = structs.replace(rules, policy=what_if(rules.policy, run.scenario.changes))
    trace = Trace(
        loads=loads_of(run.scenario),
        sizes_bytes={model.name: model.size_bytes for model in run.scenario.models},
    )
    return tuple(
        wire.PolicyRow(
            policy=one.name,
            saved_s=one.saved_s,
            saved_s_per_gb=one.yield_s_per_gb,
            written_bytes=one.written_bytes,
            written_gb_per_day=one.written_gb_a_day,
            expiries=one.expiries,
            regretted_expiries=one.regretted,
            of_bound=one.of_bound,
        )
        for one in compare(trace, run.ssd_bytes, rules)
    )


def _described(library: Library, known: Known) -> wire.Scenarios:
    found = {}
    for name in library.names():
        text = library.text(name)
        if text is not None:
            found[name] = parse_file(text, name, known.names, toml=True).description
    return wire.Scenarios(scenarios=found)
