"""
Room for a load where the plan alone finds none: turns, previous models, memory that was not there.

Three cases beside the ladder of `core.plan`.  A program's load that busy servers have held up for
long enough has one of them drained (`core.sharing`).  With `models.eviction = "immediate"` whatever
is idle goes before a program's load.  And a server that dies for want of memory while it loads
gets the memory of all that is idle, and is tried once more.
"""

from msgspec.structs import replace

from modeld.core.backoff import ran_out_of_memory
from modeld.core.entities import Exit, Origin, Server, ServerState
from modeld.core.plan import Plan, Victim, Want
from modeld.core.sharing import Patience, whom_to_drain
from modeld.supervisor import settings
from modeld.supervisor.deaths import note
from modeld.supervisor.idling import listed
from modeld.supervisor.lives import Lives
from modeld.supervisor.promises import expecting
from modeld.supervisor.world import Job, World


class Room:
    """Finds room, and has it made."""

    def __init__(self, world: World, lives: Lives) -> None:
        self._world = world
        self._lives = lives

    def previous(self, want: Want) -> tuple[Victim, ...]:
        """Return what goes before a program's load whatever the limits, if that is configured."""
        if want.origin is not Origin.GATEWAY or self._world.config.models.eviction != "immediate":
            return ()
        stay = {want.model_id, *listed(self._world)}
        reason = f"{want.name} is loaded: 0 idle models stay (models.eviction is immediate)"
        return tuple(
            Victim(server.id, server.record.model_name, reason)
            for server in self._idle()
            if server.record.model_id not in stay
        )

    def give_turn(self, job: Job, servers: tuple[Server, ...]) -> None:
        """Have busy ones of these finish, where a load has waited for them for long enough."""
        world = self._world
        now = world.ports.clock.monotonic()
        patience = Patience(
            waited_seconds=now - job.busy_since,
            batch_seconds=world.config.gateway.batch_seconds,
            now=now,
        )
        victims = whom_to_drain(
            job.want,
            servers,
            world.state.pins,
            settings.budget(world.config, world.machine),
            patience=patience,
        )
        for victim in victims:
            # one that is only promised to somebody is busy in a moment, or idle
            if world.servers[victim.server_id].in_flight:
                self._lives.stop(victim.server_id, victim.reason, drain=True, patient=True)

    def in_turn(self, plan: Plan) -> tuple[str, ...]:
        """Return the servers that `plan` waits for, and that nobody hurries."""
        servers = self._world.servers
        return tuple(
            server_id
            for server_id in plan.leaving
            if servers[server_id].state is ServerState.DRAINING and not servers[server_id].deadline
        )

    def hurry(self, server_ids: tuple[str, ...], because: str) -> None:
        """Give servers that finish in their own time no more than others have."""
        for server_id in server_ids:
            self._lives.stop(server_id, because, drain=True)

    def after_death(self, job: Job, server: Server, ended: Exit) -> frozenset[str]:
        """
        Return the servers that make room for a load that ran out of memory; none to give up.

        Once a load, and only where something can go: else the same would happen again.  For a load
        that nobody waits for, such as one at the start, nothing goes.
        """
        if (
            job.is_retried
            or not job.waiters
            or server.stopping_because
            or not ran_out_of_memory(ended)
        ):
            return frozenset()
        victims = [each for each in self._idle() if each.id != server.id]
        if not victims:
            return frozenset()
        names = ", ".join(each.record.model_name for each in victims)
        name = job.want.name
        note(
            self._world, "load-retried", server.record,
            f"{name} ran out of memory while it loaded: {len(victims)} idle go ({names}), and it "
            "is tried once more",
            priority=4,
        )  # fmt: skip
        for each in victims:
            because = f"{name} ran out of memory while it loaded; retry 1 of 1"
            self._lives.stop(each.id, because, drain=True)
        return frozenset(each.id for each in victims)

    def _idle(self) -> list[Server]:
        """Return the servers that may be unloaded for another."""
        pins = self._world.state.pins
        return [
            server
            for server in expecting(self._world)
            if server.state is ServerState.READY
            and not server.in_flight
            and server.record.model_id not in pins
        ]


def leaving(servers: tuple[Server, ...], victims: tuple[Victim, ...]) -> tuple[Server, ...]:
    """Return the servers for a plan that counts on the end of `victims`."""
    gone = {victim.server_id for victim in victims}
    return tuple(
        replace(server, state=ServerState.STOPPING) if server.id in gone else server
        for server in servers
    )
