"""
What is remembered of servers that died, and what is logged of any server.

A death that nobody ordered counts towards giving the model up; `core.backoff` says how.  The
start that may follow is made by `jobs`; nothing here starts or stops.
"""

from modeld.core.backoff import after_death
from modeld.core.entities import Exit, LaunchRecord, Server
from modeld.supervisor.world import World
from modeld.units import format_duration

MAX_LAST_WORDS = 16
"""Of how many models the log of a server that is gone is kept."""


def note(
    world: World,
    event: str,
    record: LaunchRecord,
    message: str,
    *,
    priority: int = 6,
    **fields: str | float,
) -> None:
    """Log what happened to a server."""
    world.ports.journal.record(
        event,
        message,
        priority=priority,
        model=record.model_name,
        instance=record.server_id,
        **fields,
    )


def note_death(world: World, server: Server, ended: Exit, cause: str) -> None:
    """Remember a death that nobody ordered, and decide whether to start again."""
    record, now = server.record, world.ports.clock.monotonic()
    was_ready = bool(server.ready_at)
    healthy = now - server.ready_at if was_ready else 0.0
    deaths = after_death(
        world.deaths.get(record.model_id),
        now,
        max(0.0, healthy),
        cause=cause,
        restart=was_ready and ended.how != "oom-kill" and not world.stopping,
    )
    world.deaths[record.model_id] = deaths
    world.last_keep_alives.pop(record.model_id, None)
    if server.keep_alive_seconds is not None:
        world.last_keep_alives[record.model_id] = server.keep_alive_seconds
    if deaths.given_up:
        what = f"given up after {len(deaths.at)} deaths in 10 min"
    elif deaths.restart:
        what = f"next start in {format_duration(deaths.retry_at - now)}"
    else:
        what = "not started again by itself"
    note(world, "server-failed", record, f"{record.model_name} died: {cause}; {what}",
         priority=3, how=ended.how, code=ended.code, deaths=len(deaths.at))  # fmt: skip


def forget_deaths(world: World, model_id: str | None) -> None:
    """Forget how a model died, or all: it was unloaded on purpose, and is not started again."""
    if model_id is None:
        world.deaths.clear()
    else:
        world.deaths.pop(model_id, None)


def keep_last_words(world: World, model_id: str, ended: Exit) -> None:
    """Keep the end of a log that goes with its server, for whoever asks why it died."""
    kept = world.last_words
    kept.pop(model_id, None)
    kept[model_id] = ended.lines
    if len(kept) > MAX_LAST_WORDS:
        del kept[next(iter(kept))]
