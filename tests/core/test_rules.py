"""What the words of a message tell, exactly as RustyClaw has it."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.rules import CODE_WORDS, MAX_TEXT_LETTERS, bounded, compiled, heuristics


def _roles(text: str) -> list[str]:
    return [role for role, _, _ in heuristics(text)]


def test_code_words_are_exactly_these() -> None:
    """Seventeen, some with the blank behind them."""
    assert CODE_WORDS == (
        "code", "function", "implement", "debug", "class", "def ", "fn ", "const ", "let ", "var ",
        "import ", "async ", "await ", "refactor", "bug", "error", "syntax",
    )  # fmt: skip


@pytest.mark.parametrize("word", CODE_WORDS)
def test_heuristics_find_each_word_in_any_letters(word: str) -> None:
    """People write as they like."""
    assert _roles(f"Please, {word.upper()}now")[0] == "code"


@pytest.mark.parametrize("text", ["a classic film", "the outlet is hot", "errors", "encoded"])
def test_heuristics_count_parts_of_words(text: str) -> None:
    """Substrings, as the original has them."""
    assert _roles(text)[0] == "code"


@pytest.mark.parametrize("text", ["Hi", "", "what is def", "letting go", "const", "fnord"])
def test_heuristics_need_the_blank_where_the_word_has_one(text: str) -> None:
    """`def` alone is no code."""
    assert _roles(text) == ["fast", "primary"]


@pytest.mark.parametrize(("letters", "is_short"), [(99, True), (100, False), (101, False)])
def test_heuristics_call_short_what_has_under_100_letters(letters: int, is_short: bool) -> None:
    """Letters, not bytes."""
    assert ("fast" in _roles("\u00e9" * letters)) is is_short


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("translate.*to.*language", "please translate this to Spanish language", True),
        ("translate.*to.*language", "Translate this to Spanish language", False),
        ("^.{0,100}$", "x" * 100, True),
        ("^.{0,100}$", "\u00e9" * 100, True),
        ("^.{0,100}$", "x" * 101, False),
        ("^.{0,100}$", "two\nlines", False),
        ("(?i)HELP", "help me", True),
        ("b", "abc", True),
        ("", "", True),
        ("\u00fc", "gr\u00fcn", True),
    ],
)
def test_compiled_finds_a_pattern_anywhere_in_the_letters_as_they_are(
    pattern: str, text: str, fits: bool
) -> None:
    """Unanchored and case-sensitive; a dot is a letter, and no end of a line."""
    assert compiled(pattern)(text.encode()) is fits


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("a(b", "missing ): a(b"),
        ("ab[c", "missing ] at letter 3: [c"),
        ("x(?=y)", "invalid perl operator at letter 2: (?="),
        ("(a)\\1", "invalid escape sequence at letter 4: \\1"),
        ("a{2000}", "invalid repetition size at letter 2: {2000}"),
    ],
)
def test_compiled_says_what_is_wrong_and_where(pattern: str, told: str) -> None:
    """`bad pattern` helps nobody."""
    with pytest.raises(ValueError, match=r".") as caught:
        compiled(pattern)

    assert str(caught.value) == told.replace("missing ): a(b", "missing ) at letter 1: a(b")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x", "(a*)*(a*)*(a*)*b"])
def test_compiled_takes_no_longer_for_a_pattern_that_would_ruin_others(pattern: str) -> None:
    """One rule and one message would hold up every request: these take `re` for ever."""
    matches = compiled(pattern)
    text = b"a" * MAX_TEXT_LETTERS + b"!"
    began = time.perf_counter()

    matches(text)

    assert time.perf_counter() - began < 0.5


@given(st.text(max_size=100))
def test_compiled_raises_nothing_else(pattern: str) -> None:
    """Whatever is written there ends as a sentence."""
    with suppress(ValueError):
        compiled(pattern)(b"some text")


def test_bounded_keeps_both_ends_of_a_long_message() -> None:
    """What is wanted stands before or behind what was pasted."""
    long = "begin" + "x" * 10 * MAX_TEXT_LETTERS + "end"

    assert bounded("short") == "short"
    assert bounded(long).startswith("begin")
    assert bounded(long).endswith("end")
    assert len(bounded(long)) == MAX_TEXT_LETTERS + 1
