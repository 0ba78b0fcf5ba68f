"""
Configuration text into values, each with the line that it stands on.

JSON as people write it, with comments and a comma too many, and YAML without any of its magic:
no objects, no merges, no references that multiply.  What stands twice is told and, where the
format leaves it open which one counts, not used.  Text that can't be read is an error with its
line and column.  No file is opened here.
"""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from modeld.errors import Usage

if TYPE_CHECKING:
    import yaml

MAX_YAML_LETTERS = 1 << 20
MAX_VALUES = 200_000
MAX_DEPTH = 40
MERGE_TAG = "tag:yaml.org,2002:merge"
PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
# Strings first, so that nothing inside one is taken for a comment: "https://..." stays.
_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"|,(?=\s*[\]}])')
_NOT_NEWLINE = re.compile(r"[^\n]")

Path = tuple[str | int, ...]


class Trouble(NamedTuple):
    """Something in the text that is wrong, though the rest of it can be read."""

    path: Path
    reason: str
    line: int = 0


class Document(NamedTuple):
    """What a file says."""

    values: object
    lines: dict[Path, int]
    """Where each value stands, from 1; empty for JSON."""
    troubles: tuple[Trouble, ...] = ()


def parse(text: str, name: str) -> Document:
    """
    Return what a file says: JSON where it begins like JSON or is called so, else YAML.

    Raises:
        Usage: It can't be read, and where.
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise Usage(f"{name} is empty")
    is_json = name.endswith(".json") or text.lstrip()[0] in "{["
    is_json = is_json or text.lstrip().startswith("//")
    return _parse_json(text, name) if is_json else _parse_yaml(text, name)


def require_settings(document: Document, name: str) -> Document:
    """
    Return a document in which there may be settings.

    Raises:
        Usage: It is empty, or one value.
    """
    if isinstance(document.values, dict | list) and (document.values or document.troubles):
        return document
    raise Usage(f"{name} has no settings", hint="is it the right file?")


def leaves(values: object, above: Path = ()) -> Iterator[tuple[Path, object]]:
    """Yield every value that is no table, with its path; a list of plain values is one."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, (*above, key))
    elif isinstance(values, list) and any(isinstance(one, dict | list) for one in values):
        for position, value in enumerate(values):
            yield from leaves(value, (*above, position))
    else:
        yield above, values


def dotted(path: Path) -> str:
    """Return a path as people write it: `llm.routing.rules[1].pattern`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


# --- JSON ------------------------------------------------------------------------------------


def _parse_json(text: str, name: str) -> Document:
    twice: list[str] = []

    def table(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice.extend(key for key in found if keys.count(key) > 1)
        return found

    text = _COMMENT.sub(lambda match: _blank(match[0], keep='"'), text)
    text = _COMMA.sub(lambda match: _blank(match[0], keep='"'), text)
    try:
        values: object = json.loads(text, object_pairs_hook=table, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        raise Usage(f"{where}: {error.msg}", hint="is it the right file?") from error
    except RecursionError as error:
        raise Usage(f"{name}: tables inside tables inside tables") from error
    except ValueError as error:
        raise Usage(f"{name}: {error}") from error
    troubles = [Trouble((key,), "it stands twice; the last one counts") for key in twice]
    return Document(values, {}, tuple(troubles))


def _blank(text: str, keep: str) -> str:
    """Return spaces in place of `text`, so that lines and columns stay; a string as it is."""
    return text if text.startswith(keep) else _NOT_NEWLINE.sub(" ", text)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


# --- YAML ------------------------------------------------------------------------------------


def _parse_yaml(text: str, name: str) -> Document:
    import yaml

    if len(text) > MAX_YAML_LETTERS:
        raise Usage(f"{name} has more than {MAX_YAML_LETTERS} letters: no configuration is so long")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        walk = _Walk(loader, name)
        values = walk.value(node, ()) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what = error.problem or error.context or "it can't be read"
        raise Usage(f"{where}: {what}", hint="is it the right file?") from error
    except yaml.YAMLError as error:
        raise Usage(f"{name}: {str(error).splitlines()[0]}", hint="is it a text file?") from error
    except RecursionError as error:
        raise Usage(f"{name}: tables inside tables inside tables") from error
    finally:
        loader.dispose()
    if values is None:
        raise Usage(f"{name} says nothing")
    return Document(values, walk.lines, tuple(walk.troubles))


class _Walk:
    """One way through the nodes of a file: bounded, whatever refers to whatever."""

    def __init__(self, loader: "yaml.SafeLoader", name: str) -> None:
        self._loader = loader
        self._name = name
        self._count = 0
        self.lines: dict[Path, int] = {}
        self.troubles: list[Trouble] = []

    def value(self, node: "yaml.Node", path: Path) -> object:
        """Return what a node stands for."""
        import yaml

        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise Usage(f"{self._name}: no configuration has so many values, or so deep ones")
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._table(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*path, position)) for position, one in enumerate(node.value)]
        if node.tag in PLAIN_TAGS:
            try:
                plain: object = self._loader.construct_object(node)
            except ValueError:
                return str(node.value)
            return plain
        return str(node.value)

    def _table(self, node: "yaml.MappingNode", path: Path) -> dict[str, object]:
        """Return a table without what stands in it twice."""
        found: dict[str, object] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node.value, str) or key_node.tag == MERGE_TAG:
                self._tell((*path, "<<"), "only plain keys are read", line)
                continue
            key = str(key_node.value)
            if key in first_lines:
                found.pop(key, None)
                lines = f"on line {first_lines[key]} and on line {line}"
                self._tell((*path, key), f"it stands twice, {lines}: neither is taken", line)
                continue
            first_lines[key] = line
            found[key] = self.value(value_node, (*path, key))
            self.lines[*path, key] = line
        return found

    def _tell(self, path: Path, reason: str, line: int) -> None:
        self.troubles.append(Trouble(path, reason, line))
