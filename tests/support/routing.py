"""Models and settings for routing, in one line each."""

from collections.abc import Mapping

from modeld.core.entities import Header, Location, Model
from modeld.core.limits import Facts, facts
from modeld.core.routing import Router, Rule, Settings
from modeld.core.rules import compiled


def model(name: str, *, mmproj: str = "", **header: object) -> Model:
    """Return a model with this name and header."""
    path = f"/m/{name}.gguf"
    location = Location(
        tier="ssd", path=path, shard_paths=(path,), mmproj_path=mmproj, size_bytes=1, mtime_ns=0
    )
    return Model(id=name, name=name, size_bytes=1, header=Header(**header), locations=(location,))


def known(name: str, *, mmproj: str = "", **header: object) -> Facts:
    """Return what is known of a model with a context that suffices, unless told otherwise."""
    return facts(model(name, mmproj=mmproj, **{"context_tokens": 32_768, **header}))


def rules(*pairs: tuple[str, str]) -> tuple[Rule, ...]:
    """Return rules of patterns and models."""
    return tuple(Rule(pattern, name, compiled(pattern)) for pattern, name in pairs)


def router(
    *models: Facts | str, impossible: Mapping[str, str] | None = None, **settings: object
) -> Router:
    """Return a router for these models, each known by its id."""
    here = {each.model_id: each for each in (known(m) if isinstance(m, str) else m for m in models)}
    index = {model_id: (model_id,) for model_id in here}
    return Router(Settings(**settings), here, index, impossible)
