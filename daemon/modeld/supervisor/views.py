"""
What the world looks like to somebody who asks: world -> the Structs of `modeld.wire`.

Reads only.  Figures are raw here (bytes, seconds, RFC 3339); whoever shows them to people rounds
them.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatch
from itertools import chain

import msgspec

from modeld.config.load import expand
from modeld.core import argv
from modeld.core.entities import Header, Model, Server, ServerState
from modeld.core.events import Selection
from modeld.core.fit import booked_bytes
from modeld.core.holdings import CachePolicy
from modeld.core.names import by_holder, nicknames_of, slots_of
from modeld.core.stats import uses_within
from modeld.supervisor import choosing, settings
from modeld.supervisor.advice import advice
from modeld.supervisor.copies import on_ssd
from modeld.supervisor.idling import seconds_left, stay_of
from modeld.supervisor.memory_views import gpu_rows
from modeld.supervisor.naming import in_words
from modeld.supervisor.ranking import ranks, terms
from modeld.supervisor.whereabouts import ssd_folder
from modeld.supervisor.world import World
from modeld.units import GIB
from modeld.version import VERSION
from modeld.wire.models import (
    FailedRow,
    LoadedModel,
    ModelRow,
    Models,
    ServerRow,
    Servers,
    Shown,
    StatusReport,
)
from modeld.wire.names import AllNames


def choose(world: World, selection: Selection) -> Model:
    """
    Return the model that `selection` means.

    Raises:
        ModeldError: None, or several where one was wanted.
    """
    return choosing.choose(world, selection).model


def models(world: World, patterns: Sequence[str]) -> Models:
    """Return the models on disk that fit one of the patterns, or all; lowest rank first."""
    by_rank = sorted(ranks(world).items(), key=lambda item: (item[1], item[0]))
    nicknames, slots = by_holder(world.state.nicknames), by_holder(world.state.slots)
    names = {key: (nicknames.get(key, ()), slots.get(key, ())) for key, _ in by_rank}
    promotion = _promotion(world)
    rows = tuple(
        _row(world, model, rank, names=names[model_id], promotion=promotion)
        for model_id, rank in by_rank
        for model in (world.models[model_id],)
        if not patterns or any(_fits(model, chain(*names[model_id]), each) for each in patterns)
    )
    gone = () if patterns else _gone_rows(world)
    return Models(
        models=gone + rows,
        warnings=(*world.folder_problems, *world.file_problems),
        scanning=world.scanning,
        has_hdd=bool(world.config.storage.hdd_paths),
    )


def model_row(world: World, model: Model, rank: float) -> ModelRow:
    """Return one line of `list`."""
    names = nicknames_of(world.state, model.id), slots_of(world.state, model.id)
    return _row(world, model, rank, names=names, promotion=_promotion(world))


def _row(
    world: World,
    model: Model,
    rank: float,
    *,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    promotion: CachePolicy | None,
) -> ModelRow:
    """Return one line of `list`; whoever wants thousands has looked up once what all need."""
    stats, header = world.stats_of(model.id), model.header
    server = world.server_of(model.id)
    return ModelRow(
        name=world.label(model.id),
        id=model.id,
        nicknames=names[0],
        slots=names[1],
        tiers=tuple(location.tier for location in model.locations),
        size_bytes=model.size_bytes,
        quantisation=header.quantisation,
        parameters=header.parameters,
        context_tokens=header.context_tokens,
        architecture=header.architecture,
        rank=round(rank, 2),
        uses=stats.total_uses,
        last_used=rfc3339(stats.last_used),
        state=str(server.state) if server else "",
        pinned=model.id in world.state.pins,
        path=model.location.path,
        problem="the file is gone" if model.id in world.gone else "",
        wanted_on_ssd=promotion is not None and _wanted(world, model, promotion),
    )


def _promotion(world: World) -> CachePolicy | None:
    """Return the rules by which models come to the SSD; None where there is none to come to."""
    return None if ssd_folder(world) is None else settings.cache_policy(world.config)


def _wanted(world: World, model: Model, policy: CachePolicy) -> bool:
    """Whether a model that is on slow tiers only was used often enough for the SSD (S0-C6)."""
    if on_ssd(model) is not None:
        return False
    now = world.ports.clock.now()
    recent = uses_within(world.stats_of(model.id), policy.promote_window_days, now)
    return recent >= policy.promote_min_uses


def show(world: World, selection: Selection) -> Shown:
    """
    Return everything about one model.

    Raises:
        ModeldError: None, or several where one was wanted.
    """
    model = choose(world, selection)
    rank = terms(world)[model.id]
    stats, server = world.stats_of(model.id), world.server_of(model.id)
    asked = settings.arguments(world, model, None)
    need = settings.need_of(world, model, asked)
    return Shown(
        model=model_row(world, model, rank.rank),
        locations=tuple(
            {
                "tier": each.tier,
                "path": each.path,
                "size_bytes": each.size_bytes,
                "files": len(each.shard_paths),
                "mmproj": each.mmproj_path,
            }
            for each in model.locations
        ),
        header=header_facts(model.header),
        arguments=asked,
        need_bytes=need.need_bytes,
        need_source=need.source,
        need_gpu_bytes=need.gpu_bytes,
        need_parts={part.name: part.size_bytes for part in need.parts},
        runtime_seconds=stats.total_runtime_seconds,
        rank_terms={name: round(points, 3) for name, points in rank.points.items()},
        argv=server.record.argv if server else _argv(world, model, asked),
        unit=f"modeld-llama@{server.id}.service"
        if server and world.ports.servers.kind == "systemd"
        else "",
        request=in_words(world.naming.rewrites.get(model.id, ())),
        variants={
            name: in_words(world.naming.rewrites.get(name, ()))
            for name, model_id in world.naming.variants.items()
            if model_id == model.id
        },
    )


def header_facts(header: Header) -> dict[str, str | int | float | bool]:
    """Return what a header says, without what it does not."""
    facts = msgspec.structs.asdict(header)
    facts |= msgspec.structs.asdict(facts.pop("recurrence"))
    del facts["feed_forwards"], facts["sliding_layers"]
    facts["kv_heads"] = ",".join(str(heads) for heads in dict.fromkeys(header.kv_heads))
    return {key: value for key, value in facts.items() if value}


def servers(world: World) -> Servers:
    """Return the servers, and the models whose servers died."""
    now = world.ports.clock.monotonic()
    rows = tuple(server_row(world, server) for server in world.servers.values())
    failed = tuple(
        FailedRow(
            name=world.label(model_id),
            id=model_id,
            deaths=len(deaths.at),
            retry_in_s=round(max(0.0, deaths.retry_at - now), 1) if deaths.restart else 0.0,
            cause=deaths.cause,
        )
        for model_id, deaths in world.deaths.items()
        if world.server_of(model_id) is None
    )
    return Servers(servers=rows, failed=failed)


def server_row(world: World, server: Server) -> ServerRow:
    """Return one line of `ps`."""
    record, now = server.record, world.ports.clock.now()
    left = seconds_left(world, server)
    return ServerRow(
        server_id=server.id,
        name=record.model_name,
        id=record.model_id,
        nicknames=nicknames_of(world.state, record.model_id),
        slots=slots_of(world.state, record.model_id),
        state=str(server.state),
        fraction=server.fraction,
        stage=server.stage,
        pid=server.process.pid if server.process else 0,
        port=record.port,
        socket=record.socket_path,
        tier=record.tier,
        context_tokens=server.context_tokens or record.context_tokens,
        memory_bytes=server.booked_bytes,
        gpu_bytes=server.booked_gpu_bytes,
        measured=server.resident_bytes >= record.need_bytes,
        in_flight=server.in_flight,
        idle_seconds=_idle_seconds(world, server),
        left_seconds=None if math.isinf(left) else round(max(0.0, left), 1),
        stays_because=stay_of(world, server).source,
        up_seconds=round(max(0.0, now - record.created_at.timestamp()), 1),
        pinned=record.model_id in world.state.pins,
        adopted=server.adopted,
        uses=world.stats_of(record.model_id).total_uses,
        cause=server.stopping_because,
    )


def status(world: World, selection: Selection | None) -> StatusReport:
    """
    Return how everything is, or one model.

    Raises:
        ModeldError: There is no such model.
    """
    model = choose(world, selection) if selection is not None else None
    total = settings.budget(world.config, world.machine).memory_bytes
    here = tuple(world.servers.values())
    used = booked_bytes(here)
    rows = tuple(_loaded_model(world, each) for each in here)
    disk_bytes: dict[str, int] = {}
    for each in world.models.values():
        for location in each.locations:
            disk_bytes[location.tier] = disk_bytes.get(location.tier, 0) + location.size_bytes
    binary = world.binary
    saving = world.saving
    exists = loaded = last_used = None
    if model is not None:
        server = world.server_of(model.id)
        exists, loaded = True, server is not None and server.state is ServerState.READY
        last_used = rfc3339(world.stats_of(model.id).last_used)
        rows = tuple(row for row in rows if server and row.name == server.record.model_name)
    return StatusReport(
        total_ram_gb=round(total / GIB, 3),
        used_ram_gb=round(used / GIB, 3),
        available_ram_gb=round(max(0, total - used) / GIB, 3),
        gpus=gpu_rows(world, here),
        loaded_models_count=len(here),
        local_models_count=len(here),
        loaded_models=rows,
        version=VERSION,
        pid=world.pid,
        up_seconds=round(world.ports.clock.monotonic() - world.started_at, 1),
        launcher=world.ports.servers.kind,
        binary=" ".join(binary.argv) if binary else "",
        binary_version=binary.version if binary else "",
        gateway=world.gateway_addresses,
        key_file=expand(world.config.gateway.key_file, world.home),
        families=tuple(world.config.gateway.compat),
        models_on_disk=len(world.models),
        scanning=world.scanning,
        disk_bytes=disk_bytes,
        saved=saving.problem,
        warnings=_warnings(world),
        copied_bytes=world.state.wear.copied_bytes,
        expiries=world.state.wear.expiries,
        regretted_expiries=world.state.wear.regretted_expiries,
        exists=exists,
        loaded=loaded,
        last_used=last_used,
    )


def names(world: World) -> AllNames:
    """Return all nicknames and slots."""
    return AllNames(nicknames=dict(world.state.nicknames), slots=dict(world.state.slots))


def rfc3339(moment: datetime | None) -> str:
    """Return a time as JSON has it; empty for none."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _argv(world: World, model: Model, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return what `load` would start, where there is a program to start."""
    if world.binary is None or world.binary.problem:
        return ()
    location = model.location
    command = argv.Command(
        model_path=location.path,
        mmproj_path=location.mmproj_path,
        socket_path=f"{world.runtime_directory}/kids/ID.sock",
        alias=world.label(model.id),
        context_tokens=settings.context_tokens(world.config, model, world.state, asked),
        arguments=asked,
    )
    return argv.build_argv(world.binary, command)


def _loaded_model(world: World, server: Server) -> LoadedModel:
    return LoadedModel(
        name=server.record.model_name,
        ram_gb=round(server.booked_bytes / GIB, 3),
        provider="llama.cpp",
        idle_seconds=_idle_seconds(world, server),
        state=str(server.state),
        pinned=server.record.model_id in world.state.pins,
    )


def _idle_seconds(world: World, server: Server) -> float:
    """Return for how long nobody has asked a server anything."""
    if server.in_flight or not server.last_used_at:
        return 0.0
    return round(max(0.0, world.ports.clock.monotonic() - server.last_used_at), 1)


def _warnings(world: World) -> tuple[str, ...]:
    warnings = [
        *world.state_problems,
        *world.folder_problems,
        *world.watch_problems,
        *world.file_problems,
        *world.naming.problems,
    ]
    if world.surveyed:  # before that, nothing is there
        warnings += advice(world, world.config, world.routes.index)
    if world.binary is not None and world.binary.problem:
        warnings.append(world.binary.problem)
    return tuple(warnings)


def _fits(model: Model, names: Iterable[str], pattern: str) -> bool:
    """Whether a pattern of `list` means this model: a name, a nickname, a glob or a part."""
    lower = pattern.lower()
    return any(
        fnmatch(word.lower(), lower) or lower in word.lower()
        for word in (model.id, model.name, *names)
    )


def _gone_rows(world: World) -> tuple[ModelRow, ...]:
    """Return models that are remembered and have no file now."""
    named = {*world.state.nicknames.values(), *world.state.slots.values(), *world.state.pins}
    known = set(world.models) | {alias for each in world.models.values() for alias in each.aliases}
    return tuple(
        ModelRow(
            name=model_id,
            id=model_id,
            nicknames=nicknames_of(world.state, model_id),
            slots=slots_of(world.state, model_id),
            uses=world.stats_of(model_id).total_uses,
            last_used=rfc3339(world.stats_of(model_id).last_used),
            pinned=model_id in world.state.pins,
            problem="the file is gone",
        )
        for model_id in sorted((named | set(world.state.models)) - known)
        if model_id in named or world.stats_of(model_id).total_uses
    )
