"""
Which models deserve a copy on the SSD, and which copies give way.

Decisions only: nothing is copied or removed here, no clock is read, no rank is computed.  Every
answer carries its numbers and one sentence with the inequality that decided; the daemon, the
plan that `modelctl cache plan` shows and the simulator get it from these very functions.

Step 1 of `decide`, whether the model deserves it:

    documented   uses in `promote_window_days` >= `promote_min_uses`
    gain         d (L s) >= k s, else not even an empty SSD would be worth the write
    either       the policy says why any load does: then only room and wear decide, and in gain
                 nothing is expired for it that step 3 would not let go

Step 2, room, so that `ssd_min_free_bytes` stay free after the copy:

    documented   copies idle `expire_after_days` or longer, lowest rank first, stopping as soon as
                 enough is free
    gain         the same order, and fresher ones too where `protect_override` is set; what turns
                 out not to be needed is given back, the largest first

Step 3, only in gain, what it is worth in seconds on both sides:

    d (L s - sum over the expired of h L' s') >= k s

d is what a byte costs more from its slow tier than from the SSD, L the loads that the rank
forecasts for the next 7 days (`core.calibration` corrects it for the candidate), s the size, k
the price of a byte written, h the weight of what is lost (`protect_override` for fresher ones).

Never expired, whatever it is worth: what runs, is pinned, is only on the SSD, is being copied, or
was put there by somebody else.  All or nothing: where room can't be made, nothing is expired.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from modeld.core.calibration import expected_loads
from modeld.core.holdings import Because, CachePolicy, Decision, Expiry, Holding, Space, Speeds
from modeld.units import GIB, format_bytes

__all__ = [
    "CachePolicy",
    "Decision",
    "Expiry",
    "Holding",
    "Space",
    "Speeds",
    "decide",
    "expiry_order",
    "precache",
    "protected_because",
]

PRECACHE_PRICE = 2.0
"""Nobody asked for a predictive copy: it has to be worth twice the price."""


class _Room(Struct, frozen=True):
    """What would go, and how much is free above the floor then, the copy not yet counted."""

    victims: tuple[Holding, ...]
    available_bytes: int


def decide(
    candidate: Holding,
    residents: Iterable[Holding],
    space: Space,
    policy: CachePolicy,
    *,
    factor: float = 1.0,
) -> Decision:
    """
    Return whether a model that is used now is copied to the SSD, and what is expired for it.

    Args:
        candidate: The model, its present use counted.
        residents: The other models on the SSD; looked at only where room has to be made.
        space: What the SSD has.
        policy: The rules.
        factor: What experience says to multiply the candidate's forecast with.
    """
    refusal = _unfit(candidate, space, policy)
    if refusal is not None:
        return refusal
    undeserved = _undeserved(candidate, policy, factor)
    if undeserved is not None and not policy.wanted_because:
        return undeserved
    room = _make_room(candidate, residents, space, policy)
    if room.available_bytes < candidate.size_bytes:
        return _stay(
            candidate,
            "no-room",
            f"{_free(space)} + {format_bytes(_freed(room.victims))} that may expire"
            f" - {format_bytes(candidate.size_bytes)} < {_floor(policy)} to keep free",
            available_bytes=float(room.available_bytes),
        )
    if policy.policy == "gain" and (room.victims or undeserved is None):
        return _weigh(candidate, room.victims, policy, factor)
    why = policy.wanted_because
    if undeserved is None:
        why = (
            f"{_uses(candidate.recent_uses)} in {policy.promote_window_days:g} days"
            f" >= {policy.promote_min_uses}"
        )
    return _copy(candidate, room.victims, space, policy, why=why)


def precache(models: Iterable[Holding], space: Space, policy: CachePolicy) -> Decision | None:
    """
    Return the copy to make unasked after an expiry; None where there is none worth it.

    The first of the `precache_top` highest ranks that is not on the SSD, fits what is free, and
    could not be expired at once.  Nothing is ever expired for it.

    Args:
        models: All models, those on the SSD included: they take places among the top.
        space: What the SSD has after the expiry and the copy that it was for.
        policy: The rules.
    """
    if not policy.precache:
        return None
    ranked = sorted(models, key=lambda one: (-one.rank, one.model_id))[: policy.precache_top]
    for place, one in enumerate(ranked, 1):
        fresh = one.uses > 0 and one.idle_days < policy.expire_after_days
        if not fresh or _unfit(one, space, policy) is not None:
            continue
        if _above_floor(space, policy) < one.size_bytes:
            continue
        saved, price = _saved(one, policy, 1.0), PRECACHE_PRICE * _price(one, policy)
        if policy.policy == "gain" and saved < price:
            continue
        why = f"rank {one.rank:.1f} is number {place} <= {policy.precache_top}"
        if policy.policy == "gain":
            why += f", forecast {saved:.0f} s saved >= {price:.0f} s, {PRECACHE_PRICE:g} times its"
            why += " copy price"
        return _copy(one, (), space, policy, why=why, predictive=True)
    return None


def protected_because(holding: Holding, policy: CachePolicy) -> str:
    """Return why the policy would not expire this copy today; empty where it might."""
    if holding.held_because:
        return holding.held_because
    if _stale(holding, policy) or (policy.policy == "gain" and policy.protect_override > 0):
        return ""
    return f"idle {_days(holding.idle_days)} < {policy.expire_after_days:g} d"


def expiry_order(residents: Iterable[Holding], policy: CachePolicy) -> list[Holding]:
    """Return the copies that may be expired, the first to go first."""
    eligible = [one for one in residents if one.on_ssd and not protected_because(one, policy)]
    return sorted(eligible, key=lambda one: (one.rank, one.model_id))


def _unfit(candidate: Holding, space: Space, policy: CachePolicy) -> Decision | None:
    """Return why no SSD would take it, before anything is counted or weighed; None if it may."""
    if candidate.copying:
        return _stay(candidate, "copying", "it is being copied already")
    if candidate.on_ssd:
        return _stay(candidate, "there", "it is on the SSD already")
    if not candidate.source_tier:
        return _stay(candidate, "no-source", "it is on no slow tier to copy from")
    most = space.total_bytes - policy.ssd_min_free_bytes
    if candidate.size_bytes > most:
        sentence = f"{format_bytes(candidate.size_bytes)} > {format_bytes(max(0, most))}, all that"
        return _stay(candidate, "too-large", f"{sentence} the SSD may hold")
    written = space.written_today_bytes + candidate.size_bytes
    if policy.wear_budget_bytes and written > policy.wear_budget_bytes:
        return _stay(
            candidate,
            "wear",
            f"{format_bytes(space.written_today_bytes)} written today +"
            f" {format_bytes(candidate.size_bytes)} > {format_bytes(policy.wear_budget_bytes)} a"
            " day",
            written_bytes=float(written),
        )
    return None


def _undeserved(candidate: Holding, policy: CachePolicy, factor: float) -> Decision | None:
    """Return why its use does not warrant a copy, step 1; None if it does."""
    if policy.policy == "documented":
        if candidate.recent_uses >= policy.promote_min_uses:
            return None
        return _stay(
            candidate,
            "too-few-uses",
            f"{_uses(candidate.recent_uses)} in {policy.promote_window_days:g} days"
            f" < {policy.promote_min_uses}",
            recent_uses=float(candidate.recent_uses),
        )
    saved, price = _saved(candidate, policy, factor), _price(candidate, policy)
    if saved >= price:
        return None
    return _stay(
        candidate,
        "not-worth",
        f"{_forecast(candidate, policy, factor)} = {saved:.0f} s saved < copy price {price:.0f} s",
        saved_seconds=saved,
        price_seconds=price,
    )


def _make_room(
    candidate: Holding, residents: Iterable[Holding], space: Space, policy: CachePolicy
) -> _Room:
    """Return what to expire so that the candidate fits, step 2, or all that could be."""
    available = _above_floor(space, policy)
    if available >= candidate.size_bytes:
        return _Room((), available)
    victims: list[Holding] = []
    for one in expiry_order(residents, policy):
        victims.append(one)
        available += one.size_bytes
        if available >= candidate.size_bytes:
            break
    if policy.policy == "gain" and policy.give_back:
        for one in sorted(victims, key=lambda each: (-each.size_bytes, each.model_id)):
            if available - one.size_bytes >= candidate.size_bytes:
                victims.remove(one)
                available -= one.size_bytes
    return _Room(tuple(victims), available)


def _weigh(
    candidate: Holding,
    victims: Sequence[Holding],
    policy: CachePolicy,
    factor: float,
) -> Decision:
    """Return the decision of step 3: seconds that are saved against seconds that are lost."""
    saved, price = _saved(candidate, policy, factor), _price(candidate, policy)
    expire = tuple(_lossy_expiry(one, policy) for one in victims)
    lost = sum(one.lost_seconds for one in expire)
    net = saved - lost - price
    sentence = f"{_forecast(candidate, policy, factor)} = {saved:.0f} s saved"
    sentence += "".join(f"; expires {one.reason}" for one in expire)
    sentence += f"; copy price {price:.0f} s; net {net:+.0f} s {'>=' if net >= 0 else '<'} 0"
    numbers = {
        "forecast_loads": expected_loads(candidate.rank) * factor,
        "saved_seconds": saved,
        "lost_seconds": lost,
        "price_seconds": price,
        "net_seconds": net,
    }
    if net < 0:
        return _stay(candidate, "not-worth", sentence, **numbers)
    return Decision(
        model_id=candidate.model_id,
        name=candidate.name,
        size_bytes=candidate.size_bytes,
        answer="copy",
        because="deserved",
        reason=f"copy {_named(candidate)}: {sentence}",
        expire=expire,
        numbers=numbers,
    )


def _lossy_expiry(one: Holding, policy: CachePolicy) -> Expiry:
    weight = policy.victim_weight if _stale(one, policy) else policy.protect_override
    loads = expected_loads(one.rank)
    seconds = policy.speeds.seconds_saved(one.size_bytes, one.source_tier)
    lost = weight * loads * seconds
    why = f": forecast {loads:.2f} loads/7d x {seconds:.0f} s x {weight:g} = {lost:.0f} s lost"
    return _expiry(one, why, lost)


def _expiry(one: Holding, why: str, lost_seconds: float = 0.0) -> Expiry:
    return Expiry(
        model_id=one.model_id,
        name=one.name,
        size_bytes=one.size_bytes,
        rank=one.rank,
        idle_days=one.idle_days,
        lost_seconds=lost_seconds,
        reason=f"{_named(one)}, rank {one.rank:.1f}, idle {_days(one.idle_days)}{why}",
    )


def _copy(
    candidate: Holding,
    victims: Sequence[Holding],
    space: Space,
    policy: CachePolicy,
    *,
    why: str,
    predictive: bool = False,
) -> Decision:
    freed = _freed(victims)
    left = space.free_bytes + freed - candidate.size_bytes
    stale = f" >= {policy.expire_after_days:g} d, the lowest rank first"
    freeing = f" + {format_bytes(freed)} expired" if victims else ""
    return Decision(
        model_id=candidate.model_id,
        name=candidate.name,
        size_bytes=candidate.size_bytes,
        answer="copy",
        because="deserved",
        reason=f"copy {_named(candidate)}: {why}; {_free(space)}{freeing}"
        f" - {format_bytes(candidate.size_bytes)} = {format_bytes(left)} >= {_floor(policy)} to"
        " keep free",
        expire=tuple(_expiry(one, stale) for one in victims),
        numbers={
            "recent_uses": float(candidate.recent_uses),
            "rank": candidate.rank,
            "freed_bytes": float(freed),
            "left_bytes": float(left),
        },
        predictive=predictive,
    )


def _stay(candidate: Holding, because: Because, why: str, **numbers: float) -> Decision:
    place = "the SSD" if candidate.on_ssd else candidate.source_tier or "no tier"
    return Decision(
        model_id=candidate.model_id,
        name=candidate.name,
        size_bytes=candidate.size_bytes,
        answer="stay",
        because=because,
        reason=f"{candidate.name} stays on {place}: {why}",
        numbers=numbers,
    )


def _stale(holding: Holding, policy: CachePolicy) -> bool:
    return holding.idle_days >= policy.expire_after_days


def _above_floor(space: Space, policy: CachePolicy) -> int:
    return space.free_bytes - policy.ssd_min_free_bytes


def _freed(victims: Iterable[Holding]) -> int:
    return sum(one.size_bytes for one in victims)


def _saved(one: Holding, policy: CachePolicy, factor: float) -> float:
    seconds = policy.speeds.seconds_saved(one.size_bytes, one.source_tier)
    return expected_loads(one.rank) * factor * seconds


def _price(one: Holding, policy: CachePolicy) -> float:
    return policy.write_price_s_per_gb * one.size_bytes / GIB


def _forecast(one: Holding, policy: CachePolicy, factor: float) -> str:
    learned = f" x {factor:.2f} learned" if factor != 1.0 else ""
    seconds = policy.speeds.seconds_saved(one.size_bytes, one.source_tier)
    return f"forecast {expected_loads(one.rank):.2f} loads/7d{learned} x {seconds:.0f} s"


def _named(one: Holding) -> str:
    return f"{one.name} ({format_bytes(one.size_bytes)})"


def _free(space: Space) -> str:
    return f"{format_bytes(space.free_bytes)} free"


def _floor(policy: CachePolicy) -> str:
    return format_bytes(policy.ssd_min_free_bytes)


def _days(days: float) -> str:
    return f"{days:.1f} d" if days < 9.95 else f"{days:.0f} d"


def _uses(count: int) -> str:
    return "1 use" if count == 1 else f"{count} uses"
