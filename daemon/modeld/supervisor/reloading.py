"""
A configuration that was read again: what changes at once, and what for.

An invalid one changes nothing.  Of the servers, only those are started anew whose arguments are
now others, and those only when they are idle or have drained; one that an operator gave
arguments of its own keeps them.
"""

from msgspec.structs import replace

from modeld.config.load import changes, expand, needs_restart
from modeld.config.schema import Config
from modeld.core.argv import normalised
from modeld.core.entities import Server, ServerState
from modeld.core.events import ConfigRead
from modeld.errors import ConfigInvalid
from modeld.supervisor import settings
from modeld.supervisor.advice import advice
from modeld.supervisor.choosing import naming_of
from modeld.supervisor.jobs import Jobs
from modeld.supervisor.lives import Lives
from modeld.supervisor.world import World
from modeld.wire.daemon import Reloaded


class Reloading:
    """Puts a new configuration in force."""

    def __init__(self, world: World, lives: Lives, jobs: Jobs) -> None:
        self._world = world
        self._lives = lives
        self._jobs = jobs

    def on_read(self, event: ConfigRead) -> None:
        """The files were read: apply them, or keep what is in force."""
        world = self._world
        if event.error is not None or not isinstance(event.config, Config):
            error = event.error or ConfigInvalid("the configuration could not be read")
            world.ports.journal.record(
                "config-invalid", f"kept the old configuration: {error.message}", priority=3
            )
            world.ports.notify.ready()
            world.fail(event.request_id, error)
            return
        old, new = world.config, event.config
        changed = [*changes(old, new), *event.changed]
        world.config = new
        world.config_origins, world.config_notes = event.origins, event.notes
        for listener in world.on_config:
            listener(new)
        if old.storage != new.storage:
            self.look_at_folders()
        # always: it may have been installed or upgraded, and the answer is cached by file
        if world.binary is None or world.binary.problem or old.servers.binary != new.servers.binary:
            world.binary = None  # loads wait for the answer
        world.ports.hardware.probe_binary(expand(new.servers.binary, world.home))
        reply = Reloaded(
            changed=tuple(changed),
            needs_restart=tuple(needs_restart(old, new)),
            kept=self._restart_concerned(old, new),
        )
        # whoever has the answer finds everything as it says
        world.when_published.append(lambda: self._answer(event.request_id, reply))

    def _answer(self, request_id: str, reply: Reloaded) -> None:
        world = self._world
        text = "; ".join(reply.changed) or "nothing changed"
        world.ports.journal.record("config-reloaded", f"configuration read again: {text}")
        world.ports.notify.ready()
        names = naming_of(world)
        warnings = (*names.problems, *advice(world, world.config, names.index))
        world.answer(request_id, replace(reply, warnings=warnings))

    def look_at_folders(self) -> None:
        """Watch and scan the folders of the configuration in force."""
        world = self._world
        folders = settings.folders(world.config, world.home)
        world.watch_problems = tuple(world.ports.watcher.watch(folders))
        for sentence in world.watch_problems:
            world.ports.journal.record("folder-polled", sentence, priority=5)
        world.scanning = True
        world.ports.scanner.scan(folders)

    def _restart_concerned(self, old: Config, new: Config) -> tuple[str, ...]:
        """Start servers anew whose arguments changed; return the names of those that stay."""
        kept = []
        for server in tuple(self._world.servers.values()):
            if self._is_concerned(server, old, new):
                self._lives.stop(server.id, "its settings changed", drain=True)
                self._jobs.restart(server.record)
            elif server.state is ServerState.READY:
                kept.append(server.record.model_name)
        return tuple(kept)

    def _is_concerned(self, server: Server, old: Config, new: Config) -> bool:
        world, record = self._world, server.record
        model = world.models.get(record.model_id)
        if model is None or server.state is not ServerState.READY:
            return False
        before = settings.arguments_by(old, world, model, record.one_off)
        after = settings.arguments_by(new, world, model, record.one_off)
        contexts = (
            settings.context_tokens(old, model, world.state, before),
            settings.context_tokens(new, model, world.state, after),
        )
        return normalised(before) != normalised(after) or contexts[0] != contexts[1]
