"""
What a server keeps of a conversation, layer by layer: a cache of keys and values, or a state.

Arithmetic over a parsed header: how many cells a layer has, and how many bytes one takes.
Layers with a sliding window, with latent attention, with heads of their own number and with a
recurrent state each count as llama.cpp allocates them, which `tests/bench/memory.py` compares
with the engine.  Weights and buffers are not known here.

Source: llama.cpp build 11669, llama-kv-cache*.cpp, llama-memory-recurrent.cpp and the
hyperparameters of each architecture in src/models.
"""

from typing import NamedTuple

from msgspec import Struct

from modeld.core.entities import Header

MOST_BYTES = 2**48
"""256 TiB, which no machine has: so the sums of a senseless header still fit into 64 bits."""
CELLS_STEP = 256
"""llama.cpp rounds contexts and windows up to whole steps of it."""
STATE_ELEMENT_BYTES = 4
"""Recurrent states are f32, whatever the type of the cache."""
INDEX_ELEMENT_BYTES = 2


class ElementType(NamedTuple):
    """How a cache packs numbers: so many elements in a block of so many bytes."""

    elements: int
    size_bytes: int


ELEMENT_TYPES = {
    "f32": ElementType(1, 4),
    "f16": ElementType(1, 2),
    "bf16": ElementType(1, 2),
    "q8_0": ElementType(32, 34),
    "q4_0": ElementType(32, 18),
    "q4_1": ElementType(32, 20),
    "iq4_nl": ElementType(32, 18),
    "q5_0": ElementType(32, 22),
    "q5_1": ElementType(32, 24),
}
"""What `--cache-type-k` and `--cache-type-v` take."""


class Window(NamedTuple):
    """Which layers of an architecture have a window, where the file does not say."""

    period: int
    """Every so many layers one sees everything."""
    dense_first: bool = False
    """That one is the first of each group, not the last."""
    tokens: int = 0
    """The window's length; 0 where the file has it."""
    layers: int = 0
    """Only models with so many layers have it; 0 for all."""


WINDOWS = {
    "afmoe": Window(4),
    "cohere2": Window(4),
    "cohere2moe": Window(4),
    "exaone-moe": Window(4),
    "exaone4": Window(4, layers=64),
    "gemma2": Window(2),
    "gemma3": Window(6),
    "gemma3n": Window(5),
    "gemma4": Window(6),
    "gpt-oss": Window(2),
    "llama4": Window(4, tokens=8192),
    "mimo2": Window(1),
    "olmo2": Window(4),
    "plamo3": Window(8),
    "smallthinker": Window(4, dense_first=True, tokens=4096),
    "step35": Window(1),
}
"""By architecture.  All others see everything: so does llama.cpp, whatever their files say."""
ALL_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
EVERY_SO_MANY = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
"""Hybrids in which every so many layers one has a cache, where the file does not say."""
WITHOUT_HEADS = frozenset(
    {"jamba", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "plamo2",
     "kimi-linear"}
)  # fmt: skip
"""Hybrids in which layers without heads in the file are recurrent."""
WITHOUT_GROUPS = frozenset({"mamba", "jamba"})
"""Architectures of the first Mamba, whose convolution knows of no groups."""
BOTH = frozenset({"falcon-h1"})
"""Hybrids whose layers all have both."""
FIRST_CACHES = {"gemma3n": 20}
"""Models whose layers after the first so many use the cache of others."""


class CacheSettings(Struct, frozen=True, kw_only=True):
    """How the cache is to be allocated."""

    context_tokens: int
    sequences: int = 4
    """Slots."""
    is_unified: bool = True
    """One pool for all slots, not one each."""
    micro_batch_tokens: int = 512
    key_type: str = "f16"
    value_type: str = "f16"
    has_full_window: bool = False
    """`--swa-full`: layers with a window get as many cells as the others."""

    @property
    def streams(self) -> int:
        """How many pools there are."""
        return 1 if self.is_unified else self.sequences

    @property
    def cells(self) -> int:
        """Of each pool, for layers that see everything."""
        return _rounded(-(-_rounded(self.context_tokens) // self.streams))


def window_cells(header: Header, settings: CacheSettings) -> int:
    """Return the cells of each pool for layers with a sliding window."""
    if settings.has_full_window:
        return settings.cells
    shared = settings.sequences if settings.is_unified else 1
    wanted = window_tokens(header) * shared + settings.micro_batch_tokens
    return _rounded(min(settings.cells, wanted))


def window_tokens(header: Header) -> int:
    """Return the length of the sliding window; 0 for none."""
    window = WINDOWS.get(header.architecture)
    if window is None or window.layers not in (0, header.layers):
        return 0
    return window.tokens or header.sliding_window


def has_window(header: Header, layer: int) -> bool:
    """Whether a layer sees a window only."""
    if not window_tokens(header):
        return False
    if header.sliding_layers:
        return layer < len(header.sliding_layers) and header.sliding_layers[layer]
    window = WINDOWS[header.architecture]
    period = header.sliding_period or window.period
    return layer % period != 0 if window.dense_first else layer % period < period - 1


def is_recurrent(header: Header, layer: int) -> bool:
    """Whether a layer keeps a state of fixed size."""
    architecture = header.architecture
    if architecture in ALL_RECURRENT or architecture in BOTH:
        return True
    if architecture in EVERY_SO_MANY:
        interval = header.recurrence.attention_interval or EVERY_SO_MANY[architecture]
        return (layer + 1) % interval != 0
    if architecture in WITHOUT_HEADS:
        return not heads_of(header, layer) and not any(header.feed_forwards[layer : layer + 1])
    return False


def has_cache(header: Header, layer: int) -> bool:
    """Whether a layer has a cache of its own."""
    architecture = header.architecture
    if architecture in BOTH:
        return True
    own = FIRST_CACHES.get(architecture, header.layers - header.shared_kv_layers)
    return layer < own and not is_recurrent(header, layer)


def heads_of(header: Header, layer: int) -> int:
    """Return for how many heads a layer keeps keys and values."""
    if len(header.kv_heads) > 1:
        return header.kv_heads[layer] if layer < len(header.kv_heads) else 0
    return header.kv_heads[0] if header.kv_heads else header.heads


def layers_bytes(header: Header, settings: CacheSettings) -> list[int]:
    """Return what each layer keeps, in bytes.  Layers that only predict keep nothing."""
    sizes: dict[tuple[int, bool, bool, bool], int] = {}
    found = []
    has_windows = window_tokens(header) > 0
    for layer in range(max(0, header.layers - header.prediction_layers)):
        kind = (
            heads_of(header, layer),
            has_windows and has_window(header, layer),
            has_cache(header, layer),
            is_recurrent(header, layer),
        )
        if kind not in sizes:
            heads, windowed, cached, recurrent = kind
            cache = _cache_bytes(header, settings, heads, is_windowed=windowed)
            state = _state_bytes(header, settings)
            sizes[kind] = min(MOST_BYTES, cache * cached + state * recurrent)
        found.append(sizes[kind])
    return found


def kv_bytes(header: Header, settings: CacheSettings) -> int:
    """Return what all layers keep together, in bytes."""
    return sum(layers_bytes(header, settings))


def _cache_bytes(header: Header, settings: CacheSettings, heads: int, *, is_windowed: bool) -> int:
    """Return the size of a layer's cache.  Shape: [pools, cells, heads, key + value]."""
    keys, values = header.key_length, header.value_length
    cells = settings.cells
    if is_windowed:
        cells = window_cells(header, settings)
        keys = header.sliding_key_length or keys
        values = header.sliding_value_length or values
    row = _row_bytes(heads * keys, settings.key_type) + INDEX_ELEMENT_BYTES * (
        header.indexer_key_length
    )
    if not header.is_latent:
        row += _row_bytes(heads * values, settings.value_type)
    return settings.streams * cells * row


def _state_bytes(header: Header, settings: CacheSettings) -> int:
    """Return the size of a layer's state, one for each slot."""
    shape = header.recurrence
    if shape.wkv_head:
        rolling = (shape.token_shifts or 2) * header.embedding
        state = header.embedding * shape.wkv_head
    elif shape.short_convolution:
        rolling, state = (shape.short_convolution - 1) * header.embedding, 0
    elif shape.kda_head:
        width = header.heads * shape.kda_head
        rolling = max(0, shape.convolution - 1) * 3 * width
        state = width * shape.kda_head
    else:
        groups = 0 if header.architecture in WITHOUT_GROUPS else shape.groups
        width = shape.inner + 2 * groups * shape.state
        rolling = max(0, shape.convolution - 1) * width
        state = shape.state * shape.inner
    return settings.sequences * STATE_ELEMENT_BYTES * (rolling + state)


def _row_bytes(elements: int, kind: str) -> int:
    """Return the size of so many numbers, in whole blocks."""
    block = ELEMENT_TYPES[kind]
    return -(-elements // block.elements) * block.size_bytes


def _rounded(cells: int) -> int:
    return -(-cells // CELLS_STEP) * CELLS_STEP
