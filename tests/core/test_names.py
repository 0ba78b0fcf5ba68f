"""Names are promises: each change is made whole, told in a sentence, or not made at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.entities import State
from modeld.core.names import (
    NameChange,
    change_names,
    check_nickname,
    check_slot,
    nicknames_of,
    set_pin,
    slots_of,
)
from modeld.errors import ModeldError, NameTaken, Refused, UnknownName, Usage

FOO = State(nicknames={"foo": "A", "fu": "A", "bar": "B"}, slots={"tool": "B"})


def test_set_nickname_replaces_all_nicknames_of_that_model() -> None:
    """S0-01: `--nickname` makes it the only one; others would go on answering."""
    state, said = change_names(FOO, "A", NameChange(set_nickname="new"))

    assert state.nicknames == {"new": "A", "bar": "B"}
    assert len(said) == 3


def test_set_nickname_keeps_one_that_was_there() -> None:
    """Setting one of several is not taking it away and giving it back."""
    state, said = change_names(FOO, "A", NameChange(set_nickname="fu"))

    assert nicknames_of(state, "A") == ("fu",)
    assert said == ("nickname 'foo' is gone; it named A",)


def test_add_nickname_keeps_the_others() -> None:
    """S0-09: `--nickadd` appends."""
    state, said = change_names(FOO, "A", NameChange(add_nicknames=("x", "y", "x")))

    assert nicknames_of(state, "A") == ("foo", "fu", "x", "y")
    assert said == ("nickname 'x' names A", "nickname 'y' names A")


@pytest.mark.parametrize(
    "change",
    [
        NameChange(add_nicknames=("foo", "fu")),
        NameChange(move=True),
        NameChange(),
    ],
)
def test_change_that_is_so_already_says_nothing(change: NameChange) -> None:
    """S0-09: twice is a no-op; a sentence would mean a needless write."""
    state, said = change_names(FOO, "A", change)

    assert state is FOO
    assert said == ()


def test_nickname_of_another_model_is_refused() -> None:
    """S0-05: one nickname, one model; a silent theft redirects somebody's requests."""
    with pytest.raises(NameTaken, match=r"'bar' names B already") as caught:
        change_names(FOO, "A", NameChange(add_nicknames=("bar",)))

    assert caught.value.hint == "--move takes it from there"


def test_nickname_of_another_model_is_taken_with_move() -> None:
    """`--move` is how one says that it is meant."""
    state, said = change_names(FOO, "A", NameChange(add_nicknames=("bar",), move=True))

    assert state.nicknames["bar"] == "A"
    assert said == ("nickname 'bar' names A; it named B before",)


def test_delete_takes_the_nickname_from_the_named_model() -> None:
    """S0-03."""
    state, said = change_names(FOO, "A", NameChange(delete_nicknames=("foo",)))

    assert nicknames_of(state, "A") == ("fu",)
    assert said == ("nickname 'foo' is gone; it named A",)


def test_delete_without_a_model_takes_it_from_whoever_has_it() -> None:
    """`nick del NAME` needs no pattern: a nickname names one model."""
    state, _ = change_names(FOO, None, NameChange(delete_nicknames=("bar",)))

    assert "bar" not in state.nicknames


@pytest.mark.parametrize(("model_id", "name"), [("A", "nope"), (None, "nope"), ("A", "bar")])
def test_delete_of_a_nickname_that_is_not_there_is_refused(model_id: str, name: str) -> None:
    """S0-03: unknown is an error, and nothing changes, also for a nickname of another model."""
    with pytest.raises(UnknownName):
        change_names(FOO, model_id, NameChange(delete_nicknames=("foo", name)))


def test_slot_moves_in_one_change() -> None:
    """S0-07: at most one holder; the previous one is told of."""
    state, said = change_names(FOO, "A", NameChange(set_slot="tool"))

    assert state.slots == {"tool": "A"}
    assert said == ("slot 'tool' is held by A; B has lost it",)


def test_slot_that_is_held_already_says_nothing() -> None:
    """The same load every morning must not write the disk."""
    assert change_names(FOO, "B", NameChange(set_slot="tool")) == (FOO, ())


def test_clear_slot_needs_no_model() -> None:
    """Whoever holds it loses it."""
    state, said = change_names(FOO, None, NameChange(clear_slot="tool"))

    assert state.slots == {}
    assert said == ("slot 'tool' is empty; B held it",)


def test_clear_of_an_empty_slot_is_refused() -> None:
    """A typing mistake should not look like success."""
    with pytest.raises(UnknownName, match="slot 'vision' is empty"):
        change_names(FOO, None, NameChange(clear_slot="vision"))


def test_change_is_made_whole_or_not_at_all() -> None:
    """A half-made change is one that nobody asked for."""
    with pytest.raises(NameTaken):
        change_names(FOO, "A", NameChange(set_slot="tool", add_nicknames=("x", "bar")))

    assert State(nicknames={"foo": "A", "fu": "A", "bar": "B"}, slots={"tool": "B"}) == FOO


@pytest.mark.parametrize(
    "change",
    [
        NameChange(add_nicknames=("x",), delete_nicknames=("x",)),
        NameChange(set_nickname="foo", delete_nicknames=("foo",)),
        NameChange(set_slot="tool", clear_slot="tool"),
    ],
)
def test_change_that_contradicts_itself_is_refused(change: NameChange) -> None:
    """Either order of doing it would be a guess."""
    with pytest.raises(Usage):
        change_names(FOO, "A", change)


def test_name_without_a_model_is_refused() -> None:
    """There is nobody to give it to."""
    with pytest.raises(Usage):
        change_names(FOO, None, NameChange(set_slot="tool"))


MISREAD = ["", "-x", "--force", "@tool", "a b", "a/b", "auto", "profile:fast", "x" * 129, "a\n"]


@pytest.mark.parametrize("name", [*MISREAD, "a:", ":a", "a:b:c", "a:-b", "auto:latest"])
def test_name_that_means_something_else_is_refused(name: str) -> None:
    """Options, paths, reserved words and control characters would be misread somewhere."""
    with pytest.raises(Usage):
        check_nickname(name)
    with pytest.raises(Usage):
        check_slot(name)


def test_nickname_may_have_a_tag_and_a_slot_may_not() -> None:
    """Programs that were written for Ollama insist on names such as this one."""
    check_nickname("qwen2.5:7b")
    with pytest.raises(Usage):
        check_slot("qwen2.5:7b")


def test_nickname_equal_to_a_slot_is_given_with_a_note() -> None:
    """It can't be reached by name: slots come first, and one should hear that."""
    _, said = change_names(FOO, "A", NameChange(add_nicknames=("tool",)))

    assert said[-1] == "note: 'tool' means B, since slots come before nicknames (A)"


def test_slots_of_lists_all_that_a_model_holds() -> None:
    """A model may have several roles."""
    state, _ = change_names(FOO, "B", NameChange(set_slot="code"))

    assert slots_of(state, "B") == ("code", "tool")


def test_pin_is_set_once_and_taken_back_once() -> None:
    """A second pin is no news, and no write."""
    pinned, said = set_pin(FOO, "A", pinned=True)

    assert pinned.pins == ("A",)
    assert len(said) == 1
    assert set_pin(pinned, "A", pinned=True) == (pinned, ())
    assert set_pin(pinned, "A", pinned=False)[0].pins == ()


def test_pins_have_an_end() -> None:
    """Every list in the state file has a cap."""
    with pytest.raises(Refused):
        set_pin(State(pins=tuple(map(str, range(1000)))), "A", pinned=True)


_names = st.sampled_from(["a", "b", "c", "tool"])
_changes = st.builds(
    NameChange,
    set_nickname=st.sampled_from(["", "a", "b"]),
    add_nicknames=st.lists(_names, max_size=3).map(tuple),
    delete_nicknames=st.lists(_names, max_size=2, unique=True).map(tuple),
    set_slot=st.sampled_from(["", "tool", "x"]),
    clear_slot=st.sampled_from(["", "tool", "x"]),
    move=st.booleans(),
)


@given(st.lists(st.tuples(st.sampled_from([None, "A", "B"]), _changes), max_size=12))
def test_any_changes_leave_whole_names(steps: list[tuple[str | None, NameChange]]) -> None:
    """Whatever is asked in whatever order: errors change nothing, repeats are silent."""
    state = State()
    for model_id, change in steps:
        try:
            state, said = change_names(state, model_id, change)
        except ModeldError:
            continue
        wanted = (*filter(None, (change.set_nickname,)), *change.add_nicknames)
        assert all(state.nicknames[name] == model_id for name in wanted)
        if change.set_nickname:
            assert set(nicknames_of(state, model_id or "")) == set(wanted)
        if not change.delete_nicknames and not change.clear_slot and len(set(wanted)) < 2:
            assert change_names(state, model_id, change) == (state, ())
        assert all(isinstance(sentence, str) for sentence in said)
