"""
What the configuration means for one model, one server and the whole machine.

Maps the file's words (gigabytes, entries by any name) onto what `modeld.core` calculates with.
No decision is made here beyond which setting wins: one-off arguments over stored ones over the
model's entry over those for every server over those of the mode.
"""

from collections.abc import Sequence

from modeld.config.load import expand
from modeld.config.schema import Config, Entry
from modeld.core.demand import Demand, read_demand, whole_number
from modeld.core.entities import Gpu, Machine, Model, State
from modeld.core.fit import Budget, Known, Need, file_mark, need
from modeld.core.holdings import CachePolicy, Speeds
from modeld.core.keeping import copy_wanted_because
from modeld.core.lifecycle import Limits
from modeld.core.modes import mode_arguments
from modeld.supervisor.naming import entry_of
from modeld.supervisor.ports import Folder
from modeld.supervisor.world import World
from modeld.units import GIB, MIB

CONTEXT_FLAGS = ("-c", "--ctx-size")


def folders(config: Config, home: str) -> tuple[Folder, ...]:
    """Return the model folders in look-up order."""
    paths = [("ssd", config.storage.ssd_path)] if config.storage.ssd_path else []
    paths += [(f"hdd{number}", path) for number, path in enumerate(config.storage.hdd_paths, 1)]
    return tuple(Folder(tier=tier, path=expand(path, home)) for tier, path in paths)


def folder_of(config: Config, home: str, tier: str) -> str:
    """Return the path of one tier."""
    return next(each.path for each in folders(config, home) if each.tier == tier)


def cache_policy(config: Config) -> CachePolicy:
    """Return the rules for the SSD as the core has them."""
    cache = config.cache
    return CachePolicy(
        policy=cache.policy,
        promote_min_uses=cache.promote_min_uses,
        promote_window_days=cache.promote_window_days,
        expire_after_days=cache.expire_after_days,
        ssd_min_free_bytes=int(cache.ssd_min_free_gb * GIB),
        precache=cache.precache,
        precache_top=cache.precache_top,
        victim_weight=cache.victim_weight,
        write_price_s_per_gb=cache.write_price_seconds_per_gb,
        protect_override=cache.protect_override,
        calibration=cache.calibration,
        wear_budget_bytes=int(cache.wear_budget_gb_per_day * GIB),
        wanted_because=copy_wanted_because(config.keep_alive.strategy),
        speeds=Speeds(
            ssd_bytes_per_s=cache.ssd_mb_per_second * MIB,
            hdd_bytes_per_s=cache.hdd_mb_per_second * MIB,
        ),
    )


def budget(config: Config, machine: Machine) -> Budget:
    """Return what models may take together."""
    limit = config.memory.limit_gb
    total = machine.memory_bytes if limit is None else int(limit * GIB)
    return Budget(
        memory_bytes=max(0, total - config.memory.headroom_mb * MIB),
        max_loaded=config.models.max_concurrent_loaded,
        gpu_bytes=tuple(_gpu_budget(config, each) for each in machine.gpus),
    )


def _gpu_budget(config: Config, gpu: Gpu) -> int:
    """Return what models may take together on one GPU."""
    limit = config.memory.vram_limit_gb
    total = gpu.total_bytes if limit is None else min(int(limit * GIB), gpu.total_bytes)
    return max(0, total - config.memory.vram_headroom_mb * MIB)


def limits(config: Config) -> Limits:
    """Return how long each state of a server may last."""
    servers = config.servers
    return Limits(
        start_stall_seconds=servers.start_stall_seconds,
        drain_seconds=servers.drain_seconds,
        stop_grace_seconds=servers.stop_grace_seconds,
    )


def entry(config: Config, model: Model, state: State) -> Entry:
    """Return the settings of one model: by its id, its name or a nickname, in that order."""
    entries = config.models.entries
    # of both, entries are the few: this is asked of every model
    nicknames = {key for key in entries if state.nicknames.get(key) == model.id}
    in_order = (nick for nick in state.nicknames if nick in nicknames) if nicknames else ()
    return entry_of(entries, model, in_order)


def arguments(world: World, model: Model, one_off: Sequence[str] | None) -> tuple[str, ...]:
    """Return all llama-server arguments that people asked for; the later one wins there."""
    return arguments_by(world.config, world, model, one_off)


def arguments_by(
    config: Config, world: World, model: Model, one_off: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the same for a configuration that is not, or no longer, in force."""
    state = world.state
    stats = state.models.get(model.id)
    stored = stats.arguments if stats is not None else ()
    own = stored if one_off is None else one_off
    return (
        *mode_arguments(config.servers.optimize_for, world.binary),
        *config.servers.arguments,
        *entry(config, model, state).arguments,
        *own,
    )


def context_tokens(config: Config, model: Model, state: State, asked: Sequence[str]) -> int:
    """
    Return the context that a server for `model` will have.  [tokens]

    An argument wins over the model's entry, that over the default; no more than the model was
    trained for, where its header says.
    """
    for position in range(len(asked) - 1, -1, -1):
        flag, equals, value = asked[position].partition("=")
        if flag in CONTEXT_FLAGS:
            text = value if equals else "".join(asked[position + 1 : position + 2])
            tokens = whole_number(text)
            if tokens is not None:
                return tokens or model.header.context_tokens
    wanted = entry(config, model, state).context_tokens or config.servers.context_tokens
    trained = model.header.context_tokens
    if not wanted:
        return trained
    return min(wanted, trained) if trained else wanted


def demand_of(world: World, model: Model, asked: Sequence[str]) -> Demand:
    """Return what a server for `model` will be asked to do, as far as memory depends on it."""
    tokens = context_tokens(world.config, model, world.state, asked)
    return read_demand(asked, world.binary, tokens)


def known_of(world: World, model: Model, asked: Sequence[str]) -> Known:
    """Return all that the need of a server for `model` is computed from."""
    demand = demand_of(world, model, asked)
    gigabytes = entry(world.config, model, world.state).memory_gb
    return Known(
        demand=demand,
        measured=world.stats_of(model.id).measured,
        configured_bytes=None if gigabytes is None else int(gigabytes * GIB),
        told=world.told.get(fit_key(world, model, demand), ()),
        draft=_model_at(world, demand.draft_path) if demand.draft_path else None,
        gpu_bytes=_rooms(world),
    )


def with_context(asked: tuple[str, ...], model: Model, wish: int) -> tuple[str, ...]:
    """Return arguments with a context that is wished for, where none of them says one."""
    flags = {word.partition("=")[0] for word in asked}
    if not wish or not flags.isdisjoint(CONTEXT_FLAGS):
        return asked
    trained = model.header.context_tokens or wish
    return (*asked, CONTEXT_FLAGS[1], str(min(wish, trained)))


def need_of(world: World, model: Model, asked: Sequence[str]) -> Need:
    """Return the memory that a server for `model` will need."""
    return need(model, known_of(world, model, asked))


def uses_gpus(world: World) -> bool:
    """Whether the engine can use a GPU at all."""
    return world.binary is not None and bool(world.binary.devices)


def _rooms(world: World) -> tuple[int, ...]:
    """Return the budget of each GPU that the engine uses; it and the driver number them alike."""
    devices = world.binary.devices if world.binary is not None else ()
    return budget(world.config, world.machine).gpu_bytes[: len(devices)]


def fit_key(world: World, model: Model, demand: Demand) -> str:
    """Return what an answer of llama-fit-params holds for: a file, a build and arguments."""
    version = world.binary.version if world.binary is not None else ""
    tokens = demand.cache.context_tokens
    return f"{model.location.path}:{file_mark(model)}:{version}:{tokens}:{demand.key}"


def _model_at(world: World, path: str) -> Model | None:
    """Return the model that a path in arguments names."""
    places = ((each, place) for each in world.models.values() for place in each.locations)
    return next((each for each, place in places if path in place.shard_paths), None)
