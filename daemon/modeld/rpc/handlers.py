"""
One function a request: wire -> event or view -> wire.

Looking reads the world as it is; changing asks the loop.  Nothing is decided here.
"""

import asyncio
import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Union

import msgspec
from msgspec import Struct

from modeld.core import events as ev
from modeld.core.entities import ServerState
from modeld.core.names import NameChange
from modeld.errors import Inactive, TimedOut
from modeld.rpc import configuration, following, history, routing
from modeld.rpc.server import Send
from modeld.rpc.simulation import Library, Simulations, known
from modeld.supervisor import memory_views, views
from modeld.supervisor.loop import Supervisor
from modeld.version import VERSION
from modeld.wire import cache as cache_messages
from modeld.wire import codec
from modeld.wire import daemon as daemon_messages
from modeld.wire import history as history_messages
from modeld.wire import load as load_messages
from modeld.wire import models as model_messages
from modeld.wire import names as name_messages
from modeld.wire import simulate as simulation_messages
from modeld.wire import usage as usage_messages
from modeld.wire.codec import Header
from modeld.wire.common import Names, Selector

REFRESH_SECONDS = 10.0
"""How long `list --refresh` waits for the disks."""


@dataclass(slots=True, frozen=True)
class Call:
    """One request on its way through a handler."""

    supervisor: Supervisor
    request: Any
    request_id: str
    send: Send
    simulations: Simulations
    files: configuration.Files


Function = Callable[[Call], Awaitable[Struct]]


def selection(selector: Selector) -> ev.Selection:
    """Return what was typed as the core has it."""
    return ev.Selection(
        pattern=selector.pattern,
        nickname=selector.nickname,
        slot=selector.slot,
        best=selector.best,
        only=selector.only,
        exact=selector.exact,
    )


def change(names: Names) -> NameChange:
    """Return changes of names as the core has them."""
    return msgspec.convert(msgspec.structs.asdict(names), NameChange)


async def load(call: Call) -> Struct:
    """Make one model ready."""
    ask: load_messages.Load = call.request
    event = ev.LoadAsked(
        request_id=call.request_id,
        selection=selection(ask.selector),
        port=ask.port,
        arguments=ask.arguments,
        store=ask.store,
        keep_others=ask.keep_others,
        force=ask.force,
        force_pinned=ask.force_pinned,
        pin=ask.pin,
        names=change(ask.names),
        names_only=ask.names_only,
        dry_run=ask.dry_run,
        keep_alive_seconds=ask.keep_alive_seconds,
        by_program=ask.by_program,
    )
    return await call.supervisor.ask(event, call.send)


async def cancel(call: Call) -> Struct:
    """Give up a load."""
    event = ev.CancelAsked(request_id=call.request_id, load_request_id=call.request.load_id)
    return await call.supervisor.ask(event)


async def unload(call: Call) -> Struct:
    """Stop servers."""
    ask: load_messages.Unload = call.request
    event = ev.UnloadAsked(
        request_id=call.request_id,
        selections=tuple(selection(each) for each in ask.selectors),
        everything=ask.everything,
        force_pinned=ask.force_pinned,
        now=ask.now,
        idle=ask.idle,
    )
    return await call.supervisor.ask(event, call.send)


async def change_names(call: Call) -> Struct:
    """Change nicknames and slots."""
    ask: name_messages.ChangeNames = call.request
    selected = selection(ask.selector) if ask.selector is not None else ev.Selection()
    event = ev.NamesAsked(request_id=call.request_id, selection=selected, change=change(ask.change))
    return await call.supervisor.ask(event)


async def pin(call: Call) -> Struct:
    """Pin or unpin."""
    ask: name_messages.Pin = call.request
    event = ev.PinAsked(
        request_id=call.request_id, selection=selection(ask.selector), pinned=ask.pinned
    )
    return await call.supervisor.ask(event)


async def import_history(call: Call) -> Struct:
    """Take over what another program remembers of models."""
    return await call.supervisor.ask(history.asked(call.request, call.request_id))


async def reload(call: Call) -> Struct:
    """Read the configuration again."""
    return await call.supervisor.ask(ev.ReloadAsked(request_id=call.request_id))


async def configure(call: Call) -> Struct:
    """Tell of the configuration, or of what another one would do."""
    return await configuration.answer(call.request, call.files, call.supervisor.world)


async def wait(call: Call) -> Struct:
    """Wait until a model is ready, or gone; the client's deadline bounds it."""
    ask: load_messages.Wait = call.request
    world = call.supervisor.world
    model = views.choose(world, selection(ask.selector))
    while True:
        server = world.server_of(model.id)
        here = [each for each in world.servers.values() if each.record.model_id == model.id]
        if ask.until == "gone" and not here and world.job_of(model.id) is None:
            return load_messages.Done(message=f"{model.name} is not loaded")
        if ask.until == "ready":
            if server is not None and server.state is ServerState.READY:
                return load_messages.Done(message=f"{model.name} is ready")
            deaths = world.deaths.get(model.id)
            is_coming = world.job_of(model.id) or (deaths is not None and deaths.restart)
            if server is None and not is_coming:
                raise Inactive(
                    f"{model.name} is not loaded, and nobody loads it",
                    hint=f"modelctl load {model.name}",
                )
        await call.supervisor.changed()


async def list_models(call: Call) -> Struct:
    """List the models on disk."""
    ask: model_messages.ListModels = call.request
    world = call.supervisor.world
    if ask.refresh:
        call.supervisor.submit(ev.FolderChanged(tier="all", reason="list --refresh"))
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await call.supervisor.scanned()
        except TimeoutError:
            raise TimedOut(
                f"the disks were not looked through within {REFRESH_SECONDS:g} s",
                hint="it goes on; modelctl list shows what is known, status which disk is slow",
            ) from None
    return views.models(world, ask.patterns)


async def show(call: Call) -> Struct:
    """Show one model."""
    return views.show(call.supervisor.world, selection(call.request.selector))


async def ps(call: Call) -> Struct:
    """List the servers."""
    return views.servers(call.supervisor.world)


async def status(call: Call) -> Struct:
    """Tell how everything is."""
    ask: model_messages.AskStatus = call.request
    selected = selection(ask.selector) if ask.selector is not None else None
    report = views.status(call.supervisor.world, selected)
    return msgspec.structs.replace(report, copying=call.supervisor.cache.sentences())


async def can_load(call: Call) -> Struct:
    """Tell whether a model could be loaded."""
    return memory_views.verdict(call.supervisor.world, selection(call.request.selector))


async def route(call: Call) -> Struct:
    """Tell which model would answer, or what a model suits."""
    return routing.answer(call.supervisor.world, call.request, selection)


async def list_names(call: Call) -> Struct:
    """List all names."""
    return views.names(call.supervisor.world)


async def version(call: Call) -> Struct:
    """Tell who is here."""
    binary = call.supervisor.world.binary
    return daemon_messages.VersionReport(
        version=VERSION,
        protocol=codec.VERSION,
        python=platform.python_version(),
        engine=" ".join(binary.argv) if binary else "",
        engine_version=binary.version if binary else "",
    )


async def logs(call: Call) -> Struct:
    """Return log lines."""
    ask: daemon_messages.AskLogs = call.request
    world = call.supervisor.world
    if ask.selector is None:
        lines = [f"{each.at} {each.message}" for each in world.ports.journal.recent(ask.lines)]
        return daemon_messages.Logs(lines=tuple(lines), source="journalctl --user -u modeld")
    model = views.choose(world, selection(ask.selector))
    record = world.last_records.get(model.id)
    if record is None:
        raise Inactive(
            f"{model.name} was not loaded since modeld started",
            hint="journalctl --user -t modeld has what was before",
        )
    found = await world.ports.servers.log_lines(record.server_id, ask.lines)
    if not found:  # its log went with it
        found = world.last_words.get(model.id, ())[-ask.lines :]
    unit = f"journalctl --user -u modeld-llama@{record.server_id}"
    source = unit if world.ports.servers.kind == "systemd" else record.log_path
    return daemon_messages.Logs(lines=tuple(found), source=source)


async def show_cache(call: Call) -> Struct:
    """Tell what lies on which tier, and what is being copied."""
    return call.supervisor.cache_asks.report()


async def plan_cache(call: Call) -> Struct:
    """Tell what would be expired or copied."""
    return call.supervisor.cache_asks.plan(call.request.free_bytes)


async def change_cache(call: Call) -> Struct:
    """Promote, evict, pause, resume or cancel."""
    ask: cache_messages.ChangeCache = call.request
    event = ev.CacheAsked(
        request_id=call.request_id,
        action=ask.action,
        selection=selection(ask.selector) if ask.selector is not None else None,
        dry_run=ask.dry_run,
    )
    return await call.supervisor.ask(event)


async def verify_cache(call: Call) -> Struct:
    """Read copies again."""
    selector = call.request.selector
    event = ev.CacheAsked(
        request_id=call.request_id,
        action="verify",
        selection=selection(selector) if selector is not None else None,
    )
    return await call.supervisor.ask(event)


async def rank(call: Call) -> Struct:
    """Tell what models are worth."""
    selector = call.request.selector
    world = call.supervisor.world
    only = views.choose(world, selection(selector)) if selector is not None else None
    return call.supervisor.cache_asks.rank(only)


async def usage(call: Call) -> Struct:
    """Tell what requests cost."""
    selector, world = call.request.selector, call.supervisor.world
    only = views.choose(world, selection(selector)).id if selector is not None else ""
    return call.supervisor.counting.report(only)


async def simulate(call: Call) -> Struct:
    """Tell what would become of a scenario."""
    return await call.simulations.simulate(call.request, known(call.supervisor))


async def list_scenarios(call: Call) -> Struct:
    """Tell which scenarios there are."""
    return await call.simulations.scenarios(known(call.supervisor))


async def subscribe(call: Call) -> Struct:
    """Send events as they happen, until the client leaves."""
    return await following.follow(call.request, call.supervisor, call.send)


HANDLERS: dict[type[Struct], Function] = {
    load_messages.Load: load,
    load_messages.Cancel: cancel,
    load_messages.Unload: unload,
    load_messages.CanLoad: can_load,
    load_messages.Wait: wait,
    model_messages.ListModels: list_models,
    model_messages.Show: show,
    model_messages.Ps: ps,
    model_messages.AskStatus: status,
    name_messages.ChangeNames: change_names,
    name_messages.ListNames: list_names,
    name_messages.Pin: pin,
    history_messages.ImportHistory: import_history,
    cache_messages.ShowCache: show_cache,
    cache_messages.PlanCache: plan_cache,
    cache_messages.ChangeCache: change_cache,
    cache_messages.VerifyCache: verify_cache,
    cache_messages.AskRank: rank,
    usage_messages.AskUsage: usage,
    simulation_messages.Simulate: simulate,
    simulation_messages.ListScenarios: list_scenarios,
    daemon_messages.AskVersion: version,
    daemon_messages.Reload: reload,
    daemon_messages.Subscribe: subscribe,
    daemon_messages.AskLogs: logs,
    **dict.fromkeys(configuration.REQUESTS, configure),
    **dict.fromkeys(routing.REQUESTS, route),
}


LOOKS: frozenset[type[Struct]] = frozenset(
    {
        *configuration.REQUESTS,
        *routing.REQUESTS,
        model_messages.ListModels,
        model_messages.Show,
        model_messages.Ps,
        model_messages.AskStatus,
        name_messages.ListNames,
        load_messages.CanLoad,
        load_messages.Wait,
        daemon_messages.AskVersion,
        daemon_messages.Subscribe,
        simulation_messages.Simulate,
        simulation_messages.ListScenarios,
        daemon_messages.AskLogs,
        cache_messages.ShowCache,
        cache_messages.PlanCache,
        cache_messages.AskRank,
        usage_messages.AskUsage,
    }
)
"""Requests that change nothing: they may be handled twice, and their answers are large."""


def decoder() -> "msgspec.msgpack.Decoder[Struct]":
    """Return a decoder that knows every request, and nothing else."""
    union: Any = Union[tuple(HANDLERS)]  # noqa: UP007 (of a table, not of names)
    return msgspec.msgpack.Decoder(union)


class Handlers:
    """Handles every request with one supervisor."""

    def __init__(
        self, supervisor: Supervisor, scenarios: Library, files: configuration.Files
    ) -> None:
        self._supervisor = supervisor
        self._files = files
        self._simulations = Simulations(scenarios)

    async def __call__(self, request: Struct, header: Header, send: Send) -> Struct:
        """Handle one request."""
        function = HANDLERS[type(request)]
        return await function(
            Call(self._supervisor, request, header.id, send, self._simulations, self._files)
        )
