"""
Runs a scenario on a virtual clock, and says what happened and why.

The decisions are the daemon's own (`core.replay` asks `stats`, `rank` and `tiers`); here they
become a list of events, a summary, and a verdict on what the scenario expected.  No disk, no
process, no statistics are touched.

    [TRIGGER]    a model is used        [EXPIRE]  its copy gives way
    [COPY→SSD]   it is copied           [FAILED]  room was needed and could not be made
    [NEED SPACE] something has to go    [INFO]    anything else worth knowing
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from modeld.core.entities import State
from modeld.core.replay import Access, Finished, Load, Rules, Start, VirtualSsd
from modeld.core.scenario import Expectation, Scenario, SimulatedModel, Use, what_if
from modeld.core.tiers import Decision
from modeld.units import format_bytes, format_duration

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""When scenarios begin: all times are told from here."""
WORTH_TELLING = frozenset({"too-large", "no-room", "wear", "not-worth"})
"""Why a model stays that is worth a line of its own; a use too few is not."""


class Tag(StrEnum):
    """What kind of event."""

    TRIGGER = "TRIGGER"
    COPY = "COPY→SSD"
    NEED_SPACE = "NEED SPACE"
    EXPIRE = "EXPIRE"
    FAILED = "FAILED"
    INFO = "INFO"


class Event(Struct, frozen=True, kw_only=True):
    """One line of a simulation."""

    at: float
    """[s] After the beginning."""
    tag: Tag
    model: str
    message: str
    size_bytes: int = 0
    numbers: dict[str, float] = field(default_factory=dict)


class Stay(Struct, frozen=True):
    """One stretch of time that a model lay on the SSD."""

    model: str
    began: float
    """[s] After the beginning, as the others."""
    ended: float
    expired: bool


class Summary(Struct, frozen=True, kw_only=True):
    """The figures of a run."""

    uses: int
    from_ssd: int
    """Of them, how many were served from there."""
    copies: int
    copied_bytes: int
    expiries: int
    failed: int
    seconds_waited: float
    """For reading models."""
    seconds_saved: float
    """What the SSD made shorter."""
    residents: tuple[str, ...]
    """On the SSD at the end."""


class Run(Struct, frozen=True, kw_only=True):
    """What became of a scenario."""

    scenario: Scenario
    events: tuple[Event, ...]
    decisions: tuple[Decision, ...]
    stays: tuple[Stay, ...]
    summary: Summary
    seconds: float
    """How long it lasted, the last run included."""
    ssd_bytes: int
    unmet: tuple[str, ...] = ()
    """What was expected and did not come true, a sentence each."""

    @property
    def met(self) -> bool:
        """Whether all expectations came true; also where there are none."""
        return not self.unmet


def simulate(scenario: Scenario, rules: Rules) -> Run:
    """
    Return what becomes of a scenario under these rules.

    Args:
        scenario: Who is used when.
        rules: The user's; the scenario's own changes of the policy win.
    """
    rules = replace(rules, policy=what_if(rules.policy, scenario.changes))
    run = _Run(scenario, rules)
    for load in run.loads:
        run.step(load)
    return run.result()


def history(state: State, sizes_bytes: dict[str, int], ssd_free_bytes: int) -> Scenario:
    """
    Return the user's own history as a scenario: every use that is remembered, on an empty SSD.

    Args:
        state: What the daemon remembers.
        sizes_bytes: Of the models that exist; others are left out.
        ssd_free_bytes: Of the empty SSD.
    """
    known = {one: state.models[one] for one in sorted(sizes_bytes) if one in state.models}
    stamps = [stamp for stats in known.values() for stamp in stats.use_timestamps]
    first = min(stamps).timestamp() if stamps else 0.0
    models = []
    for model_id, stats in known.items():
        times = [stamp.timestamp() - first for stamp in stats.use_timestamps]
        seconds = (*[0.0] * len(times), *stats.use_runtimes_seconds)[-len(times) :] if times else ()
        uses = tuple(Use(at, took) for at, took in zip(times, seconds, strict=True))
        models.append(
            SimulatedModel(
                name=model_id,
                size_bytes=sizes_bytes[model_id],
                uses=uses,
                pinned=model_id in state.pins,
            )
        )
    return Scenario(
        name="history",
        description=f"{len(stamps)} uses that modeld remembers",
        models=tuple(models),
        ssd_free_bytes=ssd_free_bytes,
    )


def loads_of(scenario: Scenario, beginning: float = BEGINNING) -> tuple[Load, ...]:
    """Return the uses of all models in the order of time, for `compare` as well."""
    loads = [
        Load(beginning + use.at, model.name, use.seconds)
        for model in scenario.models
        for use in model.uses
    ]
    return tuple(sorted(loads, key=lambda one: (one.at, one.model_id)))


class _Run:
    """One run: the virtual SSD, and what is told of it."""

    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        self.scenario = scenario
        self.loads = loads_of(scenario)
        self.sizes = {model.name: model.size_bytes for model in scenario.models}
        there = {model.name: model.tier for model in scenario.models if model.tier != "hdd1"}
        self.speeds = rules.policy.speeds
        self.ssd_bytes = scenario.ssd_free_bytes + sum(self.sizes[name] for name in there)
        self.ssd = VirtualSsd(
            self.sizes,
            self.ssd_bytes,
            rules,
            Start(
                residents=tuple(name for name, tier in there.items() if tier == "ssd"),
                ssd_only=tuple(name for name, tier in there.items() if tier == "ssd-only"),
                pinned=tuple(model.name for model in scenario.models if model.pinned),
            ),
        )
        self.events: list[Event] = []
        self.decisions: list[Decision] = []
        self.since = dict.fromkeys(there, 0.0)
        self.stays: list[Stay] = []
        self.hits = 0
        self.waited = self.saved = 0.0
        self._tell(0.0, Tag.INFO, "", self._opening(rules))
        for name in self.ssd.ssd_only:
            self._tell(0.0, Tag.INFO, name, f"{name} is only on the SSD: it is never expired")

    def step(self, load: Load) -> None:
        """Play one use, and what came to its end before it."""
        self._finished(self.ssd.finish(load.at))
        free = self.ssd.free_bytes
        access = self.ssd.access(load)
        at = load.at - BEGINNING
        size = self.sizes[load.model_id]
        saved = self.speeds.seconds_saved(size, "hdd1")
        slow = size / self.speeds.hdd_bytes_per_s
        self.hits += access.hit
        self.saved += saved if access.hit else 0.0
        self.waited += slow - (saved if access.hit else 0.0)
        place = "the SSD" if access.hit else "the HDD"
        took = format_duration(slow - (saved if access.hit else 0.0))
        rank = self.ssd.terms(load.model_id, load.at).rank
        self._tell(
            at,
            Tag.TRIGGER,
            load.model_id,
            f"{load.model_id} is used: from {place} in {took}, rank {rank:.1f}",
            rank=rank,
            hit=float(access.hit),
        )
        self._decided(at, access, free)

    def result(self) -> Run:
        """Return the whole run; copies that are under way come to their ends."""
        self._finished(self.ssd.finish(float("inf")))
        ends = [load.at + load.seconds - BEGINNING for load in self.loads]
        seconds = max([*ends, *(event.at for event in self.events)])
        self.stays += [Stay(name, began, seconds, False) for name, began in self.since.items()]
        copies = [one for one in self.decisions if one.answer == "copy"]
        summary = Summary(
            uses=len(self.loads),
            from_ssd=self.hits,
            copies=len(copies),
            copied_bytes=sum(one.size_bytes for one in copies),
            expiries=sum(len(one.expire) for one in copies),
            failed=sum(event.tag is Tag.FAILED for event in self.events),
            seconds_waited=self.waited,
            seconds_saved=self.saved,
            residents=self.ssd.residents,
        )
        expected = self.scenario.expect
        return Run(
            scenario=self.scenario,
            events=tuple(self.events),
            decisions=tuple(self.decisions),
            stays=tuple(sorted(self.stays, key=lambda one: (one.began, one.model))),
            summary=summary,
            seconds=seconds,
            ssd_bytes=self.ssd_bytes,
            unmet=() if expected is None else unmet(expected, summary, self.decisions),
        )

    def _decided(self, at: float, access: Access, free_bytes: int) -> None:
        """Tell what was decided about one use."""
        for decision in access.decisions:
            self.decisions.append(decision)
            name, short = decision.name, decision.because == "no-room" or decision.expire
            if short:
                missing = f"{format_bytes(decision.size_bytes)} for {name}"
                self._tell(
                    at, Tag.NEED_SPACE, name, f"{missing}, {format_bytes(free_bytes)} are free"
                )
            for gone in decision.expire:
                told = f"{gone.reason}; last used {gone.idle_days:.1f} days ago"
                self._tell(at, Tag.EXPIRE, gone.name, told, size_bytes=gone.size_bytes)
                self.stays.append(Stay(gone.model_id, self.since.pop(gone.model_id), at, True))
            if decision.answer == "copy":
                size = decision.size_bytes
                self._tell(at, Tag.COPY, name, decision.reason, size_bytes=size)
                if decision.model_id in self.ssd.residents:  # an instant copy
                    self.since[decision.model_id] = at
            elif decision.because in WORTH_TELLING:
                tag = Tag.INFO if decision.because == "not-worth" else Tag.FAILED
                self._tell(at, tag, name, decision.reason)
            elif decision.because == "too-few-uses":
                self._tell(at, Tag.INFO, name, decision.reason)

    def _finished(self, copies: Sequence[Finished]) -> None:
        for one in copies:
            at = one.at - BEGINNING
            self.since[one.model_id] = at
            self._tell(at, Tag.INFO, one.model_id, f"{one.model_id} is on the SSD now")

    def _opening(self, rules: Rules) -> str:
        policy = rules.policy
        return (
            f"policy {policy.policy}, {format_bytes(self.scenario.ssd_free_bytes)} free on the SSD,"
            f" {format_bytes(policy.ssd_min_free_bytes)} of it to keep free"
        )

    def _tell(  # noqa: PLR0917 (an event, in the order of its line)
        self, at: float, tag: Tag, model: str, message: str, size_bytes: int = 0, **numbers: float
    ) -> None:
        self.events.append(
            Event(
                at=at, tag=tag, model=model, message=message, size_bytes=size_bytes, numbers=numbers
            )
        )


def unmet(
    expected: Expectation, summary: Summary, decisions: Sequence[Decision]
) -> tuple[str, ...]:
    """Return a sentence for each expectation that did not come true."""
    copied = tuple(one.name for one in decisions if one.answer == "copy")
    expired = tuple(gone.name for one in decisions for gone in one.expire)
    wrong = [
        f"{name} is not on the SSD" for name in expected.on_ssd if name not in summary.residents
    ]
    wrong += [f"{name} is on the SSD" for name in expected.not_on_ssd if name in summary.residents]
    for what, wanted, real in (
        ("copied", expected.copied, copied),
        ("expired", expected.expired, expired),
    ):
        if wanted is not None and wanted != real:
            wrong.append(f"{what}: {_names(real)}; expected: {_names(wanted)}")
    if expected.failed is not None and expected.failed != summary.failed:
        wrong.append(f"failed {summary.failed} times; expected: {expected.failed}")
    return tuple(wrong)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
