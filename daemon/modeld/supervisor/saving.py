"""
When the state goes to the disk, and what happens when it can't.

Names, pins and kept arguments are promises: `commit` makes the change visible at once and
acknowledges it only when it is on the disk, or takes it back.  Uses and run times are
observations: they are saved within `DEBOUNCE_SECONDS`, and kept in memory while the disk refuses
them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from modeld.core.entities import State
from modeld.core.events import StateNotSaved, StateSaved
from modeld.core.stats import take_back_arguments
from modeld.errors import ModeldError
from modeld.errors import StateNotSaved as NotSaved
from modeld.supervisor.world import World

DEBOUNCE_SECONDS = 1.0
RETRY_SECONDS = 5.0
MAX_QUEUED = 256
"""Changes of names that wait for the disk; more are refused."""

Change = Callable[[State], State]


@dataclass(slots=True)
class Commit:
    """One change of names or pins on its way to the disk."""

    change: Change
    then: Callable[[State, State], None]
    """Called with the state before and after, when it is durable, or nothing changed."""
    failed: Callable[[ModeldError], None]
    undo: Change | None = None
    """Takes back what is no name, pin or argument, where the disk refuses it."""
    before: State | None = None
    generation: int = 0


class Saver:
    """Keeps the state file up to date; one write at a time, commits in their order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._commits: deque[Commit] = deque()
        self._current: Commit | None = None

    def commit(
        self,
        change: Change,
        then: Callable[[State, State], None],
        failed: Callable[[ModeldError], None],
        undo: Change | None = None,
    ) -> None:
        """
        Make a change of names or pins, durable before `then` is called.

        `change` gets the newest state and returns the new one; it may refuse by a ModeldError.
        `undo` takes back what it changed besides names, pins and arguments.
        """
        if self._world.state_read_only:
            failed(
                NotSaved(
                    f"not changed: {'; '.join(self._world.state_problems)}",
                    hint="run the newer modeld, or move the file away and restart modeld",
                )
            )
        elif len(self._commits) >= MAX_QUEUED:
            failed(NotSaved(f"{MAX_QUEUED} changes wait for the disk already"))
        else:
            self._commits.append(Commit(change, then, failed, undo))
            self._next()

    def observe(self, state: State) -> None:
        """Take over a state with new observations, to be saved soon."""
        self._world.state = state
        saving = self._world.saving
        if not saving.dirty_since:
            saving.dirty_since = self._world.ports.clock.monotonic()

    def tick(self) -> None:
        """Save observations that have waited long enough."""
        world, saving = self._world, self._world.saving
        now = world.ports.clock.monotonic()
        due = saving.dirty_since and now - saving.dirty_since >= DEBOUNCE_SECONDS
        if due and not saving.in_flight and now >= saving.retry_at and not world.state_read_only:
            self._write()

    def flush(self) -> None:
        """Save now whatever is not saved: the daemon ends."""
        saving = self._world.saving
        if saving.dirty_since and not self._world.state_read_only:
            self._write()  # after one that is under way: the store keeps their order

    def on_saved(self, event: StateSaved) -> None:
        """The disk has a generation."""
        saving = self._world.saving
        if event.generation != saving.in_flight:
            return
        if saving.problem:
            self._world.ports.journal.record("state-saved", "the state is saved again")
        saving.in_flight, saving.problem, saving.retry_at = 0, "", 0.0
        commit, self._current = self._current, None
        if commit is not None and commit.before is not None:
            commit.then(commit.before, self._world.state)
        self._next()

    def on_not_saved(self, event: StateNotSaved) -> None:
        """The disk refused a generation: a commit is taken back, observations wait."""
        world, saving = self._world, self._world.saving
        if event.generation != saving.in_flight:
            return
        now = world.ports.clock.monotonic()
        saving.in_flight, saving.problem = 0, event.reason
        saving.retry_at = now + RETRY_SECONDS
        saving.dirty_since = saving.dirty_since or now
        world.ports.journal.record(
            "state-not-saved", f"the state could not be saved: {event.reason}", priority=3
        )
        commit, self._current = self._current, None
        if commit is not None and commit.before is not None:
            before = commit.before
            if commit.undo is not None:
                world.state = commit.undo(world.state)
            world.state = replace(
                take_back_arguments(world.state, before),
                nicknames=before.nicknames,
                slots=before.slots,
                pins=before.pins,
            )
            commit.failed(
                NotSaved(
                    f"not changed: the state could not be saved: {event.reason}",
                    hint="free some space where the state is (modelctl status), then try again",
                )
            )
        self._next()

    def _next(self) -> None:
        """Begin with the next commit, unless a write is under way."""
        while self._commits and not self._world.saving.in_flight:
            commit = self._commits.popleft()
            before = self._world.state
            try:
                after = commit.change(before)
            except ModeldError as error:
                commit.failed(error)
                continue
            if after is before:
                commit.then(before, after)
                continue
            commit.before, self._current = before, commit
            self._world.state = after
            self._write()

    def _write(self) -> None:
        """Give the newest state to the disk."""
        world, saving = self._world, self._world.saving
        world.state = replace(world.state, generation=world.state.generation + 1)
        saving.in_flight, saving.dirty_since = world.state.generation, 0.0
        world.ports.store.save(world.state)
