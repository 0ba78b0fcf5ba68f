"""
Models that are read into the page cache ahead of their servers, and how long that is waited for.

A slow disk gives one reader all its speed, and a server that maps a file a fraction of it.
"""

from modeld.core.entities import LaunchRecord, Location
from modeld.core.events import PagesRead
from modeld.supervisor.world import World

MOST_OF_MEMORY = 0.8
"""Of what is available: a model that does not stay in the page cache is not read into it."""
STALL_SECONDS = 30.0
"""Reading that stands still for so long is not waited for: the server reads by itself."""


class Reading:
    """Everything that is being read ahead, by the server that it is for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reads: dict[str, tuple[str, float]] = {}
        """Server id -> the model's path, and when reading it last went on.  [monotonic s]"""

    def begin(self, record: LaunchRecord, location: Location) -> None:
        """Have a model read, if it fits into what memory is available."""
        world = self._world
        world.machine = world.ports.hardware.machine()
        self._reads[record.server_id] = (location.path, world.ports.clock.monotonic())
        paths = (*location.shard_paths, *filter(None, (location.mmproj_path,)))
        world.ports.copier.yield_to_load(location.path, True)
        most = int(world.machine.available_bytes * MOST_OF_MEMORY)
        world.ports.page_cache.read(record.server_id, paths, most)

    def is_over(self, server_id: str) -> bool:
        """Whether nobody has to wait for it any longer."""
        if server_id not in self._reads:
            return True
        return self._world.ports.clock.monotonic() - self._reads[server_id][1] >= STALL_SECONDS

    def give_up(self, server_id: str) -> None:
        """Read no further."""
        self._world.ports.page_cache.stop(server_id)

    def on_pages(self, event: PagesRead) -> None:
        """Some more is read, or all that will be."""
        if event.read_id not in self._reads:
            return
        path, _ = self._reads[event.read_id]
        if event.is_over:
            del self._reads[event.read_id]
            self._world.ports.copier.yield_to_load(path, False)
        else:
            self._reads[event.read_id] = (path, self._world.ports.clock.monotonic())
