"""
What kinds of work want of a model, and how well each model suits them.

The four profiles are OLLM's.  A model suits one if its context is long enough and it has what is
required; among those, the family decides, then what the tables say that it is good at, then its
id.  Pure arithmetic over `core.limits.Facts`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from modeld.core.limits import CAPABILITIES, Facts
from modeld.errors import Usage

FAMILY_BONUS = 0.5
"""For a model that the tables hold fit for a profile."""


class Profile(Struct, frozen=True, kw_only=True):
    """What a kind of work wants of its model."""

    name: str
    families: tuple[str, ...]
    """The best first."""
    context_tokens: int
    """At least."""
    capabilities: tuple[str, ...] = ("streaming",)
    fallback: str = ""
    """The profile that is asked where no model fits this one."""


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="fast",
            families=("phi", "gemma", "mistral"),
            context_tokens=4096,
            fallback="general",
        ),
        Profile(name="general", families=("llama", "mistral", "qwen"), context_tokens=8192),
        Profile(
            name="code",
            families=("codellama", "deepseek-coder", "starcoder", "qwen"),
            context_tokens=16384,
            fallback="general",
        ),
        Profile(
            name="creative",
            families=("llama", "mistral"),
            context_tokens=8192,
            fallback="general",
        ),
    )
}


class Considered(Struct, frozen=True, kw_only=True):
    """A model that a profile looked at."""

    model_id: str
    score: float
    left_out: str = ""
    """Why it can't be; empty for one that could."""


def require_profile(name: str) -> Profile:
    """
    Return a profile.

    Raises:
        Usage: There is none of that name.
    """
    profile = PROFILES.get(name)
    if profile is None:
        raise Usage(f"unknown profile '{name[:64]}'", hint=f"there are {', '.join(PROFILES)}")
    return profile


def candidates(
    profile: Profile,
    models: Iterable[Facts],
    capabilities: frozenset[str] = frozenset(),
    impossible: Mapping[str, str] | None = None,
) -> tuple[Considered, ...]:
    """
    Return every model with its score: the best first, those that can't be at the end.

    Args:
        profile: What is wanted.
        models: All that there are.
        capabilities: What is needed on top of that.
        impossible: Model id -> why it can't be chosen, whatever it can do.
    """
    why = impossible or {}
    considered = [
        Considered(
            model_id=model.model_id,
            score=score(profile, model),
            left_out=why.get(model.model_id, "") or "; ".join(lacks(profile, model, capabilities)),
        )
        for model in models
    ]
    considered.sort(key=lambda one: (bool(one.left_out), -one.score, one.model_id))
    return tuple(considered)


def score(profile: Profile, model: Facts) -> float:
    """Return how well a model suits a profile; higher is better."""
    count = len(profile.families)
    ranks = [
        count - position
        for position, family in enumerate(profile.families)
        if model.family == family or any(_is_of(name, family) for name in model.names)
    ]
    return max(ranks, default=0) + (FAMILY_BONUS if profile.name in model.profiles else 0.0)


def lacks(profile: Profile, model: Facts, capabilities: frozenset[str]) -> Iterator[str]:
    """Yield what a model lacks for a profile, a phrase each."""
    if model.context_tokens < profile.context_tokens:
        yield f"context {model.context_tokens} < {profile.context_tokens} tokens"
    for capability in sorted({*profile.capabilities, *capabilities}):
        if not model.has(capability):
            yield f"no {capability}"


def require_capabilities(names: Sequence[str]) -> frozenset[str]:
    """
    Return capabilities by their names.

    Raises:
        Usage: There is none of a name.
    """
    for name in names:
        if name not in CAPABILITIES:
            known = ", ".join(CAPABILITIES)
            raise Usage(f"unknown capability '{name}'", hint=f"there are {known}")
    return frozenset(names)


def _is_of(name: str, family: str) -> bool:
    """Return whether a canonical name is a family's: its own letters, then no more of them."""
    return name.startswith(family) and not name[len(family) : len(family) + 1].isalpha()
