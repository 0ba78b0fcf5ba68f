"""
Unloads what nobody uses: a look every second, and one when a request ends.

`core.keeping` decides; here it is told of the world, and what is due is stopped.  Requests that
come on a port of the server's own pass modeld by: such a server is asked every second whether it
works, and counts as busy where it does; before it goes for being idle it is asked once more, and
what has worked since the last such look counts as used.
"""

from collections.abc import Sequence

from modeld.core.entities import Server, ServerState
from modeld.core.events import SlotsSeen
from modeld.core.keeping import Policy, Stay, left, stay, why_due
from modeld.errors import ModeldError
from modeld.supervisor import settings
from modeld.supervisor.lives import Lives
from modeld.supervisor.promises import expect_work, expecting
from modeld.supervisor.world import World
from modeld.units import parse_keep_alive

PINNED = "it is pinned"
LISTED = "it is in keep_alive.models"


class Idling:
    """Finds servers that have been idle for too long, and stops them."""

    def __init__(self, world: World, lives: Lives) -> None:
        self._world = world
        self._lives = lives
        self._marks: dict[str, str] = {}
        """Of servers with a port of their own: what they had worked at the last look."""
        self._looking: dict[str, str] = {}
        """Of those that are being asked: why they would have to go."""
        self._ended: set[str] = set()
        self._is_tick = False

    def tick(self) -> None:
        """Have what is due stopped, and ask those that have a port of their own for their work."""
        world = self._world
        self._is_tick = True
        for server in world.servers.values():
            if server.record.port and server.state is ServerState.READY:
                world.ports.probe.look_at_slots(server.id, server.record.socket_path)

    def after_request(self, server_id: str) -> None:
        """Have a server stopped that was to stay no longer than its request, before the tick."""
        self._ended.add(server_id)

    def act(self) -> None:
        """
        Stop what is due.

        Called when every event that came is taken: between the end of one request and the start
        of the next its server looks idle, and would be stopped under the next.
        """
        if not self._is_tick and not self._ended:
            return
        ended = tuple(each for each in self._ended if self._leaves_at_once(each))
        is_tick, self._is_tick = self._is_tick, False
        self._ended.clear()
        if is_tick or ended:
            for server, because in self.due(() if is_tick else ended):
                self._stop(server, because)

    def _leaves_at_once(self, server_id: str) -> bool:
        server = self._world.servers.get(server_id)
        if server is None or server.in_flight:
            return False
        return stay_of(self._world, server).seconds == 0

    def due(self, only: Sequence[str] = ()) -> list[tuple[Server, str]]:
        """Return the servers that have to go now, and why."""
        world = self._world
        if world.stopping:
            return []
        now = world.ports.clock.monotonic()
        found = []
        for server in expecting(world):
            if only and server.id not in only:
                continue
            because = why_due(server, stay_of(world, server), now)
            if because and world.job_of_server(server.id) is None:
                found.append((server, because))
        return found

    def on_slots_seen(self, event: SlotsSeen) -> None:
        """A server with a port of its own was asked for its work: count it as used, or stop it."""
        server = self._world.servers.get(event.server_id)
        because = self._looking.pop(event.server_id, "")
        if server is None or not server.record.port:
            return
        if event.is_busy:
            expect_work(self._world, server.id)
        if not event.mark or event.mark != self._marks.get(server.id):
            self._marks[server.id] = event.mark
            self._lives.touch(server.id)
        elif because and self._is_due(server.id):
            self._lives.stop(server.id, because, drain=True)

    def _is_due(self, server_id: str) -> bool:
        return bool(self.due((server_id,)))

    def _stop(self, server: Server, because: str) -> None:
        if not server.record.port:
            self._lives.stop(server.id, because, drain=True)
        elif server.id not in self._looking:
            servers = self._world.servers
            self._marks = {key: mark for key, mark in self._marks.items() if key in servers}
            self._looking = {key: why for key, why in self._looking.items() if key in servers}
            self._looking[server.id] = because
            self._world.ports.probe.look_at_slots(server.id, server.record.socket_path)


def stay_of(world: World, server: Server) -> Stay:
    """Return how long a server may be idle."""
    models, model_id = world.config.models, server.record.model_id
    held_by = ""
    if model_id in world.state.pins:
        held_by = PINNED
    elif model_id in listed(world):
        held_by = LISTED
    policy = Policy(
        auto_unload=models.auto_unload_idle,
        idle_timeout_seconds=models.idle_timeout_seconds,
        strategy=world.config.keep_alive.strategy,
    )
    return stay(
        policy, held_by=held_by, requested=server.keep_alive_seconds, own=_own(world, model_id)
    )


def seconds_left(world: World, server: Server) -> float:
    """Return how much longer a server stays if nobody asks it; infinite where nothing ends it."""
    stays = stay_of(world, server)
    if server.in_flight and not stays.is_endless:
        return stays.seconds
    return left(server, stays, world.ports.clock.monotonic())


def listed(world: World) -> frozenset[str]:
    """Return the ids of the models that stay because the configuration lists them."""
    keep = world.config.keep_alive
    if not keep.enabled:
        return frozenset()
    found = set()
    for name in keep.models:
        try:
            found.add(world.routes.find(name).id)
        except ModeldError:
            continue  # it was told when modeld started
    return frozenset(found)


def _own(world: World, model_id: str) -> float | None:
    """Return what a model's entry says; None where it says nothing."""
    model = world.models.get(model_id)
    if model is None:
        return None
    text = settings.entry(world.config, model, world.state).keep_alive
    return parse_keep_alive(text) if text else None
