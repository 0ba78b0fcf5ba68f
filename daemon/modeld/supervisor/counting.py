"""
What requests cost, summed up as the loop hears of their ends.

Sums are made in memory and put into the state now and then, when it is saved anyway or once a
minute: no request costs a write, and a crash loses a minute of counts.  Watchers get what was
measured since modeld started, of a bounded number of models: the first that had a request or a
load have a name each, the others share one.
"""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from modeld.core import usage
from modeld.core.entities import Origin, Server, ServerState
from modeld.core.events import UsageAsked
from modeld.core.traffic import RequestLost, RequestsEnded, RequestServed
from modeld.core.usage import Figures, Histogram, Tally, Totals
from modeld.errors import ErrorCode, ModeldError
from modeld.supervisor import settings
from modeld.supervisor.cache import Cache
from modeld.supervisor.copies import SSD
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import Job, World
from modeld.version import VERSION
from modeld.wire.usage import UsageReport, UsageRow

MAX_LABELS = 200
"""Models that watchers are told of by name."""
MAX_ROWS = 1000
"""Models that people are told of, and that fit into a message."""
OTHER = "other"
"""What the rest of them are together."""


class Measures(Struct, frozen=True, kw_only=True):
    """Everything that is measured, as it is now; nothing in it changes later."""

    version: str
    up_seconds: float
    connections: int
    waiting: int
    """Requests, for a model to load."""
    models: int
    """On the disks."""
    memory_budget_bytes: int
    ssd_free_bytes: int | None
    """None where it isn't known."""
    copies: int
    copied_bytes: int
    tallies: dict[str, Tally]
    """By name."""
    in_flight: dict[str, int]
    memory_bytes: dict[str, int]
    """What is booked for servers, by the name of their model."""
    ready: dict[str, int]
    """How many servers are ready, by the name of their model."""
    swap_seconds: Histogram
    folder_problems: int = 0
    """Folders that the last scan could not read."""
    file_problems: int = 0
    """Files that are no models, for all that their names say."""
    is_saved: bool = True
    """Whether the state file is as it should be; else its disk takes nothing."""


class Counting:
    """Sums up; the loop calls it."""

    def __init__(self, world: World, saver: Saver, cache: Cache) -> None:
        self._world = world
        self._saver = saver
        self._cache = cache
        self._before: Mapping[str, Totals] | None = None
        """What was kept when modeld started."""
        self._since: dict[str, Tally] = {}
        """By model id."""
        self._is_fresh = False
        """Whether something was counted that the state does not have."""
        self._swaps = Histogram(usage.SWAP_SECONDS)
        self._labelled: set[str] = set()
        world.on_load_failed.append(self._load_failed)

    # --- events ------------------------------------------------------------------------------

    def on_ended(self, event: RequestsEnded) -> None:
        """Requests to a server are over."""
        for figures in event.figures:
            self._count(figures)

    def on_lost(self, event: RequestLost) -> None:
        """A request that no server has is over."""
        self._count(event.figures)

    def on_served(self, event: RequestServed) -> None:
        """Log a request; of what it says and what was answered, nothing is known here."""
        figures = event.figures
        label = self._world.label(figures.model_id)
        outcome = f"{event.status} {figures.failure}".rstrip()
        self._world.ports.journal.record(
            "request-served",
            f"{label} {event.path} {outcome} in {figures.seconds:.3f} s",
            request=event.request_id,
            model=label,
            path=event.path,
            status=event.status,
            failure=figures.failure,
            prompt_tokens=figures.prompt_tokens,
            generated_tokens=figures.generated_tokens,
            waited_seconds=round(figures.waited_seconds, 6),
            first_token_seconds=round(figures.first_token_seconds, 6),
            seconds=round(figures.seconds, 6),
        )

    def _count(self, figures: Figures) -> None:
        self._tally(figures.model_id).count(figures)
        self._is_fresh = True

    def loaded(self, server: Server, job: Job | None) -> None:
        """A server is ready, and `job` is the load that brought it, if any."""
        if job is None or server.adopted:
            return
        seconds = max(0.0, self._world.ports.clock.monotonic() - job.begun_at)
        is_swap = job.want.origin is Origin.GATEWAY
        self._tally(server.record.model_id).count_load(seconds, is_swap=is_swap)
        if is_swap:
            self._swaps.add(seconds)
        self._is_fresh = True

    def _load_failed(self, model_id: str, error: ModeldError) -> None:
        if error.code is not ErrorCode.CANCELLED:
            self._tally(model_id).failed_loads += 1

    def on_asked(self, ask: UsageAsked) -> None:
        """Answer what everything cost."""
        answer = self.measures() if ask.measures else self.report()
        self._world.answer(ask.request_id, answer)

    def _tally(self, model_id: str) -> Tally:
        found = self._since.get(model_id)
        if found is None:
            found = self._since[model_id] = usage.tally()
            if len(self._labelled) < MAX_LABELS:
                self._labelled.add(model_id)
        return found

    # --- the state ---------------------------------------------------------------------------

    def _kept_before(self) -> Mapping[str, Totals]:
        """Return what the state had before anything was put into it here."""
        if self._before is None:
            self._before = self._world.state.usage
        return self._before

    def save(self) -> None:
        """Put the sums into the state, to be saved soon; nothing happens where none are new."""
        if self._is_fresh:
            self._is_fresh = False
            totals = usage.kept(self._kept_before(), self._since)
            self._saver.observe(replace(self._world.state, usage=totals))

    # --- what is told ------------------------------------------------------------------------

    def report(self, model_id: str = "") -> UsageReport:
        """Return the sums that are kept, of one model or of all."""
        world, before = self._world, self._kept_before()
        known = {**before, **self._since} if not model_id else {model_id: None}
        totals = {one: self._totals(one) for one in known}
        shown = [one for one, each in totals.items() if each.requests or each.swaps or model_id]
        shown.sort(key=lambda one: (-totals[one].requests, one))
        rows = [
            self._row(world.label(one), one, totals[one], self._recent(one))
            for one in shown[:MAX_ROWS]
        ]
        recent = tuple(seconds for one in totals for seconds in self._recent(one))
        return UsageReport(
            models=tuple(rows),
            total=self._row("", "", usage.together(totals.values()), recent),
            cache_strategy=world.config.keep_alive.strategy or "ram",
            loaded_models=tuple(
                world.label(each.record.model_id)
                for each in world.servers.values()
                if each.state is ServerState.READY
            ),
        )

    def _totals(self, model_id: str) -> Totals:
        before, since = self._kept_before().get(model_id), self._since.get(model_id)
        return usage.plus(before, since) if since is not None else before or Totals()

    def _recent(self, model_id: str) -> tuple[float, ...]:
        since = self._since.get(model_id)
        return tuple(since.recent) if since is not None else ()

    def _row(self, name: str, model_id: str, totals: Totals, recent: tuple[float, ...]) -> UsageRow:
        return UsageRow(
            name=name,
            id=model_id,
            requests=totals.requests,
            failed=totals.failed,
            hits=totals.hits,
            hit_rate=_rounded(usage.hit_rate(totals), 4),
            prompt_tokens=totals.prompt_tokens,
            cached_tokens=totals.cached_tokens,
            generated_tokens=totals.generated_tokens,
            tokens_per_s=_rounded(usage.tokens_per_second(totals), 2),
            first_token_p50_s=_rounded(usage.percentile(recent, 0.5), 4),
            first_token_p95_s=_rounded(usage.percentile(recent, 0.95), 4),
            swaps=totals.swaps,
            mean_swap_s=_rounded(usage.mean_swap_seconds(totals), 3),
        )

    def measures(self) -> Measures:
        """Return everything that is measured."""
        world = self._world
        tallies: dict[str, Tally] = {}
        for model_id, since in self._since.items():
            tallies.setdefault(self._label(model_id), usage.tally()).merge(since)
        in_flight: dict[str, int] = {}
        memory_bytes: dict[str, int] = {}
        ready: dict[str, int] = {}
        for server in world.servers.values():
            label = self._label(server.record.model_id)
            in_flight[label] = in_flight.get(label, 0) + server.in_flight
            memory_bytes[label] = memory_bytes.get(label, 0) + server.booked_bytes
            ready[label] = ready.get(label, 0) + (server.state is ServerState.READY)
        swaps = Histogram(usage.SWAP_SECONDS)
        swaps.merge(self._swaps)
        ssd = self._cache.space.get(SSD)
        connections, waiting = world.present()
        return Measures(
            version=VERSION,
            up_seconds=world.ports.clock.monotonic() - world.started_at,
            connections=connections,
            waiting=waiting,
            models=len(world.models),
            memory_budget_bytes=settings.budget(world.config, world.machine).memory_bytes,
            ssd_free_bytes=ssd.free_bytes if ssd is not None else None,
            copies=len(self._cache.copies),
            copied_bytes=world.state.wear.copied_bytes,
            tallies=tallies,
            in_flight=in_flight,
            memory_bytes=memory_bytes,
            ready=ready,
            swap_seconds=swaps,
            folder_problems=len(world.folder_problems),
            file_problems=len(world.file_problems),
            is_saved=not world.saving.problem,
        )

    def _label(self, model_id: str) -> str:
        """Return the name that watchers know a model by: its own, while there are not too many."""
        if model_id not in self._labelled:
            if len(self._labelled) >= MAX_LABELS:
                return OTHER
            self._labelled.add(model_id)
        # file names may be no text, and this has to be
        return self._world.label(model_id).encode("utf-8", "replace").decode("utf-8")


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
