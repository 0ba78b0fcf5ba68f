"""Configuration text into values: comments, lines, what stands twice, what can't be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.importing.source import dotted, leaves, parse, require_settings
from modeld.errors import Usage


def test_comments_go_and_addresses_stay() -> None:
    """llama-pack's own reader eats what follows `https:`."""
    text = '{"a": "https://x.org//y", // why\n "b": [1, 2,], /* much\n more */ "c": "/* no */",}'

    assert parse(text, "c.json").values == {
        "a": "https://x.org//y",
        "b": [1, 2],
        "c": "/* no */",
    }


def test_mistake_in_json_is_told_with_its_place() -> None:
    """Lines are those of the file, comments or not."""
    with pytest.raises(Usage, match=r"c\.json:3:6: Expecting"):
        parse('{\n// one\n "a" 1}', "c.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        '{"a": NaN}',
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        '{"a":',
        "a: [1",
        "\t: x",
    ],
)
def test_text_that_can_not_be_read_is_an_error(text: str) -> None:
    """Never a traceback, whatever somebody points it at."""
    with pytest.raises(Usage):
        parse(text, "c")


def test_key_that_stands_twice_in_json_is_told() -> None:
    """JSON has the last one count; a person meant one of them."""
    (trouble,) = parse('{"a": {"b": 1, "b": 2}}', "c").troubles

    assert trouble.path == ("b",)
    assert "twice" in trouble.reason


def test_key_that_stands_twice_in_yaml_is_told_with_both_lines_and_not_used() -> None:
    """Nobody knows which one was meant."""
    document = parse("a:\n  b: 1\n  c: 2\n  b: 3\n", "c.yaml")

    assert document.values == {"a": {"c": 2}}
    assert document.troubles[0].reason.startswith("it stands twice, on line 2 and on line 4")
    assert document.troubles[0].line == 4


def test_values_of_yaml_know_their_lines() -> None:
    """A mistake is found by its line."""
    lines = parse("a:\n  b:\n    - x: 1\n    - x: 2\n", "c.yaml").lines

    assert lines["a", "b", 1, "x"] == 4


def test_yaml_is_plain_values_only() -> None:
    """No dates, no objects, no merges: nothing that is not written there."""
    document = parse("a: 2026-01-01\nb: !x y\nc: {<<: {d: 1}}\n", "c.yaml")

    assert document.values == {"a": "2026-01-01", "b": "y", "c": {}}
    assert document.troubles


def test_yaml_that_multiplies_itself_is_stopped() -> None:
    """A file of 1 KB must not become one of 1 TB."""
    levels = [
        f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 12)
    ]
    bomb = "l0: &l0 [x]\n" + "\n".join(levels)

    with pytest.raises(Usage, match="so many values"):
        parse(bomb, "c.yaml")


def test_yaml_that_contains_itself_is_stopped() -> None:
    """Round and round."""
    with pytest.raises(Usage):
        parse("a: &a [*a]\n", "c.yaml")


def test_objects_of_python_stay_words() -> None:
    """A configuration must not run anything."""
    document = parse('a: !!python/object/apply:os.system ["true"]\n', "c.yaml")

    assert document.values == {"a": ["true"]}


@pytest.mark.parametrize("text", ["[]", "{}", "42", "// only this\n{}", "a word", "[ ]"])
def test_file_without_a_setting_is_refused(text: str) -> None:
    """A script that names the wrong file must not be told that all went well."""
    with pytest.raises(Usage, match="c has no settings"):
        require_settings(parse(text, "c"), "c")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is in the file."""
    try:
        list(leaves(parse(text, "c").values))
    except Usage:
        return


def test_path_is_written_as_people_write_it() -> None:
    """They look for it in their file."""
    assert dotted(("llm", "rules", 1, "pattern")) == "llm.rules[1].pattern"
    assert dotted(()) == "the file"
