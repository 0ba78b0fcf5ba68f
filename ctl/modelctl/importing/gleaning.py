"""
Which keys of a configuration are taken, which are left, and why.

A format says what it takes and what it leaves; whatever it says nothing about is left too, and
that is told.  So every key of the file comes up once in the answer, and none passes in silence.
A secret is never taken and its value never shown, wherever it stands.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from modelctl.importing.source import Document, Path, dotted, leaves
from modelctl.importing.values import PROFILES, Reader, Unfit, is_secret, seconds
from modeld.wire.history import PastUse

Config = dict[str, object]
SECRET = "a secret; none is ever taken"  # noqa: S105 (what is said of one)
UNKNOWN = "modeld has no such setting"
EVERY_PROFILE = "*"
"""In a key: the same for each profile of the routing."""


class Taken(Struct, frozen=True):
    """One setting that modeld gets."""

    source: str
    """The key in the file."""
    key: str
    """The key in modeld's configuration."""
    value: object
    note: str = ""


class Left(Struct, frozen=True):
    """Something that is not taken."""

    source: str
    reason: str
    line: int = 0
    """In the file; 0 where the format knows none."""
    wrong: bool = False
    """Whether it is a mistake in the file."""


class Place(NamedTuple):
    """Where a file is, for what it says of other files."""

    directory: str
    name: str


class Imported(NamedTuple):
    """What a file comes to."""

    config: Config
    taken: tuple[Taken, ...] = ()
    left: tuple[Left, ...] = ()
    history: tuple[PastUse, ...] = ()
    limits: tuple[dict[str, object], ...] = ()
    """Rows of modeld's table of what models can do."""
    also: tuple[str, ...] = ()
    """Further files that belong to this one."""


class Gleaning:
    """Goes through one file, and keeps account of it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._order = {path: at for at, path in enumerate(_nodes(document.values))}
        self._handled: set[Path] = set()
        self._config: Config = {}
        self._taken: list[Taken] = []
        self._left: list[tuple[int, Left]] = []
        for trouble in document.troubles:
            self._tell(trouble.path, trouble.reason, line=trouble.line, wrong=True)

    def value(self, *path: str | int) -> object:
        """Return what stands at a path; None where nothing does, or nothing is said."""
        value = self._document.values
        for part in path:
            if isinstance(value, list) and isinstance(part, int):
                value = value[part] if part < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return None if value is None or value in ("", [], {}) else value

    def table(self, *path: str | int) -> dict[str, object]:
        """Return the table at a path; an empty one where there is none, or something else."""
        value = self.value(*path)
        return value if isinstance(value, dict) else {}

    def take(self, path: Path, key: str | tuple[str, ...], read: Reader, note: str = "") -> None:
        """Take a setting, if it is there and what it must be."""
        value = self.value(*path)
        if value is None:
            return
        try:
            self.put(path, key, read(value), note)
        except (Unfit, OverflowError) as error:
            self.leave(path, str(error), wrong=True)

    def put(self, path: Path, key: str | tuple[str, ...], value: object, note: str = "") -> None:
        """Set a key of modeld's to what a part of the file comes to."""
        parts = tuple(key.split(".")) if isinstance(key, str) else key
        if EVERY_PROFILE in parts:
            at = parts.index(EVERY_PROFILE)
            for profile in PROFILES:
                self._set((*parts[:at], profile, *parts[at + 1 :]), value)
        else:
            self._set(parts, value)
        self._handled.add(path)
        self._taken.append(Taken(dotted(path), dotted(parts), value, note))

    def take_idle_time(self, path: Path) -> None:
        """Take how long an idle model stays; a negative time is for ever."""
        value = self.value(*path)
        if value is None:
            return
        try:
            time_s = seconds(value)
        except Unfit as error:
            self.leave(path, str(error), wrong=True)
            return
        if time_s < 0:
            self.put(path, "models.auto_unload_idle", value=False)
        else:
            self.put(path, "models.idle_timeout_seconds", time_s)

    def leave(self, path: Path, reason: str, *, wrong: bool = False) -> None:
        """Leave a part of the file, if it is there, with all below that was not told of yet."""
        said = [
            self._is_handled(one)
            for one, value in leaves(self.value(*path), path)
            if value is not None and value not in ("", [], {})
        ]
        if not all(said):
            self._handled.add(path)
            rest = "the rest: " if any(said) else ""
            self._tell(path, f"{rest}{reason}", line=self._line(path), wrong=wrong)

    def take_all(self, rules: Iterable[tuple[str, str, Reader]], above: Path = ()) -> None:
        """Take every setting of a table: key in the file, key in modeld, reader."""
        for source, key, read in rules:
            self.take((*above, *source.split(".")), key, read)

    def leave_all(self, reasons: Iterable[tuple[str, str]], above: Path = ()) -> None:
        """Leave every part of a table: keys in the file, parted by spaces, and why."""
        for sources, reason in reasons:
            for source in sources.split():
                self.leave((*above, *source.split(".")), reason)

    def finish(
        self,
        *,
        history: tuple[PastUse, ...] = (),
        limits: tuple[dict[str, object], ...] = (),
        also: tuple[str, ...] = (),
    ) -> Imported:
        """Return all of it, with whatever nothing was said about among what is left."""
        for path, value in leaves(self._document.values):
            if value is None or value in ("", [], {}):
                continue
            secret = next((at for at, part in enumerate(path, 1) if is_secret(part)), 0)
            if secret and path not in self._handled:
                self._handled.add(path)
                self._tell(path[:secret], SECRET, line=self._line(path[:secret]))
            elif not self._is_handled(path):
                self._tell(path, UNKNOWN, line=self._line(path))
        left = [one for _, one in sorted(self._left, key=lambda pair: pair[0])]
        return Imported(
            config=self._config,
            taken=tuple(self._taken),
            left=tuple(dict.fromkeys(left)),
            history=history,
            limits=limits,
            also=also,
        )

    def _set(self, parts: tuple[str, ...], value: object) -> None:
        table = self._config
        for part in parts[:-1]:
            below = table.setdefault(part, {})
            assert isinstance(below, dict), f"{parts} is a table and a value"
            table = below
        table[parts[-1]] = value

    def _is_handled(self, path: Path) -> bool:
        return any(path[:end] in self._handled for end in range(len(path) + 1))

    def _line(self, path: Path) -> int:
        return self._document.lines.get(path, 0)

    def _tell(self, path: Path, reason: str, *, line: int = 0, wrong: bool = False) -> None:
        ends = (path[:end] for end in range(len(path), -1, -1))
        order = next((self._order[end] for end in ends if end in self._order), 0)
        self._left.append((order, Left(dotted(path), reason, line, wrong)))


def _nodes(values: object, above: Path = ()) -> Iterable[Path]:
    """Yield the path of everything in a file, tables before what they hold."""
    yield above
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _nodes(value, (*above, key))
    elif isinstance(values, list):
        for position, value in enumerate(values):
            yield from _nodes(value, (*above, position))
