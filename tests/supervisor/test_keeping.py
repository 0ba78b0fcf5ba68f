"""
What holds whatever happens: limits, pins, answers, reasons; `tests.support.keeping_script` judges.

`MODELD_TEST_ROUNDS` says how many generated days of 100 requests are played; `make soak` makes it
a thousand, which is a hundred thousand requests.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeld.core.entities import ServerState
from modeld.supervisor.idling import Idling
from tests.support.keeping_script import Op, config_of, generated, trial_of

ROUNDS = int(os.environ.get("MODELD_TEST_ROUNDS", "10"))
REQUESTS_A_ROUND = 100
FOUND = (10_145,)
OPS = st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(0, 63), st.integers(0, 63))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 41), st.integers(0, 59), st.lists(OPS, min_size=20, max_size=120))
def test_no_limit_no_pin_and_nobody_who_waits_is_forgotten(
    one: int, other: int, script: list[Op]
) -> None:
    """Hypothesis looks for the day on which one is, and shows the shortest."""
    assert trial_of(config_of(one, other), script).violations == []


def test_many_generated_days_pass_without_a_violation() -> None:
    """The figure: 100,000 requests, none (`make soak`, `make bench ONLY=keeping`)."""
    for seed in range(ROUNDS):
        trial = trial_of(*generated(seed, REQUESTS_A_ROUND))

        assert (seed, trial.violations) == (seed, [])
        assert trial.answered + trial.refused > 0


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_stays_mended(seed: int) -> None:
    """10145: a load that was given up for another one was started all the same."""
    assert trial_of(*generated(seed, REQUESTS_A_ROUND)).violations == []


def test_the_judge_notices_a_pinned_model_that_is_unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that sees nothing would prove nothing."""

    def careless(self: Idling) -> None:
        for server in tuple(self._world.servers.values()):
            if server.state is ServerState.READY:
                self._lives.stop(server.id, "nobody knows", drain=True)

    monkeypatch.setattr(Idling, "tick", careless)
    found = "\n".join(
        each for seed in range(3) for each in trial_of(*generated(seed, 50)).violations
    )

    assert "pinned, and stopped: nobody knows" in found
    assert "busy, and stopped: nobody knows" in found
    assert "stopped without a number: nobody knows" in found
