"""`core.demand`: what arguments say about memory."""

import pytest

from modeld.core.demand import ALL_LAYERS, read_demand
from modeld.core.entities import Binary


def test_demand_of_no_arguments_is_the_engines_default() -> None:
    """Four slots in one pool, f16, micro-batches of 512."""
    cache = read_demand((), None, 8192).cache

    assert (cache.sequences, cache.is_unified, cache.micro_batch_tokens) == (4, True, 512)
    assert (cache.key_type, cache.value_type, cache.context_tokens) == ("f16", "f16", 8192)


@pytest.mark.parametrize(
    ("arguments", "slots", "unified"),
    [
        (("-np", "2"), 2, False),
        (("--parallel", "2", "-kvu"), 2, True),
        (("-np", "-1"), 4, True),
        (("--no-kv-unified",), 4, False),
    ],
)
def test_demand_reads_slots(arguments: tuple[str, ...], slots: int, unified: bool) -> None:
    """Slots of their own pools have windows and states of their own."""
    cache = read_demand(arguments, None, 8192).cache

    assert (cache.sequences, cache.is_unified) == (slots, unified)


def test_demand_reads_every_spelling_and_the_last_word_wins() -> None:
    """Configured for all, then for the model, then asked for once."""
    binary = Binary(
        argv=("x",), flags={"-ctk": True, "--cache-type-k": True},
        canonical={"-ctk": "--cache-type-k"},
    )  # fmt: skip
    demand = read_demand(("-ctk", "q4_0", "--cache-type-k", "q8_0"), binary, 1)

    assert demand.cache.key_type == "q8_0"


def test_demand_caps_the_micro_batch_at_the_batch() -> None:
    """The engine does."""
    assert read_demand(("-b", "256"), None, 1).cache.micro_batch_tokens == 256


@pytest.mark.parametrize(
    ("arguments", "layers"),
    [((), None), (("-ngl", "auto"), None), (("-ngl", "12"), 12), (("-ngl", "all"), ALL_LAYERS)],
)
def test_demand_reads_layers_for_gpus(arguments: tuple[str, ...], layers: int | None) -> None:
    """A number, all, or the engine's choice."""
    assert read_demand(arguments, None, 1).gpu_layers == layers


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        ((), None),
        (("-dev", "none"), ()),
        (("-dev", "CUDA1,CUDA3"), (1, 3)),
        (("-sm", "none", "-mg", "2"), (2,)),
    ],
)
def test_demand_reads_devices(arguments: tuple[str, ...], devices: object) -> None:
    """Their names end with their index."""
    assert read_demand(arguments, None, 1).devices == devices


@pytest.mark.parametrize(
    "bad", [("-ctk", "q9"), ("-ub", "many"), ("-np",), ("-ngl", "-3"), ("-c",), ("-np", "9" * 5000)]
)
def test_demand_takes_what_makes_no_sense_for_not_said(bad: tuple[str, ...]) -> None:
    """What may be passed on is decided elsewhere; this must not fall over it."""
    demand = read_demand(bad, None, 8192)

    assert demand.cache == read_demand((), None, 8192).cache


def test_demand_has_one_key_for_what_memory_cannot_tell_apart() -> None:
    """What was learned would be forgotten with every `--temp`."""
    one = read_demand(("--temp", "1", "-ctk", "q8_0", "-np", "2"), None, 1).key
    other = read_demand(("-np", "2", "-ctk", "q8_0", "-c", "4096"), None, 1).key

    assert one == other == "key_type=q8_0 slots=2"
    assert read_demand(("-np", "3"), None, 1).key != one
