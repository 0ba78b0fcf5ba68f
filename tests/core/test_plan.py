"""`core.plan`: what has to go so that a model can be loaded, and why."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modeld.core.entities import LaunchRecord, Origin, Server, ServerState
from modeld.core.fit import Budget
from modeld.core.plan import LEAVING, Plan, Want, can_load, plan_load
from modeld.errors import Busy, DoesNotFit, ModeldError, Pinned, TooManyLoaded

GB = 1024**3


def server(
    name: str,
    gigabytes: float = 1,
    *,
    used: float = 0,
    state: ServerState = ServerState.READY,
    in_flight: int = 0,
    port: int = 0,
) -> Server:
    """Return a server of a model of that name and size."""
    record = LaunchRecord(
        server_id=f"server-{name}",
        model_id=name,
        model_name=name,
        model_path=f"/models/{name}.gguf",
        tier="ssd",
        argv=("llama-server",),
        environment={},
        socket_path="",
        stdin_path="",
        stdout_path="",
        log_path="",
        port=port,
        need_bytes=int(gigabytes * GB),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Server(record=record, state=state, last_used_at=used, in_flight=in_flight)


def want(name: str = "new", gigabytes: float = 1, **settings: object) -> Want:
    """Return the wish to load a model of that size."""
    return Want(model_id=name, name=name, need_bytes=int(gigabytes * GB), **settings)  # type: ignore[arg-type]


def budget(gigabytes: float = 16, loaded: int = 2, *gpus: float) -> Budget:
    """Return what there is."""
    rooms = tuple(int(each * GB) for each in gpus)
    return Budget(memory_bytes=int(gigabytes * GB), max_loaded=loaded, gpu_bytes=rooms)


def on_gpus(one: Server, *gigabytes: float) -> Server:
    """Return a server that holds so much of each GPU."""
    needs = tuple(int(each * GB) for each in gigabytes)
    return replace(one, record=replace(one.record, need_gpu_bytes=needs))


def gpu_need(*gigabytes: float) -> tuple[int, ...]:
    """Return a need of each GPU."""
    return tuple(int(each * GB) for each in gigabytes)


def victims(plan: Plan) -> list[str]:
    """Return the names of those that go."""
    return [victim.name for victim in plan.victims]


def test_plan_stops_every_unpinned_server_when_the_load_replaces() -> None:
    """S0-34: `load` replaces whatever runs; else a person collects servers without knowing."""
    plan = plan_load(want(replace=True), [server("a"), server("b")], {"b"}, budget())

    assert victims(plan) == ["a"]


def test_plan_stops_nothing_when_others_are_kept_and_all_fits() -> None:
    """`--nokill` would be a lie."""
    assert victims(plan_load(want(), [server("a")], (), budget())) == []


def test_plan_stops_the_holder_of_the_port_though_others_are_kept() -> None:
    """S0-34: two servers can't listen on one port."""
    running = [server("a", port=8081), server("b", port=8082)]

    assert victims(plan_load(want(port=8081), running, (), budget(loaded=4))) == ["a"]


def test_plan_refuses_the_port_when_its_holder_is_pinned() -> None:
    """A pin is a promise; a port number must not break it."""
    with pytest.raises(Pinned, match="port 8081"):
        plan_load(want(port=8081), [server("a", port=8081)], {"a"}, budget())


def test_plan_replaces_the_same_model_when_its_arguments_differ() -> None:
    """Else one model would be loaded twice."""
    plan = plan_load(want("a"), [server("a")], {"a"}, budget(loaded=1))

    assert victims(plan) == ["a"]


def test_plan_refuses_in_the_words_of_s4_when_memory_is_short() -> None:
    """S4-01: programs match on this sentence."""
    with pytest.raises(DoesNotFit) as caught:
        plan_load(want(gigabytes=12), [server("a", 4.5), server("b", 7)], (), budget())

    assert caught.value.message == "Insufficient RAM: need 12.0GB, have 4.5GB available"
    assert caught.value.numbers["need_bytes"] == 12 * GB


def test_plan_refuses_in_the_words_of_s4_when_the_count_is_reached() -> None:
    """S4-01: the second limit, told only when memory would do."""
    with pytest.raises(TooManyLoaded) as caught:
        plan_load(want(), [server("a"), server("b")], (), budget())

    assert caught.value.message == "Max concurrent models (2) reached"


def test_plan_tells_a_small_lack_apart() -> None:
    """Else `need 8.0GB, have 8.0GB` would explain nothing."""
    with pytest.raises(DoesNotFit, match=r"need 8\.010GB, have 8\.000GB available"):
        plan_load(want(gigabytes=8.01), [], (), budget(gigabytes=8))


def test_plan_allows_a_need_that_equals_what_is_available() -> None:
    """S4-02: the comparison is strict."""
    assert victims(plan_load(want(gigabytes=15), [server("a", 1)], (), budget())) == []


def test_plan_evicts_the_least_recently_used_first_when_forced() -> None:
    """S4-06: the order decides who loses a session."""
    running = [server("a", 6, used=20), server("b", 6, used=10)]

    assert victims(plan_load(want(gigabytes=6, force=True), running, (), budget())) == ["b"]


@pytest.mark.parametrize(
    ("touched", "gone"), [("", "m1"), ("m1", "m2"), ("m2", "m1"), ("m3", "m1")]
)
def test_plan_of_a_fourth_of_three_takes_the_least_recently_used(touched: str, gone: str) -> None:
    """S3-16: m1, m2, m3, then m4; whatever was used again stays."""
    running = [
        server(f"m{number}", used=9 if f"m{number}" == touched else number) for number in (1, 2, 3)
    ]
    plan = plan_load(want("m4", origin=Origin.GATEWAY), running, (), budget(loaded=3))

    assert victims(plan) == [gone]


def test_plan_makes_room_in_the_sums_of_the_original() -> None:
    """S4-18: what is forced in, and what leaves for it."""
    small, middle, coder = server("1b", 3, used=1), server("llama", 4.5, used=2), server("code", 7)
    coder = replace(coder, last_used_at=3)
    vision = want("vision", 12, force=True)

    assert victims(plan_load(vision, [middle, coder], (), budget())) == ["llama", "code"]
    with pytest.raises(TooManyLoaded, match=r"Max concurrent models \(2\) reached"):
        plan_load(want("code", 7), [small, middle], (), budget())
    assert victims(plan_load(want("code", 7, force=True), [small, middle], (), budget())) == ["1b"]


def test_plan_evicts_for_the_count_too_when_forced() -> None:
    """S4-07 and R17: the original loaded beyond the limit."""
    running = [server("a", used=2), server("b", used=1)]

    assert victims(plan_load(want(force=True), running, (), budget())) == ["b"]


def test_plan_touches_nothing_when_a_model_exceeds_the_whole_budget() -> None:
    """S4-07: all would be unloaded for nothing."""
    with pytest.raises(DoesNotFit, match=r"need 17\.0GB, have 16\.0GB"):
        plan_load(want(gigabytes=17, force=True, replace=True), [server("a")], (), budget())


@pytest.mark.parametrize(
    "busy",
    [
        server("a", in_flight=1),
        server("a", state=ServerState.LOADING),
        server("a", state=ServerState.STARTING),
    ],
)
def test_plan_waits_when_all_that_could_go_is_busy_or_loading(busy: Server) -> None:
    """Evicting it would break somebody's answer, or thrash."""
    with pytest.raises(Busy):
        plan_load(want(origin=Origin.GATEWAY), [busy], (), budget(loaded=1))


def test_plan_never_evicts_a_pinned_server_when_nothing_else_fits() -> None:
    """A pin is a promise; breaking it silently costs someone a session."""
    with pytest.raises(Pinned):
        plan_load(want(force=True), [server("a")], {"a"}, budget(loaded=1))


def test_plan_names_each_pinned_server_that_is_in_the_way() -> None:
    """Whoever reads it has to unpin one of them."""
    servers = [server("a"), server("b")]
    with pytest.raises(Pinned) as one:
        plan_load(want(force=True), servers[:1], {"a"}, budget(loaded=1))
    with pytest.raises(Pinned) as two:
        plan_load(want(force=True), servers, {"a", "b"}, budget(loaded=2))

    assert one.value.message == "Max concurrent models (1) reached; a is pinned"
    assert two.value.message == "Max concurrent models (2) reached; a, b are pinned"


def test_plan_evicts_a_pinned_server_when_that_is_asked_for_by_name() -> None:
    """`--force-pinned` exists for this."""
    plan = plan_load(want(force=True, force_pinned=True), [server("a")], {"a"}, budget(loaded=1))

    assert victims(plan) == ["a"]


def test_plan_waits_for_a_leaving_server_only_when_its_room_is_needed() -> None:
    """Else every load would wait for a drain that has nothing to do with it."""
    leaving = server("a", 8, state=ServerState.STOPPING)

    assert plan_load(want(gigabytes=1), [leaving], (), budget(loaded=4)).leaving == ()
    assert plan_load(want(gigabytes=10), [leaving], (), budget(loaded=4)).leaving == ("server-a",)


def test_plan_books_an_unreapable_server_for_ever() -> None:
    """Its memory is not there, whatever was done to it."""
    stuck = server("a", 10, state=ServerState.UNREAPABLE)

    with pytest.raises(DoesNotFit):
        plan_load(want(gigabytes=8, force=True, replace=True), [stuck], (), budget())


def test_can_load_says_why_not_without_touching_anything() -> None:
    """S4-01: the same words as the refusal of a load."""
    running = [server("a"), server("b")]

    assert can_load(want(), running, budget()) == (False, "Max concurrent models (2) reached")
    assert can_load(want(), running[:1], budget()) == (True, "Model can be loaded")


servers = st.builds(
    lambda name, size, used, state, flight: server(
        name, size, used=used, state=state, in_flight=flight
    ),
    name=st.sampled_from("abcdefgh"),
    size=st.floats(0, 8),
    used=st.floats(0, 100),
    state=st.sampled_from([each for each in ServerState if each is not ServerState.GONE]),
    flight=st.integers(0, 2),
)


@given(
    running=st.lists(servers, max_size=6, unique_by=lambda each: each.id),
    pins=st.sets(st.sampled_from("abcdefgh")),
    size=st.floats(0.1, 20),
    force=st.booleans(),
    gateway=st.booleans(),
    loaded=st.integers(1, 4),
)
def test_plan_keeps_every_promise_whatever_runs(
    running: list[Server], pins: set[str], size: float, force: bool, gateway: bool, loaded: int
) -> None:
    """No limit exceeded, no pinned or busy server evicted, every victim with a reason."""
    wanted = want(
        gigabytes=size, force=force, origin=Origin.GATEWAY if gateway else Origin.OPERATOR
    )
    limits = budget(16, loaded)
    try:
        plan = plan_load(wanted, running, pins, limits)
    except ModeldError:
        return
    gone = {victim.server_id for victim in plan.victims} | {
        each.id for each in running if each.state in LEAVING
    }
    stay = [each for each in running if each.id not in gone]
    assert sum(each.booked_bytes for each in stay) + wanted.need_bytes <= limits.memory_bytes
    assert len(stay) < loaded
    for victim in plan.victims:
        evicted = next(each for each in running if each.id == victim.server_id)
        assert victim.reason
        assert evicted.record.model_id not in pins
        assert evicted.state is ServerState.READY
        assert not evicted.in_flight


def test_plan_refuses_in_words_like_s4_when_a_gpu_is_short() -> None:
    """Both limits hold always; which one did not is the first thing to know."""
    running = [on_gpus(server("a"), 20)]

    with pytest.raises(DoesNotFit) as caught:
        plan_load(want(need_gpu_bytes=gpu_need(6)), running, (), budget(16, 2, 24))

    assert caught.value.message == "Insufficient VRAM: need 6.0GB, have 4.0GB available on GPU 0"
    assert caught.value.numbers["gpu"] == 0


def test_plan_evicts_only_who_holds_what_is_short() -> None:
    """A server in RAM that goes frees no GPU: its session would be lost for nothing."""
    running = [
        server("ram", used=1),
        on_gpus(server("second", used=2), 0, 20),
        on_gpus(server("first", used=3), 20, 0),
    ]
    wanted = want(need_gpu_bytes=gpu_need(10, 0), force=True)

    assert victims(plan_load(wanted, running, (), budget(16, 8, 24, 24))) == ["first"]


def test_plan_evicts_until_memory_gpus_and_count_all_hold() -> None:
    """S4-07: `--force` breaks no limit."""
    running = [
        on_gpus(server("a", 6, used=1), 2),
        on_gpus(server("b", 1, used=2), 20),
        server("c", 2, used=3),
    ]
    wanted = want(gigabytes=8, need_gpu_bytes=gpu_need(10), force=True)

    assert victims(plan_load(wanted, running, (), budget(12, 3, 24))) == ["a", "b"]


def test_plan_refuses_what_no_gpu_can_hold_before_anything_is_evicted() -> None:
    """S4-07, for each GPU."""
    running = [on_gpus(server("a"), 20)]

    with pytest.raises(DoesNotFit, match=r"need 30\.0GB, have 24\.0GB available on GPU 0"):
        plan_load(want(need_gpu_bytes=gpu_need(30), force=True), running, (), budget(16, 2, 24))


def test_plan_tells_the_inequality_of_each_gpu_that_is_used() -> None:
    """Every decision can be explained."""
    plan = plan_load(want(need_gpu_bytes=gpu_need(0, 6)), [], (), budget(16, 2, 24, 12))

    assert plan.reason == (
        "need 1.0GB <= 16.0GB available, 6.0GB <= 12.0GB on GPU 1, 0 + 1 <= 2 loaded"
    )


def test_plan_knows_no_limit_of_a_gpu_that_nobody_can_ask() -> None:
    """Without a driver's library a GPU has no size; refusing every load would be worse."""
    wanted = want(need_gpu_bytes=gpu_need(6, 6))

    assert plan_load(wanted, [], (), budget(16, 2)).victims == ()
    assert plan_load(wanted, [], (), budget(16, 2, 24)).victims == ()
