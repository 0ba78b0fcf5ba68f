"""
What a name means: the one rule for people and for programs.

A name is looked for as a slot (`tool`, `@tool`), a nickname, a file name, an id or stem,
`NAME:latest`, and last a variant, which whoever makes the index adds; the first kind that has it
decides.  People may also type a part of a name or a glob: then the best rank is taken and all
candidates are told.  Programs may not, so that a new file cannot change what they get.  Nothing
here ranks, and nothing is remembered.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import translate
from itertools import chain, islice
from posixpath import basename

from msgspec import Struct

from modeld.core.entities import Model, State
from modeld.core.events import Selection
from modeld.errors import Ambiguous, UnknownModel, UnknownName, Usage

EXTENSION = ".gguf"
MAX_CANDIDATES_SHOWN = 8
MAX_NAMES_COMPARED = 2_000
"""For "did you mean": what fits in 50 ms, since the supervisor's loop waits for it."""
Index = dict[str, tuple[str, ...]]
"""Every exact name -> the ids that it may mean."""


class Candidate(Struct, frozen=True):
    """A model that fits, and what it is worth."""

    model_id: str
    rank: float


class Chosen(Struct, frozen=True, kw_only=True):
    """The model that was meant."""

    model: Model
    candidates: tuple[Candidate, ...]
    """All that fitted, best first; the first was taken."""


class Identities:
    """
    Finds the model of an id that was kept, though its files may have moved since.

    An id that is no longer in the catalogue means the model that has it among its aliases, else
    the only model with the same last part.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._aliases: dict[str, set[str]] = {}
        self._names: dict[str, set[str]] = {}
        for model in models.values():
            self._names.setdefault(model.name, set()).add(model.id)
            for alias in model.aliases:
                self._aliases.setdefault(alias, set()).add(model.id)

    def find(self, model_id: str) -> str | None:
        """Return the id that the model has today, or None if its file is gone."""
        if model_id in self._models:
            return model_id
        for ids in (self._aliases.get(model_id), self._names.get(basename(model_id))):
            if ids is not None and len(ids) == 1:
                return next(iter(ids))
        return None


def exact_index(models: Mapping[str, Model], state: State) -> Index:
    """
    Return every exact name with the ids that it may mean; more than one where it is ambiguous.

    Nicknames and slots whose model has no file now are left out.
    """
    identities = Identities(models)
    slots = _present(state.slots, identities)
    nicknames = _present(state.nicknames, identities)
    # an id is what an ambiguous name is told to be replaced by: it must mean its own model
    own_files = [(f"{model_id}{EXTENSION}", model_id) for model_id in models]
    own_ids = [(model_id, model_id) for model_id in models]
    files = [(name, model.id) for model in models.values() for name in _file_names(model)]
    stems = [(name, model.id) for model in models.values() for name in (model.name, *model.aliases)]
    index: Index = {}
    at_slots = [(f"@{slot}", held) for slot, held in slots]
    for kind in (slots, at_slots, nicknames, own_files, files, own_ids, stems):
        _add(index, kind)
    words = dict.fromkeys(name for name, _ in chain(slots, nicknames, own_ids, stems))
    _add(index, ((f"{name}:latest", one) for name in words for one in index[name]))
    return index


def select(
    selection: Selection,
    models: Mapping[str, Model],
    state: State,
    *,
    index: Index,
    ranks: Callable[[], Mapping[str, float]],
) -> Chosen:
    """
    Return the model that `selection` means.

    Args:
        selection: The words of a person or a program.
        models: The catalogue, by id.
        state: Nicknames and slots.
        index: Every exact name, those of variants among them.
        ranks: Returns what each model is worth; 0 where none is given.  Asked only where several
            fit.

    Raises:
        Usage: The selection says nothing, or contradicts itself.
        UnknownName: No such nickname, or an empty slot.
        UnknownModel: Nothing fits.
        Ambiguous: Several fit, and the selection wants one.
    """
    if selection.best and selection.only:
        raise Usage("--rank1 and --no-multi-match contradict each other", hint="give one of them")
    ids = _matches(selection, models, state, index)
    worth = ranks() if len(ids) > 1 else {}
    candidates = tuple(
        sorted(
            (Candidate(one, worth.get(one, 0.0)) for one in ids),
            key=lambda candidate: (-candidate.rank, candidate.model_id),
        )
    )
    if len(candidates) > 1 and (selection.only or selection.exact):
        raise _ambiguous(selection.pattern, candidates)
    return Chosen(model=models[candidates[0].model_id], candidates=candidates)


def _present(names: Mapping[str, str], identities: Identities) -> list[tuple[str, str]]:
    found = ((name, identities.find(model_id)) for name, model_id in names.items())
    return [(name, model_id) for name, model_id in found if model_id is not None]


def _file_names(model: Model) -> Iterable[str]:
    own = f"{model.name}{EXTENSION}"
    yield own
    for location in model.locations:
        yield location.path
        if (name := basename(location.path)) != own:
            yield name


def _add(index: Index, names: Iterable[tuple[str, str]]) -> None:
    """Add names of one kind; a name of an earlier kind hides the same word of a later one."""
    kind: Index = {}
    for name, model_id in names:
        if name not in index:
            ids = kind.get(name, ())
            if model_id not in ids:
                kind[name] = tuple(sorted((*ids, model_id))) if ids else (model_id,)
    index.update(kind)


def _matches(
    selection: Selection, models: Mapping[str, Model], state: State, index: Index
) -> tuple[str, ...] | list[str]:
    """Return the ids that the selection may mean, at least one."""
    if selection.model_id:
        if selection.model_id not in models:
            raise _unknown(selection.model_id, models, state)
        return (selection.model_id,)
    if selection.slot:
        return (_holder("slot", selection.slot.removeprefix("@"), state.slots, models),)
    if selection.nickname:
        return (_holder("nickname", selection.nickname, state.nicknames, models),)
    if not selection.pattern:
        raise Usage("no model is named", hint="say which: a name, -n NICKNAME or -n1 SLOT")
    ids: tuple[str, ...] | list[str] = (
        index.get(selection.pattern) or index.get(f"{selection.pattern}:latest") or ()
    )
    if not ids:
        _check_not_gone(selection.pattern, state)
    if not ids and not selection.exact:
        ids = _partial(selection.pattern, models)
    if not ids:
        raise _unknown(selection.pattern, models, state)
    return ids


def _holder(kind: str, name: str, names: Mapping[str, str], models: Mapping[str, Model]) -> str:
    """Return the id of the model that has the nickname or holds the slot."""
    kept = names.get(name)
    if kept is None:
        close = get_close_matches(name, names, n=1)
        told = f"slot '{name}' is empty" if kind == "slot" else f"there is no nickname '{name}'"
        where = "modelctl slot list" if kind == "slot" else "modelctl nick list"
        raise UnknownName(
            told, hint=f"did you mean '{close[0]}'? {where}" if close else where, name=name
        )
    found = Identities(models).find(kept)
    if found is None:
        raise _gone(kind, name, kept)
    return found


def _check_not_gone(pattern: str, state: State) -> None:
    """Say that a file is gone, rather than that nothing fits, where a name is still kept for it."""
    word = pattern.removesuffix(":latest")
    slot = word.removeprefix("@")
    if slot in state.slots:
        raise _gone("slot", slot, state.slots[slot])
    if word in state.nicknames:
        raise _gone("nickname", word, state.nicknames[word])


def _gone(kind: str, name: str, model_id: str) -> UnknownModel:
    return UnknownModel(
        f"{kind} '{name}' names {model_id}, whose file is gone",
        hint="put the file back, or give the name to another model",
        name=name,
        model=model_id,
    )


def _partial(pattern: str, models: Mapping[str, Model]) -> list[str]:
    """Return the ids that a glob or a part of a name fits; with a slash, it is held against ids."""
    needle = pattern.casefold()
    with_path = "/" in needle
    texts = {
        model.id: ((model.id if with_path else model.name) + EXTENSION).casefold()
        for model in models.values()
    }
    if any(letter in needle for letter in "*?["):
        glob = re.compile(translate(needle))
        ids = [
            one
            for one, text in texts.items()
            if glob.match(text) or glob.match(text.removesuffix(EXTENSION))
        ]
        if ids:
            return ids
    if needle.endswith(EXTENSION):
        return [one for one, text in texts.items() if text.endswith(needle)]
    # Without its extension, lest `g` or `uf` fit everything.
    return [one for one, text in texts.items() if needle in text.removesuffix(EXTENSION)]


def _unknown(pattern: str, models: Mapping[str, Model], state: State) -> UnknownModel:
    names = chain(state.slots, state.nicknames, (model.name for model in models.values()))
    known = {name.casefold(): name for name in islice(names, MAX_NAMES_COMPARED)}
    close = get_close_matches(pattern.casefold(), known, n=1)
    there = sorted(model.name for model in models.values())
    more = len(there) - MAX_CANDIDATES_SHOWN
    shown = ", ".join(there[:MAX_CANDIDATES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    hint = f"Available models: {shown or 'none'} (modelctl list)"
    if close:
        hint = f"did you mean '{known[close[0]]}'? {hint}"
    return UnknownModel(f"Model '{pattern}' not found.", hint=hint, model=pattern)


def _ambiguous(pattern: str, candidates: tuple[Candidate, ...]) -> Ambiguous:
    shown = ", ".join(
        f"{one.model_id} (rank {one.rank:.1f})" for one in candidates[:MAX_CANDIDATES_SHOWN]
    )
    more = len(candidates) - MAX_CANDIDATES_SHOWN
    return Ambiguous(
        f"'{pattern}' fits {len(candidates)} models: {shown}"
        + (f" and {more} more" if more > 0 else ""),
        hint="give more of the name, or the id",
        count=len(candidates),
        candidates=", ".join(one.model_id for one in candidates),
    )
