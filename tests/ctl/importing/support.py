"""What the tests of each format share: a fixture's way through its reader."""

from importlib import import_module
from pathlib import Path

from modelctl.importing.gleaning import Imported, Place
from modelctl.importing.source import parse

DATA = Path(__file__).parent / "data"


def gleaned(kind: str, text: str, name: str = "config.yaml") -> Imported:
    """Return what a text comes to."""
    imported: Imported = import_module(f"modelctl.importing.{kind}").glean(
        parse(text, name), Place("/there", name)
    )
    return imported


def fixture(kind: str, name: str) -> Imported:
    """Return what one of the files in `data` comes to."""
    return gleaned(kind, (DATA / name).read_text(), name)


def reasons(imported: Imported) -> dict[str, str]:
    """Return what is left, and why."""
    return {left.source: left.reason for left in imported.left}


def wrong(imported: Imported) -> dict[str, int]:
    """Return the mistakes of a file, each with its line."""
    return {left.source: left.line for left in imported.left if left.wrong}


def sources(imported: Imported) -> set[str]:
    """Return every key of the file that the answer speaks of."""
    return {taken.source for taken in imported.taken} | {left.source for left in imported.left}
