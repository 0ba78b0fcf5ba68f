"""
What `servers.optimize_for` means: arguments that llama-server gets before all others.

Each mode has only what is good for any model.  A quantised cache is not among them: some models
cannot have one, and would not load.  An option that a build does not have is left out, so a mode
never keeps a server from starting; whatever people asked for themselves comes later, and wins.
"""

from typing import Literal

from modeld.core.entities import Binary

Mode = Literal["balanced", "memory", "speed", "loading"]

MODES: dict[Mode, tuple[tuple[str, str], ...]] = {
    "balanced": (),
    # one request at a time; smaller buffers; no prompts kept beside the cache; and no copy of the
    # weights in another order, which takes as much again as they do
    "memory": (
        ("--parallel", "1"),
        ("--ubatch-size", "256"),
        ("--cache-ram", "0"),
        ("--no-repack", ""),
    ),
    # weights that are never paged out, as far as the limit of locked memory goes; longer steps
    # through a prompt
    "speed": (("--load-mode", "mmap+mlock"), ("--ubatch-size", "1024")),
    # ready as soon as the weights are mapped
    "loading": (("--no-warmup", ""), ("--no-repack", "")),
}
"""Mode -> options, each with its value, or without where that is empty."""


def mode_arguments(mode: Mode, binary: Binary | None) -> tuple[str, ...]:
    """Return the arguments of a mode that this build has; none before it is known."""
    flags = binary.flags if binary is not None else {}
    known = ((option, value) for option, value in MODES[mode] if option in flags)
    return tuple(word for pair in known for word in pair if word)
