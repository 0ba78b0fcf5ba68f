"""Messages about simulations: a scenario goes out, and what would become of it comes back."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from modeld.wire.common import Word

MAX_TEXT = 200_000
"""Letters of a scenario: thousands of uses."""


class Simulate(Struct, frozen=True, kw_only=True, tag="simulate", forbid_unknown_fields=True):
    """
    Ask what would become of a scenario; no disk, process or statistics are touched.

    Exactly one of `name`, `text` and `history` says which.  Reply: `SimulationReport`.  Fails with
    usage (the scenario has a mistake), name_not_found and busy (one runs already).
    """

    name: Word = ""
    """A scenario that modeld brings."""
    text: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    form: Literal["pattern", "toml", "json"] = "pattern"
    """How `text` is to be read."""
    title: Word = ""
    """What `text` is called, for messages."""
    history: bool = False
    """All uses that modeld remembers, on an empty SSD."""
    changes: Annotated[dict[Word, Word], Meta(max_length=64)] = {}
    """Settings of the policy that are to be other than they are."""
    ssd_free_bytes: Annotated[int, Meta(ge=0)] | None = None
    """None for what the scenario says."""
    compare: bool = False
    picture: bool = False
    """Whether an SVG is wanted."""


class EventRow(Struct, frozen=True, kw_only=True):
    """One thing that happens."""

    at_s: float
    """After the beginning."""
    tag: str
    """`TRIGGER`, `COPY→SSD`, `NEED SPACE`, `EXPIRE`, `FAILED` or `INFO`."""
    outcome: str = ""
    """`keep`, `copy` or `expire`; empty where nothing is decided."""
    model: str = ""
    message: str = ""
    size_bytes: int = 0


class SimulationSummary(Struct, frozen=True, kw_only=True):
    """The figures of a run."""

    uses: int
    from_ssd: int
    copies: int
    copied_bytes: int
    expiries: int
    failed: int
    """How often room was needed and could not be made."""
    seconds_waited: float
    seconds_saved: float
    residents: tuple[str, ...]
    """On the SSD at the end."""


class PolicyRow(Struct, frozen=True, kw_only=True):
    """What one policy makes of the same uses, on an empty SSD."""

    policy: str
    saved_s: float
    saved_s_per_gb: float
    """For each GB that is written."""
    written_bytes: int
    written_gb_per_day: float
    expiries: int
    regretted_expiries: int
    of_bound: float
    """The share of what no SSD of this size can exceed; 0..1."""


class SimulationReport(Struct, frozen=True, kw_only=True, tag="simulation"):
    """What became of a scenario."""

    scenario: str
    description: str = ""
    policy: str = ""
    ssd_bytes: int = 0
    seconds: float = 0.0
    """How long the scenario lasts."""
    events: tuple[EventRow, ...] = ()
    events_left_out: int = 0
    """Of a scenario so long that nobody would read them all; the first ones are there."""
    summary: SimulationSummary
    expects: bool = False
    """Whether the scenario says what should come of it."""
    unmet: tuple[str, ...] = ()
    """What did not, a sentence each."""
    comparison: tuple[PolicyRow, ...] = ()
    picture: str = ""
    """SVG."""


class ListScenarios(Struct, frozen=True, kw_only=True, tag="scenarios", forbid_unknown_fields=True):
    """Ask which scenarios modeld brings.  Reply: `Scenarios`."""


class Scenarios(Struct, frozen=True, kw_only=True, tag="scenario-names"):
    """Name -> description."""

    scenarios: dict[str, str]
