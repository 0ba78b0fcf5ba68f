"""
Changes of nicknames, slots and pins, all of one request or none.

A nickname names one model, and a model may have many.  A slot is a role, such as `tool`, that
one model holds: giving it away and taking it back are the same write.  Names of models whose
file is gone stay, since a disk may come back.  What a name means is `modeld.core.resolve`'s
business; nothing here looks at a catalogue, and nothing is saved here.
"""

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import State
from modeld.errors import NameTaken, Refused, UnknownName, Usage

MAX_NAME_BYTES = 128
MAX_NICKNAMES = 20_000
MAX_SLOTS = 256
MAX_PINS = 1_000
PROFILE_PREFIX = "profile:"
"""What asks for a profile's best model where a name is used."""
RESERVED = {"auto": "asks modeld to choose a model"}
"""Words that can't be names, since they mean something else where names are used."""
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class NameChange(Struct, frozen=True, kw_only=True):
    """Changes of names, all or none of them made, in one write."""

    set_nickname: str = ""
    """Becomes the model's only nickname."""
    add_nicknames: tuple[str, ...] = ()
    delete_nicknames: tuple[str, ...] = ()
    set_slot: str = ""
    clear_slot: str = ""
    """Needs no model."""
    move: bool = False
    """Take a nickname from another model."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == NameChange(move=self.move)


def check_slot(name: str) -> None:
    """
    Check that a slot may be called `name`.

    Raises:
        Usage: It may not, and why.
    """
    _check_name(name, (name,))


def check_nickname(name: str) -> None:
    """
    Check that a model may be called `name`: a name, or a name and a tag, as Ollama's programs have.

    Raises:
        Usage: It may not, and why.
    """
    _check_name(name, name.split(":", 1))
    if name.startswith(PROFILE_PREFIX):
        raise Usage(f"'{name}' can't be a name: it asks modeld to choose a model")


def _check_name(name: str, parts: Iterable[str]) -> None:
    if not all(map(_ALLOWED.fullmatch, parts)):
        raise Usage(
            f"'{name}' can't be a name",
            hint="use letters, digits and . _ + -, and begin with a letter or a digit",
        )
    if len(name) > MAX_NAME_BYTES:
        raise Usage(f"a name has at most {MAX_NAME_BYTES} letters, this one has {len(name)}")
    bare = name.removesuffix(":latest")
    if bare in RESERVED:
        raise Usage(f"'{name}' can't be a name: it {RESERVED[bare]}")


def nicknames_of(state: State, model_id: str) -> tuple[str, ...]:
    """Return the nicknames of one model, in order."""
    return tuple(sorted(name for name, holder in state.nicknames.items() if holder == model_id))


def slots_of(state: State, model_id: str) -> tuple[str, ...]:
    """Return the slots that one model holds, in order."""
    return tuple(sorted(slot for slot, holder in state.slots.items() if holder == model_id))


def by_holder(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the nicknames, or the slots, of every model that has any, in order."""
    held: dict[str, list[str]] = {}
    for name in sorted(names):
        held.setdefault(names[name], []).append(name)
    return {model_id: tuple(own) for model_id, own in held.items()}


def change_names(
    state: State, model_id: str | None, change: NameChange
) -> tuple[State, tuple[str, ...]]:
    """
    Return the state with all of `change` made, and a sentence for each thing that it changed.

    What is so already is not changed: without a sentence, the state is the one that came in.

    Args:
        state: All names as they are.
        model_id: Whose names; None will do to clear a slot, and to delete nicknames from
            whoever has them.
        change: What is wanted.

    Raises:
        Usage: The change contradicts itself, lacks its model, or asks for an impossible name.
        NameTaken: Another model has the nickname, and `move` is not set.
        UnknownName: A nickname to delete, or a slot to clear, that is not there.
    """
    _check_change(change, model_id)
    nicknames, slots = dict(state.nicknames), dict(state.slots)
    sentences = [_delete(nicknames, model_id, name) for name in change.delete_nicknames]
    if change.set_nickname:
        others = [name for name in nicknames_of(state, model_id or "") if name in nicknames]
        sentences += [
            _delete(nicknames, model_id, name) for name in others if name != change.set_nickname
        ]
    if change.clear_slot:
        sentences.append(_clear_slot(slots, change.clear_slot))
    if model_id is not None:
        for name in filter(None, (change.set_nickname, *change.add_nicknames)):
            sentences += _give(nicknames, model_id, name, move=change.move)
        sentences += _take_slot(slots, model_id, change.set_slot)
    if not sentences:
        return state, ()
    _check_limits(nicknames, slots)
    sentences += _shadows(nicknames, slots, change)
    return replace(state, nicknames=nicknames, slots=slots), tuple(sentences)


def set_pin(state: State, model_id: str, *, pinned: bool) -> tuple[State, tuple[str, ...]]:
    """
    Return the state with the model pinned or not, and a sentence if that is new.

    Raises:
        Refused: As many models are pinned as can be remembered.
    """
    if (model_id in state.pins) is pinned:
        return state, ()
    if not pinned:
        pins = tuple(pin for pin in state.pins if pin != model_id)
        return replace(state, pins=pins), (f"{model_id} is no longer pinned",)
    if len(state.pins) >= MAX_PINS:
        raise Refused(f"{MAX_PINS} models are pinned already", hint="modelctl unpin MODEL")
    pins = tuple(sorted((*state.pins, model_id)))
    return replace(state, pins=pins), (f"{model_id} is pinned: it is never unloaded by itself",)


def _check_change(change: NameChange, model_id: str | None) -> None:
    gained = {change.set_nickname, *change.add_nicknames} - {""}
    for name in sorted(gained):
        check_nickname(name)
    if change.set_slot:
        check_slot(change.set_slot)
    if model_id is None and (gained or change.set_slot):
        raise Usage("a name can be given only to a model", hint="say which model: -m MODEL")
    for name in change.delete_nicknames:
        if name in gained:
            raise Usage(f"nickname '{name}' can't be both given and deleted")
    if change.clear_slot and change.clear_slot == change.set_slot:
        raise Usage(f"slot '{change.set_slot}' can't be both given and cleared")


def _delete(nicknames: dict[str, str], model_id: str | None, name: str) -> str:
    holder = nicknames.get(name)
    if holder is None:
        raise UnknownName(
            f"there is no nickname '{name}'", hint="modelctl nick list", nickname=name
        )
    if model_id not in {None, holder}:
        raise UnknownName(
            f"{model_id} has no nickname '{name}': it names {holder}",
            hint=f"modelctl nick del {name} -m {holder}",
            nickname=name,
            holder=holder,
        )
    del nicknames[name]
    return f"nickname '{name}' is gone; it named {holder}"


def _give(nicknames: dict[str, str], model_id: str, name: str, *, move: bool) -> list[str]:
    holder = nicknames.get(name)
    if holder == model_id:
        return []
    if holder is not None and not move:
        raise NameTaken(
            f"nickname '{name}' names {holder} already",
            hint="--move takes it from there",
            nickname=name,
            holder=holder,
        )
    nicknames[name] = model_id
    taken = f"; it named {holder} before" if holder else ""
    return [f"nickname '{name}' names {model_id}{taken}"]


def _take_slot(slots: dict[str, str], model_id: str, slot: str) -> list[str]:
    holder = slots.get(slot)
    if not slot or holder == model_id:
        return []
    slots[slot] = model_id
    lost = f"; {holder} has lost it" if holder else ""
    return [f"slot '{slot}' is held by {model_id}{lost}"]


def _clear_slot(slots: dict[str, str], slot: str) -> str:
    holder = slots.pop(slot, None)
    if holder is None:
        raise UnknownName(f"slot '{slot}' is empty", hint="modelctl slot list", slot=slot)
    return f"slot '{slot}' is empty; {holder} held it"


def _shadows(
    nicknames: Mapping[str, str], slots: Mapping[str, str], change: NameChange
) -> list[str]:
    """Say where one word is now a slot and a nickname of two models: the slot comes first."""
    words = {change.set_nickname, *change.add_nicknames, change.set_slot} - {""}
    return [
        f"note: '{word}' means {slots[word]}, since slots come before nicknames ({nicknames[word]})"
        for word in sorted(words & slots.keys() & nicknames.keys())
        if slots[word] != nicknames[word]
    ]


def _check_limits(nicknames: Mapping[str, str], slots: Mapping[str, str]) -> None:
    if len(nicknames) > MAX_NICKNAMES or len(slots) > MAX_SLOTS:
        raise Refused(
            f"at most {MAX_NICKNAMES} nicknames and {MAX_SLOTS} slots are remembered",
            hint="delete some: modelctl nick del NAME, modelctl slot clear NAME",
        )
