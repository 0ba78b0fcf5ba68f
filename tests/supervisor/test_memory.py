"""What servers were seen to take, the engine's estimates, and GPUs, in the loop."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from modeld.config.schema import Config, Entry, Memory, Models
from modeld.core.entities import Binary, Exit, Gpu, Header, Origin
from modeld.core.events import (
    GpusFreed,
    LoadAsked,
    MemoryMeasured,
    NeedTold,
    Selection,
    UnloadAsked,
)
from modeld.core.fit import Told
from modeld.errors import DoesNotFit, ServerFailed
from modeld.supervisor import memory_views, settings, views
from modeld.wire.load import Loaded, Planned
from tests.support.fake_ports import BINARY, GB, FakeMachine
from tests.support.running import asynchronous

MIB = 1024**2
FULL = Header(
    architecture="llama",
    layers=32,
    embedding=4096,
    feed_forward=14336,
    heads=32,
    kv_heads=(8,),
    key_length=128,
    value_length=128,
    tensor_count=1,
    context_tokens=32768,
)


def give_headers(machine: FakeMachine) -> None:
    """Have the files say enough of themselves."""
    machine.folders.files = [
        replace(each, header=replace(FULL, tensor_bytes=each.size_bytes))
        for each in machine.folders.files
    ]


def with_gpus(machine: FakeMachine, *gigabytes: int, used: Sequence[int] = ()) -> None:
    """Put GPUs into a machine, and an engine that uses them."""
    held = [*used, *[0] * len(gigabytes)]
    machine.hardware.gpus = tuple(
        Gpu(name=f"GPU {index}", total_bytes=each * GB, used_bytes=held[index] * GB)
        for index, each in enumerate(gigabytes)
    )
    names = tuple(f"CUDA{index}" for index in range(len(gigabytes)))
    machine.hardware.binary = replace(machine.hardware.binary, devices=names)


def with_estimator(machine: FakeMachine) -> None:
    """Have llama-fit-params lie beside the engine."""
    machine.hardware.binary = replace(machine.hardware.binary, estimator="/fit")


async def load(machine: FakeMachine, name: str, **settings_: object) -> Loaded:
    """Load a model and let it become ready."""
    task = machine.request(LoadAsked, selection=Selection(pattern=name, only=True), **settings_)
    await machine.settle()
    await machine.stops_all()
    await machine.brings_up(name)
    reply = await task
    assert isinstance(reply, Loaded)
    return reply


@asynchronous
async def test_learned_need_holds_for_the_same_arguments_only() -> None:
    """A quantised cache would be refused for what the full one took, and the other way round."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    machine.emit(MemoryMeasured(server_id=machine.server("tool").id, resident_bytes=3 * GB))
    await machine.settle()
    model = machine.world.models["tool"]

    assert settings.need_of(machine.world, model, ()).source == "measured"
    assert settings.need_of(machine.world, model, ("--temp", "1")).source == "measured"
    assert settings.need_of(machine.world, model, ("-c", "4096")).source != "measured"
    assert settings.need_of(machine.world, model, ("-ngl", "7")).source != "measured"


@asynchronous
async def test_mapped_weights_are_booked_whole_when_pages_have_left() -> None:
    """An idle server whose pages are gone would let another in that has to share with it."""
    machine = FakeMachine()
    machine.add("tool", 4.0)
    give_headers(machine)
    await machine.start()
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(MemoryMeasured(server_id=server.id, resident_bytes=2 * GB, private_bytes=1 * GB))
    await machine.settle()

    assert machine.server("tool").resident_bytes == 5 * GB


@asynchronous
async def test_prompts_are_booked_while_they_are_there_and_not_learned() -> None:
    """A server that keeps prompts grows by 8 GiB; its weights stay mapped beside them."""
    machine = FakeMachine()
    machine.hardware.memory_bytes = 32 * GB
    machine.add("tool", 4.0)
    give_headers(machine)
    await machine.start()
    await load(machine, "tool")
    server_id = machine.server("tool").id
    for private in (1 * GB, 9 * GB):
        machine.emit(
            MemoryMeasured(
                server_id=server_id, resident_bytes=private + 4 * GB, private_bytes=private
            )
        )
        await machine.settle()
    need = settings.need_of(machine.world, machine.world.models["tool"], ())

    assert machine.server("tool").resident_bytes == 13 * GB
    assert need.source == "measured"
    assert 5 * GB <= need.need_bytes < 6 * GB


@asynchronous
async def test_machine_without_gpus_is_as_before() -> None:
    """Nothing of GPUs in any answer, whatever a driver says: this engine uses none."""
    machine = FakeMachine()
    machine.hardware.gpus = (Gpu(name="unused", total_bytes=24 * GB),)
    await machine.start("tool")
    reply = await load(machine, "tool")

    assert reply.message.startswith("tool is ready")
    assert views.status(machine.world, None).gpus == ()
    assert machine.server("tool").record.need_gpu_bytes == ()
    assert machine.hardware.awaited == []


@asynchronous
async def test_load_is_booked_on_the_gpu_and_refused_when_that_is_full() -> None:
    """The machine's memory is plenty; the GPU's is not."""
    machine = FakeMachine(Config(memory=Memory(vram_headroom_mb=0)))
    with_gpus(machine, 12)
    machine.add("a", 7.0)
    machine.add("b", 7.0)
    give_headers(machine)
    await machine.start()
    await load(machine, "a")
    on_gpu = machine.server("a").record.need_gpu_bytes[0]
    verdict = memory_views.verdict(machine.world, Selection(pattern="b"))
    machine.clock.time += 31
    task = machine.request(LoadAsked, selection=Selection(pattern="b"), keep_others=True)
    await machine.settle()

    assert 7 * GB < on_gpu < 11 * GB
    assert machine.server("a").record.need_bytes < GB
    with pytest.raises(DoesNotFit, match=r"^Insufficient VRAM: need .*GB available on GPU 0$"):
        await task
    assert verdict.reason.startswith("Insufficient VRAM: need ")
    assert views.status(machine.world, None).gpus[0].booked_bytes == on_gpu


@asynchronous
async def test_limits_of_gpus_are_taken_from_the_configuration() -> None:
    """A GPU that also shows a screen is not all for models."""
    machine = FakeMachine(Config(memory=Memory(vram_limit_gb=6.0, vram_headroom_mb=1024)))
    with_gpus(machine, 12, 4)
    await machine.start("tool")

    budget = settings.budget(machine.world.config, machine.world.machine)
    assert budget.gpu_bytes == (5 * GB, 3 * GB)


@asynchronous
async def test_next_load_waits_until_the_gpu_has_its_memory_back() -> None:
    """Drivers give memory back after the process is gone; a start before that dies of it."""
    machine = FakeMachine()
    with_gpus(machine, 12)
    machine.add("a", 7.0)
    machine.add("b", 7.0)
    give_headers(machine)
    await machine.start()
    await load(machine, "a")
    first = machine.server("a")
    with_gpus(machine, 12, used=[9])
    machine.emit(MemoryMeasured(server_id=first.id, resident_bytes=GB, gpu_bytes=(9 * GB,)))
    await machine.settle()
    machine.request(LoadAsked, selection=Selection(pattern="b"), origin=Origin.GATEWAY)
    await machine.settle()
    await machine.stops_all()
    assert machine.hardware.awaited == [(first.id, [9 * GB - int(0.75 * 9 * GB)])]
    assert len(machine.servers.started) == 1

    machine.emit(GpusFreed(server_id=first.id))
    await machine.settle()
    assert [each.model_name for each in machine.servers.started] == ["a", "b"]


@asynchronous
async def test_gpu_memory_of_other_programs_only_warns() -> None:
    """What they hold now they may give back; a budget that moves refuses what fitted before."""
    machine = FakeMachine()
    with_gpus(machine, 12, used=[11])
    machine.add("tool", 7.0)
    give_headers(machine)
    await machine.start()
    reply = await load(machine, "tool")

    assert reply.warnings[0].startswith("GPU 0 has 1.0 GB free and tool needs ")


@asynchronous
async def test_gpu_memory_is_learned_as_the_machines_is() -> None:
    """The second load books what the first one took."""
    machine = FakeMachine()
    with_gpus(machine, 24)
    machine.add("tool", 4.0)
    give_headers(machine)
    await machine.start()
    await load(machine, "tool")
    machine.emit(
        MemoryMeasured(server_id=machine.server("tool").id, resident_bytes=GB, gpu_bytes=(6 * GB,))
    )
    await machine.settle()

    need = settings.need_of(machine.world, machine.world.models["tool"], ())
    assert (need.source, need.need_bytes, need.gpu_bytes) == ("measured", GB, (6 * GB,))


TOLD = (Told("Host", 5 * GB, GB, 200 * MIB),)


@asynchronous
async def test_first_load_waits_for_the_engines_estimate() -> None:
    """Its allocator knows better than any formula."""
    machine = FakeMachine()
    with_estimator(machine)
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=Selection(pattern="tool"))
    await machine.settle()
    ((key, words),) = machine.estimator.asked
    assert words[:3] == ("/fit", "-m", "/ssd/tool.gguf")
    assert machine.servers.started == []

    machine.emit(NeedTold(key=key, told=TOLD))
    await machine.settle()
    await machine.brings_up("tool")
    await task
    assert machine.server("tool").record.need_bytes == 6 * GB + 248 * MIB
    assert machine.estimator.asked == [(key, words)]


@asynchronous
async def test_first_load_does_not_wait_long_for_an_estimate() -> None:
    """A tool that probes eight GPUs on a sleeping disk must not hold up a person."""
    machine = FakeMachine()
    with_estimator(machine)
    await machine.start("tool")
    machine.request(LoadAsked, selection=Selection(pattern="tool"))
    await machine.pass_time(1)
    assert machine.servers.started == []

    await machine.pass_time(2)
    assert len(machine.servers.started) == 1


@asynchronous
async def test_models_are_asked_about_one_by_one_while_nothing_goes_on() -> None:
    """The first load finds its answer there; no disk that sleeps is woken for it."""
    machine = FakeMachine()
    with_estimator(machine)
    machine.add("far", tier="hdd1")
    await machine.start("a", "b")
    await machine.pass_time(3)
    assert len(machine.estimator.asked) == 1

    machine.emit(NeedTold(key=machine.estimator.asked[0][0], told=TOLD))
    await machine.pass_time(2)
    for key, _ in machine.estimator.asked:
        machine.emit(NeedTold(key=key))
    await machine.pass_time(3)
    asked = [words[2] for _, words in machine.estimator.asked]
    assert asked == ["/ssd/a.gguf", "/ssd/b.gguf"]


@asynchronous
async def test_models_that_need_no_question_are_looked_at_once() -> None:
    """With thousands of them each second would hold every answer up."""
    entries = {f"m{number}": Entry(memory_gb=1) for number in range(25)}
    machine = FakeMachine(Config(models=Models(entries=entries)))
    with_estimator(machine)
    await machine.start(*entries, "z")
    await machine.pass_time(2)
    assert machine.estimator.asked == []

    await machine.pass_time(1)
    ((key, words),) = machine.estimator.asked
    assert words[2] == "/ssd/z.gguf"
    machine.emit(NeedTold(key=key))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(settings, "need_of", None)
        await machine.pass_time(5)


@pytest.mark.parametrize(
    ("config", "binary"),
    [
        (Config(), BINARY),
        (Config(memory=Memory(fit_params=False)), replace(BINARY, estimator="/fit")),
    ],
    ids=["none there", "turned off"],
)
def test_nobody_is_asked_when_told_so_or_when_nobody_is_there(
    config: Config, binary: Binary
) -> None:
    """`memory.fit_params = false`."""

    @asynchronous
    async def scene() -> None:
        machine = FakeMachine(config)
        machine.hardware.binary = binary
        await machine.start("tool")
        await machine.pass_time(3)
        await load(machine, "tool")
        assert machine.estimator.asked == []

    scene()


@asynchronous
async def test_dry_run_tells_the_source_and_the_parts_of_a_need() -> None:
    """Every decision can be explained."""
    machine = FakeMachine()
    machine.add("tool", 4.0)
    give_headers(machine)
    await machine.start()
    planned = await machine.request(LoadAsked, selection=Selection(pattern="tool"), dry_run=True)
    shown = views.show(machine.world, Selection(pattern="tool"))

    assert isinstance(planned, Planned)
    assert "(need from header: " in planned.reason
    assert "cache 1.0 GB" in planned.reason
    assert list(shown.need_parts) == ["weights", "cache", "compute", "process"]
    assert sum(shown.need_parts.values()) == shown.need_bytes


@asynchronous
async def test_memory_is_free_at_once_after_an_unload() -> None:
    """S4-20: "RAM: 0GB used"."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    task = machine.request(UnloadAsked, selections=(Selection(pattern="tool"),))
    await machine.settle()
    await machine.stops_all()
    await task

    assert views.status(machine.world, None).used_ram_gb == 0


@asynchronous
async def test_failed_start_is_not_loaded_and_holds_no_memory() -> None:
    """S4-05: else a model that does not start would keep others out for ever."""
    machine = FakeMachine(Config(memory=Memory(limit_gb=2.0)))
    await machine.start("broken", "tool")
    task = machine.request(LoadAsked, selection=Selection(pattern="broken"))
    await machine.settle()
    assert views.status(machine.world, None).used_ram_gb > 0
    await machine.ends(machine.server("broken").id, Exit(how="exited", code=1))
    with pytest.raises(ServerFailed):
        await task

    told = views.status(machine.world, None)
    assert (told.used_ram_gb, told.loaded_models_count, told.loaded_models) == (0, 0, ())
