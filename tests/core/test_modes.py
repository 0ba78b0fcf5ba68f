"""`core.modes`: what `servers.optimize_for` gives a server."""

from pathlib import Path
from typing import get_args

import pytest

from modeld.core.argv import check_arguments, parse_help
from modeld.core.entities import Binary
from modeld.core.modes import MODES, Mode, mode_arguments

HELP = (Path(__file__).parent / "data" / "llama-server-b11669-help.txt").read_text()
GRAMMAR = parse_help(HELP)
DEBIAN = Binary(argv=("llama-server",), flags=GRAMMAR.flags, canonical=GRAMMAR.canonical)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_mode_arguments_pass_the_check_of_what_people_ask_for(mode: Mode) -> None:
    """S2-08: else a mode would keep every model from loading."""
    check_arguments(mode_arguments(mode, DEBIAN), DEBIAN)


def test_mode_arguments_are_those_of_the_manual() -> None:
    """S2-08: documented sets; an option is said to take a value exactly where it does."""
    told = {mode: " ".join(mode_arguments(mode, DEBIAN)) for mode in MODES}

    assert told == {
        "balanced": "",
        "memory": "--parallel 1 --ubatch-size 256 --cache-ram 0 --no-repack",
        "speed": "--load-mode mmap+mlock --ubatch-size 1024",
        "loading": "--no-warmup --no-repack",
    }
    page = (Path(__file__).parents[2] / "man" / "modeld.toml.5").read_text()
    start = page.index(".It Ic servers.optimize_for")
    about = page[start : page.index(".It Ic servers.context_tokens", start)]
    for mode, pairs in MODES.items():
        item = about.split(f".It Li {mode}\n")[1].split(".It Li")[0]
        for option, value in pairs:
            flag = f"Fl {option.removeprefix('-')}"
            assert (f"{flag} Cm {value}" if value else flag) in item


def test_mode_arguments_leave_out_what_a_build_does_not_have() -> None:
    """An older build loads too; and nothing is known of one that was not asked yet."""
    older = Binary(argv=("llama-server",), flags={"--parallel": True, "--no-warmup": False})

    assert mode_arguments("memory", older) == ("--parallel", "1")
    assert mode_arguments("loading", older) == ("--no-warmup",)
    assert mode_arguments("memory", None) == ()
