"""
What people ask of the SSD: show it, plan, promote, evict, pause, resume, cancel, verify, rank.

The decisions are those of `core.tiers`, the doing is `cache`'s.  A person may ask for a copy that
the policy would not make, but not for one that has no room, nor for the end of the last copy.
"""

from msgspec import Struct
from msgspec.structs import replace

from modeld.core import tiers
from modeld.core.entities import Model
from modeld.core.events import CacheAsked, CopiesVerified
from modeld.core.holdings import Decision, Expiry
from modeld.errors import Busy, Inactive, Refused, Usage
from modeld.supervisor import settings
from modeld.supervisor.cache import Cache
from modeld.supervisor.choosing import choose
from modeld.supervisor.copies import SSD, Copy, on_ssd
from modeld.supervisor.ranking import terms
from modeld.supervisor.world import World
from modeld.units import format_bytes
from modeld.wire import cache as wire

MAX_VERIFICATIONS = 16


class CacheAsks:
    """Answers what is asked of the tiers."""

    def __init__(self, world: World, cache: Cache) -> None:
        self._world = world
        self._cache = cache
        self._verifying: list[str] = []

    # --- changing ----------------------------------------------------------------------------

    def on_asked(self, ask: CacheAsked) -> None:
        """Change something about the SSD, or say what would be changed."""
        model = None
        if ask.selection is not None:
            model = choose(self._world, ask.selection).model
        match ask.action:
            case "promote":
                reply: Struct = self._promote(_required(model), dry_run=ask.dry_run)
            case "evict":
                reply = self._evict(_required(model), dry_run=ask.dry_run)
            case "verify":
                return self._verify(ask.request_id, model)
            case action:
                reply = self._steer(action, model, dry_run=ask.dry_run)
        self._world.answer(ask.request_id, reply)
        return None

    def on_verified(self, event: CopiesVerified) -> None:
        """Copies were read again: what is damaged is not served any more."""
        world = self._world
        for path in event.damaged:
            world.ports.journal.record(
                "copy-damaged",
                f"{path} on the SSD is not what modeld wrote: it is removed",
                priority=3,
            )
        if event.damaged:
            self._cache.whereabouts.remove_paths(event.damaged)
        reply = wire.CacheVerified(intact=event.intact, damaged=event.damaged, error=event.error)
        waiting, self._verifying = self._verifying, []
        for request_id in waiting:
            world.answer(request_id, reply)

    def _promote(self, model: Model, *, dry_run: bool) -> wire.CacheChanged:
        """Copy a model that somebody wants on the SSD, however little it was used."""
        policy = settings.cache_policy(self._world.config)
        holding = self._cache.holding(model)
        wanted = replace(holding, recent_uses=max(holding.recent_uses, policy.promote_min_uses))
        decision = self._cache.judge(model, wanted, replace(policy, policy="documented"))
        if decision.answer != "copy":
            raise Refused(decision.reason, hint="modelctl cache show; modelctl cache evict MODEL")
        what, _, why = decision.reason.partition(": ")
        room = why.partition("; ")[2]
        decision = replace(decision, reason=f"{what}: somebody asked for it; {room}")
        if not dry_run:
            self._cache.begin(model, decision, urgent=False)
        return wire.CacheChanged(decisions=_told(decision), dry_run=dry_run)

    def _evict(self, model: Model, *, dry_run: bool) -> wire.CacheChanged:
        """Remove a model's copy from the SSD; its original stays where it is."""
        holding = self._cache.holding(model)
        if on_ssd(model) is None:
            raise Inactive(f"{model.name} is not on the SSD", hint="modelctl cache show")
        if holding.held_because:
            raise Refused(
                f"{model.name} stays on the SSD: {holding.held_because}",
                hint="modelctl unload or unpin it first" if holding.source_tier else
                "copy it to a slow tier first: the last copy is never removed",
            )  # fmt: skip
        expiry = Expiry(
            model_id=model.id,
            name=self._world.label(model.id),
            size_bytes=holding.size_bytes,
            rank=holding.rank,
            idle_days=holding.idle_days,
            lost_seconds=0.0,
            reason="somebody asked for it",
        )
        if not dry_run:
            self._cache.expire(expiry)
        told = wire.CacheDecision(
            action="expire",
            model=expiry.name,
            size_bytes=expiry.size_bytes,
            reason=f"it stays on {holding.source_tier}",
        )
        return wire.CacheChanged(decisions=(told,), dry_run=dry_run)

    def _steer(self, action: str, model: Model | None, *, dry_run: bool) -> wire.CacheChanged:
        """Pause, resume or cancel copies: of one model, or all."""
        copies = [
            each
            for each in self._cache.copies.values()
            if model is None or each.order.model_id == model.id
        ]
        if not copies and model is not None:
            raise Inactive(f"{model.name} is not being copied", hint="modelctl cache show")
        for copy in copies if not dry_run else ():
            self._cache.steer(copy, action)
        return wire.CacheChanged(
            decisions=tuple(
                wire.CacheDecision(action=action, model=each.name, size_bytes=each.total_bytes)
                for each in copies
            ),
            dry_run=dry_run,
        )

    def _verify(self, request_id: str, model: Model | None) -> None:
        """Have copies read again; answered when they are."""
        if len(self._verifying) >= MAX_VERIFICATIONS:
            raise Busy("enough verifications are under way", retry_after_s=10)
        paths = self._cache.whereabouts.own_paths(model)
        if not paths:
            self._world.answer(request_id, wire.CacheVerified())
            return
        self._verifying.append(request_id)
        self._cache.whereabouts.verify(paths)

    # --- looking -----------------------------------------------------------------------------

    def report(self) -> wire.CacheReport:
        """Return the tiers and the copies under way."""
        world = self._world
        rows = []
        for folder in settings.folders(world.config, world.home):
            here = [
                location
                for model in world.models.values()
                for location in model.locations
                if location.tier == folder.tier
            ]
            space = self._cache.space.get(folder.tier)
            rows.append(
                wire.TierRow(
                    tier=folder.tier,
                    path=folder.path,
                    total_bytes=space.total_bytes if space else 0,
                    free_bytes=space.free_bytes if space else 0,
                    models=len(here),
                    model_bytes=sum(location.size_bytes for location in here),
                    problem=space.problem if space else "",
                )
            )
        wear = world.state.wear
        return wire.CacheReport(
            tiers=tuple(rows),
            copies=tuple(copy_row(each) for each in self._cache.copies.values()),
            policy=world.config.cache.policy,
            copied_bytes=wear.copied_bytes,
            expiries=wear.expiries,
            regretted_expiries=wear.regretted_expiries,
        )

    def plan(self, free_bytes: int) -> wire.CacheChanged:
        """Return what would be expired to have so much free, and what is worth a copy now."""
        world = self._world
        policy = settings.cache_policy(world.config)
        holdings = self._cache.holdings().values()
        residents = [each for each in holdings if each.on_ssd]
        space = self._cache.space.get(SSD)
        free = space.free_bytes if space else 0
        told = []
        for one in tiers.expiry_order(residents, policy):
            if free >= max(free_bytes, policy.ssd_min_free_bytes):
                break
            free += one.size_bytes
            why = f"rank {one.rank:.1f}, idle {one.idle_days:.1f} d; {format_bytes(free)} free then"
            told.append(
                wire.CacheDecision(
                    action="expire", model=one.name, size_bytes=one.size_bytes, reason=why
                )
            )
        by_use = replace(policy, wanted_because="")  # nobody loads them now
        for one in sorted(holdings, key=lambda each: -each.rank) if not free_bytes else ():
            decision = self._cache.judge(world.models[one.model_id], one, by_use, residents)
            if decision.answer == "copy":
                told += _told(decision)
        return wire.CacheChanged(decisions=tuple(told), dry_run=True)

    def rank(self, only: Model | None) -> wire.RankReport:
        """Return ranks with their terms, highest first."""
        world = self._world
        rows = []
        policy, is_tiered = settings.cache_policy(world.config), self._cache.is_tiered
        holdings = self._cache.holdings()
        residents = [each for each in holdings.values() if each.on_ssd]
        for model_id, each in sorted(terms(world).items(), key=lambda item: -item[1].rank):
            model = world.models[model_id]
            if only is not None and model.id != only.id:
                continue
            rows.append(
                wire.RankRow(
                    name=world.label(model_id),
                    id=model_id,
                    rank=round(each.rank, 3),
                    idle_days=round(each.idle_days, 3),
                    terms={name: round(points, 3) for name, points in each.points.items()},
                    tiers=tuple(location.tier for location in model.locations),
                    verdict=self._cache.judge(model, holdings[model_id], policy, residents).reason
                    if is_tiered
                    else "",
                )
            )
        return wire.RankReport(ranks=tuple(rows), formula=world.config.rank.formula)


def copy_row(copy: Copy) -> wire.CopyRow:
    """Return one copy under way."""
    rate = copy.rate_bytes_per_s
    left = copy.total_bytes - copy.copied_bytes
    return wire.CopyRow(
        copy_id=copy.order.copy_id,
        model=copy.name,
        copied_bytes=copy.copied_bytes,
        total_bytes=copy.total_bytes,
        rate_bytes_per_s=round(rate, 1),
        eta_s=round(left / rate, 1) if rate > 0 and not copy.paused else -1.0,
        paused=copy.paused,
        urgent=copy.order.urgent,
    )


def _told(decision: Decision) -> tuple[wire.CacheDecision, ...]:
    """Return a decision as it travels: what is expired for it first."""
    expired = tuple(
        wire.CacheDecision(
            action="expire", model=each.name, size_bytes=each.size_bytes, reason=each.reason
        )
        for each in decision.expire
    )
    copied = wire.CacheDecision(
        action="copy",
        model=decision.name,
        size_bytes=decision.size_bytes,
        reason=decision.reason,
    )
    return (*expired, copied)


def _required(model: Model | None) -> Model:
    if model is None:
        raise Usage("which model?", hint="modelctl cache promote MODEL")
    return model
