"""
What the arguments of a server say about the memory that it will take.

Reads only options that memory depends on, in every spelling that a build may have; everything
else, and every value that makes no sense, counts as not said.  Whether an argument may be passed
on at all is `argv`'s business, and how much memory follows is `fit`'s.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from modeld.core.argv import normalised
from modeld.core.entities import Binary
from modeld.core.kv import ELEMENT_TYPES, CacheSettings

AUTOMATIC_SLOTS = 4
"""What llama-server takes where nobody says how many, all in one pool."""
BATCH_TOKENS, MICRO_BATCH_TOKENS = 2048, 512
"""llama.cpp's defaults of `--batch-size` and `--ubatch-size`."""
ALL_LAYERS = 1_000_000
MOST_DIGITS = 12
"""Of a number in an argument.  Python refuses to read more than 4300, and nobody means them."""

# fmt: off
OPTIONS: dict[str, tuple[str, ...]] = {
    "slots": ("--parallel", "-np"),
    "unified": ("--kv-unified", "-kvu"),
    "separate": ("--no-kv-unified", "-no-kvu"),
    "batch": ("--batch-size", "-b"),
    "micro_batch": ("--ubatch-size", "-ub"),
    "key_type": ("--cache-type-k", "-ctk"),
    "value_type": ("--cache-type-v", "-ctv"),
    "full_window": ("--swa-full",),
    "flash": ("--flash-attn", "-fa"),
    "gpu_layers": ("--gpu-layers", "--n-gpu-layers", "-ngl"),
    "all_experts": ("--cpu-moe", "-cmoe"),
    "experts": ("--n-cpu-moe", "-ncmoe"),
    "cache_on_host": ("--no-kv-offload", "-nkvo"),
    "devices": ("--device", "-dev"),
    "split_mode": ("--split-mode", "-sm"),
    "main_gpu": ("--main-gpu", "-mg"),
    "tensor_split": ("--tensor-split", "-ts"),
    "override": ("--override-tensor", "-ot"),
    "load_mode": ("--load-mode", "-lm", "--no-mmap", "--mlock"),
    "projector": ("--mmproj", "-mm"),
    "no_projector": ("--no-mmproj", "--no-mmproj-auto"),
    "draft": ("--model-draft", "-md", "--spec-draft-model"),
    "draft_context": ("--ctx-size-draft", "-cd"),
    "draft_key_type": ("--cache-type-k-draft", "-ctkd", "--spec-draft-type-k"),
    "draft_value_type": ("--cache-type-v-draft", "-ctvd", "--spec-draft-type-v"),
    "speculation": ("--spec-type",),
    "embeddings": ("--embedding", "--embeddings"),
    "lora": ("--lora",),
    "lora_scaled": ("--lora-scaled",),
    "repack": ("--no-repack", "-nr"),
}
# fmt: on
"""What memory depends on -> the spellings of the option."""
_NAMES = {spelling: name for name, spellings in OPTIONS.items() for spelling in spellings}


class Demand(Struct, frozen=True, kw_only=True):
    """What a server is asked to do, as far as its memory depends on it."""

    cache: CacheSettings
    has_flash_attention: bool = True
    gpu_layers: int | None = None
    """None to let the engine put as many on the GPUs as fit."""
    host_expert_layers: int = 0
    """Of the first so many layers the experts stay in the machine's memory."""
    has_cache_on_host: bool = False
    devices: tuple[int, ...] | None = None
    """The GPUs to use, by index; None for all."""
    has_projector: bool = True
    projector_path: str = ""
    """Named in the arguments; empty for the model's own."""
    draft_path: str = ""
    draft_cache: CacheSettings
    key: str = ""
    """The same for any two sets of arguments that memory cannot tell apart."""


def memory_options(asked: Sequence[str], binary: Binary | None) -> dict[str, str]:
    """Return the options that memory depends on, by their names in `OPTIONS`."""
    return {_NAMES[name]: value for name, value in normalised(asked, binary) if name in _NAMES}


def read_demand(asked: Sequence[str], binary: Binary | None, context_tokens: int) -> Demand:
    """
    Return what arguments say about memory.

    Args:
        asked: All that people asked for; the later ones win.
        binary: Whose spellings they are; None where it isn't known yet.
        context_tokens: [tokens] Of all slots together.
    """
    said = memory_options(asked, binary)
    slots = _number(said, "slots", 0)
    micro = min(
        _number(said, "micro_batch", MICRO_BATCH_TOKENS) or MICRO_BATCH_TOKENS,
        _number(said, "batch", BATCH_TOKENS) or BATCH_TOKENS,
    )
    cache = CacheSettings(
        context_tokens=context_tokens,
        sequences=slots or AUTOMATIC_SLOTS,
        is_unified=(not slots or "unified" in said) and "separate" not in said,
        micro_batch_tokens=micro,
        key_type=_kind(said, "key_type"),
        value_type=_kind(said, "value_type"),
        has_full_window="full_window" in said,
    )
    draft_cache = CacheSettings(
        context_tokens=_number(said, "draft_context", 0) or context_tokens,
        sequences=cache.sequences,
        is_unified=cache.is_unified,
        micro_batch_tokens=micro,
        key_type=_kind(said, "draft_key_type"),
        value_type=_kind(said, "draft_value_type"),
    )
    return Demand(
        cache=cache,
        draft_cache=draft_cache,
        has_flash_attention=said.get("flash") not in {"off", "0", "disabled"},
        gpu_layers=_gpu_layers(said),
        host_expert_layers=ALL_LAYERS if "all_experts" in said else _number(said, "experts", 0),
        has_cache_on_host="cache_on_host" in said,
        devices=_devices(said),
        has_projector="no_projector" not in said,
        projector_path=said.get("projector", ""),
        draft_path=said.get("draft", ""),
        key=" ".join(f"{name}={value}" for name, value in sorted(said.items())),
    )


def whole_number(text: str) -> int | None:
    """Return the number that an argument says; None for none, and for one that makes no sense."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def _number(said: Mapping[str, str], name: str, default: int) -> int:
    number = whole_number(said.get(name, ""))
    return default if number is None else number


def _kind(said: Mapping[str, str], name: str) -> str:
    kind = said.get(name, "f16")
    return kind if kind in ELEMENT_TYPES else "f16"


def _gpu_layers(said: Mapping[str, str]) -> int | None:
    """Return how many layers are to be on GPUs: a number, all, or as many as fit."""
    text = said.get("gpu_layers", "auto")
    if text == "all":
        return ALL_LAYERS
    return whole_number(text)


def _devices(said: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return which GPUs are to be used; names end with their index, as `CUDA1` does."""
    if said.get("split_mode") == "none":
        return (_number(said, "main_gpu", 0),)
    names = said.get("devices")
    if names is None:
        return None
    digits = (name.strip().lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
              for name in names.split(","))  # fmt: skip
    found = (whole_number(index) for index in digits)
    return tuple(index for index in found if index is not None)
