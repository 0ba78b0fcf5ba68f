"""The user's table of limits: rows, or every mistake with its line."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.config.limits import parse
from modeld.core.limits import Row
from modeld.errors import ConfigInvalid


def test_parse_returns_the_rows_in_their_order() -> None:
    """The first that fits wins, so the order is the table's meaning."""
    text = """
        [[model]]
        pattern = "mine*"
        family = "llama"
        context_tokens = 32768
        max_output_tokens = 4096
        tools = true
        vision = true
        reasoning = true
        streaming = false
        profiles = ["code", "fast"]

        [[model]]
        pattern = "*"
    """

    assert parse("f", text) == (
        Row(
            pattern="mine*",
            family="llama",
            context_tokens=32768,
            max_output_tokens=4096,
            tools=True,
            vision=True,
            reasoning=True,
            streaming=False,
            profiles=("code", "fast"),
        ),
        Row(pattern="*"),
    )


def test_parse_takes_an_empty_file() -> None:
    """Everything may be left out."""
    assert parse("f", "# nothing yet\n") == ()


def test_parse_tells_all_mistakes_at_once_with_their_lines() -> None:
    """One after the other would take as many reloads."""
    text = """[[model]]
pattern = 5
context_tokens = "many"
tool = true

[[model]]
tools = 1
profiles = ["codes"]

[other]
x = 1
"""
    with pytest.raises(ConfigInvalid) as caught:
        parse("/f", text)

    assert caught.value.message.splitlines() == [
        "/f:2: pattern = 5: expected a string without control characters, at most 256 letters",
        '/f:3: context_tokens = "many": expected a whole number from 1 to 100000000',
        "/f:4: unknown key 'tool' (did you mean 'tools'?)",
        "/f:6: pattern is missing: which models is this about?",
        "/f:7: tools = 1: expected true or false",
        '/f:8: profiles = ["codes"]: expected a list of fast, general, code, creative, embed or '
        "moderate",
        "/f:10: unknown key 'other' (there is [[model]])",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model = 5", "/f:1: model: expected tables, each under [[model]]"),
        ("[model]\npattern = 'x'", "/f:1: model: expected tables, each under [[model]]"),
        ("[[model]\n", "/f: "),
        ("x" * (2 << 20), "/f: more than 1048576 letters"),
        ("[[model]]\npattern = ''", "/f:2: pattern = "),
        ("[[model]]\npattern = 'x'\ncontext_tokens = 0", "/f:3: context_tokens = 0: expected"),
    ],
)
def test_parse_says_what_is_wrong(text: str, told: str) -> None:
    """In one sentence, with the place."""
    with pytest.raises(ConfigInvalid) as caught:
        parse("/f", text)

    assert caught.value.message.startswith(told)


@given(st.text(max_size=60))
def test_parse_raises_nothing_else(text: str) -> None:
    """Whatever the file holds."""
    for body in (text, f"[[model]]\n{text}", f"[[model]]\npattern = {text}"):
        with suppress(ConfigInvalid):
            parse("/f", body)
