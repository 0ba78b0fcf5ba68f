"""What the worker process answers, and what it was given for that.  Values only."""

from msgspec import Struct

from modeld.core.entities import Header

PROCESSOR_SECONDS = 2.0
"""For one file.  Time that passes while a disk spins up is not counted."""


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of reading one header."""

    header: Header | None = None
    problem: str = ""
    """Why there is none."""
    is_lasting: bool = True
    """Whether the same bytes would give the same answer again."""
