"""`core.backoff`: when a server that died is started again, and when it is given up."""

import pytest

from modeld.core.backoff import Deaths, after_death, ran_out_of_memory
from modeld.core.entities import Exit


def die(count: int, apart: float = 1.0) -> Deaths:
    """Return the tally of that many deaths."""
    deaths = None
    for number in range(count):
        deaths = after_death(deaths, number * apart, 0.0, cause="x", restart=True)
    assert deaths is not None
    return deaths


def test_backoff_doubles_from_one_second_when_deaths_repeat() -> None:
    """A crash loop must not eat the machine."""
    waits = [die(count).retry_at - (count - 1) for count in (1, 2, 3, 4)]

    assert all(base <= wait <= base * 1.25 for wait, base in zip(waits, (1, 2, 4, 8), strict=True))


def test_backoff_gives_up_after_five_deaths_in_ten_minutes() -> None:
    """FAILED has to be said some time."""
    assert not die(4).given_up
    assert die(5).given_up
    assert not die(5).restart


def test_backoff_forgets_deaths_that_lie_ten_minutes_apart() -> None:
    """A crash a week is not a crash loop."""
    assert len(die(5, apart=601).at) == 1


def test_backoff_forgives_everything_when_a_server_was_healthy_for_long() -> None:
    """What happened before says nothing about it any more."""
    deaths = after_death(die(4), 10.0, 600.0, cause="x", restart=True)

    assert len(deaths.at) == 1


def test_backoff_starts_at_most_eight_times_in_the_first_minute() -> None:
    """The bound that is promised for a model that dies at once."""
    now, starts, deaths = 0.0, 1, None
    while now <= 60:
        deaths = after_death(deaths, now, 0.0, cause="boom", restart=True)
        if deaths.given_up:
            break
        now, starts = deaths.retry_at, starts + 1

    assert starts <= 8


def test_backoff_does_not_restart_what_never_ran() -> None:
    """A load that fails is told to whoever asked, not tried behind their back."""
    assert not after_death(None, 0.0, 0.0, cause="x", restart=False).restart


@pytest.mark.parametrize(
    ("ended", "is_memory"),
    [
        (Exit(how="oom-kill"), True),
        (Exit(code=1, lines=("alloc_tensor_range: failed to allocate CUDA0 buffer",)), True),
        (Exit(code=1, lines=("cudaMalloc failed: out of memory", "exiting")), True),
        (Exit(code=6, lines=("GGML_ASSERT(ggml_gallocr_alloc_graph(galloc)) failed",)), True),
        (Exit(how="signalled", code=9), False),
        (Exit(code=1, lines=("unknown model architecture: 'x'",)), False),
    ],
)
def test_want_of_memory_is_read_off_the_end_of_a_server(ended: Exit, is_memory: bool) -> None:
    """Other models are unloaded for it: a guess would cost somebody theirs."""
    assert ran_out_of_memory(ended) == is_memory
