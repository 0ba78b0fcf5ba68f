"""
Requests that start nothing: unload, nicknames and slots, pins.

Names and pins are acknowledged when they are on the disk; an unload when the processes are gone.
"""

from collections.abc import Collection

from modeld.core.entities import Model, Server, State
from modeld.core.events import NamesAsked, PinAsked, Selection, UnloadAsked
from modeld.core.names import change_names, nicknames_of, set_pin, slots_of
from modeld.errors import ModeldError, Pinned, Usage
from modeld.supervisor.choosing import choose
from modeld.supervisor.deaths import forget_deaths
from modeld.supervisor.idling import Idling
from modeld.supervisor.jobs import Jobs
from modeld.supervisor.lives import Lives
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import Phase, Unloading, World
from modeld.wire.codec import Progress
from modeld.wire.load import Unloaded
from modeld.wire.names import Named


class Asks:
    """Answers what is asked of models and names."""

    def __init__(
        self, world: World, saver: Saver, lives: Lives, jobs: Jobs, *, idling: Idling
    ) -> None:
        self._world = world
        self._saver = saver
        self._lives = lives
        self._jobs = jobs
        self._idling = idling

    # --- unload ------------------------------------------------------------------------------

    def on_unload(self, ask: UnloadAsked) -> None:
        """Stop servers; answered when they are gone."""
        world = self._world
        reasons = {server.id: because for server, because in self._idling.due() if ask.idle}
        servers, kept = self._servers(ask, reasons)
        if not servers:
            world.answer(ask.request_id, Unloaded(models=(), kept=kept))
            return
        unloading = Unloading(
            request_id=ask.request_id,
            left={server.id for server in servers},
            models=tuple(server.record.model_name for server in servers),
            freed_bytes=sum(server.booked_bytes for server in servers),
            kept=kept,
        )
        world.unloadings.append(unloading)
        for server in servers:
            world.tell(ask.request_id, Progress(phase="stop", model=server.record.model_name))
            job = world.job_of_server(server.id)
            if job is not None:
                self._jobs.give_up(job, "it was unloaded while it was loading")
            because = reasons.get(server.id, "unload was asked for")
            self._lives.stop(server.id, because, drain=not ask.now)

    def on_gone(self, server_id: str) -> None:
        """A server is gone: some unload may be done."""
        for unloading in tuple(self._world.unloadings):
            unloading.left.discard(server_id)
            if not unloading.left:
                self._world.unloadings.remove(unloading)
                self._world.answer(
                    unloading.request_id,
                    Unloaded(
                        models=unloading.models,
                        freed_bytes=unloading.freed_bytes,
                        kept=unloading.kept,
                    ),
                )

    def on_stuck(self, server: Server, error: ModeldError) -> None:
        """A server survives even SIGKILL: whoever waits for its end is told."""
        for unloading in tuple(self._world.unloadings):
            if server.id in unloading.left:
                self._world.unloadings.remove(unloading)
                self._world.fail(unloading.request_id, error)

    def _servers(
        self, ask: UnloadAsked, due: Collection[str]
    ) -> tuple[list[Server], tuple[str, ...]]:
        """Return the servers to stop, and the names of pinned ones that stay."""
        world = self._world
        if ask.idle:
            return [world.servers[server_id] for server_id in due], ()
        if ask.everything:
            self._drop_queued(None)
            forget_deaths(world, None)
            pins = () if ask.force_pinned else world.state.pins
            stay = [each for each in world.servers.values() if each.record.model_id in pins]
            go = [each for each in world.servers.values() if each not in stay]
            return go, tuple(each.record.model_name for each in stay)
        if not ask.selections:
            raise Usage("nothing to unload is named", hint="modelctl unload MODEL, or --all")
        wanted = dict.fromkeys(self._model(selection).id for selection in ask.selections)
        for model_id in wanted:  # all or none
            if model_id in world.state.pins and not ask.force_pinned:
                name = world.label(model_id)
                raise Pinned(
                    f"{name} is pinned", hint=f"modelctl unpin {name}, or unload --force-pinned"
                )
        for model_id in wanted:
            self._drop_queued(model_id)
            forget_deaths(world, model_id)
        return [each for each in world.servers.values() if each.record.model_id in wanted], ()

    def _drop_queued(self, model_id: str | None) -> None:
        """Give up loads that have no server yet: of one model, or of all."""
        for job in tuple(self._world.jobs):
            if job.phase is not Phase.LOADING and model_id in (None, job.want.model_id):
                self._jobs.give_up(job, "it was unloaded before it was loaded")

    # --- names and pins ----------------------------------------------------------------------

    def on_names(self, ask: NamesAsked) -> None:
        """Change nicknames and slots."""
        free = ask.selection == Selection()
        model = None if free else self._model(ask.selection)
        sentences: tuple[str, ...] = ()

        def change(state: State) -> State:
            nonlocal sentences
            state, sentences = change_names(state, model.id if model else None, ask.change)
            return state

        def then(before: State, after: State) -> None:
            model_id, changed = model.id if model else "", before is not after
            # whoever has the answer can use the name
            self._world.when_published.append(
                lambda: self._answer_names(ask.request_id, model_id, sentences, changed=changed)
            )

        self._saver.commit(change, then, lambda error: self._world.fail(ask.request_id, error))

    def on_pin(self, ask: PinAsked) -> None:
        """Pin or unpin a model."""
        model_id = self._pinned_without_file(ask) or self._model(ask.selection).id
        name = self._world.label(model_id)
        sentences: tuple[str, ...] = ()

        def change(state: State) -> State:
            nonlocal sentences
            state, sentences = set_pin(state, model_id, pinned=ask.pinned)
            return state

        def then(before: State, after: State) -> None:
            event = "pins-changed" if before is not after else ""
            self._answer_names(ask.request_id, model_id, sentences, changed=False)
            if event:
                self._world.ports.journal.record(event, "; ".join(sentences), model=name)

        self._saver.commit(change, then, lambda error: self._world.fail(ask.request_id, error))

    def _answer_names(
        self, request_id: str, model_id: str, sentences: tuple[str, ...], *, changed: bool
    ) -> None:
        world = self._world
        label = world.label(model_id)
        if changed:
            world.ports.journal.record("names-changed", "; ".join(sentences), model=label)
        world.answer(
            request_id,
            Named(
                model=label,
                changes=sentences,
                nicknames=nicknames_of(world.state, model_id),
                slots=slots_of(world.state, model_id),
            ),
        )

    def _pinned_without_file(self, ask: PinAsked) -> str:
        """Return the id of a model that is only remembered, and is to be unpinned."""
        world, name = self._world, ask.selection.pattern
        is_gone = name in world.state.pins and name not in world.models
        return name if is_gone and not ask.pinned else ""

    def _model(self, selection: Selection) -> Model:
        """
        Return the model that is meant.

        Raises:
            ModeldError: None or several are.
        """
        return choose(self._world, selection).model


def refused(world: World, request_id: str, error: ModeldError) -> None:
    """Answer a request that was refused at once, and log that."""
    world.fail(request_id, error)
    world.ports.journal.record("refused", error.message, priority=5, code=str(error.code))
