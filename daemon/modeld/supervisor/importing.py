"""
Histories of other programs, taken over: which models they are about, and what is taken of each.

Acknowledged when all of it is on the disk, or taken back.  What would break a later load, such as
an argument that this llama-server does not have, is left where it was, and that is said.
"""

from dataclasses import dataclass, field
from posixpath import basename

from modeld.core import argv
from modeld.core.entities import Model, State
from modeld.core.events import HistoryAsked
from modeld.core.history import Past, by_file_name, combine, find_model, take_back, take_over
from modeld.core.names import NameChange, change_names
from modeld.core.stats import store_arguments
from modeld.errors import ModeldError
from modeld.supervisor import settings
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import World
from modeld.units import format_duration
from modeld.wire.history import HistoryImported, HistoryRow


@dataclass(slots=True)
class _Account:
    """What became of one record, a sentence each."""

    taken: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Importing:
    """Answers requests to take a history over."""

    def __init__(self, world: World, saver: Saver) -> None:
        self._world = world
        self._saver = saver

    def on_asked(self, ask: HistoryAsked) -> None:
        """Take over what can be, and tell of every record what became of it."""
        world = self._world
        if world.binary is None and (ask.arguments or any(each.arguments for each in ask.records)):
            world.defer(ask, "looking at the engine, which knows what arguments it takes")
            return
        rows: tuple[HistoryRow, ...] = ()
        before = after = world.state

        def change(state: State) -> State:
            nonlocal rows, before, after
            before = state
            after, rows = self._merged(state, ask.records)
            return after

        def then(old: State, new: State) -> None:
            if old is not new:
                count = sum(bool(row.taken) for row in rows)
                world.ports.journal.record(
                    "history-imported", f"taken over from another program: {count} models"
                )
            world.answer(ask.request_id, self._reply(ask, rows))

        if ask.dry_run:
            change(world.state)
            world.answer(ask.request_id, self._reply(ask, rows))
            return
        self._saver.commit(
            change,
            then,
            lambda error: world.fail(ask.request_id, error),
            undo=lambda state: take_back(state, before, after),
        )

    def _reply(self, ask: HistoryAsked, rows: tuple[HistoryRow, ...]) -> HistoryImported:
        problem = self._problem_of(ask.arguments) if ask.arguments else ""
        return HistoryImported(records=rows, arguments_problem=problem)

    def _merged(
        self, state: State, records: tuple[Past, ...]
    ) -> tuple[State, tuple[HistoryRow, ...]]:
        """Return the state with all records in it, and what became of each."""
        models = by_file_name(self._world.models)
        found = [find_model(record.path, models) for record in records]
        of_model: dict[str, list[int]] = {}
        for position, (model, _) in enumerate(found):
            if model is not None:
                of_model.setdefault(model.id, []).append(position)
        rows = [
            HistoryRow(path=record.path, left=(why,) if why else ())
            for record, (_, why) in zip(records, found, strict=True)
        ]
        for model_id, positions in of_model.items():
            first = positions[0]
            past = combine([records[position] for position in positions])
            state, rows[first] = self._take(state, self._world.models[model_id], past)
            for position in positions[1:]:
                rows[position] = HistoryRow(
                    path=records[position].path,
                    model=self._world.label(model_id),
                    taken=(f"together with {records[first].path}",) * bool(rows[first].taken),
                )
        return state, tuple(rows)

    def _take(self, state: State, model: Model, past: Past) -> tuple[State, HistoryRow]:
        """Return the state with one record in it, and what became of that."""
        account = _Account()
        merged = take_over(state, model.id, past)
        if merged is not state:
            account.taken.append(_growth(state, merged, model.id))
        elif past.total_uses or past.use_timestamps:
            account.left.append("its uses were taken over before")
        merged = self._take_arguments(merged, model, past, account)
        for nickname in past.nicknames:
            try:
                change = NameChange(add_nicknames=(nickname,))
                merged, sentences = change_names(merged, model.id, change)
                account.taken += sentences
            except ModeldError as error:
                account.left.append(error.message)
        row = HistoryRow(
            path=past.path,
            model=self._world.label(model.id),
            taken=tuple(account.taken),
            left=tuple(account.left),
        )
        return merged, row

    def _take_arguments(self, state: State, model: Model, past: Past, account: _Account) -> State:
        """Return the state with the arguments of a record, where the model has none of its own."""
        stats = state.models.get(model.id)
        own = stats.arguments if stats is not None else ()
        wanted = _with_projector(past, model)
        if not wanted or own == wanted:
            return state
        words = " ".join(wanted)
        if own:
            account.left.append(f"arguments {words}: it has some of its own (load --store)")
            return state
        problem = self._problem_of(wanted)
        if problem:
            account.left.append(f"arguments {words}: {problem}")
            return state
        account.taken.append(f"arguments for later loads: {words}")
        return store_arguments(state, model.id, wanted)

    def _problem_of(self, arguments: tuple[str, ...]) -> str:
        """Return why arguments can't be passed on; empty where they can, or nobody knows."""
        world = self._world
        if world.binary is None or world.binary.problem:
            return ""
        folders = settings.folders(world.config, world.home)
        try:
            argv.check_arguments(arguments, world.binary, [folder.path for folder in folders])
        except ModeldError as error:
            return f"{error.message} ({error.hint})" if error.hint else error.message
        return ""


def _with_projector(past: Past, model: Model) -> tuple[str, ...]:
    """Return the arguments, with a projector that modeld would not have paired itself."""
    projector = past.mmproj
    if not projector or basename(projector) == basename(model.location.mmproj_path):
        return past.arguments
    others = [word for word in past.arguments if word in {"--mmproj", "-mm"}]
    return past.arguments if others else (*past.arguments, "--mmproj", projector)


def _growth(before: State, after: State, model_id: str) -> str:
    """Return the sentence about uses and run time that were added."""
    old, new = before.models.get(model_id), after.models[model_id]
    uses = new.total_uses - (old.total_uses if old else 0)
    seconds = new.total_runtime_seconds - (old.total_runtime_seconds if old else 0.0)
    told = f"{uses} {'use' if uses == 1 else 'uses'}"
    return f"{told}, {format_duration(seconds)} of run time" if seconds else told
