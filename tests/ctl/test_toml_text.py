"""A change of a file changes what was asked for, and nothing else that anybody wrote."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.toml_text import with_value, without_value
from modeld.errors import ConfigInvalid, Refused

EXAMPLE = (Path(__file__).parents[2] / "etc" / "modeld.toml").read_text("utf-8")


def _added(before: str, after: str) -> list[str]:
    """Return the lines that are new, where all others are as they were, in their order."""
    old, new = before.splitlines(), after.splitlines()
    added = []
    for line in new:
        if old and old[0] == line:
            old.pop(0)
        else:
            added.append(line)
    assert not old, f"lost: {old}"
    return added


def test_value_takes_the_place_of_the_old_one_and_its_comment_stays() -> None:
    """The comment says why it is so; it is somebody's work."""
    text = "# top\n[load]\n\nreplace = true  # why\n# end\n"

    assert with_value(text, ("load", "replace"), "false") == text.replace("true", "false")


def test_value_goes_below_the_comment_that_shows_its_default() -> None:
    """The file that modeld comes with explains each key above it."""
    text = with_value(EXAMPLE, ("gateway", "max_body_mb"), "64")
    lines = text.splitlines()

    assert _added(EXAMPLE, text) == ["max_body_mb = 64"]
    assert lines[lines.index("max_body_mb = 64") - 1] == "#max_body_mb = 32"


@pytest.mark.parametrize(
    ("path", "value", "added"),
    [
        (("load", "replace"), "false", ["replace = false"]),
        (("rank", "weights", "total"), "1.0", ["total = 1.0"]),
        (
            ("models", "entries", "a.b", "memory_gb"),
            "3.0",
            ['[models.entries."a.b"]', "memory_gb = 3.0", ""],
        ),
        (("routing", "overrides", "fast"), '"phi"', ["[routing.overrides]", 'fast = "phi"', ""]),
    ],
)
def test_value_in_the_example_file_adds_only_its_own_lines(
    path: tuple[str, ...], value: str, added: list[str]
) -> None:
    """Four hundred lines of comments, and all of them stay."""
    assert _added(EXAMPLE, with_value(EXAMPLE, path, value)) == added


@pytest.mark.parametrize(
    ("text", "path", "value", "changed"),
    [
        ("", ("load", "replace"), "false", "[load]\nreplace = false\n"),
        ("[load]\n", ("load", "replace"), "false", "[load]\nreplace = false\n"),
        ("load.replace = true\n", ("load", "replace"), "false", "load.replace = false\n"),
        (
            "load = { replace = true } # x\n",
            ("load", "replace"),
            "false",
            "load = { replace = false } # x\n",
        ),
        (
            "[a]\nb = [\n  1, # one\n]\n[c]\nd = 1\n",
            ("c", "d"),
            "[2]",
            "[a]\nb = [\n  1, # one\n]\n[c]\nd = [2]\n",
        ),
        (
            '[r]\n[[r.s]]\np = "a"\n[[r.s]]\np = "b"\n',
            ("r", "s"),
            '[{ p = "c" }]',
            '[r]\ns = [{ p = "c" }]\n',
        ),
        ('["a b"]\n', ("a b", "c"), "1", '["a b"]\nc = 1\n'),
    ],
)
def test_value_is_set_whatever_way_the_table_is_written(
    text: str, path: tuple[str, ...], value: str, changed: str
) -> None:
    """TOML has several ways to say one thing, and people use them all."""
    assert with_value(text, path, value) == changed


def test_value_is_taken_out_and_the_rest_stays() -> None:
    """What was set by mistake goes."""
    text = '[load]\n# why\nreplace = true\n\n[models]\ndefault = "x"\n'

    assert without_value(text, ("models", "default")) == text.replace('default = "x"\n', "")
    assert "# why" in without_value(text, ("load", "replace"))


@pytest.mark.parametrize("path", [("a", "b"), ("load", "replace"), ("load", "x", "y")])
def test_value_that_does_not_stand_there_changes_nothing(path: tuple[str, ...]) -> None:
    """Whoever asks can tell by the text."""
    assert without_value("[load]\nx = 1\n", path) == "[load]\nx = 1\n"


def test_text_that_is_no_toml_is_refused() -> None:
    """A broken file is not made worse."""
    for change in (lambda: with_value("a = ", ("b",), "1"), lambda: without_value("a = ", ("a",))):
        with pytest.raises(ConfigInvalid, match="no TOML"):
            change()


def test_key_with_a_dot_takes_its_table_with_it() -> None:
    """`load.replace = true`, as many write it."""
    assert without_value("x = 1\nload.replace = true\n", ("load", "replace")) == "x = 1\n"


def test_table_that_is_no_table_is_refused() -> None:
    """It would have to be overwritten."""
    with pytest.raises(Refused, match="'load' is no table"):
        with_value("load = 1\n", ("load", "replace"), "true")


_names = st.sampled_from(["a", "b", "c d"])
_texts = st.sampled_from(
    [
        EXAMPLE,
        "a.b = 1\n",
        "[a]\nb = 1 # x\n[b]\n",
        "[a.b]\n[a]\nc = 1\n",
        "[[a.b]]\nc = 1\n[[a.b]]\n",
        "a = { b = { c = 1 } }\n",
        '["c d".a]\nb = """\n[a]\n#b = 1\n"""\n',
        "[b]\n#a = 1\n[a]\n#b = 2",
        "",
    ]
)


@given(_texts, st.lists(_names, min_size=1, max_size=3), st.sampled_from(["1", '"x"', "[1, 2]"]))
def test_change_does_what_was_asked_or_is_refused(text: str, path: list[str], value: str) -> None:
    """There is no third way, such as a change of something else."""
    try:
        changed = with_value(text, path, value)
    except Refused:
        return
    found = tomllib.loads(changed)
    for key in path:
        found = found[key]
    assert found == tomllib.loads(f"x = {value}")["x"]
    assert without_value(changed, path) != changed
