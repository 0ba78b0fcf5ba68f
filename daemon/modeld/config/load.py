"""
One configuration out of many places, or all of its mistakes at once.

    built-in < /etc/modeld/modeld.toml < ~/.config/modeld/modeld.toml < modeld.d/*.toml
             < OLLM_... < MODELD_SECTION__KEY < --set section.key=value

The last one wins key by key, and tables merge.  Each key's origin is kept, since "where does this
come from" is the first question about any configuration.  The texts come as arguments: whoever
starts the daemon has read them, and nothing here touches the machine.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from modeld.config.aliases import notes
from modeld.config.check import expand, mistakes, rule_mistakes
from modeld.config.fields import as_toml
from modeld.config.layers import Gathering, Source, dotted
from modeld.config.lines import Path, in_order
from modeld.config.schema import Config
from modeld.errors import ConfigInvalid

__all__ = [
    "Loaded",
    "Source",
    "changes",
    "expand",
    "flat",
    "load",
    "needs_restart",
    "paths_to_read",
    "values",
]
SYSTEM_FILE = "/etc/modeld/modeld.toml"
MAX_MISTAKES = 50
RESTART = ("gateway.listen", "servers.launcher", "log")
"""What is read once, at the start."""
PRESETS = {
    "aggressive": {
        "max_concurrent_loaded": 3,
        "auto_unload_idle": False,
        "idle_timeout_seconds": 3600.0,
    },
    "balanced": {
        "max_concurrent_loaded": 2,
        "auto_unload_idle": True,
        "idle_timeout_seconds": 300.0,
    },
    "conservative": {
        "max_concurrent_loaded": 1,
        "auto_unload_idle": True,
        "idle_timeout_seconds": 60.0,
    },
}
"""What `models.preset` sets, each where no place sets it itself."""


class Loaded(Struct, frozen=True, kw_only=True):
    """A valid configuration, and where each key of it was set."""

    config: Config
    origins: dict[str, str]
    """
    Key -> `FILE:LINE`, `$VARIABLE`, `--set`, or the key that set it, such as `models.preset`; what
    is not there is built in.
    """
    notes: tuple[str, ...] = ()
    """Sentences on what was set and has no effect."""

    @classmethod
    def built_in(cls) -> "Loaded":
        """Return what there is without any file, variable or option."""
        return cls(config=Config(), origins={})


def paths_to_read(environment: Mapping[str, str], home: str, explicit: str | None) -> list[str]:
    """
    Return the files to read, in order; those that are not there are left out by the reader.

    The last one is a pattern, `.../modeld.d/*.toml`, to be read in the order of the names.

    Args:
        environment: `MODELD_CONFIG` and `XDG_CONFIG_HOME` count.
        home: The user's home directory.
        explicit: `--config FILE`, which must be there, and replaces all others.
    """
    only = explicit or environment.get("MODELD_CONFIG")
    if only:
        return [only]
    base = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return [SYSTEM_FILE, f"{base}/modeld/modeld.toml", f"{base}/modeld/modeld.d/*.toml"]


def load(
    sources: Sequence[Source],
    environment: Mapping[str, str],
    overrides: Sequence[str],
    look_beside: Sequence[Callable[[Config], object]] = (),
) -> Loaded:
    """
    Return the configuration that these places make together.

    Args:
        sources: The files, the weakest first.
        environment: Of it, every `MODELD_SECTION__KEY`, the names in `aliases`, and `HOME`.
        overrides: `section.key=value`, from the command line.
        look_beside: Each looks at a file that the configuration names, and raises ConfigInvalid.

    Raises:
        ConfigInvalid: There are mistakes; the message has all of them, one a line.
    """
    found = Gathering()
    found.add_files(sources)
    found.add_aliases(environment)
    found.add_variables(environment)
    found.add_overrides(overrides)
    config = _with_preset(msgspec.convert(found.values, Config), found.origins)
    problems = found.problems + [
        f"{_origin(found.origins, each.key)}: {each}"
        for each in mistakes(config, environment.get("HOME", ""))
    ]
    for spoiled in found.spoiled:
        if spoiled.path == ("routing", "rules"):
            rules = [(one.get("pattern"), one.get("model")) for one in spoiled.tables]
            problems += [f"{spoiled.origins[each.key]}: {each}" for each in rule_mistakes(rules)]
    beside = list(filter(None, (_refusal(look, config) for look in look_beside)))
    if len(beside) == 1 and not problems:
        raise beside[0]  # its own hint is the better one
    problems += [line for error in beside for line in error.message.splitlines()]
    if problems:
        raise _invalid(in_order(dict.fromkeys(problems)))
    return Loaded(config=config, origins=found.origins, notes=notes(environment))


def _refusal(look: Callable[[Config], object], config: Config) -> ConfigInvalid | None:
    """Return what is wrong with a file that a configuration names."""
    try:
        look(config)
    except ConfigInvalid as error:
        return error
    return None


def _with_preset(config: Config, origins: dict[str, str]) -> Config:
    """Return a configuration with its preset in it, and say so in the origins."""
    preset = PRESETS.get(config.models.preset, {})
    unset = {key: one for key, one in preset.items() if f"models.{key}" not in origins}
    origins.update((f"models.{key}", "models.preset") for key in unset)
    models = msgspec.structs.replace(config.models, **unset)
    return msgspec.structs.replace(config, models=models)


def flat(config: Config) -> dict[str, object]:
    """
    Return every key of a configuration with its value; None for one that is unset.

    Of tables whose keys are the user's, only what is not as it is without a word.
    """
    found: dict[str, object] = {}

    def walk(value: object, path: Path, usual: object = ...) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                walk(one, (*path, key), type(one)() if isinstance(one, Struct) else ...)
        elif isinstance(value, Struct):
            for key in value.__struct_fields__:
                walk(getattr(value, key), (*path, key), getattr(usual, key, ...))
        elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
            for number, one in enumerate(value, 1):
                walk(one, (*path, number))
        elif usual is ... or value != usual:
            found[dotted(path)] = value

    walk(config, ())
    return found


def values(config: Config) -> dict[str, str]:
    """Return what `flat` does, each value as TOML; empty for one that is unset."""
    return {key: as_toml(value) for key, value in flat(config).items()}


def changes(old: Config, new: Config) -> list[str]:
    """Return what differs, a line a key: `load.replace: true -> false`."""
    before, after = values(old), values(new)
    pairs = {key: (before.get(key, ""), after.get(key, "")) for key in {**before, **after}}
    return [
        f"{key}: {was or 'unset'} -> {now or 'unset'}"
        for key, (was, now) in pairs.items()
        if was != now and {was, now} != {"[]", ""}
    ]


def needs_restart(old: Config, new: Config) -> list[str]:
    """Return the keys that differ and are read only when modeld starts."""
    keys = [line.partition(": ")[0] for line in changes(old, new)]
    return [key for key in keys if any(key == one or key.startswith(f"{one}.") for one in RESTART)]


def _origin(origins: Mapping[str, str], key: str) -> str:
    """Return where a key is set; for a table, where the first key of it is."""
    within = (where for one, where in origins.items() if one.startswith(f"{key}."))
    return origins.get(key) or next(within, "built in")


def _invalid(problems: list[str]) -> ConfigInvalid:
    more = len(problems) - MAX_MISTAKES
    lines = problems[:MAX_MISTAKES] + ([f"and {more} more"] if more > 0 else [])
    return ConfigInvalid("\n".join(lines), hint="see modeld.toml(5)", mistakes=len(problems))
