"""
How much memory one llama-server will ask for, and how much there is.

Arithmetic over a parsed GGUF header and what was learned before: no files, no clock, no GPU.
The planner trusts the answer before a start; the supervisor measures afterwards and remembers.

In this order, and the answer says which: measured on an earlier load of the same file, with the
same context and arguments; configured; told by llama-fit-params; the formula over the header;
the size of the file and a fifth.
"""

from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from modeld.core.demand import Demand
from modeld.core.entities import Header, Model, Server, ServerState
from modeld.core.kv import MOST_BYTES, has_cache, layers_bytes, window_cells, window_tokens
from modeld.core.placement import Load, place
from modeld.core.shapes import Measurement
from modeld.units import format_bytes

PROCESS_BYTES = 48 * 1024**2
"""Of a llama-server without a model: code, heap, HTTP threads.  Measured: 35 to 45 MiB."""
MAPPED_FACTOR = 1.2
"""Of the weights: with less free memory than that, a mapped file does not stay in it."""
DIRECT_FACTOR = 1.05
"""Of the weights: what they need as ordinary memory, which can't leave again."""
SIZE_FACTOR = 1.2
"""For a header that says nothing: the file, and a fifth for everything else."""
LIBRARIES_BYTES = 128 * 1024**2
"""What a process maps besides a model's weights, at most."""
LEARNED_FACTOR, LEARNED_BYTES = 1.05, 128 * 1024**2
"""How far off the formula may be."""
PROJECTOR_FACTOR = 1.25
"""Of an mmproj's file: its weights, and what it computes an image with."""
PROJECTOR_BYTES = 64 * 1024**2
ACTIVATION_BYTES = 4
MASK_BYTES = {True: 2, False: 4}
"""Of each cell a token may see: with flash attention f16, without it f32."""
SPARSE_BYTES = 7
"""More of them, where an indexer gives each cell a score first."""
# How many activations of a width live at the same time, as the engine's own breakdown has it.
FEED_FORWARDS, EMBEDDINGS = 3, 5
HEADS, LATENT_HEADS, ATTENTION_EMBEDDINGS = 4.5, 3.0, 3
RECURRENCES = 11


class Part(Struct, frozen=True):
    """One part of a need: `weights`, `cache`, `compute`, `process`, `projector`, `draft`."""

    name: str
    size_bytes: int


class Need(Struct, frozen=True):
    """What a server will need, and how that is known."""

    need_bytes: int
    source: str
    """`measured`, `configured`, `fit-params`, `header` or `size`."""
    gpu_bytes: tuple[int, ...] = ()
    """On each GPU, besides `need_bytes`; empty where none is used."""
    parts: tuple[Part, ...] = ()
    """What it is made of, wherever it lies; empty where only the sum is known."""


class Told(Struct, frozen=True):
    """What llama-fit-params says of one device: the machine's memory, or a GPU's."""

    device: str
    weights_bytes: int
    cache_bytes: int
    compute_bytes: int


class Budget(Struct, frozen=True, kw_only=True):
    """What models may take together."""

    memory_bytes: int
    max_loaded: int
    gpu_bytes: tuple[int, ...] = ()
    """On each GPU; empty where there is none, or the engine uses none."""


class Known(Struct, frozen=True, kw_only=True):
    """All that a need is computed from, besides the model itself."""

    demand: Demand
    measured: tuple[Measurement, ...] = ()
    configured_bytes: int | None = None
    told: tuple[Told, ...] = ()
    """What llama-fit-params said; empty where it was not asked, or had no answer."""
    draft: Model | None = None
    gpu_bytes: tuple[int, ...] = ()
    """What models may take on each GPU that the engine uses."""


def compute_bytes(header: Header, demand: Demand) -> int:
    """
    Return the size of the compute buffer in bytes, about.

    The mask over all cells, and the widest step of a layer: its feed-forward, its attention or
    its recurrence, for one micro-batch.
    """
    cache = demand.cache
    tokens = cache.micro_batch_tokens
    cells = cache.cells if any(map(partial(has_cache, header), range(header.layers))) else 0
    score_bytes = MASK_BYTES[demand.has_flash_attention]
    masks = score_bytes * (cells + (window_cells(header, cache) if window_tokens(header) else 0))
    masks += SPARSE_BYTES * cells * bool(header.indexer_key_length)
    width = header.heads * header.key_length
    if not demand.has_flash_attention:
        masks += ACTIVATION_BYTES * header.heads * cells
    attention = width * (LATENT_HEADS if header.is_latent else HEADS)
    attention += ATTENTION_EMBEDDINGS * header.embedding
    inner = max(header.recurrence.inner, 2 * header.embedding * bool(header.recurrence.wkv_head))
    recurrent = RECURRENCES * inner + header.embedding * bool(inner)
    dense = FEED_FORWARDS * header.feed_forward
    experts = header.experts_used * (FEED_FORWARDS * header.expert_feed_forward + header.embedding)
    feed_forward = max(dense, experts) + EMBEDDINGS * header.embedding
    widest = int(max(feed_forward, attention, recurrent))
    return min(MOST_BYTES, tokens * (masks + ACTIVATION_BYTES * widest))


def weights_and_rest(model: Model, known: Known) -> tuple[int, int]:
    """Return what files a server maps, and what it needs besides; 0 and 0 where nobody knows."""
    if not _is_told(model.header):
        return 0, 0
    parts = {each.name: each.size_bytes for each in _formula(model, known).parts}
    drafted = known.draft.size_bytes if known.draft is not None else 0
    weights = parts.pop("weights")
    return weights + drafted, sum(parts.values()) - drafted


def need(model: Model, known: Known) -> Need:
    """Return what a server for `model` will need, from the best source that there is."""
    formula = _formula(model, known)
    seen = _seen(model, known)
    if seen is not None:
        return Need(seen.memory_bytes, "measured", seen.gpu_bytes or formula.gpu_bytes)
    if known.configured_bytes is not None:
        return _configured(known.configured_bytes, formula)
    if known.told:
        return _told(model, known)
    return formula


def _seen(model: Model, known: Known) -> Measurement | None:
    """Return what an earlier load took of the same file, with the same context and arguments."""
    mark, demand = file_mark(model), known.demand
    load = (mark, demand.cache.context_tokens, demand.key)
    for seen in known.measured:
        here = known.gpu_bytes or not any(seen.gpu_bytes)  # else a GPU is gone since
        if (seen.file_mark, seen.context_tokens, seen.arguments) == load and here:
            return seen
    return None


def _is_told(header: Header) -> bool:
    """Whether a header says enough for the formula."""
    return bool(header.tensor_bytes and header.layers and header.embedding)


def _formula(model: Model, known: Known) -> Need:
    """Return the need by the header, or by the size where that says nothing."""
    header, demand = model.header, known.demand
    if not _is_told(header):
        weights, layers, compute = int(model.size_bytes * SIZE_FACTOR), [0], 0
        source, process = "size", 0
    else:
        weights = max(header.tensor_bytes, model.size_bytes if header.shard_count > 1 else 0)
        layers = layers_bytes(header, demand.cache)
        compute, source, process = compute_bytes(header, demand), "header", PROCESS_BYTES
    extra = _extras(model, known)
    ram, gpus = place(
        Load(
            weights_bytes=weights,
            layers_bytes=tuple(layers),
            compute_bytes=compute,
            expert_bytes=header.expert_bytes,
            embedding_bytes=header.embedding_bytes,
            extra_bytes=sum(each.size_bytes for each in extra),
        ),
        demand,
        known.gpu_bytes,
    )
    parts = (
        Part("weights", weights),
        Part("cache", sum(layers)),
        Part("compute", compute),
        Part("process", process),
        *extra,
    )
    return Need(ram + process, source, gpus, tuple(each for each in parts if each.size_bytes))


def _extras(model: Model, known: Known) -> list[Part]:
    """Return what a projector and a draft model add; llama-fit-params can't be told of either."""
    parts = []
    location, demand = model.location, known.demand
    if (
        demand.has_projector
        and location.mmproj_path
        and len(location.stamps) > len(location.shard_paths)
    ):
        size = int(location.stamps[-1][0] * PROJECTOR_FACTOR) + PROJECTOR_BYTES
        parts.append(Part("projector", size))
    draft = known.draft
    if draft is not None:
        cache = sum(layers_bytes(draft.header, demand.draft_cache))
        compute = compute_bytes(draft.header, demand)
        parts.append(Part("draft", draft.size_bytes + cache + compute))
    return parts


def _configured(total_bytes: int, formula: Need) -> Need:
    """Return a configured need, on the GPUs for the share that the formula puts there."""
    on_gpus = sum(formula.gpu_bytes)
    if not on_gpus:
        return Need(total_bytes, "configured")
    share = total_bytes / (on_gpus + formula.need_bytes)
    gpus = tuple(int(each * share) for each in formula.gpu_bytes)
    return Need(total_bytes - sum(gpus), "configured", gpus)


def _told(model: Model, known: Known) -> Need:
    """
    Return the need by llama-fit-params, with what it can't be told of.

    It knows of no slots: of windows and states the formula's figure is taken where it is larger.
    """
    extra = _extras(model, known)
    by_formula = sum(layers_bytes(model.header, known.demand.cache)) if model.header.layers else 0
    cache = sum(each.cache_bytes for each in known.told)
    missing = max(0, by_formula - cache)
    devices = [each for each in known.told if each.device != "Host"]
    host = [each for each in known.told if each.device == "Host"]
    gpus = [each.weights_bytes + each.cache_bytes + each.compute_bytes for each in devices]
    ram = sum(each.weights_bytes + each.cache_bytes + each.compute_bytes for each in host)
    more = missing + sum(each.size_bytes for each in extra)
    if gpus:
        gpus[0] += more
    else:
        ram += more
    parts = (
        Part("weights", sum(each.weights_bytes for each in known.told)),
        Part("cache", cache + missing),
        Part("compute", sum(each.compute_bytes for each in known.told)),
        Part("process", PROCESS_BYTES),
        *extra,
    )
    return Need(ram + PROCESS_BYTES, "fit-params", tuple(gpus), parts)


def explained(need: Need) -> str:
    """Return where a need is from and what it is made of, in words."""
    parts = ", ".join(f"{part.name} {format_bytes(part.size_bytes)}" for part in need.parts)
    return f"need from {need.source}" + (f": {parts}" if parts else "")


def file_mark(model: Model) -> str:
    """Return what tells the file of a model from another in its place, whatever disk it is on."""
    location = model.location
    return f"{location.size_bytes}:{location.mtime_ns}"


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


def copied_bytes(private_bytes: int, weights_bytes: int, rest: int) -> int:
    """
    Return how many of its weights a server has in memory of its own, right after it is ready.

    Read past the page cache, or put into another order for the processor; they need not stay in
    the page cache too.

    Args:
        private_bytes: [bytes] What of the process is no file's.
        weights_bytes: [bytes] Of the model.
        rest: [bytes] What the server is expected to need besides.
    """
    return min(weights_bytes, max(0, private_bytes - rest))


def taken_bytes(resident_bytes: int, private_bytes: int, mapped_bytes: int) -> int:
    """
    Return the memory that a server takes, as it is to be booked.

    Mapped weights count whole, for the pages that memory is short of now come back with the next
    request; of other files no more than a process needs.

    Args:
        resident_bytes: [bytes] All of the process that is in memory.
        private_bytes: [bytes] The part of it that is no file's.
        mapped_bytes: [bytes] Of the model's weights, those that it uses from the page cache.
    """
    files = resident_bytes - private_bytes
    return private_bytes + min(max(files, mapped_bytes), mapped_bytes + LIBRARIES_BYTES)


def learnable_bytes(taken: int, first: int, expected: int) -> int:
    """
    Return how much of what a server takes is a promise for its next load.

    What it takes on top of what is expected, and did not take at first, is the engine's store of
    prompts: booked while it is there, and empty in a new server.

    Args:
        taken: [bytes] Now.
        first: [bytes] When it became ready; 0 where nobody saw that.
        expected: [bytes] By the formula; 0 where that knows nothing.
    """
    if not first or not expected:
        return taken
    return min(taken, max(first, int(expected * LEARNED_FACTOR) + LEARNED_BYTES))


def booked_bytes(servers: Sequence[Server]) -> int:
    """Return the memory that `servers` hold or were promised, in bytes."""
    return sum(server.booked_bytes for server in servers if server.state is not ServerState.GONE)


def booked_gpu_bytes(servers: Sequence[Server], index: int) -> int:
    """Return the memory of one GPU that `servers` hold or were promised, in bytes."""
    here = (each.booked_gpu_bytes for each in servers if each.state is not ServerState.GONE)
    return sum(each[index] for each in here if index < len(each))


def gigabytes(count: int) -> str:
    """Return `count` bytes as the reasons of `can-load` print it: `12.0GB`."""
    return f"{count / 1024**3:.1f}GB"
