"""
Parts of `entities` that only the arithmetic of memory looks into.

Frozen values only; nothing here decides.
"""

from msgspec import Struct


class Recurrence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The shape of layers that keep a state of fixed size instead of a cache; all 0 for none.

    Source: the keys `ARCH.ssm.*`, `ARCH.wkv.head_size`, `ARCH.token_shift_count`,
    `ARCH.shortconv.l_cache`, `ARCH.kda.head_dim` and `ARCH.full_attention_interval`.
    """

    convolution: int = 0
    inner: int = 0
    state: int = 0
    groups: int = 0
    wkv_head: int = 0
    token_shifts: int = 0
    short_convolution: int = 0
    kda_head: int = 0
    attention_interval: int = 0
    """Every so many layers one has a cache all the same."""


class Measurement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The most memory that servers of one file, context and set of arguments were seen to use."""

    file_mark: str
    """Bytes and modification time of the file."""
    context_tokens: int
    arguments: str = ""
    """Those that memory depends on, in one order and spelling."""
    memory_bytes: int
    gpu_bytes: tuple[int, ...] = ()
    """On each GPU."""
