"""
Names of variables that other programs made known, and what each means here.

They are OLLM's.  Each is weaker than any variable of modeld's own; an empty one says nothing.
Those that mean nothing here are named too, so that whoever set one is told instead of left to
wonder.  Variables that begin with `LLAMA_` are llama.cpp's own and never read: a word such as
`LLAMA_SERVER_ROUTER_PORT` could as well be a section and a key.
"""

from collections.abc import Iterator, Mapping
from typing import get_args

import msgspec

from modeld.config.schema import Config, Profile

_PREFIX = "MODELD_"
_PROFILES: tuple[str, ...] = get_args(Profile)
_OPTIONS = {
    "OLLM_TEMPERATURE": "temperature",
    "OLLM_MAX_TOKENS": "max_tokens",
    "OLLM_CONTEXT_SIZE": "num_ctx",
}
KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "OLLM_MODEL": (("models", "default"),),
    **{
        name: tuple(("routing", "options", profile, key) for profile in _PROFILES)
        for name, key in _OPTIONS.items()
    },
}
"""Variable -> the keys that it sets."""
UNUSED = {
    "OLLM_HOST": "it says where a client finds its server; modeld listens at gateway.listen",
    "OLLM_PROVIDER": "modeld is the provider, for the clients that gateway.compat names",
}
"""Variable -> why it sets nothing."""


def aliases(environment: Mapping[str, str]) -> Iterator[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Yield each variable that says something, and the keys that it sets."""
    yield from ((name, keys) for name, keys in KEYS.items() if environment.get(name))


def notes(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each variable that somebody set and that sets nothing."""
    found = [(name, why) for name, why in UNUSED.items() if environment.get(name)]
    found += [(name, why) for name in sorted(environment) if (why := _mistyped(name))]
    return tuple(f"${name} is not used: {why}" for name, why in found)


def _mistyped(name: str) -> str:
    """Return why a variable that looks like one of a key's is none; empty where it doesn't."""
    words = name.removeprefix(_PREFIX).lower()
    if not name.startswith(_PREFIX) or "__" in name:
        return ""
    for section in msgspec.structs.fields(Config):
        rest = words.removeprefix(f"{section.name}_")
        keys = section.type.__struct_fields__
        if rest != words and any(rest == key or rest.startswith(f"{key}_") for key in keys):
            meant = f"{_PREFIX}{section.name}__{rest}".upper()
            return f"two underscores stand for each dot, as in {meant}"
    return ""
