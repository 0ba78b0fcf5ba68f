"""
Which model would answer, and why, told to somebody who asks: the published guide -> wire.

The very router that the gateway asks decides here too.  Reads only; what a request says is
neither kept nor logged.
"""

from collections.abc import Iterable

import msgspec

from modeld.config.schema import Options
from modeld.core.events import Selection
from modeld.core.limits import facts
from modeld.core.profiles import (
    PROFILES,
    Considered,
    Profile,
    lacks,
    require_capabilities,
    require_profile,
    score,
)
from modeld.core.routing import AUTO, Ask, Decision
from modeld.core.traffic import RequestsRouted
from modeld.errors import UnknownModel
from modeld.supervisor import choosing
from modeld.supervisor.world import World
from modeld.wire.routing import AskRoute, ProfileVerdict, RouteCandidate, Routed, RouteStep, Suits

Told = dict[str, str | int | float | bool | list[str]]


def route(world: World, asked: AskRoute) -> Routed:
    """
    Return which model would answer a request that names none.

    Raises:
        ModeldError: None would, or there is no such profile or capability.
    """
    guide, text = world.routes.guide, asked.text
    ask = Ask(
        # a default model is no answer to whoever looks for what a model can do
        name=AUTO if text is None and asked.capabilities else "",
        profile=asked.profile,
        text=None if text is None else lambda: text,
        capabilities=require_capabilities(asked.capabilities),
    )
    try:
        decision = guide.router.decide(ask, explain=True)
    except UnknownModel as error:
        if not asked.explain:
            raise
        profile = PROFILES[asked.profile or world.config.routing.default_profile]
        return Routed(
            model="",
            id="",
            route="",
            profile=profile.name,
            reason=error.message,
            candidates=_told(world, guide.router.candidates(profile, ask.capabilities)),
            warnings=guide.router.warnings(),
        )
    return Routed(
        model=world.label(decision.model_id),
        id=decision.model_id,
        route=decision.route,
        profile=decision.profile,
        pattern=decision.pattern,
        reason=decision.reason,
        steps=tuple(RouteStep(what=each.what, outcome=each.outcome) for each in decision.steps),
        candidates=_told(world, decision.candidates),
        options=_options(world, decision),
        warnings=guide.router.warnings(),
    )


def _told(world: World, considered: Iterable[Considered]) -> tuple[RouteCandidate, ...]:
    return tuple(
        RouteCandidate(model=world.label(each.model_id), score=each.score, left_out=each.left_out)
        for each in considered
    )


def suits(world: World, selection: Selection, profile: str, capabilities: tuple[str, ...]) -> Suits:
    """
    Return what is known of a model, and which profiles it suits.

    Raises:
        ModeldError: There is no such model, profile or capability.
    """
    needed = require_capabilities(capabilities)
    model = choosing.choose(world, selection).model
    # one that was found just now is not published yet
    known = world.routes.guide.facts.get(model.id) or facts(model, world.limits)
    asked = [require_profile(profile)] if profile else list(PROFILES.values())

    def verdict(one: Profile) -> ProfileVerdict:
        lacking = tuple(lacks(one, known, needed))
        return ProfileVerdict(
            profile=one.name, suits=not lacking, score=score(one, known), lacks=lacking
        )

    verdicts = tuple(verdict(one) for one in asked)
    return Suits(
        model=world.label(model.id),
        id=model.id,
        suits=all(each.suits for each in verdicts),
        profiles=verdicts,
        family=known.family,
        context_tokens=known.context_tokens,
        context_source=known.context_source,
        max_output_tokens=known.max_output_tokens,
        tools=known.tools,
        vision=known.vision,
        streaming=known.streaming,
        reasoning=known.reasoning,
        pattern=known.pattern,
    )


def note(world: World, event: RequestsRouted) -> None:
    """Log how a model was chosen; of what a request says, nothing is known here."""
    label = world.label(event.model_id)
    times = f", {event.requests} times" if event.requests > 1 else ""
    world.ports.journal.record(
        "routed",
        f"{label} answers by {event.route}{times} ({event.reason})",
        model=label,
        route=event.route,
        pattern=event.pattern,
        requests=event.requests,
    )


def _options(world: World, decision: Decision) -> Told:
    """Return the defaults that the request would get; a model's own win."""
    guide = world.routes.guide
    found: Told = {}
    for options in (
        guide.options.get(decision.model_id, Options()),
        guide.profile_options.get(decision.profile, Options()),
    ):
        for name, value in msgspec.structs.asdict(options).items():
            if value is not None:
                found.setdefault(name, list(value) if isinstance(value, tuple) else value)
    return found
