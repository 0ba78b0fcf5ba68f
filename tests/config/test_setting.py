"""What somebody types as a key and a value is found and understood, or refused in words."""

import pytest

from modeld.config.setting import converted, find
from modeld.errors import ConfigInvalid, Usage


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("gateway.listen", ("gateway", "listen")),
        ("gateway", ("gateway",)),
        ('models.entries."a.b".memory_gb', ("models", "entries", "a.b", "memory_gb")),
        ("routing.rules[2].model", ("routing", "rules", 2, "model")),
        ("routing.rules[2]", ("routing", "rules", 2)),
    ],
)
def test_key_is_found_by_its_name(key: str, path: tuple[str | int, ...]) -> None:
    """As `config show` prints it."""
    assert find(key) == path


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("gateway.listn", "did you mean 'listen'?"),
        ("gatway.listen", "unknown key 'gatway' (did you mean 'gateway'?)"),
        ("gateway.listen.x", "'gateway.listen' is no table"),
        ("", "'' is no key"),
        ("a b", "'a b' is no key"),
        ("a\nb", "is no key"),
        ("routing.rules[1].modl", "did you mean 'model'?"),
    ],
)
def test_unknown_key_is_told_with_what_there_is(key: str, told: str) -> None:
    """A wrong name is a wrong argument, not a wrong configuration."""
    with pytest.raises(Usage) as caught:
        find(key)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("models.default", "tool", "tool"),
        ("models.default", "123", "123"),
        ("models.default", '"tool"', "tool"),
        ("load.replace", "false", False),
        ("memory.limit_gb", "4", 4.0),
        ("gateway.listen", "a, b", ("a", "b")),
        ("gateway.listen", "", ()),
        ("gateway.listen", '["a"]', ("a",)),
        ("routing.overrides.fast", "phi", "phi"),
        ("routing.overrides", "{ fast = 'phi' }", {"fast": "phi"}),
        ("routing.options.fast", "{ top_k = 3 }", {"top_k": 3}),
        (
            "routing.rules",
            "[{ pattern = 'x', model = 'fast' }]",
            [{"pattern": "x", "model": "fast"}],
        ),
    ],
)
def test_word_becomes_what_the_key_holds(key: str, word: str, value: object) -> None:
    """Nobody has to write quotes inside quotes for a shell."""
    assert converted(find(key), word) == value


@pytest.mark.parametrize(
    ("key", "word", "told"),
    [
        ("gateway.max_body_mb", "0", "expected a whole number from 1 to 1024"),
        ("memory.limit_gb", "0", "memory.limit_gb = 0: expected a number above 0"),
        ("load.replace", "maybe", 'load.replace = "maybe": expected true or false'),
        ("routing.options.fast.temperature", "3", "Temperature must be between 0.0 and 2.0."),
        ("routing.rules", "x", "expected a list of tables"),
        ("routing.rules", "[{}]", "is missing"),
    ],
)
def test_word_that_the_key_can_not_hold_is_refused(key: str, word: str, told: str) -> None:
    """With the same words as in a file."""
    with pytest.raises(ConfigInvalid) as caught:
        converted(find(key), word)
    assert told in caught.value.message


@pytest.mark.parametrize(
    "key", ["gateway", "models.entries", "models.entries.a", "routing.options"]
)
def test_table_of_keys_is_not_set_as_a_whole(key: str) -> None:
    """It would take the place of all that stands there, and of its comments."""
    with pytest.raises(Usage, match="is a table"):
        converted(find(key), "{}")


def test_one_of_a_list_of_tables_is_not_set_alone() -> None:
    """The file says rules in order, not by number."""
    with pytest.raises(Usage, match="set as a whole"):
        converted(find("routing.rules[1].model"), "x")
