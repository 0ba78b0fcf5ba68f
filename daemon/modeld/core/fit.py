"""
How much memory one llama-server will ask for, and how much there is.

Arithmetic over a parsed GGUF header and what was learned before: no files, no clock, no GPU.
The planner trusts the answer before a start; the supervisor measures afterwards and remembers.
"""

from msgspec import Struct

from modeld.core.entities import Header, Model, ModelStats, Server, ServerState

KV_ELEMENT_BYTES = 2
"""f16, llama.cpp's default type of the cache."""
MICRO_BATCH_TOKENS = 512
"""llama.cpp's default `--ubatch-size`: the compute buffer is sized for it."""
PROCESS_BYTES = 48 * 1024**2
"""Of a llama-server without a model: code, heap, HTTP threads.  Measured: 35 to 45 MiB."""
MAPPED_FACTOR = 1.2
"""Of the weights: with less free memory than that, a mapped file does not stay in it."""
DIRECT_FACTOR = 1.05
"""Of the weights: what they need as ordinary memory, which can't leave again."""
SIZE_FACTOR = 1.2
"""For a header that says nothing: the file, and a fifth for everything else."""


class Need(Struct, frozen=True):
    """What a server will need, and how that is known."""

    need_bytes: int
    source: str
    """`measured`, `configured`, `header` or `size`."""


class Budget(Struct, frozen=True, kw_only=True):
    """What models may take together."""

    memory_bytes: int
    max_loaded: int


def kv_bytes(header: Header, context_tokens: int) -> int:
    """
    Return the size of the KV cache in bytes.

    Shape: [layers, context_tokens, kv_heads, key_length + value_length], kv_heads by layer where
    the header has one number a layer.

    Source: GGUF keys block_count, attention.head_count_kv, attention.key_length and
    attention.value_length.  Too much for sliding windows and for latent attention.
    """
    head_bytes = (header.key_length + header.value_length) * KV_ELEMENT_BYTES
    if len(header.kv_heads) == header.layers:
        heads_of_all_layers = sum(header.kv_heads)
    else:
        heads_of_all_layers = header.layers * (header.kv_heads or (header.heads,))[0]
    return context_tokens * heads_of_all_layers * head_bytes


def compute_bytes(header: Header) -> int:
    """
    Return the size of the compute buffer in bytes, about.

    The logits of a micro-batch dominate it; the widest activations come next.
    """
    width = header.vocabulary + 2 * header.embedding + 2 * header.feed_forward
    return 4 * MICRO_BATCH_TOKENS * width


def need(
    model: Model, stats: ModelStats, configured_bytes: int | None, context_tokens: int
) -> Need:
    """
    Return what a server for `model` will need.

    Args:
        model: The model.
        stats: What is remembered of it.
        configured_bytes: [bytes] From the configuration; None where it says nothing.
        context_tokens: [tokens] The context that it will be started with.
    """
    if stats.measured_bytes and stats.measured_file_bytes in (0, model.size_bytes):
        more_tokens = max(0, context_tokens - (stats.measured_context_tokens or context_tokens))
        return Need(stats.measured_bytes + kv_bytes(model.header, more_tokens), "measured")
    if configured_bytes is not None:
        return Need(configured_bytes, "configured")
    header = model.header
    if header.tensor_bytes and header.layers and header.heads:
        weights = max(header.tensor_bytes, model.size_bytes)
        total = weights + kv_bytes(header, context_tokens) + compute_bytes(header)
        return Need(total + PROCESS_BYTES, "header")
    return Need(int(model.size_bytes * SIZE_FACTOR), "size")


def load_mode(size_bytes: int, available_bytes: int, *, slow_disk: bool) -> str:
    """
    Return how llama-server should bring the weights into memory; empty for its own choice.

    By its own choice it maps the file, which is right where the page cache has room for all of
    it, and where not even the weights fit: then pages that are not used can leave.  In between
    the file and its mapping would push each other out, so it reads past the page cache.

    Args:
        size_bytes: Of the weights.
        available_bytes: What the kernel says is free now; 0 where nobody knows.
        slow_disk: The file was read ahead into the page cache: there it is used from.
    """
    tight = size_bytes * MAPPED_FACTOR > available_bytes
    fits = size_bytes * DIRECT_FACTOR <= available_bytes
    return "dio" if tight and fits and not slow_disk else ""


def booked_bytes(servers: "list[Server] | tuple[Server, ...]") -> int:
    """Return the memory that `servers` hold or were promised, in bytes."""
    return sum(server.booked_bytes for server in servers if server.state is not ServerState.GONE)


def gigabytes(count: int) -> str:
    """Return `count` bytes as the reasons of `can-load` print it: `12.0GB`."""
    return f"{count / 1024**3:.1f}GB"
