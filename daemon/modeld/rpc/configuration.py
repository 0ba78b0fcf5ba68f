"""
Questions about the configuration: what is in force, and what another text would do.

Answered from values and files, in a thread where files are read; nothing is changed, so the same
answers come from a program that is no daemon where none runs.
"""

import asyncio
import contextlib
from typing import Any, Protocol, Union, cast

import msgspec
from msgspec import Struct, msgpack, structs

from modeld.config.fields import as_toml, is_open, kind_of, table_of
from modeld.config.json_schema import json_schema
from modeld.config.layers import dotted
from modeld.config.lines import Path
from modeld.config.load import Loaded, changes, flat, needs_restart
from modeld.config.setting import converted, find
from modeld.errors import ConfigInvalid, ModeldError
from modeld.supervisor.world import World
from modeld.wire import configuration as wire
from modeld.wire.codec import Failure

REQUESTS: tuple[type[Struct], ...] = (
    wire.AskConfig,
    wire.CheckConfig,
    wire.ConvertSetting,
    wire.AskConfigSchema,
)


class Files(Protocol):
    """The configuration files."""

    @property
    def user_file(self) -> str:
        """The one that is the user's to write."""

    def places(self) -> list[tuple[str, bool]]:
        """Return every file that is read or would be, and whether it exists."""

    def read(self) -> Loaded:
        """Return what the files say."""

    def check(self, path: str, text: str) -> Loaded:
        """Return what they would say if one had another text."""

    def schema_source(self) -> str:
        """Return the text of the schema's module."""


async def answer(request: Struct, files: Files, world: World) -> Struct:
    """
    Return the answer to one of `REQUESTS`, of a daemon.

    Raises:
        Usage: There is no such key.
        ConfigInvalid: What is asked about has mistakes.
    """
    in_force = Loaded(config=world.config, origins=world.config_origins, notes=world.config_notes)
    return await asyncio.to_thread(answer_now, request, files, in_force)


def answer_alone(frame: bytes, files: Files) -> bytes:
    """
    Return the answer to a request where no daemon runs: what one would read now is in force.

    Shape: [kind, body] in msgpack; the kind is `reply` or `failure`.
    """
    union: Any = Union[REQUESTS]  # noqa: UP007 (of a table, not of names)
    try:
        request: Struct = msgpack.decode(frame, type=union)
        reply = answer_now(request, files, _on_disk(request, files))
        if isinstance(reply, wire.ConfigChecked):
            reply = structs.replace(reply, needs_restart=())  # nothing runs that would need one
    except ModeldError as error:
        failure = Failure(error.code.value, error.message, error.hint, error.numbers)
        return msgpack.encode(("failure", failure))
    return msgpack.encode(("reply", reply))


def _on_disk(request: Struct, files: Files) -> Loaded:
    """Return what a daemon would read; what is built in where it is only compared with that."""
    match request:
        case wire.AskConfig(files_only=False):
            return files.read()
        case wire.CheckConfig():
            with contextlib.suppress(ConfigInvalid):
                return files.read()
    return Loaded.built_in()


def answer_now(request: Struct, files: Files, in_force: Loaded) -> Struct:
    """Return what `answer` does, and wait for the disk meanwhile."""
    match request:
        case wire.AskConfig():
            return wire.ConfigReport(
                settings=() if request.files_only else settings(in_force, request.key),
                files=tuple(
                    wire.ConfigFile(path=path, exists=exists) for path, exists in files.places()
                ),
                user_file=files.user_file,
                notes=in_force.notes,
            )
        case wire.CheckConfig():
            loaded = files.check(request.path, request.text)
            return wire.ConfigChecked(
                changed=tuple(changes(in_force.config, loaded.config)),
                needs_restart=tuple(needs_restart(in_force.config, loaded.config)),
                settings=settings(loaded, request.key) if request.key else (),
                notes=loaded.notes,
            )
        case wire.ConvertSetting():
            path = find(request.key)
            text = "" if request.word is None else as_toml(converted(path, request.word))
            return wire.Converted(path=path, text=text)
        case wire.AskConfigSchema():
            schema = json_schema(files.schema_source())
            return wire.ConfigSchema(text=msgspec.json.format(msgspec.json.encode(schema)).decode())
    raise AssertionError(f"{type(request).__name__} is none of REQUESTS")


def settings(loaded: Loaded, key: str) -> tuple[wire.Setting, ...]:
    """
    Return a key, or all of a table, or everything, with what is unset.

    Raises:
        Usage: There is no such key.
    """
    path = find(key) if key else ()
    name = dotted(path)
    found = {
        one: value
        for one, value in flat(loaded.config).items()
        if not name or one == name or one.startswith((f"{name}.", f"{name}["))
    }
    kind = kind_of(path)
    if not found and table_of(kind) is None and not is_open(kind):
        found[name] = _usual(path)  # below a name that nobody has set anything for
    return tuple(
        wire.Setting(
            key=one,
            value=cast("wire.Value", value),
            text=as_toml(value),
            origin=loaded.origins.get(one, ""),
        )
        for one, value in found.items()
    )


def _usual(path: Path) -> object:
    """Return what a key is where nobody sets it; None for one that is then unset."""
    table = table_of(kind_of(path[:-1]))
    if table is None:
        return None
    default = next(one.default for one in msgspec.structs.fields(table) if one.name == path[-1])
    return None if default is msgspec.NODEFAULT else default
