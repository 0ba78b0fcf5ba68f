"""Drawing: widths, colours, tables and their plain form."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.render.screen import (
    Cell,
    Column,
    Screen,
    bar,
    clean,
    columns_of,
    cut,
    mark,
    paint,
    pairs,
    spell,
    table,
)

TERMINAL = Screen(width=60, terminal=True)
PIPE = Screen()
COLUMNS = (Column("NAME", flexible=True), Column("SIZE", right=True), Column("KIND", droppable=1))
ROWS = [["qwen", "5.0 GB", "Q4"], ["gemma3-27b", "17.0 GB", ""]]


def test_table_aligns_text_left_and_numbers_right_on_a_terminal() -> None:
    """Figures are compared by their last digits."""
    assert table(COLUMNS, ROWS, TERMINAL, header=True) == (
        "NAME           SIZE  KIND\nqwen         5.0 GB  Q4\ngemma3-27b  17.0 GB  -\n"
    )


def test_table_is_tab_separated_without_titles_in_a_pipe() -> None:
    """`cut -f1` gives the names, and no first line has to be thrown away."""
    assert table(COLUMNS, ROWS, PIPE, header=False) == (
        "qwen\t5.0 GB\tQ4\ngemma3-27b\t17.0 GB\t-\n"
    )


def test_table_shortens_the_flexible_column_when_the_terminal_is_narrow() -> None:
    """A wrapped table can't be read."""
    rows = [["a-model-with-quite-a-long-name", "5.0 GB", "Q4"]]
    text = table(COLUMNS, rows, Screen(width=32, terminal=True), header=True)

    assert text.splitlines()[1] == "a-model-with-quit…  5.0 GB  Q4"


def test_table_leaves_a_droppable_column_out_when_shortening_is_not_enough() -> None:
    """The least important column goes, and the name has its place back."""
    rows = [["a-model-with-a-name", "5.0 GB", "Q4_K_M-and-more"]]
    text = table(COLUMNS, rows, Screen(width=30, terminal=True), header=True)

    assert text.splitlines() == ["NAME                   SIZE", "a-model-with-a-name  5.0 GB"]


def test_table_leaves_out_first_what_says_nothing() -> None:
    """A port that no server has must not cost the column that says how long it stays."""
    columns = (
        Column("NAME", flexible=True),
        Column("PORT", droppable=1),
        Column("IDLE", droppable=2),
    )
    rows = [["a-model-with-a-name", "", "12 s"]]
    text = table(columns, rows, Screen(width=25, terminal=True), header=True)

    assert text.splitlines() == ["NAME                 IDLE", "a-model-with-a-name  12 s"]


def test_table_leaves_columns_out_before_names_can_not_be_told_apart() -> None:
    """Two quantisations of one model begin alike."""
    columns = (Column("NAME", flexible=True), Column("CONTEXT", droppable=1))
    rows = [["qwen3-coder-30b-q4_k_m", "8192"], ["qwen3-coder-30b-q8_0", "8192"]]
    text = table(columns, rows, Screen(width=24, terminal=True), header=True)

    assert text.splitlines()[1:] == ["qwen3-coder-30b-q4_k_m", "qwen3-coder-30b-q8_0"]


def test_table_counts_wide_letters_as_two_columns() -> None:
    """Otherwise one Japanese name shifts every column after it."""
    lines = table(
        COLUMNS, [["日本", "1", ""], ["ab", "2", ""]], TERMINAL, header=False
    ).splitlines()

    assert lines[1].index("1") + 2 == lines[2].index("2")


def test_table_keeps_symbols_and_colours_out_of_a_pipe() -> None:
    """A script matches the word alone."""
    row = [Cell("loading 43 %", "warning", "◐", "loading")]
    screen = Screen(terminal=True, colour=True)

    assert table((Column("STATE"),), [row], PIPE, header=False) == "loading\n"
    assert "\x1b[33m◐ loading 43 %\x1b[0m" in table((Column("STATE"),), [row], screen, header=True)


def test_table_in_a_pipe_keeps_one_row_on_one_line() -> None:
    """A tab or a newline in a file name must not make columns or rows."""
    assert table((Column("A"), Column("B")), [["x\ty\nz", "b"]], PIPE, header=False) == (
        "x\\ty\\nz\tb\n"
    )


def test_clean_writes_out_what_could_drive_the_terminal() -> None:
    """A GGUF may be named by somebody else."""
    assert clean("\x1b[2Jm\u202eodel\x9b") == "\\x1b[2Jm\\u202eodel\\x9b"


@given(st.text(), st.integers(1, 30))
def test_cut_never_exceeds_the_width(text: str, width: int) -> None:
    """One column too many wraps the line."""
    assert columns_of(cut(text, width)) <= width


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=3, max_size=3),
        max_size=4,
    ),
    st.integers(30, 120),
)
def test_table_fits_the_terminal_whatever_is_in_it(rows: list[list[str]], width: int) -> None:
    """With a flexible and a droppable column there is always a way."""
    columns = (Column("A", flexible=True), Column("B", flexible=True), Column("C", droppable=1))
    text = table(columns, rows, Screen(width=width, terminal=True), header=True)

    assert all(columns_of(line) <= width for line in text.splitlines())


def test_paint_leaves_text_alone_without_colour() -> None:
    """A file that was redirected into must not be full of escapes."""
    assert paint("x", "error", TERMINAL) == "x"


def test_paint_draws_errors_white_on_red() -> None:
    """S0-47."""
    assert paint("x", "error", Screen(colour=True)) == "\x1b[97;41mx\x1b[0m"


def test_spell_replaces_symbols_where_the_encoding_lacks_them() -> None:
    """A C locale must not end in question marks, or in a crash."""
    assert spell("● ok …", Screen(unicode=False)) == "* ok ~"


def test_mark_is_for_terminals_only() -> None:
    """In a pipe a sentence begins with its first word."""
    assert mark("●", "success", PIPE) == ""
    assert mark("●", "success", TERMINAL) == "● "


@pytest.mark.parametrize(
    ("fraction", "full"), [(-1.0, 0), (0.0, 0), (0.43, 4), (1.0, 10), (9.0, 10)]
)
def test_bar_stays_within_its_width(fraction: float, full: int) -> None:
    """A server that reports 101 % must not tear the line."""
    drawn = bar(fraction, 10, TERMINAL)

    assert (drawn.count("█"), len(drawn)) == (full, 10)


def test_pairs_align_values_on_a_terminal_and_separate_by_tab_in_a_pipe() -> None:
    """One view for eyes, one for `cut`."""
    rows = [("name", "qwen"), ("architecture", "qwen3")]

    assert pairs(rows, PIPE) == "name\tqwen\narchitecture\tqwen3\n"
    assert re.search(r"^name          qwen$", pairs(rows, TERMINAL), re.MULTILINE)
