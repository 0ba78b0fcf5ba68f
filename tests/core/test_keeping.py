"""`core.keeping`: how long an idle server stays, and why it goes."""

import math

import pytest
from msgspec.structs import replace

from modeld.core.entities import Server, ServerState
from modeld.core.keeping import (
    UNUSED_SECONDS,
    Policy,
    Stay,
    copy_wanted_because,
    left,
    stay,
    why_due,
)
from tests.core.test_plan import server

POLICY = Policy()
READY_AT = 1000.0


def idle(*, used_at: float = READY_AT, is_used: bool = True, **settings: object) -> Server:
    """Return a server that was ready at 1000 s and used last at `used_at`."""
    asked_at = used_at if is_used else 0.0
    values = {"ready_at": READY_AT, "last_used_at": used_at, "asked_at": asked_at, **settings}
    return replace(server("tool"), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "settings", "seconds", "source"),
    [
        (POLICY, {}, 300, "models.idle_timeout_seconds"),
        (Policy(strategy="ram"), {}, 1800, "keep_alive.strategy ram"),
        (Policy(strategy="ssd"), {}, 120, "keep_alive.strategy ssd"),
        (Policy(strategy="none"), {}, 0, "keep_alive.strategy none"),
        (Policy(auto_unload=False, strategy="ram"), {}, math.inf, "auto_unload_idle is false"),
        (Policy(strategy="ram"), {"own": 60.0}, 60, "keep_alive of its entry"),
        (Policy(auto_unload=False), {"own": 60.0}, 60, "keep_alive of its entry"),
        (POLICY, {"own": -1.0}, math.inf, "keep_alive of its entry"),
        (POLICY, {"own": 60.0, "requested": 600.0}, 600, "keep_alive of its last request"),
        (POLICY, {"requested": 0.0}, 0, "keep_alive of its last request"),
        (POLICY, {"requested": -1.0}, math.inf, "keep_alive of its last request"),
        (POLICY, {"requested": 1e300}, math.inf, "keep_alive of its last request"),
        (POLICY, {"requested": math.nan}, math.inf, "keep_alive of its last request"),
        (POLICY, {"requested": 0.0, "held_by": "it is pinned"}, math.inf, "it is pinned"),
    ],
)
def test_stay_is_what_the_most_particular_word_says(
    policy: Policy, settings: dict[str, object], seconds: float, source: str
) -> None:
    """Else a request that asks for ten minutes gets five, and nobody can tell why."""
    found = stay(policy, **settings)  # type: ignore[arg-type]

    assert found.seconds == seconds
    assert source in found.source


def test_server_goes_after_longer_than_its_time_and_says_the_numbers() -> None:
    """S4-09: strictly longer."""
    stays = Stay(300, "models.idle_timeout_seconds")

    assert why_due(idle(), stays, READY_AT + 300) == ""
    because = why_due(idle(), stays, READY_AT + 300.04)
    assert because == "idle 300.1 s > 300 s (models.idle_timeout_seconds)"


def test_server_that_is_not_kept_goes_as_soon_as_it_has_answered() -> None:
    """Ollama's clients free memory in this way."""
    stays = Stay(0, "keep_alive of its last request")

    assert why_due(idle(used_at=2000), stays, 2000) == (
        "idle 0 s >= 0 s (keep_alive of its last request)"
    )


def test_server_that_is_not_kept_waits_for_its_first_request() -> None:
    """Else `modelctl load` would be pointless with the strategy none."""
    stays = Stay(0, "keep_alive.strategy none")
    fresh = idle(is_used=False)

    assert why_due(fresh, stays, READY_AT + UNUSED_SECONDS) == ""
    assert why_due(fresh, stays, READY_AT + UNUSED_SECONDS + 1) == (
        "idle 31 s > 30 s (keep_alive.strategy none, and it was not used)"
    )


@pytest.mark.parametrize(
    "settings",
    [{"in_flight": 1}, *({"state": state} for state in ServerState if state != ServerState.READY)],
)
def test_server_that_is_not_ready_and_idle_stays(settings: dict[str, object]) -> None:
    """Busy models are not idle, however long their answer takes."""
    busy = idle(**settings)

    assert why_due(busy, Stay(1, "x"), READY_AT + 10_000) == ""
    assert left(busy, Stay(1, "x"), READY_AT + 10_000) == math.inf


def test_server_of_an_earlier_daemon_is_not_unloaded_at_once() -> None:
    """Its clients were cut off meanwhile; but it must not live for ever either."""
    adopted = idle(used_at=READY_AT - 1000, is_used=False)
    stays = Stay(300, "x")

    assert why_due(adopted, stays, READY_AT + UNUSED_SECONDS) == ""
    assert why_due(adopted, stays, READY_AT + UNUSED_SECONDS + 0.5) != ""


def test_left_counts_down_to_the_moment_after_which_it_goes() -> None:
    """`ps` and `/api/ps` show it."""
    stays = Stay(300, "x")

    assert left(idle(), stays, READY_AT + 100) == 200
    assert left(idle(), Stay(math.inf, "x"), READY_AT + 100) == math.inf


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [("", ""), ("ram", ""), ("none", ""), ("ssd", "keep_alive.strategy ssd wants a copy")],
)
def test_strategy_that_unloads_soon_wants_a_copy(strategy: str, reason: str) -> None:
    """S3-19: else the next load waits for the slow disk again."""
    assert copy_wanted_because(strategy) == reason
