"""
How a request for a model is understood.

It is resolved, its names are made durable, and then either what runs already answers it, or it
joins the load of that model that is under way, or it becomes a job of its own (`jobs`).  What can
be refused is refused before anything is touched.
"""

from modeld.core import argv, throttle
from modeld.core.entities import LaunchRecord, Model, Origin, Server, ServerState, State
from modeld.core.events import CancelAsked, LoadAsked, WaiterLeft
from modeld.core.fit import explained
from modeld.core.names import change_names, nicknames_of, set_pin, slots_of
from modeld.core.plan import Want
from modeld.core.resolve import Chosen
from modeld.core.stats import store_arguments
from modeld.errors import (
    AddressInUse,
    Busy,
    Cancelled,
    Inactive,
    ModeldError,
    ServerFailed,
    Unavailable,
    UnknownModel,
)
from modeld.supervisor import settings
from modeld.supervisor.answers import loaded
from modeld.supervisor.choosing import choose
from modeld.supervisor.jobs import BINARY_HINT, GATEWAY_PORT, Jobs
from modeld.supervisor.launching import file_mark, launch_record, warnings
from modeld.supervisor.lives import Lives
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import Job, Phase, Waiter, World
from modeld.wire.codec import Progress
from modeld.wire.load import Candidate, Done, Planned, Step
from modeld.wire.names import Named

MAX_JOBS = 64
"""Loads of different models under way; more are refused."""


class Loads:
    """Everything between a request for a model and its answer."""

    def __init__(self, world: World, saver: Saver, lives: Lives, jobs: Jobs) -> None:
        self._world = world
        self._saver = saver
        self._lives = lives
        self._jobs = jobs

    # --- requests ----------------------------------------------------------------------------

    def on_asked(self, ask: LoadAsked) -> None:
        """Make a model ready, or say why not."""
        world = self._world
        if world.stopping:
            raise Unavailable("modeld is stopping", hint="systemctl --user start modeld")
        if not world.surveyed or world.binary is None:
            world.defer(ask, "looking at the disks")
            return
        chosen = choose(world, ask.selection)
        waiter = world.waiter(ask.request_id)
        waiter.will_send = ask.origin is Origin.GATEWAY
        if len(chosen.candidates) > 1:
            waiter.candidates = tuple(
                Candidate(model=world.label(each.model_id), rank=round(each.rank, 2))
                for each in chosen.candidates
            )
        if ask.dry_run:
            world.answer(ask.request_id, self._dry_run(ask, chosen, waiter))
            return
        stores = ask.store and ask.arguments is not None
        if ask.names.is_empty and not ask.pin and not stores:
            self._begin(ask, chosen.model)
            return
        self._saver.commit(
            lambda state: self._change(state, ask, chosen.model.id, waiter),
            lambda before, after: self._named(ask, chosen.model, waiter, before is after),
            lambda error: world.fail(ask.request_id, error),
        )

    def on_cancel(self, ask: CancelAsked) -> None:
        """Give up a load, unless somebody else waits for it too."""
        world = self._world
        job = next((job for job in world.jobs if ask.load_request_id in job.waiters), None)
        if job is None:
            raise Inactive("there is no such load", hint="it ended, or modeld was restarted")
        world.fail(ask.load_request_id, Cancelled("the load was cancelled"))
        job.waiters.remove(ask.load_request_id)
        if job.waiters:
            others = len(job.waiters)
            world.answer(
                ask.request_id,
                Done(message=f"{job.want.name} goes on: {others} others wait for it"),
            )
            return
        self._jobs.give_up(job, "its load was cancelled")
        world.answer(ask.request_id, Done(message=f"the load of {job.want.name} is cancelled"))

    def on_left(self, event: WaiterLeft) -> None:
        """Somebody does not wait any more."""
        world = self._world
        world.waiters.pop(event.request_id, None)
        world.deferred = [
            each
            for each in world.deferred
            if each.request_id != event.request_id
            or (isinstance(each, LoadAsked) and each.origin is Origin.OPERATOR)
        ]
        for job in tuple(world.jobs):
            if event.request_id in job.waiters:
                job.waiters.remove(event.request_id)
                # an operator's load goes on without them; a program's has become pointless
                is_wanted = job.waiters or job.want.origin is Origin.OPERATOR
                if job.phase is Phase.QUEUED and not is_wanted:
                    world.jobs.remove(job)

    # --- names first -------------------------------------------------------------------------

    def _change(self, state: State, ask: LoadAsked, model_id: str, waiter: Waiter) -> State:
        state, sentences = change_names(state, model_id, ask.names)
        if ask.pin:
            state, pinned = set_pin(state, model_id, pinned=True)
            sentences += pinned
        if ask.store and ask.arguments is not None:
            self._check_arguments(ask.arguments)
            before, state = state, store_arguments(state, model_id, ask.arguments)
            sentences += ("its arguments are kept for later loads",) if state is not before else ()
        waiter.names = sentences
        return state

    def _named(self, ask: LoadAsked, model: Model, waiter: Waiter, unchanged: bool) -> None:
        world = self._world
        if not unchanged:
            world.ports.journal.record("names-changed", "; ".join(waiter.names), model=model.name)
        if ask.names_only:
            world.answer(
                ask.request_id,
                Named(
                    model=world.label(model.id),
                    changes=waiter.names,
                    nicknames=nicknames_of(world.state, model.id),
                    slots=slots_of(world.state, model.id),
                ),
            )
            return
        try:
            self._begin(ask, model)
        except ModeldError as error:
            world.fail(ask.request_id, error)
        self._jobs.advance()

    # --- the load ----------------------------------------------------------------------------

    def _begin(self, ask: LoadAsked, model: Model) -> None:
        """Answer from what runs, join what is under way, or queue a job."""
        world = self._world
        if ask.names_only:
            return self._named(ask, model, Waiter(), unchanged=True)
        if world.stopping:  # since its names went to the disk
            raise Unavailable("modeld is stopping", hint="systemctl --user start modeld")
        server = world.server_of(model.id)
        asked = self._arguments(ask, model, server)
        if server is not None and self._same(ask, server, asked):
            return self._join_server(ask, server)
        job = world.job_of(model.id)
        if job is not None and job.phase is not Phase.LOADING and self._joins(ask, job, asked):
            if job.phase is Phase.QUEUED and not job.waiters:  # now somebody waits: their rules
                job.want = self._want(ask, model, asked)
                job.begun_at = world.ports.clock.monotonic()
            self._join(ask, job)
            return None
        self._check(ask, model, asked)
        programs: list[str] = []
        if job is not None:  # programs take the model with any arguments: they wait on
            programs = [each for each in job.waiters if world.waiter(each).will_send]
            job.waiters = [each for each in job.waiters if each not in programs]
            self._jobs.give_up(job, "the same model was asked for with other arguments")
        if len(world.jobs) >= MAX_JOBS:
            raise Busy(f"{MAX_JOBS} loads are under way", retry_after_s=1)
        world.jobs.append(
            Job(
                want=self._want(ask, model, asked),
                arguments=asked,
                one_off=ask.arguments,
                begun_at=world.ports.clock.monotonic(),
                waiters=[ask.request_id, *programs],
                keep_alive_seconds=ask.keep_alive_seconds,
            )
        )
        world.tell(ask.request_id, Progress(phase="queue", model=world.label(model.id)))
        return None

    def _arguments(self, ask: LoadAsked, model: Model, server: Server | None) -> tuple[str, ...]:
        """Return all arguments; a request without any is content with what runs already."""
        if server is not None and self._is_content(ask):
            return server.record.arguments
        asked = settings.arguments(self._world, model, ask.arguments)
        return settings.with_context(asked, model, ask.context_tokens)

    def _same(self, ask: LoadAsked, server: Server, asked: tuple[str, ...]) -> bool:
        """Whether a server is what was asked for already."""
        if self._is_content(ask):
            return True
        same = self._alike(asked, server.record.arguments) and self._is_of_today(server.record)
        return same and ask.port == server.record.port

    def _is_content(self, ask: LoadAsked) -> bool:
        """Whether whatever runs for the model already will do: programs name no arguments."""
        by_program = ask.by_program and ask.arguments is None and not ask.port
        return ask.origin is Origin.GATEWAY or by_program

    def _is_of_today(self, record: LaunchRecord) -> bool:
        """Whether the file that was loaded is still the one in its place."""
        model = self._world.models.get(record.model_id)
        if model is None or not record.file_mark or model.location.path != record.model_path:
            return True  # it moved to another disk, or nobody knows
        return model.id in self._world.gone or record.file_mark == file_mark(model)

    def _alike(self, one: tuple[str, ...], other: tuple[str, ...]) -> bool:
        binary = self._world.binary
        return argv.normalised(one, binary) == argv.normalised(other, binary)

    def _joins(self, ask: LoadAsked, job: Job, asked: tuple[str, ...]) -> bool:
        """Whether a job that has not started its server yet will bring what was asked for."""
        if self._is_content(ask):
            return True
        same = self._alike(asked, job.arguments)
        return same and ask.port == job.want.port and job.want.origin is Origin.OPERATOR

    def _join_server(self, ask: LoadAsked, server: Server) -> None:
        world = self._world
        if server.state is ServerState.READY:
            self._lives.touch(server.id)
            self._lives.keep(server.id, ask.keep_alive_seconds)
            world.answer(ask.request_id, loaded(world, ask.request_id, server, already=True))
            return
        job = world.job_of_server(server.id)
        if job is None:  # adopted while it loads
            record = server.record
            job = Job(
                want=Want(
                    model_id=record.model_id,
                    name=record.model_name,
                    need_bytes=record.need_bytes,
                    need_gpu_bytes=record.need_gpu_bytes,
                    port=record.port,
                ),
                arguments=record.arguments,
                one_off=record.one_off,
                begun_at=world.ports.clock.monotonic(),
                phase=Phase.LOADING,
                server_id=server.id,
            )
            world.jobs.append(job)
        self._join(ask, job)
        self._jobs.report(server)

    def _join(self, ask: LoadAsked, job: Job) -> None:
        """Have one more wait for a load."""
        job.waiters.append(ask.request_id)
        if ask.keep_alive_seconds is not None:
            job.keep_alive_seconds = ask.keep_alive_seconds

    def _check(self, ask: LoadAsked, model: Model, asked: tuple[str, ...]) -> None:
        """Refuse what can be refused before anything is touched."""
        world = self._world
        if model.id in world.gone:
            raise UnknownModel(
                f"{model.name} runs, but its file is gone",
                hint=f"put {model.location.path} back; with its own arguments it goes on",
            )
        self._check_arguments(asked)
        if any(address.endswith(f":{ask.port}") for address in world.gateway_addresses):
            raise AddressInUse(
                f"port {ask.port} is the gateway's",
                hint="it serves every model there; give -p another port, or none",
                port=ask.port,
            )
        now = world.ports.clock.now()
        if ask.origin is Origin.OPERATOR and not ask.dry_run:
            if not ask.by_program:
                port = str(ask.port) if ask.port else GATEWAY_PORT
                throttle.check(
                    world.state.last_loads.get(port), now, world.config.reload.min_reload_seconds
                )
            world.deaths.pop(model.id, None)
        elif ask.origin is Origin.GATEWAY:
            self._check_deaths(model)

    def _check_arguments(self, asked: tuple[str, ...]) -> None:
        world = self._world
        if world.binary is None:
            raise Busy("llama-server is being asked for its options", retry_after_s=1)
        if world.binary.problem:
            raise ServerFailed(world.binary.problem, hint=BINARY_HINT)
        folders = settings.folders(world.config, world.home)
        argv.check_arguments(asked, world.binary, [folder.path for folder in folders])

    def _check_deaths(self, model: Model) -> None:
        """Hold a program back from a model that keeps dying; an operator may always try."""
        deaths = self._world.deaths.get(model.id)
        wait = deaths.retry_at - self._world.ports.clock.monotonic() if deaths else 0.0
        if deaths is not None and wait > 0:
            state = "has failed" if deaths.given_up else "has just died"
            times = "once" if len(deaths.at) == 1 else f"{len(deaths.at)} times"
            raise ServerFailed(
                f"{model.name} {state} ({times} in 10 min): {deaths.cause}",
                hint=f"modelctl load {model.name} tries at once; modelctl logs {model.name}",
                retry_after_s=max(1, round(wait)),
                deaths=len(deaths.at),
            )

    def _want(self, ask: LoadAsked, model: Model, asked: tuple[str, ...]) -> Want:
        config = self._world.config
        keep = (not config.load.replace) if ask.keep_others is None else ask.keep_others
        operator = ask.origin is Origin.OPERATOR
        need = settings.need_of(self._world, model, asked)
        return Want(
            model_id=model.id,
            name=self._world.label(model.id),
            need_bytes=need.need_bytes,
            need_gpu_bytes=need.gpu_bytes,
            port=ask.port,
            origin=ask.origin,
            replace=operator and not keep,
            force=ask.force,
            force_pinned=ask.force_pinned,
            by_program=ask.by_program,
        )

    def _dry_run(self, ask: LoadAsked, chosen: Chosen, waiter: Waiter) -> Planned:
        """Say what would be done, by the functions that would do it."""
        world, model = self._world, chosen.model
        _, sentences = change_names(world.state, model.id, ask.names)
        steps = [Step(action="name", model=model.name, reason=each) for each in sentences]
        server = world.server_of(model.id)
        asked = self._arguments(ask, model, server)
        if server is not None and self._same(ask, server, asked):
            steps.append(
                Step(action="nothing", model=model.name, reason="it runs with the same arguments")
            )
            return Planned(
                model=world.label(model.id),
                steps=tuple(steps),
                reason="already loaded",
                candidates=waiter.candidates,
            )
        self._check(ask, model, asked)
        need = settings.need_of(world, model, asked)
        want = self._want(ask, model, asked)
        plan = self._jobs.plan(want)
        steps += [Step(action="stop", model=each.name, reason=each.reason) for each in plan.victims]
        record = launch_record(world, want, model, asked=asked, one_off=ask.arguments)
        why = f"from {record.tier}: {record.model_path}"
        steps.append(Step(action="start", model=model.name, reason=why))
        return Planned(
            model=world.label(model.id),
            steps=tuple(steps),
            reason=f"{plan.reason} ({explained(need)})",
            argv=record.argv,
            candidates=waiter.candidates,
            warnings=warnings(world, model, need.need_bytes, need.gpu_bytes),
        )
