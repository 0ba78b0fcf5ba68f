"""
Which model answers a request that names a task, or nothing.

    a role's name -> that model
    profile:NAME  -> the profile's model, or its fallback's
    auto, nothing -> rules > heuristics > default profile > default model

A request that names nothing at all has the default model before the default profile: that is the
model which somebody chose for such requests.  Everything is settled when a `Router` is made, but
what depends on the words of a request; so a choice costs some microseconds, and is the same
whenever it is asked for.  Every choice comes with its steps, and with the candidates where a
profile made it.  Nothing is loaded here, and nobody looks at what is loaded.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from modeld.core.limits import Facts
from modeld.core.names import PROFILE_PREFIX
from modeld.core.profiles import PROFILES, Considered, Profile, candidates, require_profile
from modeld.core.rules import Matcher, bounded, heuristics
from modeld.errors import UnknownModel

AUTO = "auto"
ROLES = ("primary", "code", "fast")
_MAX_KEPT_CHOICES = 256


class Rule(Struct, frozen=True):
    """Where requests go whose last message fits."""

    pattern: str
    model: str
    """A name of a model, or a role."""
    matches: Matcher
    """What `compiled` made of the pattern."""


class Settings(Struct, frozen=True, kw_only=True):
    """What was configured."""

    enabled: bool = True
    default_profile: str = "general"
    heuristics: bool = True
    roles: Mapping[str, str] = {}
    """Role -> name; only those that are set."""
    rules: tuple[Rule, ...] = ()
    overrides: Mapping[str, str] = {}
    """Profile -> name."""
    default_model: str = ""


class Step(Struct, frozen=True):
    """One thing that was tried, and what came of it."""

    what: str
    outcome: str


class Decision(Struct, frozen=True, kw_only=True):
    """The model that answers, and why."""

    model_id: str
    route: str
    """`rule:1`, `heuristic:code`, `heuristic:short`, `role:code`, `profile:code` or `default`."""
    name: str = ""
    """What the configuration calls the model, which may be a variant; empty where a score chose."""
    profile: str = ""
    """Whose options the request gets; empty for none."""
    pattern: str = ""
    """Of the rule that fitted."""
    steps: tuple[Step, ...] = ()
    candidates: tuple[Considered, ...] = ()
    """Of the profile that decided, the best first."""

    @property
    def reason(self) -> str:
        """What decided, a sentence."""
        return f"{self.steps[-1].what}: {self.steps[-1].outcome}" if self.steps else ""


class Ask(Struct, frozen=True, kw_only=True):
    """What is known of a request."""

    name: str = ""
    """As it was given: empty, `auto`, a role or `profile:NAME`."""
    profile: str = ""
    """Asked for beside the name, as in a header."""
    text: Callable[[], str] | None = None
    """Returns the last message of the user, where words decide; None where there are none."""
    capabilities: frozenset[str] = frozenset()
    """What it needs on top of what its profile wants."""


class _Named(Struct, frozen=True):
    """A model that the configuration names."""

    name: str
    model_id: str


class _Choice(Struct, frozen=True, kw_only=True):
    """What a profile decided, whatever the request says."""

    model_id: str
    profile: str
    name: str = ""
    steps: tuple[Step, ...]
    candidates: tuple[Considered, ...] = ()


def is_choice(name: str) -> bool:
    """Return whether a name, where no model has it, leaves the choice to routing."""
    bare = name.removesuffix(":latest")
    return bare in _WORDS or bare.startswith(PROFILE_PREFIX)


_WORDS = frozenset(("", AUTO, *ROLES))


class Router:
    """Chooses among the models that there are now, as configured now."""

    def __init__(
        self,
        settings: Settings,
        models: Mapping[str, Facts],
        index: Mapping[str, Sequence[str]],
        impossible: Mapping[str, str] | None = None,
    ) -> None:
        """
        Settle what does not depend on requests.

        Args:
            settings: The configuration.
            models: By id.
            index: Every exact name -> the ids that it may mean.
            impossible: Model id -> why no profile may choose it.
        """
        self._settings = settings
        self._models = models
        self._index = index
        self._impossible = impossible or {}
        self._roles = {role: self._find(name) for role, name in settings.roles.items()}
        self._targets = tuple(self._named(rule.model) for rule in settings.rules)
        self._choices: dict[tuple[str, frozenset[str]], _Choice | None] = {}

    def decide(self, ask: Ask, *, explain: bool = False) -> Decision:
        """
        Return which model answers.

        Args:
            ask: Whose `is_choice(name)` holds.
            explain: Tell of the rules that did not fit too.

        Raises:
            Usage: There is no such profile.
            UnknownModel: No model does.
        """
        name = ask.name.removesuffix(":latest")
        if name in ROLES:
            return self._by_role(name)
        wanted = name.removeprefix(PROFILE_PREFIX) if name.startswith(PROFILE_PREFIX) else ""
        wanted = wanted or ask.profile
        if wanted or name.startswith(PROFILE_PREFIX):
            return self._by_profile(require_profile(wanted), ask)
        return self._by_words(ask, is_unnamed=not name, explain=explain)

    def _by_role(self, role: str) -> Decision:
        named = self._roles.get(role)
        if named is not None:
            step = Step(f"role {role}", f"is {named.model_id}")
            return _by_name(named, f"role:{role}", (step,))
        name = self._settings.roles.get(role, "")
        raise UnknownModel(
            f"model '{role}' not found: no model has the name, and the role is "
            + (f"'{name}', which is not there" if name else "nobody's"),
            hint=f"set routing.roles.{role}",
        )

    def _by_profile(self, profile: Profile, ask: Ask) -> Decision:
        if not self._settings.enabled:
            raise UnknownModel(
                f"no model is chosen for profile '{profile.name}': routing is off",
                hint="name a model, or set routing.enabled",
            )
        choice = self._choose(profile.name, ask.capabilities)
        if choice is not None:
            return _decision(choice, ())
        wants = ", ".join(sorted({*profile.capabilities, *ask.capabilities}))
        raise UnknownModel(
            f"no model fits profile '{profile.name}': it wants a context of at least "
            f"{profile.context_tokens} tokens and {wants}",
            hint=f"modelctl route --profile {profile.name} --explain tells of each model",
        )

    def _by_words(self, ask: Ask, *, is_unnamed: bool, explain: bool) -> Decision:
        settings = self._settings
        steps: list[Step] = []
        if settings.enabled:
            if ask.text is not None and (settings.rules or (settings.heuristics and self._roles)):
                decided = self._by_text(ask, bounded(ask.text()), steps, explain=explain)
                if decided is not None:
                    return decided
            if is_unnamed and (decided := self._by_default(steps)) is not None:
                return decided
            choice = self._choose(settings.default_profile, ask.capabilities)
            if choice is not None:
                return _decision(choice, tuple(steps))
            needs = "".join(f", with {each}" for each in sorted(ask.capabilities))
            steps.append(Step(f"profile {settings.default_profile}", f"fits no model{needs}"))
        else:
            steps.append(Step("routing", "is off"))
        if (decided := self._by_default(steps)) is not None:
            return decided
        raise UnknownModel(
            "no model is named, and none can be chosen: "
            + "; ".join(f"{step.what} {step.outcome}" for step in steps[-3:]),
            hint="modelctl route --explain tells what each model lacks"
            if ask.capabilities
            else "name a model, or set models.default",
        )

    def _by_text(self, ask: Ask, text: str, steps: list[Step], *, explain: bool) -> Decision | None:
        """Return what rules or heuristics decide by the words."""
        data = text.encode("utf-8", "replace")
        for number, (rule, target) in enumerate(
            zip(self._settings.rules, self._targets, strict=True), 1
        ):
            if not rule.matches(data):
                if explain:
                    steps.append(Step(f"rule {number}", f"{rule.pattern!r} does not fit"))
            elif target is None:
                steps.append(Step(f"rule {number}", f"fits, and '{rule.model}' is not there"))
            elif lack := self._lack(target, ask.capabilities):
                steps.append(Step(f"rule {number}", f"fits, and {lack}"))
            else:
                steps.append(Step(f"rule {number}", f"{rule.pattern!r} fits"))
                return _by_name(target, f"rule:{number}", steps, pattern=rule.pattern)
        return self._by_heuristics(ask, text, steps) if self._settings.heuristics else None

    def _by_heuristics(self, ask: Ask, text: str, steps: list[Step]) -> Decision | None:
        for role, route, why in heuristics(text):
            name = self._settings.roles.get(role)
            if name is None:
                continue
            named = self._roles[role]
            if named is None:
                steps.append(Step(f"role {role}", f"'{name}' is not there"))
                continue
            if lack := self._lack(named, ask.capabilities):
                steps.append(Step(f"role {role}", lack))
                continue
            steps.append(Step(f"role {role}", why))
            return _by_name(named, route, steps)
        return None

    def _by_default(self, steps: list[Step]) -> Decision | None:
        name = self._settings.default_model
        if not name:
            return None
        named = self._named(name)
        if named is None:
            steps.append(Step("models.default", f"'{name}' is not there"))
            return None
        steps.append(Step("models.default", f"is {named.model_id}"))
        return _by_name(named, "default", steps)

    # --- profiles -----------------------------------------------------------------------------

    def _choose(self, profile: str, capabilities: frozenset[str]) -> _Choice | None:
        """Return what a profile decides, or else its fallback; kept, for it never changes."""
        key = profile, capabilities
        if key not in self._choices:
            if len(self._choices) >= _MAX_KEPT_CHOICES:
                self._choices.clear()
            self._choices[key] = self._choose_anew(profile, capabilities)
        return self._choices[key]

    def _choose_anew(self, asked: str, capabilities: frozenset[str]) -> _Choice | None:
        steps: list[Step] = []
        seen: set[str] = set()
        name = asked
        while name and name not in seen:
            seen.add(name)
            profile = PROFILES[name]
            override = self._settings.overrides.get(name)
            if override:
                named = self._find(override)
                lack = self._lack(named, capabilities) if named is not None else ""
                if named is not None and not lack:
                    steps.append(Step(f"profile {name}", f"its override is {named.model_id}"))
                    return _Choice(
                        model_id=named.model_id, name=override, profile=name, steps=tuple(steps)
                    )
                why = lack or f"'{override}' is not there"
                steps.append(Step(f"profile {name}", f"has an override, and {why}"))
            candidates = self.candidates(profile, capabilities)
            best = candidates[0] if candidates else None
            if best is not None and not best.left_out:
                steps.append(Step(f"profile {name}", f"{best.model_id} scores {best.score:g}"))
                return _Choice(
                    model_id=best.model_id,
                    profile=name,
                    steps=tuple(steps),
                    candidates=candidates,
                )
            steps.append(Step(f"profile {name}", f"none of {len(candidates)} models fits"))
            name = profile.fallback
        return None

    def candidates(
        self, profile: Profile, capabilities: frozenset[str] = frozenset()
    ) -> tuple[Considered, ...]:
        """Return every model with its score for a profile, the best first."""
        return candidates(profile, self._models.values(), capabilities, self._impossible)

    # --- names --------------------------------------------------------------------------------

    def _named(self, name: str) -> _Named | None:
        """Return the model that a name or a role means; real names come first."""
        found = self._find(name)
        return found if found is not None or name not in ROLES else self._roles.get(name)

    def _lack(self, named: _Named, capabilities: frozenset[str]) -> str:
        """Return what a model lacks of what the request needs, a phrase; empty for nothing."""
        model = self._models.get(named.model_id)
        missing = [each for each in sorted(capabilities) if model and not model.has(each)]
        return f"{named.model_id} has no {', '.join(missing)}" if missing else ""

    def _find(self, name: str) -> _Named | None:
        ids = self._index.get(name) or self._index.get(f"{name}:latest") or ()
        return _Named(name, ids[0]) if len(ids) == 1 else None

    def warnings(self) -> tuple[str, ...]:
        """Return what is configured and is not there now; it may come."""
        settings = self._settings
        named = [(f"routing.roles.{role}", name) for role, name in settings.roles.items()]
        named += [(f"routing.overrides.{key}", name) for key, name in settings.overrides.items()]
        named += [
            (f"routing.rules[{number}].model", rule.model)
            for number, rule in enumerate(settings.rules, 1)
        ]
        named += [("models.default", settings.default_model)] * bool(settings.default_model)
        return tuple(
            f"{key}: there is no model '{name}' now"
            for key, name in named
            if self._named(name) is None
        )


def _by_name(named: _Named, route: str, steps: Sequence[Step], *, pattern: str = "") -> Decision:
    return Decision(
        model_id=named.model_id, name=named.name, route=route, pattern=pattern, steps=tuple(steps)
    )


def _decision(choice: _Choice, before: tuple[Step, ...]) -> Decision:
    return Decision(
        model_id=choice.model_id,
        name=choice.name,
        route=f"profile:{choice.profile}",
        profile=choice.profile,
        steps=before + choice.steps,
        candidates=choice.candidates,
    )
