"""
Scenarios for the simulator: what people write, as values.

Three ways to say who is used when:

    a pattern     name[:size]=time/duration,time,...; name2...      llama-pack's
                  "a:40g=0s/1h,1d,2d; b:8g=10d/5m"; a duration that is left out is the one before
    an array      ["0s", "1h", "1d", "2d", "7d"]                    the uses of one model
    a file        TOML, or JSON with the same keys: models, the SSD, the policy, what is expected

Sizes have the units k m g t, times s m h d w M y.  All times count from the beginning of the
scenario.  Text goes in and a `Scenario` comes out; nothing is read here, and nothing is run.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from modeld.core.holdings import CachePolicy
from modeld.errors import Usage
from modeld.units import GIB, parse_bytes, parse_duration

DEFAULT_SSD_BYTES = 100 * GIB
"""`--ssd-free` where nobody says."""
DEFAULT_USE_SECONDS = 600.0
MAX_USES = 100_000
MAX_MODELS = 1_000
ARRAY_MODEL = "model"
ARRAY_MODEL_BYTES = 20 * GIB
_NAME = re.compile(r"[^\s=;,/:][^=;,/:]*")

Words = Annotated[str, Meta(max_length=100_000)]


class Use(Struct, frozen=True):
    """One use."""

    at: float
    """[s] After the beginning."""
    seconds: float


class SimulatedModel(Struct, frozen=True, kw_only=True):
    """One model of a scenario."""

    name: str
    size_bytes: int
    uses: tuple[Use, ...]
    tier: Literal["hdd1", "ssd", "ssd-only"] = "hdd1"
    """Where it is at the beginning; `ssd` has a copy on the slow tier as well."""
    pinned: bool = False


class Expectation(Struct, frozen=True, forbid_unknown_fields=True):
    """What should come of it: all that is set has to hold."""

    on_ssd: tuple[str, ...] = ()
    """Models that are there at the end."""
    not_on_ssd: tuple[str, ...] = ()
    copied: tuple[str, ...] | None = None
    """Exactly these, in this order, each as often as it is named."""
    expired: tuple[str, ...] | None = None
    """The same."""
    failed: int | None = None
    """How often room was needed and could not be made."""


class Scenario(Struct, frozen=True, kw_only=True):
    """What the simulator runs."""

    name: str
    description: str = ""
    models: tuple[SimulatedModel, ...]
    ssd_free_bytes: int = DEFAULT_SSD_BYTES
    """Free at the beginning; the policy's floor is part of it."""
    changes: dict[str, str | float | bool] = field(default_factory=dict)
    """Of the policy that it is run with, as in `what_if`."""
    expect: Expectation | None = None


class _FileModel(Struct, frozen=True, forbid_unknown_fields=True):
    size: str = ""
    uses: tuple[str, ...] = ()
    """TIME or TIME/DURATION."""
    tier: Literal["hdd1", "ssd", "ssd-only"] = "hdd1"
    pinned: bool = False


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    description: str = ""
    pattern: Words = ""
    models: dict[str, _FileModel] = field(default_factory=dict)
    ssd_free: str = ""
    ssd_free_gb: float | None = None
    """As llama-pack had it."""
    policy: dict[str, str | float | bool] = field(default_factory=dict)
    """As in `what_if`."""
    expect: Expectation | None = None


def parse_pattern(text: str, sizes_bytes: Mapping[str, int], name: str = "pattern") -> Scenario:
    """
    Return the scenario of a pattern, or of an array of times.

    Args:
        text: What was typed.
        sizes_bytes: Of the real models, by every name that they have: whoever names one of them
            need not give a size.
        name: Of the scenario.

    Raises:
        Usage: It is neither, or a size is missing.
    """
    if text.lstrip().startswith("["):
        return _checked(Scenario(name=name, models=(_array(text),)))
    models: dict[str, SimulatedModel] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        model = _part(part, sizes_bytes)
        if model.name in models:
            raise Usage(f"'{model.name}' is there twice", hint="one list of uses a model")
        models[model.name] = model
    return _checked(Scenario(name=name, models=tuple(models.values())))


def parse_file(text: str, name: str, sizes_bytes: Mapping[str, int], *, toml: bool) -> Scenario:
    """
    Return the scenario of a file.

    Args:
        text: Its text.
        name: Its name, for messages.
        sizes_bytes: As in `parse_pattern`.
        toml: Whether it is TOML, and not JSON.

    Raises:
        Usage: It is not a scenario; the message says where.
    """
    if not toml and text.lstrip().startswith("["):
        return parse_pattern(text, sizes_bytes, name)
    try:
        decode = msgspec.toml.decode if toml else msgspec.json.decode
        found = decode(text, type=_File)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as error:
        raise Usage(f"{name}: {error}", hint="see modelctl(1), SCENARIOS") from error
    what_if(CachePolicy(), found.policy)  # a wrong key is a mistake of the file
    scenario = parse_pattern(found.pattern, sizes_bytes, name) if found.pattern else None
    models = tuple(
        SimulatedModel(
            name=model_name,
            size_bytes=_size(model_name, model.size, sizes_bytes),
            uses=_uses(",".join(model.uses)),
            tier=model.tier,
            pinned=model.pinned,
        )
        for model_name, model in found.models.items()
    )
    free = found.ssd_free or f"{found.ssd_free_gb or DEFAULT_SSD_BYTES / GIB}g"
    return _checked(
        Scenario(
            name=name,
            description=found.description,
            models=(*(scenario.models if scenario else ()), *models),
            ssd_free_bytes=_bytes(free),
            changes=found.policy,
            expect=found.expect,
        )
    )


def what_if(policy: CachePolicy, changes: Mapping[str, str | float | bool]) -> CachePolicy:
    """
    Return the policy with other settings, by the names that `CachePolicy` has.

    Sizes and durations may be written as people write them: `ssd_min_free_bytes = "20g"`.

    Raises:
        Usage: There is no such setting, or it can't have this value.
    """
    known = {one.name: one.type for one in msgspec.structs.fields(CachePolicy)}
    changed: dict[str, object] = {}
    for key, value in changes.items():
        if key not in known or key == "speeds":
            names = ", ".join(one for one in known if one != "speeds")
            raise Usage(f"no setting is called '{key}'", hint=f"there are: {names}")
        if key.endswith("_bytes") and isinstance(value, str):
            value = _bytes(value)  # noqa: PLW2901 (the same value, in bytes)
        try:
            changed[key] = msgspec.convert(value, known[key], strict=False)
        except msgspec.ValidationError as error:
            raise Usage(f"{key} = {value}: {error}", hint="see modeld.toml(5)") from error
    return msgspec.structs.replace(policy, **changed)


def _array(text: str) -> SimulatedModel:
    try:
        times = msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Usage(f"not a list of times: {error}", hint='write ["0s", "1h", "1d"]') from error
    return SimulatedModel(
        name=ARRAY_MODEL, size_bytes=ARRAY_MODEL_BYTES, uses=_uses(",".join(times))
    )


def _part(part: str, sizes_bytes: Mapping[str, int]) -> SimulatedModel:
    left, equals, right = part.partition("=")
    left = left.strip()
    name, size = left, ""
    # a name may hold a colon itself ("qwen3:32b" is a real model): the size is after the last one
    if ":" in left and left not in sizes_bytes:
        name, _, size = left.rpartition(":")
    if not equals or not name.strip():
        raise Usage(
            f"'{part}' is not NAME[:SIZE]=TIME[/DURATION],...", hint="such as a:8g=0s/1h,1d"
        )
    return SimulatedModel(
        name=name.strip(), size_bytes=_size(name.strip(), size, sizes_bytes), uses=_uses(right)
    )


def _size(name: str, size: str, sizes_bytes: Mapping[str, int]) -> int:
    if size:
        return _bytes(size)
    if name not in sizes_bytes:
        raise Usage(
            f"'{name}' is no model of yours, so it needs a size", hint=f"write {name}:8g=..."
        )
    return sizes_bytes[name]


def _uses(text: str) -> tuple[Use, ...]:
    uses, seconds = [], DEFAULT_USE_SECONDS
    for word in filter(None, (one.strip() for one in text.split(","))):
        time, slash, duration = word.partition("/")
        if slash:
            seconds = _seconds(duration)
        uses.append(Use(_seconds(time), seconds))
    return tuple(sorted(uses, key=lambda one: one.at))


def _checked(scenario: Scenario) -> Scenario:
    uses = sum(len(model.uses) for model in scenario.models)
    names = [model.name for model in scenario.models]
    if not uses:
        raise Usage(f"{scenario.name}: nothing is ever used", hint="give a model a time")
    if uses > MAX_USES or len(names) > MAX_MODELS:
        raise Usage(
            f"{scenario.name}: {uses} uses of {len(names)} models",
            hint=f"at most {MAX_USES} and {MAX_MODELS}",
        )
    if len(names) != len(set(names)):
        raise Usage(f"{scenario.name}: a model is there twice", hint="see its pattern")
    return scenario


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise Usage(str(error), hint="sizes: 512m, 8g, 1.5t") from error


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Usage(str(error), hint="times: 0s, 30m, 1h, 2d, 1w, 3M, 1y") from error
