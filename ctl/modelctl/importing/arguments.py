"""
llama-server arguments of another program, without what modeld sets itself.

Where a server listens is modeld's business, so hosts and ports never come along; what else can't
be passed on, modeld itself says.
"""

from collections.abc import Sequence

OWN = {
    "--host": "modeld gives each server a socket of its own",
    "--port": "modeld gives each server a socket of its own",
    "-m": "modeld knows the file",
    "--model": "modeld knows the file",
    "--api-key": "a secret; none is ever taken",
    "--api-key-file": "a secret; none is ever taken",
}
"""Arguments with a value that are dropped -> why."""
FLASH_ATTENTION = ("-fa", "--flash-attn")


def cleaned(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return what is left of a command line, and each dropped option with the reason."""
    kept: list[str] = []
    dropped: dict[str, str] = {}
    position = 0
    while position < len(words):
        flag, equals, _ = words[position].partition("=")
        following = words[position + 1] if position + 1 < len(words) else ""
        if flag in OWN:
            dropped[flag] = OWN[flag]
            position += 1 if equals else 2
            continue
        kept.append(words[position])
        # once a switch, now an option with a value
        if words[position] in FLASH_ATTENTION and (not following or following.startswith("-")):
            kept.append("on")
        position += 1
    return kept, dropped
