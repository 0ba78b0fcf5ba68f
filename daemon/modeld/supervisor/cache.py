"""
What lies on the SSD: copies begun, followed and published, stale ones expired, all with reasons.

A model that loads from a slow disk is judged by `core.tiers`.  Where it deserves a copy, one pass
over the disk serves both: the copier reads ahead of the server, which starts when everything has
been read once.  Nothing here is needed for serving: whatever fails, the model is served from
where it lies, and that is said once.
"""

import secrets
from collections.abc import Iterable, Iterator

from modeld.core import tiers
from modeld.core.calibration import Calibration, forecast, learn, observe
from modeld.core.entities import Model
from modeld.core.events import CopyEnded, CopyMoved, FilesRemoved, SpaceMeasured
from modeld.core.holdings import CachePolicy, Decision, Expiry, Holding, Space
from modeld.core.rank import DAY_SECONDS, RankTerms
from modeld.core.stats import count_use, note_copy, note_expiry
from modeld.supervisor import settings
from modeld.supervisor.copies import (
    SSD,
    Copy,
    files_of,
    on_ssd,
    progress,
    source_of,
)
from modeld.supervisor.ports import CopyOrder
from modeld.supervisor.ranking import rank_then, terms
from modeld.supervisor.saving import Saver
from modeld.supervisor.whereabouts import Whereabouts, ssd_folder
from modeld.supervisor.world import World
from modeld.units import MIB, format_bytes, format_duration

JOURNAL_SECONDS = 10.0
"""Between two words in the journal about one copy."""
SURVEY_SECONDS = 60.0
STALL_SECONDS = 30.0
"""A copy that stands still for so long is not waited for: the server reads by itself."""


class Cache:
    """Decides about the SSD by `core.tiers`, and has the copier do it."""

    def __init__(self, world: World, saver: Saver) -> None:
        self._world = world
        self._saver = saver
        self.copies: dict[str, Copy] = {}
        self.space: dict[str, SpaceMeasured] = {}
        self._calibration: Calibration | None = None
        self.whereabouts = Whereabouts(world)
        self._surveyed_at = 0.0
        self._told = ""
        self._written: list[tuple[float, int]] = []

    # --- deciding ----------------------------------------------------------------------------

    @property
    def is_tiered(self) -> bool:
        """Whether there is an SSD with a slow tier behind it, measured and writable."""
        return ssd_folder(self._world) is not None and self._space() is not None

    def judge(
        self,
        model: Model,
        holding: Holding,
        policy: CachePolicy | None = None,
        residents: Iterable[Holding] | None = None,
    ) -> Decision:
        """
        Return what `core.tiers` says of copying `model` now.

        Args:
            model: The model.
            holding: It, as the policy sees it.
            policy: The rules; the configured ones where None.
            residents: The others on the SSD; looked up where None, and only if that is needed.
        """
        policy = policy or settings.cache_policy(self._world.config)
        return tiers.decide(
            holding,
            self._residents(model) if residents is None else residents,
            self._space() or Space(total_bytes=0, free_bytes=0),
            policy,
            factor=self._factor(holding.uses) if policy.policy == "gain" else 1.0,
        )

    def _residents(self, model: Model) -> Iterator[Holding]:
        """Yield the other models on the SSD."""
        ranks = terms(self._world)
        for each in self._world.models.values():
            if each.id != model.id and on_ssd(each) is not None:
                yield self.holding(each, ranks)

    def holdings(self) -> dict[str, Holding]:
        """Return every model as the policy sees it, by id."""
        ranks = terms(self._world)
        return {key: self.holding(each, ranks) for key, each in self._world.models.items()}

    def note_use(self, model_id: str) -> None:
        """A use was counted: what was forecast can be held against what came."""
        world, now = self._world, self._world.ports.clock.now()
        if self._calibration is not None:
            stats = world.stats_of(model_id)
            fresh = forecast(model_id, stats.total_uses, rank_then(world, stats, now).rank, now)
            self._calibration = observe(self._calibration, world.state.models, fresh)

    def _factor(self, uses: int) -> float:
        """Return what experience says to multiply a forecast with; learned once, then kept."""
        world = self._world
        if not world.config.cache.calibration:
            return 1.0
        if self._calibration is None:
            self._calibration = learn(
                world.state.models, lambda stats, now: rank_then(world, stats, now).rank
            )
        return self._calibration.factor(uses)

    def consider(self, model: Model, *, urgent: bool) -> Copy | None:
        """
        Begin to copy a model that is being used, if that is worth it.

        With `urgent` somebody waits for the pages: the copy is the read-ahead of a server too.
        """
        under_way = self.copy_of(model.id)
        if under_way is not None:
            if urgent:
                self._world.ports.copier.make_urgent(under_way.order.copy_id)
            return under_way
        if not self.is_tiered:
            return None
        decision = self.judge(model, self.holding(model, using=True))
        if decision.answer != "copy":
            return None
        return self.begin(model, decision, urgent=urgent)

    def begin(self, model: Model, decision: Decision, *, urgent: bool) -> Copy:
        """Expire what the decision names, then copy."""
        world, folder = self._world, ssd_folder(self._world)
        assert folder is not None
        location = source_of(model)
        assert location is not None
        config = world.config.cache
        order = CopyOrder(
            copy_id=secrets.token_hex(8),
            model_id=model.id,
            files=files_of(location, settings.folder_of(world.config, world.home, location.tier)),
            target_path=folder.path,
            min_free_bytes=settings.cache_policy(world.config).ssd_min_free_bytes,
            rate_limit_bytes_per_s=int(config.copy_limit_mb_per_second * MIB),
            urgent=urgent,
        )
        copy = Copy(order, world.label(model.id), decision, set())
        self.copies[order.copy_id] = copy
        world.ports.journal.record(
            "copy-started", decision.reason, model=copy.name, tier=SSD, bytes=copy.total_bytes
        )
        for expiry in decision.expire:
            copy.waiting_for.add(expiry.model_id)
            self.expire(expiry)
        self._start(copy)
        return copy

    def expire(self, expiry: Expiry) -> None:
        """Remove a model's copy from the SSD, and say so in red."""
        world, folder = self._world, ssd_folder(self._world)
        model = world.models.get(expiry.model_id)
        location = on_ssd(model) if model is not None else None
        if folder is None or location is None:
            self._drop_wait(expiry.model_id)
            return
        idle = format_duration(expiry.idle_days * DAY_SECONDS)
        world.ports.journal.record(
            "expired",
            f"{expiry.name} ({format_bytes(expiry.size_bytes)}, rank {expiry.rank:.1f}, idle "
            f"{idle}) is expired from the SSD: {expiry.reason}",
            priority=3,
            model=expiry.name,
            bytes=expiry.size_bytes,
        )
        self._saver.observe(note_expiry(world.state, expiry.model_id, world.ports.clock.now()))
        paths = [*location.shard_paths, *self.whereabouts.own_projector(model)]
        self.whereabouts.leaving.update(paths)
        world.ports.copier.remove(expiry.model_id, folder.path, paths)

    def steer(self, copy: Copy, action: str) -> None:
        """Pause, resume or cancel a copy."""
        copier, copy_id = self._world.ports.copier, copy.order.copy_id
        match action:
            case "pause":
                copy.paused = True
                copier.pause(copy_id)
            case "resume":
                copy.paused = False
                copier.resume(copy_id)
            case _ if copy.started:
                copier.cancel(copy_id)
            case _:
                del self.copies[copy_id]

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence for each copy under way."""
        return tuple(f"copy {each.name} {progress(each)}" for each in self.copies.values())

    def copy_of(self, model_id: str) -> Copy | None:
        """Return the copy of a model that is under way."""
        return next(
            (each for each in self.copies.values() if each.order.model_id == model_id), None
        )

    def is_read(self, copy_id: str) -> bool:
        """Whether a copy has read its source once, or is over: nobody has to wait for it."""
        copy = self.copies.get(copy_id)
        if copy is None or copy.paused or copy.read_bytes >= copy.total_bytes:
            return True
        now, patience = self._world.ports.clock.monotonic(), STALL_SECONDS
        return copy.moved_at > 0 and now - copy.moved_at >= patience

    # --- events ------------------------------------------------------------------------------

    def on_moved(self, event: CopyMoved) -> None:
        """A copy goes on; the journal hears of it at sensible intervals."""
        copy = self.copies.get(event.copy_id)
        if copy is None:
            return
        copy.copied_bytes, copy.read_bytes = event.copied_bytes, event.read_bytes
        copy.rate_bytes_per_s = event.rate_bytes_per_s
        now = copy.moved_at = self._world.ports.clock.monotonic()
        if now - copy.said_at >= JOURNAL_SECONDS:
            copy.said_at = now
            self._world.ports.journal.record(
                "copying", f"{copy.name} to the SSD: {progress(copy)}", model=copy.name
            )

    def on_ended(self, event: CopyEnded) -> None:
        """A copy is published, or nothing of it is left."""
        world = self._world
        copy = self.copies.pop(event.copy_id, None)
        if copy is None:
            return
        if not event.error:
            now = world.ports.clock.now()
            self._written.append((now, copy.total_bytes))
            self._saver.observe(note_copy(world.state, copy.total_bytes))
            world.ports.journal.record(
                "copied",
                f"{copy.name} ({format_bytes(copy.total_bytes)}) is on the SSD after "
                f"{format_duration(event.seconds)}",
                model=copy.name,
                bytes=copy.total_bytes,
            )
            self.whereabouts.leaving.difference_update(
                f"{copy.order.target_path}/{each.relative_path}" for each in copy.order.files
            )
            self._precache(copy)
        elif event.reason != "cancelled":
            self._tell_once(f"{copy.name} is not copied to the SSD: {event.error}", copy.name)
        self.survey()
        world.ports.scanner.scan(settings.folders(world.config, world.home))

    def on_removed(self, event: FilesRemoved) -> None:
        """Files are gone from the SSD: a copy that waited for the room may begin."""
        if event.error:
            self._tell_once(f"{event.model_id} can't be expired: {event.error}", event.model_id)
        self._drop_wait(event.model_id)
        self.survey()
        self._world.ports.scanner.scan(settings.folders(self._world.config, self._world.home))

    def on_space(self, event: SpaceMeasured) -> None:
        """The SSD was measured."""
        self.space[event.tier] = event
        self.whereabouts.is_surveyed = True
        if event.problem:
            self._tell_once(f"the SSD can't be written: {event.problem}; models are served "
                            "from where they are", event.tier)  # fmt: skip
        elif self._told:
            self._told = ""

    def tick(self) -> None:
        """Measure the SSD now and then."""
        now = self._world.ports.clock.monotonic()
        if now - self._surveyed_at >= SURVEY_SECONDS:
            self.survey()

    def survey(self) -> None:
        """Have the SSD measured."""
        folder = ssd_folder(self._world)
        self._surveyed_at = self._world.ports.clock.monotonic()
        if folder is not None and self._world.config.storage.hdd_paths:
            self._world.ports.copier.survey(folder)

    # --- inside ------------------------------------------------------------------------------

    def _start(self, copy: Copy) -> None:
        if not copy.started and not copy.waiting_for:
            copy.started = True
            copy.moved_at = self._world.ports.clock.monotonic()
            self._world.ports.copier.start(copy.order)

    def _drop_wait(self, model_id: str) -> None:
        for copy in tuple(self.copies.values()):
            copy.waiting_for.discard(model_id)
            self._start(copy)

    def _precache(self, copy: Copy) -> None:
        """After an expiry: something else may be worth the room that is left (S0-17)."""
        space = self._space()
        if not copy.decision.expire or copy.decision.predictive or space is None:
            return
        world = self._world
        policy = settings.cache_policy(world.config)
        decision = tiers.precache(self.holdings().values(), space, policy)
        if decision is not None:
            self.begin(world.models[decision.model_id], decision, urgent=False)

    def holding(
        self, model: Model, ranks: dict[str, RankTerms] | None = None, *, using: bool = False
    ) -> Holding:
        """Return a model as the policy sees it; `using` counts the use that is beginning."""
        world = self._world
        now = world.ports.clock.now()
        if using:  # what the present use makes of its rank: else a first use would look like none
            counted = count_use(world.state, model.id, now).models[model.id]
            rank = rank_then(world, counted, now)
        else:
            rank = (terms(world) if ranks is None else ranks)[model.id]
        stats, here, source = world.stats_of(model.id), on_ssd(model), source_of(model)
        folder = ssd_folder(world) if here is not None else None
        oldest = now - world.config.cache.promote_window_days * DAY_SECONDS
        recent = sum(each.timestamp() >= oldest for each in stats.use_timestamps)
        return Holding(
            model_id=model.id,
            name=world.label(model.id),
            size_bytes=(here or source or model.location).size_bytes,
            rank=rank.rank,
            idle_days=rank.idle_days,
            uses=stats.total_uses + using,
            recent_uses=recent + using,
            source_tier=source.tier if source else "",
            on_ssd=here is not None,
            ours=here is None
            or (folder is not None and world.ports.copier.is_ours(folder.path, here.path)),
            running=any(each.record.model_id == model.id for each in world.servers.values())
            or world.job_of(model.id) is not None,
            pinned=model.id in world.state.pins,
            copying=self.copy_of(model.id) is not None,
        )

    def _space(self) -> Space | None:
        """Return what the SSD has, less what copies under way will take; None while unknown."""
        measured = self.space.get(SSD)
        if measured is None or measured.problem:
            return None
        to_come = sum(each.total_bytes - each.copied_bytes for each in self.copies.values())
        day_ago = self._world.ports.clock.now() - DAY_SECONDS
        self._written = [each for each in self._written if each[0] >= day_ago]
        return Space(
            total_bytes=measured.total_bytes,
            free_bytes=max(0, measured.free_bytes - to_come),
            written_today_bytes=sum(size for _, size in self._written),
        )

    def _tell_once(self, sentence: str, model: str) -> None:
        """Say what is wrong with the SSD, once for as long as it is."""
        if sentence != self._told:
            self._told = sentence
            self._world.ports.journal.record("copy-failed", sentence, priority=4, model=model)
