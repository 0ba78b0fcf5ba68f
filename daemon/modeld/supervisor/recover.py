"""
What a starting daemon finds: the state of the one before it, and the servers that it left.

A server whose record and process agree is adopted, with its run time going on.  A record without
a process is closed: its run time is counted up to its end, or to the last heartbeat, and its
death is told.  What has neither record nor right is stopped by the `Servers` port.
"""

from modeld.core.entities import Found, Kept, Server, ServerState
from modeld.core.stats import count_runtime, forget_servers
from modeld.supervisor.explain import describe
from modeld.supervisor.lives import Lives
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import World


def load_state(world: World) -> None:
    """Read the state file, and say what was wrong with it."""
    loaded = world.ports.store.load()
    world.state, world.state_read_only = loaded.state, loaded.read_only
    world.state_problems = tuple(loaded.problems)
    for sentence in loaded.problems:
        world.ports.journal.record("state-repaired", sentence, priority=4)


async def adopt_servers(world: World, saver: Saver, lives: Lives) -> int:
    """Take over every server that lives, close the others; return how many live."""
    found = await world.ports.servers.find()
    now = world.ports.clock.monotonic()
    for each in found:
        if each.process is None:
            _close(world, saver, each)
        else:
            kept = world.state.kept.get(each.record.server_id, Kept())
            server = Server(
                record=each.record,
                state=ServerState.LOADING,
                process=each.process,
                adopted=True,
                # the same clock, for no server outlives a boot
                last_used_at=min(kept.last_used_at or now, now),
                keep_alive_seconds=kept.keep_alive_seconds,
            )
            lives.adopt(server)
            world.ports.journal.record(
                "server-adopted",
                f"{each.record.model_name} still runs (pid {each.process.pid})",
                model=each.record.model_name,
                instance=each.record.server_id,
            )
    living = {each.record.server_id for each in found if each.process is not None}
    after = forget_servers(world.state, living)
    if after is not world.state:
        saver.observe(after)
    return len(living)


def _close(world: World, saver: Saver, found: Found) -> None:
    """Count the run time of a server that ended while nobody watched, and forget it."""
    record, ended = found.record, found.exit
    started = record.created_at.timestamp()
    until = ended.ended_at.timestamp() if ended and ended.ended_at else started
    counted = world.state.counted_seconds.get(record.server_id, 0.0)
    # without a known end, what the last heartbeat counted is all that is certain
    seconds = max(counted, until - started)
    after = count_runtime(
        world.state,
        record.model_id,
        record.server_id,
        seconds=seconds,
        closed=True,
        started_at=started,
    )
    if after is not world.state:
        saver.observe(after)
    world.ports.servers.forget(record.server_id)
    cause = describe(ended) if ended else "it is gone"
    world.ports.journal.record(
        "server-exited",
        f"{record.model_name} ended while modeld was away: {cause}",
        priority=4,
        model=record.model_name,
        instance=record.server_id,
    )
