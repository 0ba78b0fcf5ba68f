"""
What every name means, with the names that the configuration adds: the variants of models.

A variant is a further name of a model whose requests are changed on their way.  A name that means
something already keeps its meaning, and the variant that wanted it is told of.  Pure: catalogue,
state and entries in, tables out; how a request is changed is the gateway's business.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct, field, structs

from modeld.config.schema import Entry, Parameters, Rewrite
from modeld.core.entities import Model, State
from modeld.core.resolve import Index, exact_index

Rewrites = tuple[Rewrite, ...]
_NO_CHANGE = Rewrite()


class Naming(Struct, frozen=True, kw_only=True):
    """Every name, and what it does to requests."""

    index: Index = field(default_factory=dict)
    """Every exact name -> the ids that it may mean."""
    variants: dict[str, str] = field(default_factory=dict)
    """Variant -> the id of its model; they are in the index too."""
    rewrites: dict[str, Rewrites] = field(default_factory=dict)
    """Model id or variant -> the changes of its requests, in this order."""
    problems: tuple[str, ...] = ()
    """Variants that could not have their names, one sentence each."""


def entry_of(entries: Mapping[str, Entry], model: Model, nicknames: Iterable[str]) -> Entry:
    """Return the settings of one model: by its id, its name or a nickname, in that order."""
    if not entries:
        return Entry()
    for key in (model.id, model.name, f"{model.name}.gguf", *nicknames):
        if key in entries:
            return entries[key]
    return Entry()


def naming(models: Mapping[str, Model], state: State, entries: Mapping[str, Entry]) -> Naming:
    """Return what every name means."""
    index = exact_index(models, state)
    if not entries:
        return Naming(index=index)
    nicknames: dict[str, list[str]] = {}
    for nickname, model_id in state.nicknames.items():
        nicknames.setdefault(model_id, []).append(nickname)
    rewrites: dict[str, Rewrites] = {}
    claims: dict[str, dict[str, Rewrites]] = {}
    for model in models.values():
        entry = entry_of(entries, model, nicknames.get(model.id, ()))
        if common := _effective(entry.request):
            rewrites[model.id] = common
        for variant, rewrite in entry.variants.items():
            changes = _beside(entry.request, rewrite) + _effective(rewrite)
            claims.setdefault(variant, {})[model.id] = changes
    problems = []
    variants: dict[str, str] = {}
    for variant, claimed in claims.items():
        if problem := _collision(variant, claimed, index):
            problems.append(problem)
            continue
        variants[variant], changes = next(iter(claimed.items()))
        for name in (variant, f"{variant}:latest"):
            if name not in index:
                index[name] = (variants[variant],)
                rewrites[name] = changes
    return Naming(index=index, variants=variants, rewrites=rewrites, problems=tuple(problems))


def _beside(request: Rewrite, variant: Rewrite) -> Rewrites:
    """Return the model's changes but for defaults that its variant has too, and that come after."""
    own = structs.asdict(variant.default)
    unsaid = {name: None for name, value in own.items() if value is not None}
    default = structs.replace(request.default, **unsaid)
    return _effective(structs.replace(request, default=default))


def _effective(rewrite: Rewrite) -> Rewrites:
    return () if rewrite == _NO_CHANGE else (rewrite,)


def _collision(variant: str, claimed: Iterable[str], index: Index) -> str:
    """Return why a variant can't have its name; nothing where it can."""
    if variant in index:
        return f"variant '{variant}' has no effect: the name means {', '.join(index[variant])}"
    ids = sorted(claimed)
    if len(ids) > 1:
        return f"variant '{variant}' has no effect: it would be one of {', '.join(ids)}"
    return ""


def in_words(rewrites: Rewrites) -> tuple[str, ...]:
    """Return the changes of requests for people, in the order in which they are made."""
    return tuple(
        sentence
        for each in rewrites
        for sentence in (
            *(f"strip {name}" for name in each.strip),
            *_parameters("default", each.default),
            *_parameters("set", each.set),
        )
    )


def _parameters(verb: str, parameters: Parameters) -> Iterable[str]:
    for name, value in structs.asdict(parameters).items():
        if value is not None:
            shown = ", ".join(map(repr, value)) if isinstance(value, tuple) else value
            yield f"{verb} {name} {shown}"
