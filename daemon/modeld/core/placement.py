"""
Which part of a model lies on GPUs, and which in the machine's own memory.

Follows llama.cpp: the last layers go to the GPUs, the table of tokens stays, experts and the
cache stay where the arguments say so, and where nobody says how many layers, as many go as fit.
Nothing is known here of what a GPU holds at the moment: a load is planned against its budget.
"""

from msgspec import Struct

from modeld.core.demand import Demand

ENGINE_MARGIN_BYTES = 1024**3
"""What llama.cpp leaves free on each GPU when it chooses the layers (`--fit-target`)."""
GPU_PROCESS_BYTES = 320 * 1024**2
"""Of a driver's context on each GPU: code and scratch.  CUDA's is 250 to 500 MiB."""


class Load(Struct, frozen=True, kw_only=True):
    """The parts of a model in memory."""

    weights_bytes: int
    layers_bytes: tuple[int, ...]
    """What each layer keeps of conversations."""
    compute_bytes: int
    expert_bytes: int = 0
    """The part of the weights that is experts'."""
    embedding_bytes: int = 0
    """The part of the weights that is the table of tokens."""
    extra_bytes: int = 0
    """Of projectors and drafts, which lie whole where the model lies."""


def place(load: Load, demand: Demand, rooms: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """
    Return what a server takes of the machine's memory, and of each GPU.  [bytes]

    Args:
        load: What it has to hold.
        demand: What its arguments say about where.
        rooms: [bytes] What models may take of each GPU; empty where the engine uses none.
    """
    cache = sum(load.layers_bytes)
    everything = load.weights_bytes + cache + load.compute_bytes + load.extra_bytes
    used = [index for index in range(len(rooms)) if demand.devices in (None, ())
            or index in (demand.devices or ())]  # fmt: skip
    if not used or demand.devices == () or demand.gpu_layers == 0:
        return everything, (0,) * len(rooms)
    units = len(load.layers_bytes) + 1
    if demand.gpu_layers is not None:
        count = min(demand.gpu_layers, units)
    else:
        count = _most_layers(load, demand, [rooms[index] for index in used])
    if not count:
        return everything, (0,) * len(rooms)
    offloaded = _offloaded(load, demand, count)
    total_room = sum(rooms[index] for index in used) or 1
    on_gpus = [0] * len(rooms)
    for index in used:
        on_gpus[index] = int(offloaded * rooms[index] / total_room) + GPU_PROCESS_BYTES
        on_gpus[index] += load.compute_bytes
    moved = offloaded + (load.compute_bytes if count == units else 0)
    return max(0, everything - moved), tuple(on_gpus)


def _most_layers(load: Load, demand: Demand, rooms: list[int]) -> int:
    """Return how many layers the engine puts on GPUs of its own accord."""
    fixed = len(rooms) * (ENGINE_MARGIN_BYTES + GPU_PROCESS_BYTES + load.compute_bytes)
    room = sum(rooms) - fixed
    units = len(load.layers_bytes) + 1
    return next(
        (count for count in range(units, 0, -1) if _offloaded(load, demand, count) <= room), 0
    )


def _offloaded(load: Load, demand: Demand, count: int) -> int:
    """Return the weights and the cache of the last `count` layers, the output counted as one."""
    layers = len(load.layers_bytes)
    units = layers + 1
    dense = max(0, load.weights_bytes - load.embedding_bytes - load.expert_bytes)
    first = max(0, units - count)
    with_experts = max(0, layers - max(first, demand.host_expert_layers))
    experts = load.expert_bytes * with_experts // max(1, layers)
    cache = 0 if demand.has_cache_on_host else sum(load.layers_bytes[first:])
    extra = load.extra_bytes if count == units else 0
    return dense * count // units + experts + cache + extra
