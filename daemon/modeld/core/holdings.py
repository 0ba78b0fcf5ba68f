"""
What the disk policy is told, and what it answers; `core.tiers` decides.

Values only.  Sizes are bytes, ranks points, times seconds or days as their names say.
"""

from typing import Literal

from msgspec import Struct, field

from modeld.units import GIB

PolicyName = Literal["documented", "gain"]
Answer = Literal["copy", "stay"]
Because = Literal[
    "deserved", "there", "copying", "no-source", "too-few-uses",
    "too-large", "no-room", "not-worth", "wear",
]  # fmt: skip


class Speeds(Struct, frozen=True, kw_only=True):
    """How fast the tiers are read."""

    ssd_bytes_per_s: float = 2.5 * GIB
    hdd_bytes_per_s: float = 0.18 * GIB
    by_tier: dict[str, float] = field(default_factory=dict)
    """Slow tiers whose speed is known better."""

    def seconds_saved(self, size_bytes: int, tier: str) -> float:
        """Return how much sooner so much is read from the SSD than from `tier`.  [s]"""
        slow = self.by_tier.get(tier, self.hdd_bytes_per_s)
        return max(0.0, size_bytes / slow - size_bytes / self.ssd_bytes_per_s)


class CachePolicy(Struct, frozen=True, kw_only=True):
    """
    The configuration's `cache`, in bytes.

    The numbers of gain were chosen on generated histories (`tests/bench/generators.py`, seeds 100
    to 104; it is judged on others), so that it saves what the best of LRU, LFU, GDSF and Sieve
    saves, with less than half of LRU's writes.  A first use alone is forecast to save 2.5 s/GB in
    a week, so the price below brings a copy with the second one, as long as nothing was learned.
    """

    policy: PolicyName = "documented"
    promote_min_uses: int = 3
    promote_window_days: float = 7.0
    expire_after_days: float = 7.0
    ssd_min_free_bytes: int = 30 * GIB
    precache: bool = True
    precache_top: int = 5
    victim_weight: float = 1.5
    """h: how much more a forecast second counts when it is taken away than when it is given."""
    write_price_s_per_gb: float = 3.5
    """k: the seconds that writing 1 GB has to save."""
    protect_override: float = 1.5
    """h for copies that are idle for less than `expire_after_days`; 0 protects them for good."""
    calibration: bool = True
    wear_budget_bytes: int = 0
    """May be written in a day; 0 for no limit."""
    give_back: bool = True
    """Whether gain spares what turned out not to be needed."""
    wanted_because: str = ""
    """Why any load from a slow tier warrants a copy; empty where a model's use has to."""
    speeds: Speeds = Speeds()


class Space(Struct, frozen=True, kw_only=True):
    """What the SSD has."""

    total_bytes: int
    free_bytes: int
    """Free now, less what copies that are under way will still take."""
    written_today_bytes: int = 0


class Holding(Struct, frozen=True, kw_only=True):
    """One model as the policy sees it."""

    model_id: str
    name: str
    size_bytes: int
    """Of one copy, with its mmproj."""
    rank: float
    idle_days: float
    uses: int
    """Ever, the present one included."""
    recent_uses: int = 0
    """In `promote_window_days`; asked of a candidate only."""
    source_tier: str = "hdd1"
    """The slow tier that it would be read from; empty where it is on the SSD only."""
    on_ssd: bool = False
    ours: bool = True
    """modeld made the copy on the SSD."""
    running: bool = False
    pinned: bool = False
    copying: bool = False

    @property
    def held_because(self) -> str:
        """Why its copy must not be expired whatever it is worth; empty where it may be."""
        for holds, why in (
            (self.running, "it runs"),
            (self.pinned, "it is pinned"),
            (not self.source_tier, "it is only on the SSD"),
            (self.copying, "it is being copied"),
            (not self.ours, "modeld did not put it there"),
        ):
            if holds:
                return why
        return ""


class Expiry(Struct, frozen=True, kw_only=True):
    """One copy that gives way."""

    model_id: str
    name: str
    size_bytes: int
    rank: float
    idle_days: float
    lost_seconds: float
    """What the forecast says is lost in 7 days, weighted; 0 in the documented policy."""
    reason: str


class Decision(Struct, frozen=True, kw_only=True):
    """What becomes of one model, why, and the numbers that it was decided by."""

    model_id: str
    name: str
    size_bytes: int
    answer: Answer
    because: Because
    reason: str
    """One sentence with the inequality."""
    expire: tuple[Expiry, ...] = ()
    """To be expired first, in this order; empty unless the answer is `copy`."""
    numbers: dict[str, float] = field(default_factory=dict)
    predictive: bool = False
