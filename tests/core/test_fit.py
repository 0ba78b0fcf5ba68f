"""`core.fit`: how much memory a server will need."""

import pytest

from modeld.core.entities import Header, Location, Model, ModelStats
from modeld.core.fit import (
    PROCESS_BYTES,
    Need,
    compute_bytes,
    gigabytes,
    kv_bytes,
    load_mode,
    need,
)

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
    tensor_bytes=4_900_000_000,
)


def model(header: Header, size_bytes: int = 4_900_000_000) -> Model:
    """Return a model with that header."""
    location = Location(
        tier="ssd", path="/m.gguf", shard_paths=("/m.gguf",), size_bytes=size_bytes, mtime_ns=0
    )
    return Model(id="m", name="m", size_bytes=size_bytes, header=header, locations=(location,))


def test_kv_counts_grouped_heads_once_a_layer() -> None:
    """32 layers x 8 heads x 256 x 2 B is 128 KiB a token, as llama.cpp prints it for this shape."""
    assert kv_bytes(LLAMA_8B, 8192) == 8192 * 128 * 1024


def test_kv_honours_one_number_a_layer() -> None:
    """Models with layers of several kinds would be told wrong by a factor."""
    header = Header(layers=3, heads=8, kv_heads=(8, 0, 2), key_length=64, value_length=64)

    assert kv_bytes(header, 100) == 100 * 10 * 128 * 2


def test_kv_takes_all_heads_when_the_header_groups_none() -> None:
    """Old models have no head_count_kv."""
    header = Header(layers=2, heads=4, key_length=64, value_length=64)

    assert kv_bytes(header, 10) == 10 * 2 * 4 * 128 * 2


@pytest.mark.parametrize(
    ("stats", "configured", "expected"),
    [
        (ModelStats(measured_bytes=7), 5, Need(7, "measured")),
        (ModelStats(), 5, Need(5, "configured")),
    ],
)
def test_need_prefers_what_was_measured_then_what_was_configured(
    stats: ModelStats, configured: int | None, expected: Need
) -> None:
    """Requirements, "Decided": the order of sources."""
    assert need(model(LLAMA_8B), stats, configured, 8192) == expected


def test_need_sums_weights_cache_buffers_and_process_from_the_header() -> None:
    """The formula that decides on a first load."""
    found = need(model(LLAMA_8B), ModelStats(), None, 8192)

    assert found.source == "header"
    assert found.need_bytes == (
        4_900_000_000 + kv_bytes(LLAMA_8B, 8192) + compute_bytes(LLAMA_8B) + PROCESS_BYTES
    )


def test_need_falls_back_to_the_size_when_the_header_says_nothing() -> None:
    """A guess with a margin is better than none."""
    assert need(model(Header(), 1000), ModelStats(), None, 8192) == Need(1200, "size")


def test_gigabytes_prints_one_decimal() -> None:
    """S4-01: the sentence is matched on."""
    assert gigabytes(int(4.5 * 1024**3)) == "4.5GB"


def test_need_adds_the_cache_of_a_larger_context_to_what_was_measured() -> None:
    """Measured at 4k, loaded with 128k: five gigabytes were promised where twenty are taken."""
    stats = ModelStats(measured_bytes=5 << 30, measured_context_tokens=4096)

    assert need(model(LLAMA_8B), stats, None, 4096).need_bytes == 5 << 30
    assert need(model(LLAMA_8B), stats, None, 2048).need_bytes == 5 << 30
    larger = need(model(LLAMA_8B), stats, None, 131072)
    assert larger == Need((5 << 30) + kv_bytes(LLAMA_8B, 131072 - 4096), "measured")


def test_need_forgets_a_measurement_of_another_file_under_the_same_name() -> None:
    """A larger quantisation that replaced the file would be let in where it does not fit."""
    measured = ModelStats(measured_bytes=7, measured_file_bytes=1)

    assert need(model(LLAMA_8B), measured, None, 8192).source == "header"


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
