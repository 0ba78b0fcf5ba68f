"""
Which multimodal projector belongs to which model.

Projectors lie beside their models, under names that only people were meant to understand.  They
are matched by name within one folder; a wrong match makes llama-server fail, so none is made
when in doubt.  Nothing here looks into a file.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from posixpath import basename, dirname
from typing import NamedTuple

from modeld.core.entities import FoundFile
from modeld.core.filename import name_words, parse_name

PREFERRED_TYPES = ("F16", "BF16", "Q8_0", "F32")
"""Of one projector in several types the first is taken: every backend runs F16."""


class _Neighbour(NamedTuple):
    """A model in the folder of a projector."""

    path: str
    words: str
    """The words of its name, a space around each, so that a run of words is a part of it."""
    parameters: int


def match_projectors(
    models: Iterable[FoundFile], projectors: Sequence[FoundFile]
) -> dict[str, str]:
    """
    Return the path of the projector of each model that has one, by the path of the model.

    Args:
        models: Of each copy of a model its first file.
        projectors: Every projector.
    """
    folders: defaultdict[str, list[_Neighbour]] = defaultdict(list)
    wanted = {dirname(projector.path) for projector in projectors}
    for model in models:
        if dirname(model.path) in wanted:
            folders[dirname(model.path)].append(_neighbour(model))
    best: dict[str, tuple[int, str]] = {}
    for projector in sorted(projectors, key=_preference):
        certainty, fitting = _fitting(projector, folders[dirname(projector.path)])
        for path in fitting:
            if path not in best or best[path][0] < certainty:
                best[path] = (certainty, projector.path)
    return {path: projector for path, (_, projector) in best.items()}


def _neighbour(model: FoundFile) -> _Neighbour:
    """Return what a model's name tells."""
    told = parse_name(basename(model.path))
    return _Neighbour(model.path, f" {' '.join(name_words(told.stem))} ", told.parameters)


def _fitting(projector: FoundFile, neighbours: Sequence[_Neighbour]) -> tuple[int, list[str]]:
    """
    Return the models of its folder that a projector is for, and how sure that is.

    Those that share the longest run of words with it, more than half of its own name; else all,
    where they are quantisations of one model and the folder is not the root, which is everybody's.
    """
    told = parse_name(basename(projector.path))
    words = name_words(told.stem)
    # Sizes in names that contradict each other rule a match out, whatever else is alike.
    fitting = [
        neighbour
        for neighbour in neighbours
        if not told.parameters or neighbour.parameters in {0, told.parameters}
    ]
    for run in _runs(words):
        matching = [neighbour.path for neighbour in fitting if f" {run} " in neighbour.words]
        if matching:
            return len(run), matching
    if words and not dirname(projector.relative_path):
        return 0, []
    if len({neighbour.words for neighbour in neighbours}) != 1:
        return 0, []
    return 0, [neighbour.path for neighbour in fitting]


def _runs(words: Sequence[str]) -> Iterator[str]:
    """Yield the runs of words that make more than half of the name, the longest first."""
    runs = {
        " ".join(words[begin:end])
        for begin in range(len(words))
        for end in range(begin + 1, len(words) + 1)
    }
    for run in sorted(runs, key=lambda run: (-len(run), run)):
        if 2 * len(run) > len(" ".join(words)):
            yield run


def _preference(file: FoundFile) -> tuple[int, str]:
    """Return the order among projectors of one model."""
    kind = file.header.quantisation if file.header is not None else ""
    position = PREFERRED_TYPES.index(kind) if kind in PREFERRED_TYPES else len(PREFERRED_TYPES)
    return position, file.path
