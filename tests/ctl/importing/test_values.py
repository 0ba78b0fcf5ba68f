"""What a value must be, and which names are those of secrets."""

import pytest

from modelctl.importing import values
from modelctl.importing.values import Reader, Unfit, is_secret


@pytest.mark.parametrize(
    "name",
    [
        "token", "auth_token", "apiKey", "api_key", "API_KEY", "api_keys", "secret_key", "password",
        "password_hash", "encryption-key", "refresh_tokens", "api_key_env", "clientSecret",
        "APIKey",
    ],
)  # fmt: skip
def test_secret_is_known_by_its_name(name: str) -> None:
    """What is not recognised is printed to a terminal."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "maxTokens", "keep_alive", "keepAlive", "tokenBudget", "monkey", "", 3]
)
def test_name_that_only_sounds_like_one_is_none(name: object) -> None:
    """Else settings that matter would be left."""
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (values.whole(1, 64), 3.0, 3),
        (values.number(0, 2), 1, 1.0),
        (values.model, "/srv/models/Phi-3-mini.gguf", "Phi-3-mini"),
        (values.seconds, "10m", 600.0),
        (values.seconds, -1, -1.0),
        (values.seconds, "-1", -1.0),
        (values.log_level, "CRITICAL", "error"),
        (values.one_of("ram", "ssd"), "RAM", "ram"),
        (values.folder, "~/models", "~/models"),
    ],
)
def test_value_becomes_what_modeld_has(read: Reader, value: object, expected: object) -> None:
    """In modeld's units and words."""
    assert read(value) == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (values.whole(1, 64), True),
        (values.whole(1, 64), 65),
        (values.whole(1, 64), "3"),
        (values.number(0, 2), float("nan")),
        (values.number(0, 2), float("inf")),
        (values.number(0, 2), 10**400),
        (values.text, "a\nb"),
        (values.text, "\ud800"),
        (values.text, "x" * 5000),
        (values.texts, ["a", 1]),
        (values.boolean, "yes"),
        (values.seconds, "soon"),
        (values.folder, "models"),
        (values.one_of("ram", "ssd"), 3),
    ],
)
def test_value_that_is_something_else_is_refused(read: Reader, value: object) -> None:
    """It is told as a mistake, and nothing is guessed."""
    with pytest.raises(Unfit, match="expected"):
        read(value)


def test_range_is_told_in_digits() -> None:
    """`1e+07` is not how somebody counts seconds."""
    with pytest.raises(Unfit, match=r"from 0 to 10000000$"):
        values.number(0, 10_000_000)(-1)
