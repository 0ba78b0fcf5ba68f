"""Messages about the tiers: what lies on the SSD, what is copied there, and why."""

from typing import Annotated

from msgspec import Meta, Struct

from modeld.wire.common import Selector


class ShowCache(Struct, frozen=True, kw_only=True, tag="cache-show", forbid_unknown_fields=True):
    """Ask what lies where and what is under way.  Reply: `CacheReport`."""


class TierRow(Struct, frozen=True, kw_only=True):
    """One tier."""

    tier: str
    path: str
    total_bytes: int = 0
    free_bytes: int = 0
    models: int = 0
    model_bytes: int = 0
    problem: str = ""


class CopyRow(Struct, frozen=True, kw_only=True):
    """One copy under way."""

    copy_id: str
    model: str
    copied_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    eta_s: float = -1.0
    """-1 while nobody can tell."""
    paused: bool = False
    urgent: bool = False


class CacheReport(Struct, frozen=True, kw_only=True, tag="cache-report"):
    """The tiers, the copies under way, and what the SSD has cost so far."""

    tiers: tuple[TierRow, ...]
    copies: tuple[CopyRow, ...]
    policy: str
    copied_bytes: int = 0
    """Since modeld counts."""
    expiries: int = 0
    regretted_expiries: int = 0
    """Of them, how many were loaded again within a week."""


class ChangeCache(
    Struct, frozen=True, kw_only=True, tag="cache-change", forbid_unknown_fields=True
):
    """
    Promote or evict a model, or pause, resume or cancel its copy.

    Reply: `CacheChanged`.  Fails with model_not_found, refused (with the numbers), inactive.
    """

    action: Annotated[str, Meta(pattern="^(promote|evict|pause|resume|cancel)$")]
    selector: Selector | None = None
    """None only to pause, resume or cancel all copies."""
    dry_run: bool = False


class CacheChanged(Struct, frozen=True, kw_only=True, tag="cache-changed"):
    """It is done, or with `dry_run` it would be."""

    decisions: tuple["CacheDecision", ...]
    dry_run: bool = False


class CacheDecision(Struct, frozen=True, kw_only=True):
    """One decision about one model."""

    action: str
    """`copy`, `expire`, `keep`, `pause`, `resume` or `cancel`."""
    model: str
    size_bytes: int = 0
    reason: str = ""
    """The inequality that decided, in numbers."""


class PlanCache(Struct, frozen=True, kw_only=True, tag="cache-plan", forbid_unknown_fields=True):
    """Ask what would be expired to free this much, or copied.  Reply: `CacheChanged`."""

    free_bytes: Annotated[int, Meta(ge=0)] = 0


class VerifyCache(
    Struct, frozen=True, kw_only=True, tag="cache-verify", forbid_unknown_fields=True
):
    """Read copies again and compare.  Reply: `CacheVerified`, when they are read."""

    selector: Selector | None = None
    """None for all copies that modeld made."""


class CacheVerified(Struct, frozen=True, kw_only=True, tag="cache-verified"):
    """What was read again."""

    intact: tuple[str, ...] = ()
    """Paths below the SSD's folder."""
    damaged: tuple[str, ...] = ()
    error: str = ""


class AskRank(Struct, frozen=True, kw_only=True, tag="rank", forbid_unknown_fields=True):
    """Ask for the rank of models, with its terms.  Reply: `RankReport`."""

    selector: Selector | None = None


class RankRow(Struct, frozen=True, kw_only=True):
    """One model's rank."""

    name: str
    id: str
    rank: float
    idle_days: float
    terms: dict[str, float]
    """Term -> points; they add up to the rank."""
    tiers: tuple[str, ...] = ()
    verdict: str = ""
    """What the policy says of a copy of it now, with the inequality."""


class RankReport(Struct, frozen=True, kw_only=True, tag="rank-report"):
    """The ranks, highest first."""

    ranks: tuple[RankRow, ...]
    formula: str
