"""
A virtual SSD that a history of loads is played against, through the daemon's own decisions.

`VirtualSsd` keeps what the daemon keeps (the state, what lies where, what runs, which copies are
under way) and asks `stats`, `rank`, `calibration` and `tiers` at every load, as the daemon does.
No disk, no process and no clock: time is the time of the loads, which must not go back.
"""

import heapq
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from modeld.core import calibration, rank, stats
from modeld.core.calibration import Calibration
from modeld.core.entities import ModelStats, State
from modeld.core.rank import DAY_SECONDS, RankTerms, Weights
from modeld.core.tiers import CachePolicy, Decision, Holding, Space, decide, precache

DOCUMENTED_WEIGHTS = Weights(recent_7d=10, recent_30d=3, total=0.5, recency_days=7, idle_day=2)


class Load(Struct, frozen=True):
    """One load of a history."""

    at: float
    """[unix s]"""
    model_id: str
    seconds: float = 0.0
    """How long it runs; 0 where that is unknown."""


class Access(Struct, frozen=True, kw_only=True):
    """What one load did to the SSD."""

    hit: bool
    """It was served from there."""
    written: tuple[str, ...] = ()
    """The models that were copied to it."""
    expired: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    """What was decided; a cache that gives no reasons has none."""


class Cache(Protocol):
    """Whatever decides what lies on the SSD."""

    def access(self, load: Load) -> Access:
        """Serve one load."""


class Rules(Struct, frozen=True, kw_only=True):
    """Everything that decides, beside the history."""

    policy: CachePolicy = CachePolicy()
    weights: Weights = DOCUMENTED_WEIGHTS
    formula: rank.Formula = "documented"
    runtime_weight: bool = True
    instant: bool = False
    """Whether a copy takes no time."""


class Finished(Struct, frozen=True):
    """A copy that was published."""

    at: float
    model_id: str


class Start(Struct, frozen=True, kw_only=True):
    """What there was before the first load."""

    state: State = State()
    residents: tuple[str, ...] = ()
    """On the SSD, by modeld."""
    ssd_only: tuple[str, ...] = ()
    """On the SSD and nowhere else."""
    pinned: tuple[str, ...] = ()


class VirtualSsd:
    """An SSD of `total_bytes` under the daemon's policy."""

    def __init__(
        self,
        sizes_bytes: Mapping[str, int],
        total_bytes: int,
        rules: Rules,
        start: Start | None = None,
    ) -> None:
        start = start or Start()
        self.state = start.state
        self.rules = rules
        self._sizes = sizes_bytes
        self._total_bytes = total_bytes
        self._ssd_only = frozenset(start.ssd_only)
        self._pinned = frozenset(start.pinned)
        self._on_ssd: dict[str, None] = dict.fromkeys((*start.residents, *start.ssd_only))
        self._used_bytes = sum(sizes_bytes[one] for one in self._on_ssd)
        self._copying: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._ends: list[tuple[float, int, Load]] = []
        self._count = 0
        self._written_days: dict[int, int] = {}
        self._calibration = Calibration()

    @property
    def ssd_only(self) -> tuple[str, ...]:
        """What lies on it and nowhere else."""
        return tuple(sorted(self._ssd_only))

    @property
    def residents(self) -> tuple[str, ...]:
        """What lies on it, the longest there first."""
        return tuple(self._on_ssd)

    @property
    def free_bytes(self) -> int:
        """Free, less what copies that are under way will still take."""
        return self._total_bytes - self._used_bytes

    def access(self, load: Load) -> Access:
        """Serve one load: count it, decide, copy, expire."""
        self.finish(load.at)
        self._end_servers(load.at)
        self.state = stats.count_use(self.state, load.model_id, load.at)
        hit = load.model_id in self._on_ssd
        self._run(load)
        candidate = self._candidate(load)
        factor = 1.0
        policy = self.rules.policy
        if policy.policy == "gain" and policy.calibration:
            fresh = calibration.forecast(load.model_id, candidate.uses, candidate.rank, load.at)
            self._calibration = calibration.observe(self._calibration, self.state.models, fresh)
            factor = self._calibration.factor(candidate.uses)
        others = (self.holding(one, load.at) for one in self._on_ssd if one != load.model_id)
        decision = decide(candidate, others, self.space(load.at), policy, factor=factor)
        decisions = [decision]
        if decision.answer == "copy":
            self._commit(decision, load.at)
            if decision.expire:
                every = [self.holding(one, load.at) for one in self._sizes]
                unasked = precache(every, self.space(load.at), policy)
                if unasked is not None:
                    self._commit(unasked, load.at)
                    decisions.append(unasked)
        return Access(
            hit=hit,
            written=tuple(one.model_id for one in decisions if one.answer == "copy"),
            expired=tuple(gone.model_id for one in decisions for gone in one.expire),
            decisions=tuple(decisions),
        )

    def finish(self, now: float) -> list[Finished]:
        """Publish the copies that are done by `now`; return them in the order of their ends."""
        done = sorted((at, one) for one, at in self._copying.items() if at <= now)
        for _, model_id in done:
            del self._copying[model_id]
            self._on_ssd[model_id] = None
        return [Finished(at, model_id) for at, model_id in done]

    def terms(self, model_id: str, now: float) -> RankTerms:
        """Return the rank of a model, with its terms."""
        known = self.state.models.get(model_id, ModelStats())
        if self.rules.formula == "legacy":
            return rank.legacy(known, now)
        return rank.documented(
            known, now, self.rules.weights, runtime_weight=self.rules.runtime_weight
        )

    def holding(self, model_id: str, now: float) -> Holding:
        """Return a model as the policy sees it."""
        terms = self.terms(model_id, now)
        known = self.state.models.get(model_id)
        return Holding(
            model_id=model_id,
            name=model_id,
            size_bytes=self._sizes[model_id],
            rank=terms.rank,
            idle_days=terms.idle_days,
            uses=known.total_uses if known else 0,
            source_tier="" if model_id in self._ssd_only else "hdd1",
            on_ssd=model_id in self._on_ssd,
            running=self._running.get(model_id, 0.0) > now,
            pinned=model_id in self._pinned,
            copying=model_id in self._copying,
        )

    def space(self, now: float) -> Space:
        """Return what the policy is told of the SSD."""
        return Space(
            total_bytes=self._total_bytes,
            free_bytes=self.free_bytes,
            written_today_bytes=self._written_days.get(int(now // DAY_SECONDS), 0),
        )

    def _candidate(self, load: Load) -> Holding:
        days = self.rules.policy.promote_window_days
        recent = stats.uses_within(self.state.models[load.model_id], days, load.at)
        return replace(self.holding(load.model_id, load.at), recent_uses=recent)

    def _commit(self, decision: Decision, now: float) -> None:
        for gone in decision.expire:
            del self._on_ssd[gone.model_id]
            self._used_bytes -= gone.size_bytes
        self._used_bytes += decision.size_bytes
        day = int(now // DAY_SECONDS)
        self._written_days[day] = self._written_days.get(day, 0) + decision.size_bytes
        if self.rules.instant:
            self._on_ssd[decision.model_id] = None
            return
        busy_until = max(self._copying.values(), default=now)  # one reader a disk
        took = decision.size_bytes / self.rules.policy.speeds.hdd_bytes_per_s
        self._copying[decision.model_id] = max(now, busy_until) + took

    def _run(self, load: Load) -> None:
        if load.seconds <= 0:
            return
        end = load.at + load.seconds
        self._running[load.model_id] = max(end, self._running.get(load.model_id, 0.0))
        self._count += 1
        heapq.heappush(self._ends, (end, self._count, load))

    def _end_servers(self, now: float) -> None:
        """Count the run time of what has ended by `now`."""
        while self._ends and self._ends[0][0] <= now:
            _, number, load = heapq.heappop(self._ends)
            self.state = stats.count_runtime(
                self.state,
                load.model_id,
                f"simulated-{number}",
                seconds=load.seconds,
                closed=True,
                started_at=load.at,
            )
