"""`core.lifecycle`: the table of a server's life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.entities import Server, ServerState
from modeld.core.lifecycle import TABLE, Action, Limits, Trigger, step
from tests.core.test_plan import server

LIMITS = Limits(start_stall_seconds=300, drain_seconds=30, stop_grace_seconds=10)
S, T = ServerState, Trigger


def after(*triggers: Trigger, start: ServerState = S.STARTING) -> Server:
    """Return a server that went through these."""
    current = server("a", state=start)
    for trigger in triggers:
        current, _ = step(current, trigger, 100.0, LIMITS)
    return current


def test_table_has_a_cell_for_every_state_and_trigger() -> None:
    """An empty cell would be a state that somebody can't get out of."""
    living = [state for state in ServerState if state is not S.GONE]

    assert set(TABLE) == set(living)
    assert all(set(TABLE[state]) == set(Trigger) for state in living)


def test_life_leads_from_start_to_ready_when_all_goes_well() -> None:
    """The main road."""
    assert after(T.STARTED, T.PROGRESS, T.HEALTHY).state is S.READY


def test_step_watches_a_server_when_its_process_is_there() -> None:
    """Else nobody would notice that it is ready."""
    _, actions = step(server("a", state=S.STARTING), T.STARTED, 0, LIMITS)

    assert actions == (Action.WATCH,)


@pytest.mark.parametrize(
    ("state", "expected"),
    [(S.DRAINING, S.STOPPING), (S.STOPPING, S.KILLING), (S.KILLING, S.UNREAPABLE),
     (S.STARTING, S.KILLING), (S.LOADING, S.KILLING)],
)  # fmt: skip
def test_deadline_leads_on_when_a_state_lasts_too_long(
    state: ServerState, expected: ServerState
) -> None:
    """No wait without a bound: each state has its way out."""
    moved, _ = step(server("a", state=state), T.DEADLINE, 5.0, LIMITS)

    assert moved.state is expected


def test_deadline_is_set_anew_when_loading_makes_progress() -> None:
    """A slow disk is not a dead one: only standing still counts."""
    current = after(T.STARTED)
    moved, _ = step(current, T.PROGRESS, 200.0, LIMITS)

    assert (current.deadline, moved.deadline) == (400.0, 500.0)


def test_drain_ends_a_server_that_is_still_loading_at_once() -> None:
    """It has nothing in flight to finish."""
    assert after(T.STARTED, T.DRAIN).state is S.STOPPING


def test_stop_is_repeated_when_the_process_appears_after_the_order() -> None:
    """Else an early stop would be lost and the model stay for ever."""
    moved, actions = step(after(T.STOP), T.STARTED, 0, LIMITS)

    assert (moved.state, actions) == (S.STOPPING, (Action.STOP,))


def test_health_does_not_bring_a_stopping_server_back() -> None:
    """A late answer must not cancel an order."""
    assert after(T.STARTED, T.STOP, T.HEALTHY).state is S.STOPPING


def test_exit_ends_every_state() -> None:
    """A process that is gone is gone."""
    assert all(after(T.EXITED, start=state).state is S.GONE for state in TABLE)


@given(st.lists(st.sampled_from(list(Trigger)), max_size=30))
def test_life_always_ends_when_deadlines_pass(triggers: list[Trigger]) -> None:
    """From wherever a server is, stopping it comes to an end."""
    current = server("a", state=S.STARTING)
    for trigger in [*triggers, T.STOP, *[T.DEADLINE] * 4]:
        if current.state is S.GONE:
            return
        current, _ = step(current, trigger, 0.0, LIMITS)

    assert current.state in (S.UNREAPABLE, S.GONE)
