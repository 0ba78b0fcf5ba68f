"""Text of `config`: settings as TOML, and what a change of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.screen import Screen, clean, mark, paint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeld.wire.configuration import ConfigFile, Setting, Value

BUILT_IN = "built in"


def settings_text(settings: Sequence[Setting], screen: Screen, *, with_origin: bool) -> str:
    """Return settings as lines of TOML; where each is from stands in a comment behind it."""
    lines = [
        f"{clean(each.key)} = {clean(each.text)}" if each.text else f"# {clean(each.key)} is unset"
        for each in settings
    ]
    if with_origin:
        width = min(max(map(len, lines), default=0), screen.width // 2)
        origins = (paint(f"# {clean(each.origin) or BUILT_IN}", "dim", screen) for each in settings)
        lines = [f"{line:<{width}}  {origin}" for line, origin in zip(lines, origins, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def plain(value: Value, text: str) -> str:
    """Return one value for a script: a string as it is, anything else as TOML."""
    return value if isinstance(value, str) else text


def files_text(files: Sequence[ConfigFile], screen: Screen) -> str:
    """Return the files that are read, the weakest first."""
    missing = paint("  (not there)", "dim", screen)
    return "".join(f"{clean(each.path)}{'' if each.exists else missing}\n" for each in files)


def checked_text(changed: Sequence[str], screen: Screen) -> str:
    """Return that a configuration is valid, and what it would change."""
    lines = [f"{mark('●', 'success', screen)}the configuration is valid"]
    lines += [f"  a reload would change {clean(each)}" for each in changed]
    return "".join(f"{line}\n" for line in lines)


def written_text(path: str, changed: Sequence[str], screen: Screen) -> str:
    """Return what was written where."""
    dot = mark("●", "success", screen)
    lines = [f"{dot}{clean(each)}" for each in changed] or [f"{dot}{clean(path)} is written"]
    return "".join(f"{line}\n" for line in lines)
