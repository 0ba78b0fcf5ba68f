"""Messages about what requests cost: counts, tokens, times and swaps, by model."""

from msgspec import Struct

from modeld.wire.common import Selector


class AskUsage(Struct, frozen=True, kw_only=True, tag="usage", forbid_unknown_fields=True):
    """Ask what requests cost.  Reply: `UsageReport`; fails with model_not_found."""

    selector: Selector | None = None
    """None for all models."""


class UsageRow(Struct, frozen=True, kw_only=True):
    """The sums of one model, or of all; what nobody can tell is null."""

    name: str = ""
    id: str = ""
    requests: int = 0
    failed: int = 0
    """Without those whose client left."""
    hits: int = 0
    """Requests whose model was loaded when they came."""
    hit_rate: float | None = None
    prompt_tokens: int = 0
    """With the cached ones."""
    cached_tokens: int = 0
    generated_tokens: int = 0
    tokens_per_s: float | None = None
    first_token_p50_s: float | None = None
    """Of the last 200 requests since modeld started."""
    first_token_p95_s: float | None = None
    swaps: int = 0
    """Loads that a program asked for."""
    mean_swap_s: float | None = None


class UsageReport(Struct, frozen=True, kw_only=True, tag="usage-report"):
    """What requests cost since modeld counts."""

    models: tuple[UsageRow, ...]
    """Most requests first, 1000 at most; only models that had any, or a swap."""
    total: UsageRow
    cache_strategy: str
    """The configured `keep_alive.strategy`; `ram` where none is."""
    loaded_models: tuple[str, ...]
