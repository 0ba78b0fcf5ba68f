"""
What the configuration says and cannot be as the machine is now, for `reload` and `status`.

No mistake, so nothing is refused for it: a disk may come back, and an engine may be upgraded.
Only looks, and changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence

from modeld.config.layers import dotted
from modeld.config.schema import Config
from modeld.core.argv import check_arguments
from modeld.core.routing import Router
from modeld.errors import ArgumentDenied
from modeld.supervisor import settings
from modeld.supervisor.guide import settings as routing_settings
from modeld.supervisor.world import World
from modeld.units import GIB, MIB


def advice(world: World, config: Config, index: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """
    Return what has no effect now, one sentence each.

    Args:
        world: Its engine and folders.
        config: In force now, or from now on.
        index: Every exact name, with the ids that it may mean.
    """
    router = Router(routing_settings(config), {}, dict(index))
    lists = {"models.preload": config.models.preload, "keep_alive.models": config.keep_alive.models}
    named = [(key, name) for key, names in lists.items() for name in names]
    named += [(dotted(("models", "entries", name)), name) for name in config.models.entries]
    return (
        *router.warnings(),
        *(f"{key}: there is no model '{name}' now" for key, name in named if name not in index),
        *_denied(world, config),
        *_oversized(world, config),
    )


def _denied(world: World, config: Config) -> Iterator[str]:
    """Yield the arguments that no server can be started with."""
    if world.binary is None or world.binary.problem:
        return
    folders = [folder.path for folder in settings.folders(config, world.home)]
    asked = {"servers.arguments": config.servers.arguments}
    for name, entry in config.models.entries.items():
        asked[dotted(("models", "entries", name, "arguments"))] = entry.arguments
    for key, words in asked.items():
        try:
            check_arguments(words, world.binary, folders)
        except ArgumentDenied as error:
            yield f"{key}: {error.message} ({error.hint})"


def _oversized(world: World, config: Config) -> Iterator[str]:
    """Yield a budget that the machine does not have, which may end in swap, or that is nothing."""
    limit, machine_bytes = config.memory.limit_gb, world.machine.memory_bytes
    headroom_mb = config.memory.headroom_mb
    if limit is None and 0 < machine_bytes <= headroom_mb * MIB:
        machine = f"the machine's {machine_bytes / GIB:.1f} GB"
        yield f"memory.headroom_mb: {headroom_mb} leaves nothing of {machine}: no model fits"
    if limit is not None and machine_bytes and limit * GIB > machine_bytes:
        yield f"memory.limit_gb: {limit:g} GB is more than the machine's {machine_bytes / GIB:.1f}"
