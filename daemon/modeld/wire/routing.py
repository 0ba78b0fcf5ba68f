"""Messages that ask which model would answer: route, and whether a model suits a profile."""

from typing import Annotated

from msgspec import Meta, Struct

from modeld.wire.common import Selector, Word

MAX_TEXT_LETTERS = 256 * 1024
Text = Annotated[str, Meta(max_length=MAX_TEXT_LETTERS)]
"""What a request would say last."""


class AskRoute(Struct, frozen=True, kw_only=True, tag="route", forbid_unknown_fields=True):
    """
    Ask which model would answer a request that names none.  Loads nothing.

    Reply: `Routed`.  Fails with usage for an unknown profile, and with model_not_found where no
    model would, unless it is to be explained.
    """

    text: Text | None = None
    """Its last message; None where words are to decide nothing."""
    profile: Word = ""
    capabilities: Annotated[tuple[Word, ...], Meta(max_length=16)] = ()
    """What the model has to have: `tools`, `vision`, `reasoning`."""
    explain: bool = False
    """Answer where no model would too, with why each would not."""


class RouteStep(Struct, frozen=True, kw_only=True):
    """One thing that was tried, and what came of it."""

    what: str
    outcome: str


class RouteCandidate(Struct, frozen=True, kw_only=True):
    """A model that the deciding profile looked at."""

    model: str
    score: float
    left_out: str = ""
    """Why it can't be; empty for one that could."""


class Routed(Struct, frozen=True, kw_only=True, tag="routed"):
    """The model that would answer."""

    model: str
    """Empty where none would."""
    id: str
    route: str
    """As in the header X-Modeld-Route."""
    profile: str = ""
    pattern: str = ""
    """Of the rule that fitted."""
    reason: str = ""
    steps: tuple[RouteStep, ...] = ()
    candidates: tuple[RouteCandidate, ...] = ()
    """Best first; empty where no score decided."""
    options: dict[str, str | int | float | bool | list[str]] = {}
    """What the request would get where it says nothing."""
    warnings: tuple[str, ...] = ()
    """Models that are configured and not there."""


class AskSuits(Struct, frozen=True, kw_only=True, tag="suits", forbid_unknown_fields=True):
    """Ask whether a model suits a profile.  Reply: `Suits`."""

    selector: Selector
    profile: Word = ""
    """Empty for all of them."""
    capabilities: Annotated[tuple[Word, ...], Meta(max_length=16)] = ()


class ProfileVerdict(Struct, frozen=True, kw_only=True):
    """Whether a model suits one profile."""

    profile: str
    suits: bool
    score: float
    lacks: tuple[str, ...] = ()


class Suits(Struct, frozen=True, kw_only=True, tag="suited"):
    """What is known of a model, and which profiles it suits."""

    model: str
    id: str
    suits: bool
    """All that were asked for."""
    profiles: tuple[ProfileVerdict, ...]
    family: str
    context_tokens: int
    context_source: str
    """`header`, `table` or `default`: of which the context is."""
    tools: bool
    vision: bool
    streaming: bool
    reasoning: bool
    max_output_tokens: int = 0
    """The most that it is said to generate at once; 0 where nobody says."""
    pattern: str = ""
    """Of the row of a table that fits its name; empty for none."""
