"""
Loads at the start what the configuration wants loaded then.

In the order of the lists, as far as the limits allow: nothing is unloaded for it, and what does
not fit is left out and told.  Once in a daemon's life, when the disks and the engine are known.
"""

from modeld.errors import ModeldError
from modeld.supervisor.jobs import Jobs
from modeld.supervisor.world import World


def preload(world: World, jobs: Jobs) -> None:
    """Queue the loads of `keep_alive.models` and `models.preload`."""
    keep = world.config.keep_alive
    if not keep.enabled:
        return
    for name in dict.fromkeys((*keep.models, *world.config.models.preload)):
        try:
            model = world.routes.find(name)
        except ModeldError as error:
            world.ports.journal.record(
                "preload-skipped",
                f"{name} is not loaded at the start: {error.message}",
                priority=5,
            )
            continue
        if world.server_of(model.id) is not None or world.job_of(model.id) is not None:
            continue
        jobs.begin(model)
