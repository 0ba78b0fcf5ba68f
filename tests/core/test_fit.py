"""`core.fit`: how much memory a server will need."""

import pytest

from modeld.core.demand import read_demand
from modeld.core.entities import Header, Location, Model
from modeld.core.fit import (
    PROCESS_BYTES,
    Known,
    Told,
    compute_bytes,
    copied_bytes,
    gigabytes,
    learnable_bytes,
    load_mode,
    need,
    taken_bytes,
    weights_and_rest,
)
from modeld.core.kv import kv_bytes
from modeld.core.shapes import Measurement

MIB = 1024**2
GIB = 1024**3
LLAMA_8B = Header(
    architecture="llama",
    layers=32,
    embedding=4096,
    feed_forward=14336,
    heads=32,
    kv_heads=(8,),
    key_length=128,
    value_length=128,
    vocabulary=128256,
    tensor_count=291,
    tensor_bytes=4_900_000_000,
    embedding_bytes=500_000_000,
)


def model(header: Header = LLAMA_8B, size_bytes: int = 4_900_000_000, mmproj: int = 0) -> Model:
    """Return a model with that header."""
    location = Location(
        tier="ssd",
        path="/m.gguf",
        shard_paths=("/m.gguf",),
        mmproj_path="/mmproj.gguf" if mmproj else "",
        size_bytes=size_bytes,
        mtime_ns=5,
        stamps=((size_bytes, 5), (mmproj, 5)) if mmproj else ((size_bytes, 5),),
    )
    return Model(id="m", name="m", size_bytes=size_bytes, header=header, locations=(location,))


def known(*arguments: str, context_tokens: int = 8192, **settings: object) -> Known:
    """Return what is known of a load with these arguments."""
    demand = read_demand(arguments, None, context_tokens)
    return Known(**{"demand": demand} | settings)  # type: ignore[arg-type]


def measured(memory: int = 7, **settings: object) -> Measurement:
    """Return what an earlier load took."""
    mark = f"{4_900_000_000}:5"
    defaults = {"file_mark": mark, "context_tokens": 8192, "memory_bytes": memory}
    return Measurement(**defaults | settings)  # type: ignore[arg-type]


def test_need_prefers_measured_then_configured_then_told_then_the_header() -> None:
    """Requirements, "Decided": the order of sources."""
    told = (Told("Host", 4 * GIB, GIB, GIB),)
    everything = known(measured=(measured(),), configured_bytes=5, told=told)

    assert need(model(), everything).source == "measured"
    assert need(model(), known(configured_bytes=5, told=told)).source == "configured"
    assert need(model(), known(told=told)).source == "fit-params"
    assert need(model(), known()).source == "header"
    assert need(model(Header(), 1000), known()).source == "size"


@pytest.mark.parametrize(
    "other",
    [
        measured(file_mark="4900000000:6"),  # another file under the same name
        measured(context_tokens=4096),
        measured(arguments="key_type=q8_0"),
    ],
)
def test_need_takes_no_measurement_of_another_load(other: Measurement) -> None:
    """What a small cache took is no promise for a large one; another file is another model."""
    assert need(model(), known(measured=(other,))).source == "header"


def test_need_takes_a_measurement_whatever_the_arguments_that_memory_ignores() -> None:
    """`--temp` must not make every load the first one."""
    demand = known("--temp", "0.5", "-ctk", "q8_0").demand
    seen = measured(arguments=demand.key)

    assert need(model(), known("-ctk", "q8_0", measured=(seen,))).source == "measured"


def test_need_sums_weights_cache_buffers_and_process_from_the_header() -> None:
    """The formula that decides on a first load, and `show` tells its parts."""
    found = need(model(), known())
    cache = kv_bytes(LLAMA_8B, known().demand.cache)
    compute = compute_bytes(LLAMA_8B, known().demand)

    assert cache == 8192 * 128 * 1024  # as llama.cpp prints it for this shape
    assert found.need_bytes == 4_900_000_000 + cache + compute + PROCESS_BYTES
    assert [part.name for part in found.parts] == ["weights", "cache", "compute", "process"]
    assert sum(part.size_bytes for part in found.parts) == found.need_bytes


def test_need_halves_the_cache_when_it_is_quantised() -> None:
    """8 bits and a scale for 32 of them: 34 bytes where f16 has 64."""
    quantised = known("-ctk", "q8_0", "--cache-type-v", "q8_0").demand.cache

    assert kv_bytes(LLAMA_8B, quantised) * 64 == kv_bytes(LLAMA_8B, known().demand.cache) * 34


def test_need_without_flash_attention_has_all_scores_at_once() -> None:
    """32 heads by 8192 cells by 512 tokens: half a gigabyte that would come as a surprise."""
    more = need(model(), known("-fa", "off")).need_bytes - need(model(), known()).need_bytes

    assert more >= 32 * 8192 * 512 * 4


def test_need_falls_back_to_the_size_when_the_header_says_nothing() -> None:
    """A guess with a margin is better than none."""
    assert need(model(Header(), 1000), known()).need_bytes == 1200


def test_need_adds_a_projector_and_a_draft() -> None:
    """llama-fit-params can be told of neither, and both were out-of-memory deaths elsewhere."""
    plain = need(model(), known()).need_bytes
    seeing = need(model(mmproj=GIB), known()).need_bytes
    drafting = need(model(), known(draft=model())).need_bytes

    assert seeing - plain >= GIB
    assert drafting - plain >= 4_900_000_000
    assert need(model(mmproj=GIB), known("--no-mmproj")).need_bytes == plain
    told = (Told("Host", 4 * GIB, GIB, GIB),)
    assert need(model(mmproj=GIB), known(told=told)).need_bytes >= 7 * GIB


def test_need_told_by_the_engine_is_not_less_than_windows_of_all_slots() -> None:
    """llama-fit-params knows of one slot; a server has four."""
    told = (Told("Host", 4 * GIB, 0, 0),)

    cache = kv_bytes(LLAMA_8B, known().demand.cache)
    assert need(model(), known(told=told)).need_bytes == 4 * GIB + cache + PROCESS_BYTES


def test_need_is_on_the_gpus_when_there_is_room_and_on_both_when_not() -> None:
    """Where layers go decides which limit holds."""
    fits = need(model(), known(gpu_bytes=(24 * GIB,)))
    large = need(model(), known(gpu_bytes=(4 * GIB,)))
    host = need(model(), known("-ngl", "0", gpu_bytes=(24 * GIB,)))

    assert fits.gpu_bytes[0] > 4_400_000_000
    assert fits.need_bytes < 600_000_000
    assert 0 < large.gpu_bytes[0] <= 4 * GIB
    assert large.need_bytes > 2 * GIB
    assert host.gpu_bytes == (0,)
    assert host.need_bytes == need(model(), known()).need_bytes


def test_need_is_shared_among_gpus_by_their_size() -> None:
    """The engine splits layers so; a device that is not to be used gets nothing."""
    rooms = (20 * GIB, 10 * GIB, 10 * GIB)
    first, second, third = need(model(), known("-ngl", "99", gpu_bytes=rooms)).gpu_bytes
    chosen = need(model(), known("-dev", "CUDA1", gpu_bytes=rooms)).gpu_bytes

    assert first > second == third > 0
    assert (chosen[0], chosen[2]) == (0, 0)
    assert chosen[1] > 4 * GIB


def test_need_keeps_experts_and_cache_in_memory_when_told_to() -> None:
    """`--n-cpu-moe` and `-nkvo` are how large models get onto small GPUs."""
    header = LLAMA_8B.__class__(
        **{each: getattr(LLAMA_8B, each) for each in LLAMA_8B.__struct_fields__}
        | {"expert_bytes": 3_000_000_000}
    )
    rooms = (24 * GIB,)
    plain = need(model(header), known("-ngl", "99", gpu_bytes=rooms)).gpu_bytes[0]
    moved = need(model(header), known("-ngl", "99", "-cmoe", gpu_bytes=rooms)).gpu_bytes[0]
    kept = need(model(header), known("-ngl", "99", "-nkvo", gpu_bytes=rooms)).gpu_bytes[0]

    assert plain - moved == 3_000_000_000
    assert plain - kept == kv_bytes(header, known().demand.cache)


def test_configured_need_is_divided_as_the_formula_divides_it() -> None:
    """`memory_gb` is one number; the limits are several."""
    found = need(model(), known(configured_bytes=10 * GIB, gpu_bytes=(24 * GIB,)))

    assert found.need_bytes + found.gpu_bytes[0] == 10 * GIB
    assert found.gpu_bytes[0] > 8 * GIB


def test_weights_that_left_memory_are_booked_all_the_same() -> None:
    """Pages of an idle model come back with the next request, and have to find room then."""
    assert taken_bytes(GIB + 100 * MIB, GIB, 4 * GIB) == 5 * GIB
    assert taken_bytes(5 * GIB + 30 * MIB, GIB, 4 * GIB) == 5 * GIB + 30 * MIB


@pytest.mark.parametrize(
    ("private", "copied"), [(GIB, 0), (5 * GIB, 4 * GIB), (3 * GIB, 2 * GIB), (9 * GIB, 4 * GIB)]
)
def test_weights_that_the_engine_copied_are_booked_once(private: int, copied: int) -> None:
    """Repacked weights are in memory twice as it seems; a 40 GB model would be booked as 80."""
    weights = 4 * GIB

    assert copied_bytes(private, weights, GIB) == copied
    taken = taken_bytes(private + weights, private, weights - copied)
    assert taken == private + weights - copied + min(copied, 128 * MIB)


def test_prompts_that_the_engine_keeps_are_no_promise_for_the_next_load() -> None:
    """They grow to 8 GiB in a week; a 4 GB model would be refused for them ever after."""
    expected, first = 5 * GIB, int(4.9 * GIB)
    most = int(5 * GIB * 1.05) + 128 * MIB

    assert learnable_bytes(int(5.1 * GIB), first, expected) == int(5.1 * GIB)
    assert learnable_bytes(13 * GIB, first, expected) == most
    assert learnable_bytes(13 * GIB, 8 * GIB, expected) == 8 * GIB
    assert learnable_bytes(13 * GIB, 0, expected) == 13 * GIB
    assert learnable_bytes(13 * GIB, first, 0) == 13 * GIB


def test_header_that_says_little_has_no_expectation() -> None:
    """Then what is in memory is all that is known."""
    assert weights_and_rest(model(Header(), 1000), known()) == (0, 0)


def test_measurement_without_gpus_has_theirs_from_the_formula() -> None:
    """A driver that does not tell what a process holds must not make it nothing."""
    rooms = (24 * GIB,)
    formula = need(model(), known(gpu_bytes=rooms))
    found = need(model(), known(gpu_bytes=rooms, measured=(measured(),)))

    assert (found.need_bytes, found.gpu_bytes) == (7, formula.gpu_bytes)


def test_measurement_with_gpus_is_void_where_they_are_gone() -> None:
    """A build without CUDA takes all of it from the machine's memory."""
    assert need(model(), known(measured=(measured(gpu_bytes=(5,)),))).source == "header"


def test_gigabytes_prints_one_decimal() -> None:
    """S4-01: the sentence is matched on."""
    assert gigabytes(int(4.5 * 1024**3)) == "4.5GB"


@pytest.mark.parametrize(
    ("size", "available", "slow", "mode"),
    [
        (10, 12, False, ""),  # room for all of it in the page cache
        (10, 11, False, "dio"),  # tight: the file and its mapping would push each other out
        (10, 11, True, ""),  # it was read ahead, and is used from the page cache
        (10, 9, False, ""),  # not even the weights fit: mapped pages can leave again
        (10, 0, False, ""),  # nobody knows
    ],
)
def test_load_mode_reads_past_the_page_cache_only_where_memory_is_tight(
    size: int, available: int, slow: bool, mode: str
) -> None:
    """Chosen by fit: mapping is right at both ends, and wrong in between."""
    assert load_mode(size * 10**9, available * 10**9, slow_disk=slow) == mode
