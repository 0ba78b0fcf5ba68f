"""The disk policy decides over people's files, so every rule of it is held by a test."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from modeld.core.compare import Trace
from modeld.core.entities import State
from modeld.core.replay import Load, Rules, Start, VirtualSsd
from modeld.core.stats import count_use, uses_within
from modeld.core.tiers import (
    CachePolicy,
    Decision,
    Holding,
    Space,
    Speeds,
    decide,
    expiry_order,
    precache,
    protected_because,
)
from modeld.units import GIB
from tests.bench.evaluation import room_of
from tests.bench.generators import generate
from tests.support.documented_policy import decisions

DOCUMENTED = CachePolicy(ssd_min_free_bytes=30 * GIB)
GAIN = CachePolicy(
    policy="gain",
    ssd_min_free_bytes=30 * GIB,
    victim_weight=1.25,
    protect_override=1.25,
    write_price_s_per_gb=1.0,
)
SPACE = Space(total_bytes=500 * GIB, free_bytes=100 * GIB)
FULL = Space(total_bytes=500 * GIB, free_bytes=35 * GIB)


def _candidate(gb: float = 20, **changes: object) -> Holding:
    one = Holding(
        model_id="new",
        name="new",
        size_bytes=int(gb * GIB),
        rank=71.0,
        idle_days=0.0,
        uses=3,
        recent_uses=3,
    )
    return replace(one, **changes)


def _resident(
    name: str, gb: float = 20, rank: float = 4.0, idle: float = 9.0, **changes: object
) -> Holding:
    one = Holding(
        model_id=name,
        name=name,
        size_bytes=int(gb * GIB),
        rank=rank,
        idle_days=idle,
        uses=5,
        on_ssd=True,
    )
    return replace(one, **changes)


def _gone(decision: Decision) -> list[str]:
    return [one.model_id for one in decision.expire]


# --- the documented policy --------------------------------------------------------------------


@pytest.mark.parametrize(("uses", "answer"), [(2, "stay"), (3, "copy"), (4, "copy")])
def test_model_is_copied_from_the_third_use_in_a_week(uses: int, answer: str) -> None:
    """S0-15: a model that is tried once must not push anything from the SSD."""
    decision = decide(_candidate(recent_uses=uses), [], SPACE, DOCUMENTED)

    assert decision.answer == answer
    assert f"{uses} uses in 7 days" in decision.reason


WANTED = "keep_alive.strategy ssd wants a copy"


@pytest.mark.parametrize("policy", [DOCUMENTED, GAIN])
def test_any_load_warrants_a_copy_where_the_policy_says_so(policy: CachePolicy) -> None:
    """S3-19: a server that leaves after two minutes is to come back from the SSD."""
    rare = _candidate(rank=-50.0, uses=1, recent_uses=1)
    wanting = replace(policy, wanted_because=WANTED)

    assert decide(rare, [], SPACE, policy).answer == "stay"
    assert decide(rare, [], SPACE, wanting).reason == (
        f"copy new (20.0 GB): {WANTED}; 100 GB free - 20.0 GB = 80.0 GB >= 30.0 GB to keep free"
    )
    assert decide(_candidate(), [], SPACE, wanting) == decide(_candidate(), [], SPACE, policy)


def test_wanted_copy_expires_what_a_deserved_one_would() -> None:
    """S3-19: by the policy's order and protection; in gain only what is worth less."""
    rare, wanting = _candidate(rank=-50.0, uses=1, recent_uses=1), WANTED
    documented = replace(DOCUMENTED, wanted_because=wanting)
    gain = replace(GAIN, wanted_because=wanting)

    stale, fresh = _resident("a"), _resident("a", idle=6.99)
    assert _gone(decide(rare, [stale], FULL, documented)) == ["a"]
    for resident in (fresh, _resident("a", running=True), _resident("a", pinned=True)):
        assert decide(rare, [resident], FULL, documented).because == "no-room"
    assert decide(rare, [stale], FULL, gain).because == "not-worth"


@pytest.mark.parametrize("policy", [DOCUMENTED, GAIN])
def test_wanted_copy_needs_its_room_and_its_source_as_any(policy: CachePolicy) -> None:
    """S3-19: no wish makes a disk larger, or more durable."""
    wanting = replace(policy, wanted_because=WANTED, wear_budget_bytes=10 * GIB)

    assert decide(_candidate(20), [], SPACE, wanting).because == "wear"
    assert decide(_candidate(5, on_ssd=True), [], SPACE, wanting).because == "there"
    assert decide(_candidate(5, source_tier=""), [], SPACE, wanting).because == "no-source"
    unworn = replace(wanting, wear_budget_bytes=0)
    assert decide(_candidate(471), [], SPACE, unworn).because == "too-large"
    assert decide(_candidate(71), [], SPACE, unworn).because == "no-room"


@pytest.mark.parametrize(("age_days", "uses"), [(7.0, 2), (7.01, 1), (-1.0, 2)])
def test_uses_are_counted_in_their_window(age_days: float, uses: int) -> None:
    """S0-15: the border is inside, and a clock that was set back hides nothing."""
    now = 1_767_571_200.0
    state = count_use(State(), "m", now - age_days * 86_400)
    stats = count_use(state, "m", now).models["m"]

    assert uses_within(stats, 7.0, now) == uses


@pytest.mark.parametrize(("gb", "answer"), [(70, "copy"), (70.1, "stay")])
def test_floor_stays_free(gb: float, answer: str) -> None:
    """S0-10: 100 GB free, 30 to keep."""
    assert decide(_candidate(gb), [], SPACE, DOCUMENTED).answer == answer


def test_copies_expire_by_rank_until_enough_is_free() -> None:
    """S0-11: the lowest rank first, and no more than it takes."""
    residents = [
        _resident("c", 10, rank=9.0),
        _resident("a", 10, rank=-5.0),
        _resident("b", 10, rank=3.0),
    ]

    decision = decide(_candidate(20), residents, FULL, DOCUMENTED)
    assert (decision.answer, _gone(decision)) == ("copy", ["a", "b"])


@pytest.mark.parametrize(("idle", "answer"), [(7.0, "copy"), (6.99, "stay")])
def test_copy_is_protected_for_a_week(idle: float, answer: str) -> None:
    """S0-11: idle for 7 days or more."""
    assert decide(_candidate(), [_resident("a", idle=idle)], FULL, DOCUMENTED).answer == answer


def test_nothing_expires_when_all_of_it_is_not_enough() -> None:
    """S0-12: half of the room would cost a copy and bring none."""
    decision = decide(_candidate(60), [_resident("a", 20)], FULL, DOCUMENTED)

    assert (decision.answer, decision.because, decision.expire) == ("stay", "no-room", ())
    assert "35.0 GB free + 20.0 GB that may expire - 60.0 GB < 30.0 GB" in decision.reason


@pytest.mark.parametrize("policy", [DOCUMENTED, GAIN])
@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({"running": True}, "it runs"),
        ({"pinned": True}, "it is pinned"),
        ({"source_tier": ""}, "it is only on the SSD"),
        ({"copying": True}, "it is being copied"),
        ({"ours": False}, "modeld did not put it there"),
    ],
)
def test_held_copy_never_expires(policy: CachePolicy, held: dict[str, object], why: str) -> None:
    """S0-14: whatever it is worth, and however long it was idle."""
    resident = _resident("a", rank=-900.0, idle=400.0, **held)

    assert decide(_candidate(), [resident], FULL, policy).answer == "stay"
    assert protected_because(resident, policy) == why


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"on_ssd": True}, "there"),
        ({"copying": True}, "copying"),
        ({"source_tier": ""}, "no-source"),
        ({"size_bytes": 471 * GIB}, "too-large"),
    ],
)
def test_model_that_cannot_be_copied_stays(changes: dict[str, object], because: str) -> None:
    """Each says its own reason."""
    assert decide(_candidate(**changes), [], SPACE, DOCUMENTED).because == because


@pytest.mark.parametrize(("written", "answer"), [(80, "copy"), (81, "stay")])
def test_wear_budget_binds(written: int, answer: str) -> None:
    """P5: never more than this in a day."""
    policy = replace(DOCUMENTED, wear_budget_bytes=100 * GIB)
    space = replace(SPACE, written_today_bytes=written * GIB)

    assert decide(_candidate(20), [], space, policy).answer == answer


def test_expiry_says_size_rank_and_idle_days() -> None:
    """S0-13: what the RED line needs."""
    decision = decide(_candidate(), [_resident("old", 16, 4.1, 9.0)], FULL, DOCUMENTED)

    assert decision.expire[0].reason == (
        "old (16.0 GB), rank 4.1, idle 9.0 d >= 7 d, the lowest rank first"
    )


# --- gain -------------------------------------------------------------------------------------


def test_gain_tells_its_inequality_in_numbers() -> None:
    """Decision 8: what is saved, what is lost, what it costs, and what is left."""
    decision = decide(_candidate(20, rank=82.0), [_resident("gemma", 16, rank=4.1)], FULL, GAIN)

    assert decision.answer == "copy"
    assert decision.reason == (
        "copy new (20.0 GB): forecast 1.91 loads/7d x 103 s = 197 s saved; expires gemma (16.0 GB),"
        " rank 4.1, idle 9.0 d: forecast 0.10 loads/7d x 82 s x 1.25 = 10 s lost;"
        " copy price 20 s; net +167 s >= 0"
    )
    assert decision.numbers["net_seconds"] == pytest.approx(166.8, abs=0.1)


def test_gain_keeps_what_is_worth_more() -> None:
    """A copy that would be missed more is not given up."""
    decision = decide(_candidate(20, rank=82.0), [_resident("a", rank=80.0)], FULL, GAIN)

    assert (decision.answer, decision.because, decision.expire) == ("stay", "not-worth", ())
    assert decision.numbers["net_seconds"] < 0


def test_gain_expires_fresh_copies_only_where_that_is_allowed() -> None:
    """`protect_override = 0` is the week of protection that people may want."""
    fresh = _resident("a", rank=5.0, idle=2.0)

    assert _gone(decide(_candidate(), [fresh], FULL, GAIN)) == ["a"]
    strict = replace(GAIN, protect_override=0.0)
    assert decide(_candidate(), [fresh], FULL, strict).because == "no-room"


def test_gain_gives_back_what_was_not_needed() -> None:
    """The large one makes room enough: the small one, first by rank, is spared."""
    residents = [_resident("small", 5, rank=-9.0), _resident("large", 30, rank=-5.0)]

    assert _gone(decide(_candidate(20), residents, FULL, GAIN)) == ["large"]
    assert _gone(decide(_candidate(20), residents, FULL, DOCUMENTED)) == ["small", "large"]


def test_gain_refuses_without_looking_at_residents_what_no_empty_ssd_would_repay() -> None:
    """A rank of 0 forecasts nothing."""

    def residents() -> Sequence[Holding]:
        raise AssertionError

    decision = decide(_candidate(rank=0.0), (one for _ in [0] for one in residents()), SPACE, GAIN)
    assert (decision.because, decision.numbers["saved_seconds"]) == ("not-worth", 0.0)


def test_experience_scales_the_forecast_of_the_candidate() -> None:
    """Calibration: 0.2 of the forecast is not worth the write any more."""
    assert decide(_candidate(rank=20.5), [], SPACE, GAIN).answer == "copy"
    assert decide(_candidate(rank=20.5), [], SPACE, GAIN, factor=0.2).answer == "stay"


def test_source_that_is_fast_saves_less() -> None:
    """Two HDDs of different speed."""
    speeds = Speeds(by_tier={"hdd2": 2.4 * GIB})

    policy = replace(GAIN, speeds=speeds)
    assert decide(_candidate(), [], SPACE, policy).answer == "copy"
    assert decide(_candidate(source_tier="hdd2"), [], SPACE, policy).answer == "stay"


@given(
    st.floats(0.5, 5), st.floats(0, 200), st.lists(st.floats(0, 60), max_size=4), st.floats(1, 1.12)
)
def test_gain_copy_pays_even_when_forecasts_are_wrong(
    gb: float, rank: float, ranks: list[float], error: float
) -> None:
    """P3: with every forecast wrong by a factor up to sqrt(h), it still saves k s / e."""
    residents = [_resident(f"r{place}", 2, each, 9.0) for place, each in enumerate(ranks)]
    space = Space(total_bytes=500 * GIB, free_bytes=30 * GIB)
    decision = decide(_candidate(gb, rank=rank), residents, space, GAIN)
    if decision.answer == "stay":
        return

    delta = GAIN.speeds.seconds_saved(GIB, "hdd1")
    mine = decision.size_bytes / GIB * rank / 43 / error
    lost = sum(one.size_bytes / GIB * max(0, one.rank) / 43 * error for one in decision.expire)
    price = GAIN.write_price_s_per_gb * decision.size_bytes / GIB
    assert delta * (mine - lost) >= price / error - 1e-6


# --- predictive copies ------------------------------------------------------------------------


def test_precache_takes_the_best_rank_that_fits() -> None:
    """S0-17: the top 5 of all models."""
    models = [
        _resident("there", rank=90.0, idle=0.0),
        _candidate(80, model_id="large", rank=80.0),
        _candidate(20, model_id="fits", rank=70.0),
        _candidate(10, model_id="worse", rank=60.0),
    ]

    decision = precache(models, SPACE, DOCUMENTED)
    assert decision is not None
    assert (decision.model_id, decision.predictive, decision.expire) == ("fits", True, ())
    assert "number 3 <= 5" in decision.reason


@pytest.mark.parametrize(
    "policy",
    [replace(DOCUMENTED, precache=False), replace(DOCUMENTED, precache_top=1)],
)
def test_precache_keeps_to_its_settings(policy: CachePolicy) -> None:
    """Off, or fewer."""
    models = [_resident("there", rank=90.0), _candidate(20)]

    assert precache(models, SPACE, policy) is None


@pytest.mark.parametrize("changes", [{"uses": 0}, {"idle_days": 7.0}])
def test_precache_takes_nothing_that_could_expire_at_once(changes: dict[str, float]) -> None:
    """A copy that is stale already, such as the one just expired, would come and go for ever."""
    assert precache([_candidate(20, **changes)], SPACE, DOCUMENTED) is None


def test_precache_in_gain_has_to_be_worth_twice_the_price() -> None:
    """Nobody asked for it."""
    policy = replace(GAIN, write_price_s_per_gb=2.0)
    once = _candidate(rank=20.5)

    assert decide(once, [], SPACE, policy).answer == "copy"
    assert precache([once], SPACE, policy) is None
    assert precache([once], SPACE, replace(policy, write_price_s_per_gb=1.0)) is not None


# --- properties -------------------------------------------------------------------------------


_HOLDINGS = st.lists(
    st.builds(
        Holding,
        model_id=st.sampled_from("abcdefgh"),
        name=st.just("one"),
        size_bytes=st.integers(1, 60).map(lambda gb: gb * GIB),
        rank=st.floats(-2000, 500),
        idle_days=st.floats(0, 999),
        uses=st.integers(0, 300),
        source_tier=st.sampled_from(["", "hdd1", "hdd2"]),
        on_ssd=st.just(True),
        ours=st.booleans(),
        running=st.booleans(),
        pinned=st.booleans(),
        copying=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.model_id,
)
_POLICIES = st.builds(
    CachePolicy,
    policy=st.sampled_from(["documented", "gain"]),
    ssd_min_free_bytes=st.integers(0, 50).map(lambda gb: gb * GIB),
    expire_after_days=st.floats(0, 30),
    protect_override=st.sampled_from([0.0, 1.25]),
    victim_weight=st.floats(0, 3),
    write_price_s_per_gb=st.floats(0, 5),
)


@settings(max_examples=300)
@given(
    st.integers(1, 120), st.floats(-50, 300), _HOLDINGS, st.integers(0, 120), _POLICIES,
    st.integers(0, 5),
)  # fmt: skip
def test_no_decision_breaks_a_promise(
    gb: int, rank: float, residents: list[Holding], free_gb: int, policy: CachePolicy, recent: int
) -> None:
    """P2, P4: order, held copies, the floor, all or nothing, and a reason for everything."""
    candidate = _candidate(gb, rank=rank, recent_uses=recent)
    space = Space(total_bytes=300 * GIB, free_bytes=free_gb * GIB)
    decision = decide(candidate, residents, space, policy)

    assert candidate.name in decision.reason
    assert any(sign in decision.reason for sign in ("<", ">=", ">"))
    if decision.answer == "stay":
        assert decision.expire == ()
        return
    by_id = {one.model_id: one for one in residents}
    gone = [by_id[one.model_id] for one in decision.expire]
    assert not any(one.held_because or protected_because(one, policy) for one in gone)
    freed = sum(one.size_bytes for one in gone)
    left = space.free_bytes + freed - candidate.size_bytes
    assert left >= policy.ssd_min_free_bytes
    assert all(earlier.rank <= later.rank for earlier, later in pairwise(gone))
    if policy.policy == "documented":
        eligible = expiry_order(residents, policy)
        assert gone == eligible[: len(gone)]
        assert not gone or left - gone[-1].size_bytes < policy.ssd_min_free_bytes
    else:
        assert all(left - one.size_bytes < policy.ssd_min_free_bytes for one in gone)


_HISTORIES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.floats(60, 4 * 86_400)), min_size=1, max_size=120
)


@settings(max_examples=60)
@given(_HISTORIES, st.integers(5, 90), st.integers(1, 4))
def test_documented_policy_is_its_reference(
    steps: list[tuple[str, float]], room_gb: int, min_uses: int
) -> None:
    """P1: decision by decision, whatever the history."""
    sizes = {name: (place + 1) * 7 * GIB for place, name in enumerate("abcdef")}
    now, loads = 1_767_571_200.0, []
    for name, gap in steps:
        now += gap
        loads.append(Load(now, name))
    policy = CachePolicy(ssd_min_free_bytes=0, promote_min_uses=min_uses)
    _assert_same(Trace(loads=tuple(loads), sizes_bytes=sizes), room_gb * GIB, policy)


@pytest.mark.parametrize("workload", ["g1", "g3"])
def test_documented_policy_is_its_reference_on_a_made_up_history(workload: str) -> None:
    """P1: the bench does this on 75 runs."""
    trace = generate(workload, 7)
    _assert_same(trace, room_of(trace, 0.1), CachePolicy(ssd_min_free_bytes=0))


def test_gain_without_prices_is_the_rule_it_came_from() -> None:
    """P1: h = k = 0, strict, nothing given back: the seed with promotion at the first use."""
    policy = CachePolicy(
        policy="gain",
        ssd_min_free_bytes=0,
        victim_weight=0.0,
        write_price_s_per_gb=0.0,
        protect_override=0.0,
        calibration=False,
        give_back=False,
        promote_min_uses=1,
    )
    trace = generate("g2", 7)
    _assert_same(trace, room_of(trace, 0.1), policy)


def _assert_same(trace: Trace, room: int, policy: CachePolicy) -> None:
    ssd = VirtualSsd(trace.sizes_bytes, room, Rules(policy=policy, instant=True), Start())
    loads = [(load.at, load.model_id) for load in trace.loads]
    wanted = list(decisions(loads, trace.sizes_bytes, room, min_uses=policy.promote_min_uses))

    assert [(one.written, one.expired) for one in map(ssd.access, trace.loads)] == wanted
