"""
What a server is started with: the launch record, and what is worth saying beforehand.

Everything in it comes from settings and the catalogue; nothing is started here.
"""

import secrets
import string

from modeld.core import argv
from modeld.core.entities import LaunchRecord, Location, Model
from modeld.core.fit import load_mode
from modeld.core.plan import Want
from modeld.supervisor import settings
from modeld.supervisor.copies import SSD
from modeld.supervisor.lives import utc
from modeld.supervisor.world import World
from modeld.units import GIB

ID_LETTERS = string.ascii_lowercase + string.digits


def launch_record(
    world: World,
    want: Want,
    model: Model,
    *,
    asked: tuple[str, ...],
    one_off: tuple[str, ...] | None,
    location: Location | None = None,
) -> LaunchRecord:
    """
    Return the record of a new server.

    Args:
        world: Read only.
        want: The load that was planned.
        model: Its model.
        asked: All llama-server arguments that people asked for.
        one_off: The part of them that this load alone asked for.
        location: Which copy to serve from; the first in look-up order where None.
    """
    assert world.binary is not None
    server_id = "".join(secrets.choice(ID_LETTERS) for _ in range(16))
    base = f"{world.runtime_directory}/kids/{server_id}"
    location = location or model.location
    context_tokens = settings.context_tokens(world.config, model, world.state, asked)
    command = argv.Command(
        model_path=location.path,
        mmproj_path=location.mmproj_path,
        socket_path=f"{base}.sock",
        alias=want.name,
        port=want.port,
        context_tokens=context_tokens,
        load_mode=load_mode(
            location.size_bytes, world.machine.available_bytes, slow_disk=location.tier != SSD
        ),
        arguments=asked,
    )
    return LaunchRecord(
        server_id=server_id,
        model_id=model.id,
        model_name=want.name,
        model_path=location.path,
        tier=location.tier,
        argv=argv.build_argv(world.binary, command),
        environment=argv.environment(world.device_environment),
        socket_path=f"{base}.sock",
        stdin_path=f"{base}.in",
        stdout_path=f"{base}.out",
        log_path=f"{base}.log",
        port=want.port,
        arguments=asked,
        one_off=one_off,
        origin=want.origin,
        need_bytes=want.need_bytes,
        need_gpu_bytes=want.need_gpu_bytes,
        context_tokens=context_tokens,
        created_at=utc(world.ports.clock.now()),
        boot_id=world.machine.boot_id,
        file_mark=file_mark(model),
    )


def file_mark(model: Model) -> str:
    """Return what tells the file that is served from another that takes its place."""
    location = model.location
    return f"{location.path}:{location.size_bytes}:{location.mtime_ns}"


def warnings(
    world: World, model: Model, need_bytes: int, gpu_bytes: tuple[int, ...] = ()
) -> tuple[str, ...]:
    """Return what is worth saying and decides nothing: what other programs leave of memory."""
    found = []
    available = world.machine.available_bytes
    if available and need_bytes > available:
        found.append(
            f"the kernel has {available / GIB:.1f} GB free and {model.name} needs "
            f"{need_bytes / GIB:.1f} GB: other programs may be pushed out"
        )
    for index, (need, gpu) in enumerate(zip(gpu_bytes, world.machine.gpus, strict=False)):
        free = gpu.total_bytes - gpu.used_bytes
        if need > free:
            found.append(
                f"GPU {index} has {free / GIB:.1f} GB free and {model.name} needs "
                f"{need / GIB:.1f} GB: other programs use it"
            )
    return tuple(found)
