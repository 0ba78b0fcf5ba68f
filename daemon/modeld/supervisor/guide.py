"""
What routing and limits go by, made of the configuration and of what there is; published as one.

Made anew when the catalogue, a name or the configuration changes, and never for a request, of
what is known of each model, which is looked up once.  Pure: no world, no clock.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec
from msgspec import Struct, field

from modeld.config.schema import Config, Options, Parameters, Rewrite
from modeld.core.entities import Model
from modeld.core.limits import Facts, Row, facts
from modeld.core.routing import Router, Rule, Settings
from modeld.core.rules import Matcher, compiled

_TEMPLATE_FLAGS = frozenset(("--chat-template", "--chat-template-file", "--no-jinja"))
"""With one of them, a model is served with another template than its file's."""


class Prospect(Struct, frozen=True, kw_only=True):
    """What one model would be loaded with."""

    arguments: tuple[str, ...] = ()
    context_tokens: int = 0
    options: Options = Options()
    """Defaults for requests that routing brings to it."""
    impossible: str = ""
    """Why it can't be loaded on this machine, whatever is unloaded; empty if it can."""


class Outlook(Struct, frozen=True, kw_only=True):
    """What is known of one model that is not loaded."""

    facts: Facts
    prospect: Prospect


class Guide(Struct, frozen=True, kw_only=True):
    """What requests that name no model go by, and what bounds all of them."""

    router: Router = field(default_factory=lambda: Router(Settings(), {}, {}))
    facts: Mapping[str, Facts] = field(default_factory=dict)
    """By model id."""
    contexts: Mapping[str, int] = field(default_factory=dict)
    """Model id -> the context that its next server will have.  [tokens]"""
    options: Mapping[str, Options] = field(default_factory=dict)
    """Model id -> defaults for requests that routing brings to it; only where there are any."""
    profile_options: Mapping[str, Options] = field(default_factory=dict)

    def tools_are_refused(self, model: Model) -> bool:
        """Return whether it is certain that a model understands no tools."""
        known = self.facts.get(model.id)
        return known is not None and model.header.has_chat_template and not known.tools

    def defaults(self, model_id: str, profile: str) -> tuple[Rewrite, ...]:
        """Return what routed requests get where they say nothing: a model's own wins."""
        if not self.options and not self.profile_options:
            return ()
        found = (self.options.get(model_id), self.profile_options.get(profile))
        return tuple(_as_rewrite(each) for each in found if each is not None)

    def context_wish(self, model_id: str, profile: str) -> int:
        """Return the context that a routed request loads its model with; 0 for as usual."""
        found = (self.options.get(model_id), self.profile_options.get(profile))
        return next((each.num_ctx for each in found if each is not None and each.num_ctx), 0)


def outlook(model: Model, prospect: Prospect, rows: tuple[Row, ...] = ()) -> Outlook:
    """
    Return what is known of a model that is not loaded.

    Args:
        model: The model.
        prospect: How it would be loaded.
        rows: The user's own table of limits.
    """
    any_template = not _TEMPLATE_FLAGS.isdisjoint(_flags(prospect.arguments))
    return Outlook(facts=facts(model, rows, any_template=any_template), prospect=prospect)


def guide(
    config: Config, outlooks: Iterable[Outlook], index: Mapping[str, tuple[str, ...]]
) -> Guide:
    """
    Return what routing and limits go by.

    Args:
        config: The configuration in force.
        outlooks: Of every model.
        index: Every exact name -> the ids that it may mean.
    """
    known = {each.facts.model_id: each for each in outlooks}
    every_fact = {key: each.facts for key, each in known.items()}
    ahead = {key: each.prospect for key, each in known.items()}
    impossible = {key: each.impossible for key, each in ahead.items() if each.impossible}
    return Guide(
        router=Router(settings(config), every_fact, index, impossible),
        facts=every_fact,
        contexts={key: each.context_tokens for key, each in ahead.items()},
        options={key: each.options for key, each in ahead.items() if each.options != _NO_OPTIONS},
        profile_options={
            name: each for name, each in config.routing.options.items() if each != _NO_OPTIONS
        },
    )


def default_model(config: Config, index: Mapping[str, tuple[str, ...]]) -> str:
    """Return what answers where none is named and no words decide; of a role, whose it is."""
    name = config.models.default
    roles = msgspec.structs.asdict(config.routing.roles)
    return name if name in index else roles.get(name) or name


def settings(config: Config) -> Settings:
    """Return the configuration of routing as the core has it."""
    routing = config.routing
    return Settings(
        enabled=routing.enabled,
        default_profile=routing.default_profile,
        heuristics=routing.heuristics,
        roles={role: name for role, name in msgspec.structs.asdict(routing.roles).items() if name},
        rules=tuple(
            Rule(each.pattern, each.model, _matcher(each.pattern)) for each in routing.rules
        ),
        overrides=routing.overrides,
        default_model=config.models.default,
    )


_NO_OPTIONS = Options()
_PARAMETERS = Parameters.__struct_fields__


def _flags(arguments: Iterable[str]) -> Iterable[str]:
    return (word.partition("=")[0] for word in arguments)


@lru_cache(maxsize=512)
def _matcher(pattern: str) -> Matcher:
    """Return a rule's pattern compiled; the loader has refused what is none."""
    return compiled(pattern)


@lru_cache(maxsize=512)
def _as_rewrite(options: Options) -> Rewrite:
    return Rewrite(default=Parameters(**{name: getattr(options, name) for name in _PARAMETERS}))
