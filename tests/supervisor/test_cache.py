"""`supervisor.cache` and `.cache_asks`: what lies on the SSD, and why."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from modeld.config.schema import Cache, Config, KeepAlive, Reload, Storage
from modeld.core.entities import ModelStats, State
from modeld.core.events import (
    CacheAsked,
    CopiesVerified,
    CopyEnded,
    CopyMoved,
    FilesRemoved,
    LoadAsked,
    PagesRead,
    PinAsked,
    SpaceMeasured,
    UnloadAsked,
)
from modeld.core.rank import RankTerms
from modeld.errors import Cancelled, Inactive, Refused
from modeld.supervisor import cache, views
from modeld.supervisor.ports import CopyOrder, Loaded
from modeld.supervisor.ranking import terms
from modeld.supervisor.world import World
from modeld.wire.codec import Progress
from modeld.wire.load import Loaded as LoadedReply
from tests.supervisor.test_loads import load, named
from tests.support.fake_ports import GB, FakeMachine
from tests.support.running import asynchronous

NOW = 1_800_000_000.0
TIERED = Config(
    storage=Storage(ssd_path="/ssd", hdd_paths=("/hdd1",)),
    reload=Reload(min_reload_seconds=0),
    cache=Cache(ssd_min_free_gb=10, promote_min_uses=3),
)


def used(*days_ago: float) -> ModelStats:
    """Return the history of a model that was used so many days ago."""
    stamps = tuple(datetime.fromtimestamp(NOW - days * 86400, UTC) for days in days_ago)
    return ModelStats(
        total_uses=len(stamps), last_used=stamps[-1] if stamps else None, use_timestamps=stamps
    )


async def tiered(
    config: Config = TIERED, free_gb: float = 50, total_gb: float = 100, **histories: ModelStats
) -> FakeMachine:
    """Return a machine with an SSD and an HDD, and these histories."""
    machine = FakeMachine(config)
    machine.store.loaded = Loaded(state=State(models=histories))
    machine.emit(
        SpaceMeasured(tier="ssd", total_bytes=int(total_gb * GB), free_bytes=int(free_gb * GB))
    )
    return machine


def moved(order: CopyOrder, gigabytes: float) -> CopyMoved:
    """Return the event that a copy has come so far, reading and writing."""
    count = int(gigabytes * GB)
    total = sum(each.size_bytes for each in order.files)
    return CopyMoved(
        copy_id=order.copy_id,
        copied_bytes=count,
        total_bytes=total,
        rate_bytes_per_s=1e8,
        read_bytes=count,
    )


@asynchronous
async def test_model_that_earned_it_is_copied_while_it_loads() -> None:
    """S0-15 and the tee: one pass over the disk serves the copy and the server."""
    machine = await tiered(big=used(2, 1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    told: list[Progress] = []
    task = machine.request(LoadAsked, told, selection=named("big"))
    await machine.settle()
    order = machine.copier.orders[0]

    assert order.urgent
    assert order.files[0].relative_path == "big.gguf"
    assert machine.servers.started == []

    machine.emit(moved(order, 2))
    await machine.settle()
    assert (told[-1].phase, told[-1].fraction) == ("copy", 0.5)

    machine.emit(moved(order, 4))
    await machine.settle()
    assert machine.servers.started[0].model_path == "/hdd1/big.gguf"
    await machine.brings_up("big")
    assert isinstance(await task, LoadedReply)


@asynchronous
async def test_model_that_did_not_earn_it_is_served_from_the_slow_disk_at_once() -> None:
    """S0-15: below the threshold nothing is written."""
    machine = await tiered(big=used(1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    await load(machine, "big")

    assert machine.copier.orders == []
    assert machine.servers.started[0].tier == "hdd1"


@asynchronous
async def test_strategy_ssd_has_a_model_copied_at_its_first_load() -> None:
    """S3-19: and says so; what is worth a copy while nobody loads it is no matter of it."""
    config = replace(TIERED, keep_alive=KeepAlive(strategy="ssd"))
    machine = await tiered(config, big=used(1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    assert machine.supervisor.cache_asks.plan(0).decisions == ()
    (row,) = machine.supervisor.cache_asks.rank(None).ranks
    assert "keep_alive.strategy ssd wants a copy" in row.verdict

    machine.request(LoadAsked, selection=named("big"))
    await machine.settle()
    assert machine.copier.orders[0].model_id == "big"
    ((_, told),) = (each for each in machine.journal.events if each[0] == "copy-started")
    assert told.startswith("copy big (4.0 GB): keep_alive.strategy ssd wants a copy; ")


@asynchronous
async def test_next_load_takes_the_copy() -> None:
    """S0-19: the SSD first."""
    machine = await tiered(big=used(2, 1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    task = machine.request(LoadAsked, selection=named("big"))
    await machine.settle()
    machine.add("big", 4, tier="ssd")
    machine.emit(CopyEnded(copy_id=machine.copier.orders[0].copy_id, seconds=20))
    await machine.settle()
    await machine.brings_up("big")
    await task

    assert [each.tier for each in machine.world.models["big"].locations] == ["ssd", "hdd1"]
    assert machine.world.state.wear.copied_bytes == 4 * GB


@asynchronous
async def test_stale_copy_is_expired_first_and_said_in_red() -> None:
    """S0-11 and S0-13: name, size, rank, idle days."""
    machine = await tiered(free_gb=12, big=used(2, 1), old=used(40))
    machine.add("big", 4, tier="hdd1")
    machine.add("old", 8, tier="hdd1")
    machine.add("old", 8, tier="ssd")
    await machine.start()
    machine.request(LoadAsked, selection=named("big"))
    await machine.settle()

    assert machine.copier.removed == ["old"]
    assert machine.copier.orders == []
    text = next(message for event, message in machine.journal.events if event == "expired")
    assert all(word in text for word in ("old", "8.0 GB", "rank", "idle"))

    machine.emit(FilesRemoved(model_id="old", freed_bytes=8 * GB))
    await machine.settle()
    assert [each.model_id for each in machine.copier.orders] == ["big"]
    assert machine.world.state.wear.expiries == 1


@asynchronous
async def test_expiry_that_was_a_mistake_is_counted() -> None:
    """Wear figures have to tell what the policy costs."""
    machine = await tiered(free_gb=12, big=used(2, 1), old=used(40))
    machine.add("big", 4, tier="hdd1")
    machine.add("old", 8, tier="hdd1")
    machine.add("old", 8, tier="ssd")
    await machine.start()
    machine.request(LoadAsked, selection=named("big"))
    await machine.settle()
    machine.folders.files.pop()
    machine.emit(FilesRemoved(model_id="old", freed_bytes=8 * GB))
    await machine.settle()
    await load(machine, "old", keep_others=True)

    assert machine.world.state.wear.regretted_expiries == 1


@pytest.mark.parametrize("promise", ["pinned", "running", "foreign", "ssd-only"])
def test_copy_with_a_promise_is_never_expired(promise: str) -> None:
    """Promise 3: then nothing is copied, and the model is served all the same."""

    @asynchronous
    async def run() -> None:
        machine = await tiered(free_gb=12, big=used(2, 1), old=used(40))
        machine.add("big", 4, tier="hdd1")
        if promise != "ssd-only":
            machine.add("old", 8, tier="hdd1")
        machine.add("old", 8, tier="ssd")
        await machine.start()
        if promise == "pinned":
            await machine.request(PinAsked, selection=named("old"), pinned=True)
        if promise == "running":
            await load(machine, "old")
        if promise == "foreign":
            machine.copier.foreign.add("/ssd/old.gguf")
        await load(machine, "big", keep_others=True)

        assert machine.copier.removed == []
        assert machine.copier.orders == []

    run()


@asynchronous
async def test_failed_copy_leaves_the_model_on_the_slow_disk_and_is_said_once() -> None:
    """The model is served whenever the SSD cannot serve, and the user is told once."""
    machine = await tiered(big=used(2, 1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    for _ in range(2):
        task = machine.request(LoadAsked, selection=named("big"), arguments=("--temp", "0"))
        await machine.settle()
        order = machine.copier.orders[-1]
        machine.emit(CopyEnded(copy_id=order.copy_id, error="no space left", reason="no-space"))
        await machine.settle()
        assert (await machine.brings_up("big")).record.tier == "hdd1"
        await task
        await machine.ends(machine.server("big").id)

    failures = [message for event, message in machine.journal.events if event == "copy-failed"]
    assert len(failures) == 1


@asynchronous
async def test_unwritable_ssd_is_never_asked_to_hold_a_copy() -> None:
    """A read-only or missing SSD must not cost a load anything."""
    machine = await tiered(big=used(2, 1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    machine.emit(SpaceMeasured(tier="ssd", total_bytes=0, free_bytes=0, problem="read-only"))
    await machine.settle()
    await load(machine, "big")

    assert machine.copier.orders == []


@asynchronous
async def test_stalled_copy_does_not_hold_a_load_for_ever() -> None:
    """No wait without a bound."""
    machine = await tiered(big=used(2, 1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    machine.request(LoadAsked, selection=named("big"))
    await machine.pass_time(40, step=10)

    assert len(machine.servers.started) == 1


@asynchronous
async def test_copies_hold_still_while_a_server_loads_from_their_disk() -> None:
    """Two readers on one disk are slower than one after the other."""
    machine = await tiered()
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    await load(machine, "big")

    pair = [("/hdd1/big.gguf", True), ("/hdd1/big.gguf", False)]
    assert machine.copier.yielded == [*pair, *pair]  # for the reading ahead, and for the server


@asynchronous
async def test_model_on_a_slow_disk_is_read_once_before_its_server_maps_it() -> None:
    """A server that faults pages in gets a seventh of the disk's speed."""
    machine = await tiered()
    machine.add("big", 4, tier="hdd1")
    machine.page_cache.holds = True
    await machine.start()
    told: list[Progress] = []
    machine.request(LoadAsked, told, selection=named("big"))
    await machine.settle()
    read_id = machine.page_cache.reads[0]
    machine.emit(PagesRead(read_id=read_id, read_bytes=GB, total_bytes=4 * GB))
    await machine.settle()

    assert machine.servers.started == []
    assert (told[-1].phase, told[-1].fraction) == ("load", 0.25)

    machine.emit(PagesRead(read_id=read_id, read_bytes=4 * GB, total_bytes=4 * GB, is_over=True))
    await machine.settle()
    assert machine.servers.started[0].server_id == read_id


@asynchronous
async def test_model_on_the_ssd_is_not_read_ahead() -> None:
    """There the server is as quick by itself."""
    machine = await tiered()
    machine.add("big", 4, tier="ssd")
    await machine.start()
    await load(machine, "big")

    assert machine.page_cache.reads == []


@asynchronous
async def test_reading_ahead_ends_when_its_load_is_given_up() -> None:
    """Else a disk would go on working for nobody."""
    machine = await tiered()
    machine.add("big", 4, tier="hdd1")
    machine.page_cache.holds = True
    await machine.start()
    task = machine.request(LoadAsked, selection=named("big"))
    await machine.settle()
    await machine.request(UnloadAsked, selections=(named("big"),))

    assert machine.page_cache.stopped == machine.page_cache.reads
    with pytest.raises(Cancelled):
        await task


@asynchronous
async def test_unverified_copy_is_read_again_before_it_is_served() -> None:
    """C5: after an unclean stop the slow disk serves until the copy is known to be good."""
    machine = await tiered(big=used(1))
    machine.add("big", 4, tier="hdd1")
    machine.add("big", 4, tier="ssd")
    machine.copier.unverified.add("/ssd/big.gguf")
    await machine.start()
    await load(machine, "big")

    assert machine.servers.started[0].tier == "hdd1"
    assert machine.copier.verified == [("big.gguf",)]

    machine.emit(CopiesVerified(folder="/ssd", damaged=("big.gguf",)))
    await machine.settle()
    assert machine.copier.removed == [""]


@asynchronous
async def test_promote_copies_what_somebody_wants_there() -> None:
    """`cache promote`, with and without `--dry-run`."""
    machine = await tiered()
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    dry = await machine.request(CacheAsked, action="promote", selection=named("big"), dry_run=True)
    assert (dry.decisions[0].action, machine.copier.orders) == ("copy", [])
    assert "somebody asked for it; " in dry.decisions[0].reason

    await machine.request(CacheAsked, action="promote", selection=named("big"))
    assert not machine.copier.orders[0].urgent


@asynchronous
async def test_promote_is_refused_with_numbers_when_there_is_no_room() -> None:
    """S0-10: the floor holds for people too."""
    machine = await tiered(free_gb=12)
    machine.add("big", 4, tier="hdd1")
    await machine.start()

    with pytest.raises(Refused, match=r"4\.0 GB"):
        await machine.request(CacheAsked, action="promote", selection=named("big"))


@asynchronous
async def test_evict_removes_the_copy_but_never_the_last_one() -> None:
    """Promise 3: no last copy is ever deleted."""
    machine = await tiered()
    machine.add("both", 4, tier="hdd1")
    machine.add("both", 4, tier="ssd")
    machine.add("alone", 4, tier="ssd")
    machine.add("slow", 4, tier="hdd1")
    await machine.start()
    await machine.request(CacheAsked, action="evict", selection=named("both"))

    assert machine.copier.removed == ["both"]
    with pytest.raises(Refused, match="only on the SSD"):
        await machine.request(CacheAsked, action="evict", selection=named("alone"))
    with pytest.raises(Inactive):
        await machine.request(CacheAsked, action="evict", selection=named("slow"))


@asynchronous
async def test_copy_is_paused_resumed_and_cancelled() -> None:
    """`cache pause|resume|cancel`."""
    machine = await tiered()
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    await machine.request(CacheAsked, action="promote", selection=named("big"))
    copy_id = machine.copier.orders[0].copy_id
    await machine.request(CacheAsked, action="pause", selection=named("big"))
    assert machine.copier.paused == [copy_id]
    assert machine.supervisor.cache_asks.report().copies[0].paused

    await machine.request(CacheAsked, action="resume")
    await machine.request(CacheAsked, action="cancel")
    assert (machine.copier.paused, machine.copier.cancelled) == ([], [copy_id])


@asynchronous
async def test_report_tells_tiers_copies_and_wear() -> None:
    """`cache show`."""
    machine = await tiered()
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    await machine.request(CacheAsked, action="promote", selection=named("big"))
    machine.emit(moved(machine.copier.orders[0], 1))
    await machine.settle()
    report = machine.supervisor.cache_asks.report()

    assert [(row.tier, row.models) for row in report.tiers] == [("ssd", 0), ("hdd1", 1)]
    assert (report.copies[0].copied_bytes, report.copies[0].eta_s > 0) == (GB, True)


@asynchronous
async def test_rank_tells_terms_and_what_the_policy_says() -> None:
    """`rank --explain`: every decision tells its reason in numbers."""
    machine = await tiered(big=used(1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    row = machine.supervisor.cache_asks.rank(None).ranks[0]

    assert row.rank == pytest.approx(sum(row.terms.values()), abs=0.01)
    assert "1 use in 7 days < 3" in row.verdict


@asynchronous
async def test_plan_tells_what_would_go_without_touching_it() -> None:
    """`cache plan --free`."""
    machine = await tiered(free_gb=12, old=used(40), fresh=used(1))
    for name in ("old", "fresh"):
        machine.add(name, 8, tier="hdd1")
        machine.add(name, 8, tier="ssd")
    await machine.start()
    plan = machine.supervisor.cache_asks.plan(18 * GB)

    assert [(each.action, each.model) for each in plan.decisions] == [("expire", "old")]
    assert machine.copier.removed == []


@asynchronous
async def test_ssd_alone_is_no_cache() -> None:
    """Without a slow tier there is nothing to copy from, and nothing to expire."""
    machine = FakeMachine(replace(TIERED, storage=Storage(ssd_path="/ssd")))
    machine.add("big", 4, tier="ssd")
    await machine.start()
    await load(machine, "big")

    assert machine.copier.surveys == 0
    assert machine.copier.orders == []


@asynchronous
async def test_gain_policy_counts_the_present_use_as_the_simulator_does() -> None:
    """Else a model would have to be used once for nothing before it is worth anything."""
    config = replace(TIERED, cache=replace(TIERED.cache, policy="gain"))
    machine = await tiered(config, big=used(2, 1))
    machine.add("big", 4, tier="hdd1")
    await machine.start()
    machine.request(LoadAsked, selection=named("big"))
    await machine.settle()

    assert len(machine.copier.orders) == 1
    reason = next(text for event, text in machine.journal.events if event == "copy-started")
    assert "forecast" in reason
    assert ">= 0" in reason


@asynchronous
async def test_list_marks_what_should_be_on_the_ssd() -> None:
    """S0-C6, `{SSD}`: used enough, and still on the slow disk."""
    machine = await tiered(big=used(3, 2, 1), other=used(1))
    machine.add("big", 4, tier="hdd1")
    machine.add("other", 4, tier="hdd1")
    await machine.start()
    rows = {row.name: row.wanted_on_ssd for row in views.models(machine.world, ()).models}

    assert rows == {"big": True, "other": False}


def test_plan_and_ranks_look_at_all_models_a_few_times_and_not_once_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 2,000 models that took 41 s, and everything else waited."""
    looks = list[int]()

    def counted(world: World) -> dict[str, RankTerms]:
        looks.append(1)
        return terms(world)

    @asynchronous
    async def main() -> None:
        machine = await tiered()
        for number in range(20):
            machine.add(f"m{number}", 1, tier="hdd1")
        await machine.start()
        monkeypatch.setattr(cache, "terms", counted)
        machine.supervisor.cache_asks.plan(0)
        machine.supervisor.cache_asks.rank(None)
        assert len(looks) == 2

    main()
