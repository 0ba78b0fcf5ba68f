"""
Which models there are, made from the files that a scan saw.

A model is one GGUF with its shards and its projector, on however many tiers it has a copy.  Two
files on two tiers are copies of one model when file name, size and header are the same; on one
tier they are two models.  Files that cannot be used become one sentence each.  Nothing here
looks at a disk, and no model is chosen.

An id is the path of the copy on the first HDD that has one, so that a copy on the SSD, which
comes and goes, never changes it; the paths of other copies become aliases.  Where two different
models have the same path on two tiers, the later tier in that order is written before its path,
as in `ssd:qwen/qwen3-8b-q4_k_m`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from posixpath import basename
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from modeld.core.entities import FoundFile, Header, Location, Model
from modeld.core.filename import complete, is_mmproj, split_shard
from modeld.core.projectors import match_projectors

SSD = "ssd"
"""The tier whose copies come and go."""
MAX_SHARDS_TOLD = 8


class Catalog(Struct, frozen=True, kw_only=True):
    """All models, and what was in the way of others."""

    models: Mapping[str, Model] = field(default_factory=dict)
    """By id."""
    problems: tuple[str, ...] = ()
    """Files that are not usable, `PATH: why`."""


class _Copy(NamedTuple):
    """One whole model on one tier."""

    tier: str
    stem: str
    """Path below the tier, without `.gguf` and shard suffix."""
    header: Header
    files: tuple[FoundFile, ...]
    """All shards, in order."""
    size_bytes: int


class _Sorted(NamedTuple):
    """The files of a scan, told apart."""

    copies: list[_Copy]
    projectors: list[FoundFile]
    problems: list[str]


def build_catalog(files: Sequence[FoundFile], tiers: Sequence[str]) -> Catalog:
    """
    Return the models that these files are.

    Args:
        files: What a scan saw, in any order.
        tiers: The configured tiers in look-up order; files of others are left out.
    """
    look_up = {tier: position for position, tier in enumerate(tiers)}
    ours = [file for file in files if file.tier in look_up]
    ours.sort(key=lambda file: file.path)
    copies, projectors, problems = _sort_out(ours)
    # HDDs first: ids are made in this order.
    copies.sort(key=lambda copy: (copy.tier == SSD, look_up[copy.tier], copy.stem))
    mmproj_paths = match_projectors([copy.files[0] for copy in copies], projectors)
    stamps = {file.path: (file.size_bytes, file.mtime_ns) for file in ours}
    models: dict[str, Model] = {}
    for group in _group(copies):
        model_id = _free_id(group[0], models)
        in_order = sorted(group, key=lambda copy: look_up[copy.tier])
        models[model_id] = Model(
            id=model_id,
            name=basename(model_id.removeprefix(f"{group[0].tier}:")),
            aliases=tuple(dict.fromkeys(copy.stem for copy in group if copy.stem != model_id)),
            size_bytes=group[0].size_bytes,
            header=group[0].header,
            locations=_locations(in_order, mmproj_paths, stamps),
        )
    return Catalog(models=_without_taken_aliases(models), problems=tuple(problems))


def _sort_out(files: Iterable[FoundFile]) -> _Sorted:
    """Tell models, projectors and what is neither apart."""
    result = _Sorted([], [], [])
    sets: defaultdict[tuple[str, str, int], dict[int, FoundFile]] = defaultdict(dict)
    for file in files:
        stem, index, count = split_shard(file.relative_path)
        problem = _problem(file, index, count)
        header = file.header
        if problem or header is None:
            result.problems.append(f"{file.path}: {problem}")
        elif header.kind == "mmproj" or is_mmproj(basename(file.relative_path)):
            result.projectors.append(file)
        elif header.shard_count > 1:
            sets[file.tier, stem, count][index] = file
        else:
            whole = complete(header, basename(file.relative_path))
            # A lone file keeps a suffix that only looks like a shard's.
            own = stem if count == 1 else _bare(file)
            result.copies.append(_Copy(file.tier, own, whole, (file,), file.size_bytes))
    for (tier, stem, count), shards in sets.items():
        if len(shards) < count:
            result.problems.append(_incomplete(shards, count))
        else:
            in_order = tuple(shards[index] for index in range(count))
            size_bytes = sum(file.size_bytes for file in in_order)
            result.copies.append(_Copy(tier, stem, _joined(in_order), in_order, size_bytes))
    return result


def _problem(file: FoundFile, index: int, count: int) -> str:
    """Return why a file is neither a model, nor a shard, nor a projector; empty when it is one."""
    header = file.header
    if header is None:
        return file.problem or "its header could not be read"
    if header.kind not in {"model", "mmproj"}:
        return f"it is of the kind {header.kind}, not a model"
    if header.shard_count > 1:
        if (header.shard_index, header.shard_count) == (index, count):
            return ""
        number, of = header.shard_index + 1, header.shard_count
        return (
            f"it is shard {number} of {of}, so llama.cpp wants its name to end in"
            f" -{number:05d}-of-{of:05d}.gguf"
        )
    if not header.architecture:
        return "it does not name its architecture"
    if not header.tensor_count:
        return "it has no tensors, only a vocabulary"
    return ""


def _incomplete(shards: Mapping[int, FoundFile], count: int) -> str:
    """Return the sentence about a model that lacks shards."""
    missing = [str(index + 1) for index in range(count) if index not in shards]
    told = ", ".join(missing[:MAX_SHARDS_TOLD])
    if len(missing) > MAX_SHARDS_TOLD:
        told += f" and {len(missing) - MAX_SHARDS_TOLD} more"
    path = shards[min(shards)].path
    return f"{path}: of its {count} shards, {told} are missing or unusable"


def _joined(shards: Sequence[FoundFile]) -> Header:
    """Return the header of a whole model, which only the first of its shards has."""
    headers = [file.header for file in shards if file.header is not None]
    largest = max(headers, key=lambda header: header.parameters)
    joined = replace(
        headers[0],
        quantisation=headers[0].quantisation or largest.quantisation,
        parameters=sum(header.parameters for header in headers),
        tensor_count=sum(header.tensor_count for header in headers),
        tensor_bytes=sum(header.tensor_bytes for header in headers),
        extent_bytes=sum(header.extent_bytes for header in headers),
    )
    return complete(joined, basename(shards[0].relative_path))


def _group(copies: Iterable[_Copy]) -> Iterator[list[_Copy]]:
    """Yield the copies of each model, the one that names it first."""
    alike: defaultdict[tuple[str, int, int, Header], list[_Copy]] = defaultdict(list)
    for copy in copies:
        name = basename(copy.stem)
        alike[name, copy.size_bytes, len(copy.files), copy.header].append(copy)
    for group in alike.values():
        if len(group) == 1:
            yield group
        else:
            yield from _apart(group)


def _apart(alike: Sequence[_Copy]) -> list[list[_Copy]]:
    """
    Return copies that look alike, told apart into models; in one tier each is its own.

    Of several on one tier, a copy on another tier belongs to the one with the same path; without
    such a one nobody can tell, and it is a model of its own.
    """
    models: list[list[_Copy]] = []
    by_tier: defaultdict[str, list[_Copy]] = defaultdict(list)
    for copy in alike:
        by_tier[copy.tier].append(copy)
    for copies in by_tier.values():
        open_models = list(models)
        strangers = []
        for copy in copies:
            same = [m for m in open_models if any(other.stem == copy.stem for other in m)]
            if same:
                same[0].append(copy)
                open_models.remove(same[0])
            else:
                strangers.append(copy)
        if len(strangers) == len(open_models) == 1:
            open_models[0].append(strangers[0])
        else:
            models.extend([copy] for copy in strangers)
    return models


def _free_id(copy: _Copy, taken: Mapping[str, Model]) -> str:
    """Return the plainest id for a model that no other has."""
    first = copy.files[0]
    candidates = (
        copy.stem,
        _bare(first),
        f"{copy.tier}:{copy.stem}",
        f"{copy.tier}:{_bare(first)}",
    )
    free = (candidate for candidate in candidates if candidate not in taken)
    return next(free, f"{copy.tier}:{first.relative_path}")


def _bare(file: FoundFile) -> str:
    """Return the path below the tier without `.gguf`, which the scanner has seen there."""
    return file.relative_path[: -len(".gguf")]


def _without_taken_aliases(models: Mapping[str, Model]) -> dict[str, Model]:
    """Return the models without aliases that are another model's id."""
    return {
        model_id: replace(model, aliases=tuple(a for a in model.aliases if a not in models))
        if model.aliases
        else model
        for model_id, model in models.items()
    }


def _locations(
    copies: Sequence[_Copy],
    mmproj_paths: Mapping[str, str],
    stamps: Mapping[str, tuple[int, int]],
) -> tuple[Location, ...]:
    """Return where the copies of one model lie, each with the nearest projector."""
    projectors = [mmproj_paths.get(copy.files[0].path, "") for copy in copies]
    any_projector = next(filter(None, projectors), "")
    return tuple(
        Location(
            tier=copy.tier,
            path=copy.files[0].path,
            shard_paths=tuple(file.path for file in copy.files),
            mmproj_path=own or any_projector,
            size_bytes=copy.size_bytes,
            mtime_ns=max(file.mtime_ns for file in copy.files),
            stamps=tuple(
                stamps[path]
                for path in (*(file.path for file in copy.files), own or any_projector)
                if path
            ),
        )
        for copy, own in zip(copies, projectors, strict=True)
    )
