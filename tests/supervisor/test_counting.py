"""`supervisor.counting`: sums by model, kept over restarts, told to people and to watchers."""

import pytest
from msgspec.structs import replace

from modeld.core.entities import Exit, Origin, State
from modeld.core.events import CancelAsked, LoadAsked, Selection, StopAsked, UsageAsked
from modeld.core.traffic import RequestLost, RequestsEnded, RequestServed, RequestStarted
from modeld.core.usage import Figures, Totals
from modeld.errors import Cancelled, ServerFailed
from modeld.supervisor.counting import MAX_LABELS, OTHER, Measures
from modeld.supervisor.ports import Loaded
from modeld.wire.daemon import Happened
from modeld.wire.usage import UsageReport
from tests.supervisor.test_loads import UNTHROTTLED, load
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

FIGURES = Figures(
    model_id="tool", prompt_tokens=9, cached_tokens=8, generated_tokens=3, generation_seconds=0.5,
    first_token_seconds=0.25, seconds=1.0,
)  # fmt: skip


async def swap(machine: FakeMachine, name: str, seconds: float) -> None:
    """Load a model for a program, which takes that long."""
    task = machine.request(LoadAsked, selection=Selection(model_id=name), origin=Origin.GATEWAY)
    await machine.settle()
    machine.clock.time += seconds
    await machine.brings_up(name)
    await task


async def measures(machine: FakeMachine) -> Measures:
    """Return what watchers are told."""
    found: Measures = await machine.request(UsageAsked, measures=True)
    return found


@asynchronous
async def test_requests_are_summed_up_by_model() -> None:
    """A mix-up here is a wrong answer to which model is worth its memory."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool", "big")
    await load(machine, "tool")
    server_id = machine.server("tool").id
    for failure in ("", "left", "server"):
        machine.emit(RequestStarted(server_id=server_id))
        figures = replace(FIGURES, failure=failure)
        machine.emit(RequestsEnded(server_id=server_id, figures=(figures,)))
    machine.emit(RequestLost(figures=Figures(model_id="big", was_ready=False, failure="load")))
    report: UsageReport = await machine.request(UsageAsked)

    tool, big = report.models
    assert (tool.name, tool.requests, tool.failed, tool.hit_rate) == ("tool", 3, 1, 1.0)
    assert (tool.prompt_tokens, tool.cached_tokens, tool.generated_tokens) == (27, 24, 9)
    assert (tool.tokens_per_s, tool.first_token_p50_s) == (4.0, 0.25)
    assert (big.name, big.requests, big.hits, big.failed) == ("big", 1, 0, 1)
    assert (report.total.requests, report.total.hit_rate) == (4, 0.75)
    assert (report.cache_strategy, report.loaded_models) == ("ram", ("tool",))


@asynchronous
async def test_request_whose_server_is_gone_is_counted_all_the_same() -> None:
    """The failures that matter most are those of servers that died."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    machine.emit(RequestsEnded(server_id="gone", figures=(FIGURES,)))
    await machine.settle()

    assert machine.supervisor.counting.report().total.requests == 1


@asynchronous
async def test_load_for_a_program_is_a_swap_from_asking_to_ready() -> None:
    """What a person loads beforehand nobody waits for."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool", "big")
    await swap(machine, "big", 3.0)
    await load(machine, "tool", keep_others=True)
    report = machine.supervisor.counting.report()
    told = await measures(machine)

    assert [(row.name, row.swaps, row.mean_swap_s) for row in report.models] == [("big", 1, 3.0)]
    assert {name: (each.loads, each.swaps) for name, each in told.tallies.items()} == {
        "big": (1, 1),
        "tool": (1, 0),
    }
    assert (sum(told.swap_seconds.counts), told.swap_seconds.total) == (1, 3.0)


@asynchronous
async def test_loads_that_fail_are_counted_and_those_given_up_are_not() -> None:
    """Ctrl-C is no fault of the model."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=Selection(model_id="tool"))
    await machine.settle()
    await machine.ends(machine.server("tool").id, Exit(code=1))
    with pytest.raises(ServerFailed):
        await task
    task = machine.request(LoadAsked, selection=Selection(model_id="tool"))
    await machine.settle()
    await machine.request(CancelAsked, load_request_id="r2")
    with pytest.raises(Cancelled):
        await task

    assert (await measures(machine)).tallies["tool"].failed_loads == 1


@asynchronous
async def test_requests_cost_no_writes_and_are_saved_once_a_minute() -> None:
    """A thousand requests a second must not wear out the SSD."""
    machine = FakeMachine()
    await machine.start("tool")
    before = len(machine.store.saved)
    for _ in range(50):
        machine.emit(RequestLost(figures=FIGURES))
        await machine.pass_time(1)

    assert len(machine.store.saved) == before

    await machine.pass_time(15)

    assert len(machine.store.saved) == before + 1
    assert machine.store.saved[-1].usage["tool"].requests == 50

    await machine.pass_time(130)

    assert len(machine.store.saved) == before + 1


@asynchronous
async def test_sums_are_saved_at_the_end_and_go_on_after_a_restart() -> None:
    """A restart is no reason to forget."""
    machine = FakeMachine()
    kept = State(usage={"tool": Totals(requests=5, hits=5), "old": Totals(requests=1)})
    machine.store.loaded = Loaded(state=kept)
    await machine.start("tool")
    machine.emit(RequestLost(figures=FIGURES))
    machine.emit(StopAsked(leave_servers=True))
    await machine.supervisor.wait_finished()
    machine.supervisor.saver.flush()

    assert machine.store.saved[-1].usage["tool"].requests == 6
    assert machine.store.saved[-1].usage["old"] == Totals(requests=1)
    assert machine.supervisor.counting.report("tool").models[0].requests == 6


@asynchronous
async def test_sums_are_put_into_the_state_twice_without_being_counted_twice() -> None:
    """Twice a minute would be twice the tokens."""
    machine = FakeMachine()
    await machine.start("tool")
    for _ in range(3):
        machine.emit(RequestLost(figures=FIGURES))
        await machine.settle()
        machine.supervisor.counting.save()

    assert machine.world.state.usage["tool"].requests == 3
    assert machine.supervisor.counting.report().total.requests == 3


@asynchronous
async def test_watchers_hear_of_a_bounded_number_of_models() -> None:
    """A label for each of ten thousand files is what kills a Prometheus."""
    machine = FakeMachine()
    names = [f"m{number}" for number in range(MAX_LABELS + 5)]
    await machine.start(*names)
    for name in names:
        machine.emit(RequestLost(figures=Figures(model_id=name)))
    await machine.settle()
    told = await measures(machine)

    assert len(told.tallies) == MAX_LABELS + 1
    assert told.tallies[OTHER].requests == 5
    assert sum(each.requests for each in told.tallies.values()) == len(names)


@asynchronous
async def test_what_watchers_got_does_not_change_under_their_eyes() -> None:
    """It is written down in another thread."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.emit(RequestLost(figures=FIGURES))
    await machine.settle()
    told = await measures(machine)
    machine.emit(RequestLost(figures=replace(FIGURES, failure="busy")))
    await machine.settle()

    assert told.tallies["tool"].requests == 1
    assert told.tallies["tool"].failures == {}
    assert sum(told.tallies["tool"].first_token.counts) == 1


@asynchronous
async def test_watching_is_no_use() -> None:
    """A dashboard must not keep a model loaded (peers: it does elsewhere)."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.clock.time += 100
    told = await measures(machine)

    assert (told.ready, told.in_flight) == ({"tool": 1}, {"tool": 0})
    assert machine.world.servers[server.id].last_used_at == server.last_used_at


@asynchronous
async def test_request_that_is_to_be_logged_is_one_entry_of_numbers() -> None:
    """Whoever reads the journal finds it by its id, and what it cost without parsing sentences."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    told: list[Happened] = []
    machine.journal.subscribe(told.append)
    machine.emit(
        RequestServed(request_id="r-1", path="/v1/chat/completions", status=200, figures=FIGURES)
    )
    await machine.settle()

    (entry,) = [each for each in told if each.event == "request-served"]
    fields = entry.fields
    assert (fields["request"], fields["model"], fields["status"]) == ("r-1", "tool", 200)
    assert (fields["prompt_tokens"], fields["generated_tokens"]) == (9, 3)
    assert fields["path"] == "/v1/chat/completions"
