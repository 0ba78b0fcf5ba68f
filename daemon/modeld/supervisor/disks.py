"""
What a look at this machine changes: which models there are, and which engine.

A model that is served stays known when its file goes, so that it still answers, and can be shown,
unpinned and unloaded by its name; it is forgotten with its server.  Nothing here reads a disk.
"""

from modeld.core.entities import Binary, Header, LaunchRecord, Location, Model
from modeld.core.events import FilesFound
from modeld.supervisor import settings
from modeld.supervisor.world import World


def take_files(world: World, event: FilesFound) -> None:
    """Put what was found into the world, and log what is new."""
    catalog = event.catalog
    tiers = {folder.tier for folder in settings.folders(world.config, world.home)}
    if not all(each.tier in tiers for one in catalog.models.values() for each in one.locations):
        return  # of folders that are not configured any more: the next look is on its way
    known = world.models.keys() - world.gone
    new, gone = catalog.models.keys() - known, known - catalog.models.keys()
    if new or gone or not world.surveyed:
        world.ports.journal.record(
            "scan-finished",
            f"{len(catalog.models)} models on disk (+{len(new)} -{len(gone)}) "
            f"in {event.seconds:.2f} s, {event.header_reads} headers read",
            models=len(catalog.models),
            seconds=round(event.seconds, 3),
            header_reads=event.header_reads,
        )
    for sentence in set(event.problems) - set(world.folder_problems):
        world.ports.journal.record("folder-missing", sentence, priority=4)
    served = {
        server.record.model_id: world.models.get(server.record.model_id) or _stand_in(server.record)
        for server in world.servers.values()
        if server.record.model_id not in catalog.models
    }
    # the very same ones need no new routes, and are the same at a glance later
    models = {key: _same(world.models.get(key), each) for key, each in catalog.models.items()}
    models |= served
    if models != world.models:
        world.models = models
    world.gone = frozenset(served)
    world.file_problems = tuple(catalog.problems)
    world.folder_problems = event.problems
    world.scanning, world.surveyed = False, True
    world.last_scan_at = world.ports.clock.monotonic()


def forget_gone(world: World) -> None:
    """Forget models without a file whose last server has ended."""
    served = {server.record.model_id for server in world.servers.values()}
    if left := world.gone - served:
        world.models = {key: each for key, each in world.models.items() if key not in left}
        world.gone -= left


def take_binary(world: World, binary: Binary) -> None:
    """Put the engine that was found into the world, and log it where it is another."""
    if binary.problem:
        world.ports.journal.record("binary-missing", binary.problem, priority=4)
    elif world.binary is None or world.binary.argv != binary.argv:
        words = " ".join(binary.argv)
        world.ports.journal.record("binary-found", f"the engine is {words} {binary.version}")
    world.binary = binary


def _same(known: Model | None, found: Model) -> Model:
    """Return the one that is known, where what was found is no other."""
    return known if known is not None and known == found else found


def _stand_in(record: LaunchRecord) -> Model:
    """Return what a launch record knows of a model that an earlier daemon loaded."""
    location = Location(
        tier=record.tier,
        path=record.model_path,
        shard_paths=(record.model_path,),
        size_bytes=0,
        mtime_ns=0,
    )
    return Model(
        id=record.model_id,
        name=record.model_id.rsplit("/", 1)[-1],
        size_bytes=0,
        header=Header(),
        locations=(location,),
    )
