"""
What a history of loads would have cost under one policy or another, and at best.

Measures, all from one pass over the history (`tiers.md` calls them the same):

    stall     seconds that loads take, size / rate of where they are read from; a model that is in
              the page cache is read at memory speed whatever disk holds it
    saved     stall without an SSD - stall
    yield     saved / GB written to the SSD
    regretted expiries of what is loaded again within 7 days
    bound     more than any demand-filled SSD of this size can save: each span between two loads of
              one model may be kept in part, and the SSD may be overfull now if it is less full
              later.  So the shortest spans are taken until the capacity x time is used up.

Nothing here decides about the user's disks.
"""

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.baselines import BASELINES
from modeld.core.replay import Cache, Load, Rules, VirtualSsd
from modeld.core.tiers import Speeds
from modeld.units import GIB

RAM_BYTES_PER_S = 8.0 * GIB
REGRET_SECONDS = 7 * 86_400.0
DAY_SECONDS = 86_400.0


class Trace(Struct, frozen=True, kw_only=True):
    """A history, and the machine that it is played on."""

    loads: tuple[Load, ...]
    sizes_bytes: dict[str, int]
    ram_bytes: int = 0
    """Page cache; 0 for none."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What a policy made of a history."""

    name: str
    loads: int = 0
    uncached_s: float = 0.0
    """The stall without an SSD."""
    saved_s: float = 0.0
    written_bytes: int = 0
    ssd_bytes: int = 0
    """Served from the SSD, loads out of the page cache not counted."""
    hdd_bytes: int = 0
    expiries: int = 0
    regretted: int = 0
    days: float = 0.0
    bound_s: float = 0.0

    @property
    def yield_s_per_gb(self) -> float:
        """Seconds saved for each GB written; of a GB at least, so that nothing is divided by 0."""
        return self.saved_s / max(1.0, self.written_bytes / GIB)

    @property
    def written_gb_a_day(self) -> float:
        """GB written a day."""
        return self.written_bytes / GIB / max(self.days, 1.0)

    @property
    def of_bound(self) -> float:
        """The share of the offline bound; 1 where there is nothing to save."""
        return self.saved_s / self.bound_s if self.bound_s else 1.0


def page_cache_hits(trace: Trace) -> list[bool]:
    """Return which loads the page cache serves: the least recently used of its files go."""
    resident: OrderedDict[str, None] = OrderedDict()
    used, hits = 0, []
    for load in trace.loads:
        size = trace.sizes_bytes[load.model_id]
        hits.append(load.model_id in resident)
        if hits[-1]:
            resident.move_to_end(load.model_id)
        elif size <= trace.ram_bytes:
            resident[load.model_id] = None
            used += size
            while used > trace.ram_bytes:
                used -= trace.sizes_bytes[resident.popitem(last=False)[0]]
    return hits


def play(
    name: str, cache: Cache, trace: Trace, in_memory: Sequence[bool], *, speeds: Speeds
) -> Outcome:
    """
    Return what a cache makes of a history.

    Args:
        name: Of the outcome.
        cache: Fresh; it is asked for every load, whether or not the page cache serves it.
        trace: The history.
        in_memory: From `page_cache_hits`.
        speeds: Of the tiers.
    """
    uncached = saved = 0.0
    written = from_ssd = from_hdd = expiries = regretted = 0
    expired_at: dict[str, float] = {}
    for load, cached in zip(trace.loads, in_memory, strict=True):
        size = trace.sizes_bytes[load.model_id]
        access = cache.access(load)
        uncached += size / (RAM_BYTES_PER_S if cached else speeds.hdd_bytes_per_s)
        if not cached:
            saved += speeds.seconds_saved(size, "hdd1") if access.hit else 0.0
            from_ssd += size if access.hit else 0
            from_hdd += 0 if access.hit else size
        if load.at - expired_at.pop(load.model_id, -inf) <= REGRET_SECONDS:
            regretted += 1
        written += sum(trace.sizes_bytes[one] for one in access.written)
        expiries += len(access.expired)
        expired_at.update(dict.fromkeys(access.expired, load.at))
    days = (trace.loads[-1].at - trace.loads[0].at) / DAY_SECONDS if trace.loads else 0.0
    return Outcome(
        name=name,
        loads=len(trace.loads),
        uncached_s=uncached,
        saved_s=saved,
        written_bytes=written,
        ssd_bytes=from_ssd,
        hdd_bytes=from_hdd,
        expiries=expiries,
        regretted=regretted,
        days=days,
    )


def bound(trace: Trace, total_bytes: int, in_memory: Sequence[bool], *, speeds: Speeds) -> float:
    """Return more seconds than any demand-filled SSD of `total_bytes` can save."""
    last: dict[str, int] = {}
    spans: list[tuple[int, int, float]] = []
    for position, (load, cached) in enumerate(zip(trace.loads, in_memory, strict=True)):
        size = trace.sizes_bytes[load.model_id]
        began = last.get(load.model_id)
        last[load.model_id] = position
        if began is not None and not cached and size <= total_bytes:
            spans.append((position - began, size, speeds.seconds_saved(size, "hdd1")))
    left, saved = float(total_bytes * len(trace.loads)), 0.0
    for length, size, seconds in sorted(spans):  # worth / (size x length) falls with the length
        share = min(1.0, left / (length * size))
        saved += share * seconds
        left -= share * length * size
        if left <= 0:
            break
    return saved


def compare(trace: Trace, total_bytes: int, rules: Rules) -> list[Outcome]:
    """
    Return what each policy makes of a history on an empty SSD, the baselines first.

    All may fill the SSD down to the floor of the policy, and all copy in no time, so that they
    differ in nothing but what they decide.

    Args:
        trace: The history.
        total_bytes: Of the SSD.
        rules: The user's; the policy's name is replaced by each in turn.
    """
    in_memory = page_cache_hits(trace)
    rules, speeds = replace(rules, instant=True), rules.policy.speeds
    room = max(0, total_bytes - rules.policy.ssd_min_free_bytes)
    most = bound(trace, room, in_memory, speeds=speeds)
    caches: dict[str, Cache] = {
        name: make(trace.sizes_bytes, room) for name, make in BASELINES.items()
    }
    for name in ("documented", "gain"):
        mine = replace(rules, policy=replace(rules.policy, policy=name))
        caches[name] = VirtualSsd(trace.sizes_bytes, total_bytes, mine)
    return [
        replace(play(name, cache, trace, in_memory, speeds=speeds), bound_s=most)
        for name, cache in caches.items()
    ]
