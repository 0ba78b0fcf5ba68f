"""Each key of a file is found in its line, whatever way it is written."""

from modeld.config.lines import lines_of


def test_every_way_to_write_a_key_has_its_line() -> None:
    """A mistake that is pointed at is found."""
    text = """\
a = 1

[b] # x
"c d".e = [
  1, # ]
]
[b.f]
g = { h = 1 }
"""

    assert lines_of(text) == {
        ("a",): 1,
        ("b",): 3,
        ("b", "c d"): 4,
        ("b", "c d", "e"): 4,
        ("b", "f"): 7,
        ("b", "f", "g"): 8,
        ("b", "f", "g", "h"): 8,
    }


def test_tables_of_a_list_are_counted_from_one() -> None:
    """The second rule's mistake is not in the first rule's lines."""
    text = """\
[[r.s]]
p = 1
[[r.s]]
p = 2
[r.t]
p = 3
[[r.s]]
q = 4
"""
    found = lines_of(text)

    assert found["r", "s"] == 1
    assert [found["r", "s", number] for number in (1, 2, 3)] == [1, 3, 7]
    assert found["r", "s", 2, "p"] == 4
    assert found["r", "s", 3, "q"] == 8
    assert found["r", "t", "p"] == 6


def test_tables_of_a_list_in_one_statement_share_its_line() -> None:
    """There is nothing nearer to point at."""
    found = lines_of("[r]\ns = [\n  { p = 1 },\n  { p = 2 },\n]\n")

    assert found["r", "s", 1, "p"] == found["r", "s", 2, "p"] == 2


def test_text_that_is_made_to_be_slow_is_given_up() -> None:
    """A client's text is looked at by the daemon; a missing line is better than a minute of it."""
    text = "a = 1\nb = [\n" + "[1],\n" * 20_000 + "]\nc = 1\n"

    assert lines_of(text)["a",] == 1


def test_long_list_has_the_line_that_it_begins_in() -> None:
    """What follows it has its own."""
    text = "b = [\n" + "1,\n" * 5_000 + "]\nc = 1\n"

    assert lines_of(text) == {("b",): 1, ("c",): 5003}
