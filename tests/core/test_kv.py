"""`core.kv`: what each layer keeps of a conversation."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from modeld.core.demand import read_demand
from modeld.core.entities import Header
from modeld.core.fit import compute_bytes
from modeld.core.gguf import read_header
from modeld.core.kv import CacheSettings, kv_bytes, layers_bytes
from modeld.core.shapes import Recurrence
from tests.support.engine_memory import MIB, engine_memory
from tests.support.engines import Engine, engines
from tests.support.model_kinds import KINDS, Size, write_kind

ROUNDING_BYTES = 3 * MIB // 100
"""The engine prints hundredths of a MiB, of up to three buffers."""
SMALL = Size(layers=4, embedding=512, feed_forward=512, heads=4, kv_heads=2, head=64)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


@pytest.mark.engine
@pytest.mark.parametrize("engine", engines(), ids=lambda engine: engine.name)
@pytest.mark.parametrize("kind", KINDS)
def test_cache_of_each_kind_is_exactly_what_the_engine_allocates(
    kind: str, engine: Engine, folder: Path
) -> None:
    """Six times too much was booked for windows, and a fifth of what latent attention takes."""
    path = folder / "m.gguf"
    write_kind(path, kind, SMALL)
    header = read_header(path.read_bytes(), path.stat().st_size)
    arguments = ("-np", "2", "-ctk", "q8_0", "-ctv", "q8_0")
    for extra in ((), arguments):
        said = engine_memory(engine.argv, path, "-c", "8192", *extra)
        demand = read_demand(extra, None, 8192)
        formula = kv_bytes(header, demand.cache)
        total = header.tensor_bytes + formula + compute_bytes(header, demand)

        assert abs(formula - said.cache) <= ROUNDING_BYTES
        assert abs(header.tensor_bytes - said.weights) <= 16 * MIB // 10
        assert said.total * 0.98 <= total <= said.total + 32 * MIB


def settings(**changes: object) -> CacheSettings:
    """Return how a server allocates its cache by default, with 4096 tokens."""
    return replace(CacheSettings(context_tokens=4096), **changes)


FULL = Header(
    architecture="llama", layers=4, heads=4, kv_heads=(2,), key_length=64, value_length=32
)


def test_cache_is_one_row_of_keys_and_values_a_token_and_layer() -> None:
    """Two heads of 64 + 32 numbers of two bytes each."""
    assert layers_bytes(FULL, settings()) == [4096 * 2 * 96 * 2] * 4


def test_cache_honours_one_number_of_heads_a_layer() -> None:
    """Models with layers of several kinds would be told wrong by a factor."""
    header = replace(FULL, kv_heads=(2, 0, 1, 4))

    assert layers_bytes(header, settings()) == [4096 * n * 96 * 2 for n in (2, 0, 1, 4)]


def test_cache_has_all_heads_when_the_header_groups_none() -> None:
    """Old models have no head_count_kv."""
    assert kv_bytes(replace(FULL, kv_heads=()), settings()) == 2 * kv_bytes(FULL, settings())


def test_cache_is_rounded_up_to_whole_steps_for_each_slot() -> None:
    """The engine pads: 1000 tokens for three slots are three times 512."""
    odd = settings(context_tokens=1000, sequences=3, is_unified=False)

    assert odd.cells * odd.streams == 3 * 512
    assert settings(context_tokens=1000).cells == 1024


@pytest.mark.parametrize(
    ("architecture", "full"),
    [
        ("gemma2", {1, 3}), ("gpt-oss", {1, 3}), ("cohere2", {3}), ("smallthinker", {0}),
        ("gemma3", set()), ("llama", {0, 1, 2, 3}), ("phi3", {0, 1, 2, 3}),
    ],
)  # fmt: skip
def test_cache_of_a_window_is_small_in_the_layers_that_have_one(
    architecture: str, full: set[int]
) -> None:
    """Each architecture has a pattern of its own, which few files tell."""
    header = replace(FULL, architecture=architecture, sliding_window=128)
    large = settings(context_tokens=65536)
    whole = layers_bytes(FULL, large)[0]

    found = {layer for layer, size in enumerate(layers_bytes(header, large)) if size == whole}
    assert found == full


def test_cache_of_a_window_follows_the_file_where_it_tells() -> None:
    """Newer files say it for each layer, or give another period, or other lengths of heads."""
    header = replace(FULL, architecture="gemma4", sliding_window=128)
    by_layer = replace(header, sliding_layers=(True, False, True, False), sliding_key_length=32)
    by_period = replace(header, sliding_period=2)
    cells = 4 * 128 + 512

    assert layers_bytes(by_layer, settings())[:2] == [cells * 2 * 64 * 2, 4096 * 2 * 96 * 2]
    assert layers_bytes(by_period, settings())[:2] == [cells * 2 * 96 * 2, 4096 * 2 * 96 * 2]


def test_cache_of_a_window_is_whole_when_told_so() -> None:
    """`--swa-full` is what caching of prompts needs, and costs what the window saved."""
    header = replace(FULL, architecture="gemma3", sliding_window=128)

    assert kv_bytes(header, settings(has_full_window=True)) == kv_bytes(FULL, settings())


def test_cache_of_layers_that_share_or_predict_is_not_counted() -> None:
    """Neither has one of its own."""
    assert (
        len([size for size in layers_bytes(replace(FULL, shared_kv_layers=1), settings()) if size])
        == 3
    )
    assert len(layers_bytes(replace(FULL, prediction_layers=1), settings())) == 3


def test_cache_of_sparse_attention_has_keys_to_choose_by() -> None:
    """One more row a token, whatever the heads."""
    header = replace(FULL, is_latent=True, kv_heads=(1,), indexer_key_length=128)

    assert layers_bytes(header, settings())[0] == 4096 * 2 * (64 + 128)


@pytest.mark.parametrize(
    ("architecture", "shape", "bytes_a_slot"),
    [
        ("mamba", Recurrence(convolution=4, inner=512, state=16), 4 * (3 * 512 + 16 * 512)),
        ("mamba2", Recurrence(convolution=4, inner=512, state=64, groups=2),
         4 * (3 * (512 + 2 * 2 * 64) + 64 * 512)),
        ("rwkv7", Recurrence(wkv_head=64), 4 * (2 * 256 + 256 * 64)),
        ("lfm2", Recurrence(short_convolution=3), 4 * 2 * 256),
        ("kimi-linear", Recurrence(convolution=4, kda_head=64), 4 * (3 * 3 * 256 + 256 * 64)),
    ],
)  # fmt: skip
def test_state_has_one_size_whatever_the_context(
    architecture: str, shape: Recurrence, bytes_a_slot: int
) -> None:
    """As the engine printed them for these shapes; counted as caches they were four times that."""
    header = Header(
        architecture=architecture, layers=2, embedding=256, heads=4, kv_heads=(0,),
        key_length=64, value_length=64, recurrence=shape,
    )  # fmt: skip

    for tokens in (512, 65536):
        assert layers_bytes(header, settings(context_tokens=tokens)) == [4 * bytes_a_slot] * 2


def test_hybrids_have_a_cache_in_some_layers_only() -> None:
    """Every fourth by default, or as the file says; some have both in each."""
    shape = Recurrence(convolution=4, inner=512, state=64)
    hybrid = replace(FULL, architecture="qwen3next", recurrence=shape)
    other = replace(hybrid, recurrence=replace(shape, attention_interval=2))
    both = replace(hybrid, architecture="falcon-h1")
    cache = layers_bytes(FULL, settings())[0]
    state = 4 * 4 * (3 * 512 + 64 * 512)

    assert layers_bytes(hybrid, settings()) == [state, state, state, cache]
    assert layers_bytes(other, settings()) == [state, cache, state, cache]
    assert layers_bytes(both, settings()) == [state + cache] * 4


def test_hybrids_whose_other_layers_are_neither_keep_nothing_there() -> None:
    """Layers of a feed-forward alone have no heads and no state."""
    header = replace(
        FULL,
        architecture="nemotron_h",
        kv_heads=(0, 2, 0, 0),
        feed_forwards=(0, 0, 512, 0),
        recurrence=Recurrence(convolution=4, inner=512, state=64),
    )
    state = 4 * 4 * (3 * 512 + 64 * 512)

    assert layers_bytes(header, settings()) == [state, 4096 * 2 * 96 * 2, 0, state]


def test_hybrid_whose_list_is_shorter_than_its_layers_is_no_mistake() -> None:
    """Such a file would end modeld at every look at the disks."""
    header = replace(FULL, architecture="lfm2", kv_heads=(0, 2), feed_forwards=(0, 512))

    assert len(layers_bytes(header, settings())) == header.layers


def test_senseless_header_has_a_size_that_still_can_be_told() -> None:
    """Messages have whole numbers of 64 bits: who asked would be told of a bug."""
    header = replace(FULL, key_length=2**40, embedding=2**40, kv_heads=(2**40,))
    demand = read_demand((), None, 2**40)

    assert sum(layers_bytes(header, demand.cache)) + compute_bytes(header, demand) < 2**60
