"""
What another program remembers of models that modeld has too, taken over into modeld's own state.

A record is about a file, by the path that it had; which model that is today is found by the
catalogue.  Taking the same record over twice adds nothing: how much of a model's uses and run time
was taken over is remembered, and only what is more counts.  What the model has of its own, such as
stored arguments, is never replaced.  Nothing is read here, and nothing is saved.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from posixpath import basename, normpath

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import Model, ModelStats, State
from modeld.core.stats import MAX_TIMESTAMPS

EXTENSION = ".gguf"


class Past(Struct, frozen=True, kw_only=True):
    """What another program remembers of one file."""

    path: str
    """Where it was; its name alone will do."""
    total_uses: int = 0
    last_used: datetime | None = None
    use_timestamps: tuple[datetime, ...] = ()
    """Its last uses, in any order, UTC."""
    total_runtime_seconds: float = 0.0
    last_runtime_seconds: float = 0.0
    arguments: tuple[str, ...] = ()
    """llama-server arguments that were kept for it."""
    mmproj: str = ""
    """The projector that it was used with."""
    nicknames: tuple[str, ...] = ()


def by_file_name(models: Mapping[str, Model]) -> Mapping[str, Sequence[Model]]:
    """Return the models by the names of their files, whatever folders these are in."""
    found: dict[str, list[Model]] = {}
    for model in models.values():
        for name in {model.name + EXTENSION, *(basename(path) for path in _files(model))}:
            found.setdefault(name, []).append(model)
    return found


def find_model(path: str, models: Mapping[str, Sequence[Model]]) -> tuple[Model | None, str]:
    """
    Return the model that a file is today, or None and why not.

    The very path counts most, then the end of it that is a model's id, then its file name alone,
    where only one model has it.

    Args:
        path: Where the file was.
        models: By the names of their files.
    """
    path = normpath(path)
    alike = models.get(basename(path), ())
    for model in alike:
        if path in _files(model):
            return model, ""
    ends = [
        model
        for model in alike
        if any(f"/{path}".endswith(f"/{one}{EXTENSION}") for one in (model.id, *model.aliases))
    ]
    longest = max((len(model.id) for model in ends), default=0)
    candidates = [model for model in ends if len(model.id) == longest] or alike
    if len(candidates) == 1:
        return candidates[0], ""
    if candidates:
        told = ", ".join(sorted(model.id for model in candidates))
        return None, f"several models have this file name: {told}"
    return None, "modeld has no such model in its folders"


def combine(pasts: Sequence[Past]) -> Past:
    """Return what several records of one model come to together; at least one."""
    first, *others = pasts
    for other in others:
        first = replace(
            first,
            total_uses=_uses(first) + _uses(other),
            last_used=_latest((first.last_used, other.last_used)),
            use_timestamps=(*first.use_timestamps, *other.use_timestamps),
            total_runtime_seconds=first.total_runtime_seconds + other.total_runtime_seconds,
            arguments=first.arguments or other.arguments,
            mmproj=first.mmproj or other.mmproj,
            nicknames=(*first.nicknames, *other.nicknames),
        )
    return first


def take_over(state: State, model_id: str, past: Past) -> State:
    """
    Return the state with the uses and the run time of a record, as far as they are new.

    Nobody wrote down how long each of the other program's uses ran, so each counts as their
    average.
    """
    stats = state.models.get(model_id, ModelStats())
    uses, seconds = _uses(past), round(past.total_runtime_seconds, 3)
    average = round(seconds / uses, 3) if uses else 0.0
    new = set(past.use_timestamps).difference(stats.use_timestamps)
    own = zip(stats.use_timestamps, _aligned(stats), strict=True)
    pairs = [*own, *((stamp, average) for stamp in new)]
    pairs = sorted(pairs, key=lambda pair: pair[0])[-MAX_TIMESTAMPS:]
    stamps = tuple(stamp for stamp, _ in pairs)
    taken = replace(
        stats,
        total_uses=stats.total_uses + max(0, uses - stats.imported_uses),
        imported_uses=max(uses, stats.imported_uses),
        last_used=_latest((stats.last_used, past.last_used, *stamps[-1:])),
        use_timestamps=stamps,
        use_runtimes_seconds=tuple(runtime for _, runtime in pairs),
        total_runtime_seconds=round(
            stats.total_runtime_seconds + max(0.0, seconds - stats.imported_runtime_seconds), 3
        ),
        imported_runtime_seconds=max(seconds, stats.imported_runtime_seconds),
        last_runtime_seconds=stats.last_runtime_seconds or past.last_runtime_seconds,
    )
    if _same(taken, stats):
        return state
    return replace(state, models={**state.models, model_id: taken})


def take_back(state: State, before: State, after: State) -> State:
    """
    Return the state without what a take-over added to it: the disk refused that.

    Args:
        state: As it is now; uses may have been counted since.
        before: As it was before the take-over.
        after: As the take-over made it.
    """
    models = dict(state.models)
    for model_id, added in after.models.items():
        had, now = before.models.get(model_id), models.get(model_id)
        if added is had or now is None:
            continue
        restored = _without(now, had or ModelStats(), added)
        if restored == ModelStats():
            del models[model_id]
        else:
            models[model_id] = restored
    return replace(state, models=models)


def _without(now: ModelStats, had: ModelStats, added: ModelStats) -> ModelStats:
    """Return the statistics of today on top of `had` instead of `added`."""
    fresh = now.total_uses - added.total_uses
    stamps = (*had.use_timestamps, *(now.use_timestamps[-fresh:] if fresh else ()))
    runtimes = (*_aligned(had), *(_aligned(now)[-fresh:] if fresh else ()))
    more_seconds = now.total_runtime_seconds - added.total_runtime_seconds
    ran_since = now.last_runtime_seconds != added.last_runtime_seconds
    return replace(
        now,
        total_uses=had.total_uses + fresh,
        imported_uses=had.imported_uses,
        last_used=now.last_used if fresh else had.last_used,
        use_timestamps=stamps[-MAX_TIMESTAMPS:],
        use_runtimes_seconds=runtimes[-MAX_TIMESTAMPS:],
        total_runtime_seconds=round(had.total_runtime_seconds + more_seconds, 3),
        imported_runtime_seconds=had.imported_runtime_seconds,
        last_runtime_seconds=now.last_runtime_seconds if ran_since else had.last_runtime_seconds,
        arguments=had.arguments if now.arguments == added.arguments else now.arguments,
    )


def _files(model: Model) -> tuple[str, ...]:
    return tuple(path for location in model.locations for path in location.shard_paths)


def _uses(past: Past) -> int:
    return max(past.total_uses, len(set(past.use_timestamps)))


def _latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)


def _aligned(stats: ModelStats) -> tuple[float, ...]:
    """Return one run time a timestamp, whatever a person did to the file; 0 where unknown."""
    count = len(stats.use_timestamps)
    return ((0.0,) * count + stats.use_runtimes_seconds)[-count:] if count else ()


def _same(one: ModelStats, other: ModelStats) -> bool:
    """Whether nothing differs but the zeros that stand for unknown run times."""
    return one == replace(other, use_runtimes_seconds=_aligned(other))
