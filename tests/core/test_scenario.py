"""Two syntaxes that people know from llama-pack, and files that say what is wrong with them."""

import pytest

from modeld.core.scenario import (
    ARRAY_MODEL,
    DEFAULT_USE_SECONDS,
    Use,
    parse_file,
    parse_pattern,
    what_if,
)
from modeld.core.tiers import CachePolicy
from modeld.errors import Usage
from modeld.units import GIB

DAY = 86_400.0
SIZES = {"phi": 3 * GIB, "qwen3:32b": 20 * GIB}


def test_array_is_the_uses_of_one_model() -> None:
    """S0-37."""
    (model,) = parse_pattern('["0s","1h","1d","2d","7d"]', {}).models

    assert model.name == ARRAY_MODEL
    assert [one.at for one in model.uses] == [0, 3600, DAY, 2 * DAY, 7 * DAY]


def test_pattern_has_models_with_sizes_times_and_durations() -> None:
    """S0-41: a missing duration is the one before."""
    first, second = parse_pattern("a:40g=0s/1h,1d,2d/5m,1w; b:512m=3M/10s", {}).models

    assert (first.name, first.size_bytes) == ("a", 40 * GIB)
    assert first.uses == (
        Use(0, 3600), Use(DAY, 3600), Use(2 * DAY, 300), Use(7 * DAY, 300),
    )  # fmt: skip
    assert (second.size_bytes, second.uses) == (GIB // 2, (Use(90 * DAY, 10),))


def test_duration_that_was_never_given_is_the_usual_one() -> None:
    """There is none before the first."""
    assert parse_pattern("a:1g=0s", {}).models[0].uses == (Use(0, DEFAULT_USE_SECONDS),)


@pytest.mark.parametrize("text", ["phi=0s,1d", "qwen3:32b=0s,1d"])
def test_real_model_needs_no_size(text: str) -> None:
    """S0-41; its name may hold a colon."""
    (model,) = parse_pattern(text, SIZES).models

    assert model.size_bytes == SIZES[model.name]


def test_real_model_may_be_given_another_size() -> None:
    """What if it were twice as large."""
    assert parse_pattern("qwen3:32b:40g=0s", SIZES).models[0].size_bytes == 40 * GIB


def test_uses_are_put_in_order() -> None:
    """A clock does not go back."""
    assert [one.at for one in parse_pattern("a:1g=2d,1d", {}).models[0].uses] == [DAY, 2 * DAY]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unknown=0s", "needs a size"),
        ("a:8q=0s", "not a size"),
        ("a:8g=soon", "not a duration"),
        ("a:8g=0s/never", "not a duration"),
        ("a:8g", "is not NAME"),
        ("=0s", "is not NAME"),
        ("a:8g=", "nothing is ever used"),
        ("a:8g=0s; a:9g=1d", "twice"),
        (";", "nothing is ever used"),
        ("[1, 2]", "not a list of times"),
        ("[]", "nothing is ever used"),
    ],
)
def test_nonsense_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    """A typing error must not become an empty simulation."""
    with pytest.raises(Usage, match=message):
        parse_pattern(text, SIZES)


def test_json_file_is_the_same_as_toml() -> None:
    """Whichever people like."""
    toml = parse_file('pattern = "a:1g=0s"\nssd_free_gb = 5', "x", {}, toml=True)
    json = parse_file('{"pattern": "a:1g=0s", "ssd_free": "5g"}', "x", {}, toml=False)

    assert toml == json
    assert parse_file('["0s"]', "x", {}, toml=False).models[0].name == ARRAY_MODEL


@pytest.mark.parametrize(
    "text",
    ["nonsense", "colour = 1", "pattern = 3", "[policy]\nkappa = 1", '[models.a]\nsize = "x"', ""],
)
def test_file_that_is_none_is_refused_by_name(text: str) -> None:
    """Whoever wrote it must find it."""
    with pytest.raises(Usage):
        parse_file(text, "mine", {}, toml=True)


def test_what_if_changes_settings_by_name() -> None:
    """Words from a command line, values from a file."""
    policy = what_if(
        CachePolicy(),
        {"policy": "gain", "promote_min_uses": "2", "ssd_min_free_bytes": "20g", "precache": False},
    )

    assert (policy.policy, policy.promote_min_uses) == ("gain", 2)
    assert (policy.ssd_min_free_bytes, policy.precache) == (20 * GIB, False)


@pytest.mark.parametrize(
    "changes", [{"kappa": 1}, {"policy": "lru"}, {"promote_min_uses": "few"}, {"speeds": "fast"}]
)
def test_what_if_refuses_what_is_no_setting(changes: dict[str, str | float | bool]) -> None:
    """A simulation of something else would be believed."""
    with pytest.raises(Usage):
        what_if(CachePolicy(), changes)
