"""
A facade for programs: load, unload and look at models of the modeld that runs, in plain calls.

    from modeld.client import get_model_manager

    manager = get_model_manager()
    if manager.load_model("qwen3-8b-q4_k_m"):
        manager.print_status()

What Airganizer's ModelManager promised, kept by the daemon: every call is a request over its
socket, and all limits are the daemon's.  Calls may come from any thread.  A refusal is False and
a reason; a modeld that is not there is an exception, since it says nothing about the model.
Models are named in whole: a nickname, a slot, a file name, an id.  It decides nothing itself, and
knows nothing of the daemon but its protocol.
"""

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from msgspec import Struct, msgpack

from modelctl.client import Client, require_listener
from modelctl.errors import Refusal
from modelctl.render.models import memory_lines
from modeld.errors import ErrorCode
from modeld.units import GIB, format_duration
from modeld.wire.common import Selector
from modeld.wire.endpoint import socket_path
from modeld.wire.load import CanLoad, Load, Loaded, Unload, Unloaded, Verdict
from modeld.wire.models import AskStatus, Ps, Servers, StatusReport

LOAD_TIMEOUT_S = 600.0
UNLOAD_TIMEOUT_S = 120.0
LOOK_TIMEOUT_S = 30.0
MAX_IDLE_CONNECTIONS = 4
"""Kept for the next calls; as many as there are calls at once may be open."""
REFUSALS = frozenset(
    {
        ErrorCode.UNKNOWN_MODEL,
        ErrorCode.UNKNOWN_NAME,
        ErrorCode.AMBIGUOUS,
        ErrorCode.ARGUMENT_DENIED,
        ErrorCode.REFUSED,
        ErrorCode.DOES_NOT_FIT,
        ErrorCode.TOO_MANY_LOADED,
        ErrorCode.PINNED,
        ErrorCode.SERVER_FAILED,
        ErrorCode.BUSY,
        ErrorCode.CANCELLED,
        ErrorCode.INACTIVE,
        ErrorCode.USAGE,  # all that a caller says is a name: one that can be no name
    }
)
"""What is an answer about the model, and so False; all else is an exception."""

Reply = TypeVar("Reply", bound=Struct)


class LoadedModel(NamedTuple):
    """One model that is loaded now."""

    name: str
    loaded_at: datetime
    """UTC; when its server was started."""
    ram_used_gb: float
    provider: str
    last_used: datetime
    """UTC; the end of its last request, or now while it answers one."""


class ModelManager:
    """Loads and unloads models of the modeld that listens at a socket."""

    def __init__(self, socket: str = "", say: Callable[[str], object] = print) -> None:
        """
        Make a manager; nothing is connected before the first call.

        Args:
            socket: Where modeld listens; empty for the usual place, or `MODELD_SOCKET`.
            say: Called with each line about what is done; `lambda line: None` for silence.
        """
        self._socket = socket or socket_path(os.environ, os.getuid())
        self._say = say
        self._lock = threading.Lock()
        self._idle: list[Client] = []
        self._pid = os.getpid()
        self._thread = threading.local()

    @property
    def reason(self) -> str:
        """Why the last call of this thread returned False; empty where it did not."""
        return getattr(self._thread, "reason", "")

    def can_load_model(self, model_name: str) -> tuple[bool, str]:
        """
        Return whether a model could be loaded beside what runs, and the reason.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        try:
            verdict = self._ask(CanLoad(selector=_exactly(model_name)), Verdict, LOOK_TIMEOUT_S)
        except Refusal as refusal:
            return False, _reason_of(refusal)
        return verdict.can_load, verdict.reason

    def load_model(self, model_name: str, force: bool = False) -> bool:
        """
        Return whether a model is ready now; others stay loaded unless `force` needs their place.

        Args:
            model_name: Which.
            force: Unload others, least recently used first, until both limits hold.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        request = Load(
            selector=_exactly(model_name), keep_others=True, force=force, by_program=True
        )
        try:
            loaded = self._ask(request, Loaded, LOAD_TIMEOUT_S)
        except Refusal as refusal:
            return self._refused(refusal, f"Cannot load {model_name}")
        self._thread.reason = ""
        if not loaded.already:
            for victim in loaded.unloaded:
                self._say(f"Unloaded {victim} to make room")
            took = format_duration(loaded.seconds)
            memory = f"{loaded.memory_bytes / GIB:.1f}GB RAM"
            self._say(f"Loaded {loaded.model} in {took} ({memory})")
        return True

    def unload_model(self, model_name: str) -> bool:
        """
        Return whether a model is not loaded any more: its process gone, its memory free.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        try:
            gone = self._ask(Unload(selectors=(_exactly(model_name),)), Unloaded, UNLOAD_TIMEOUT_S)
        except Refusal as refusal:
            if refusal.word == ErrorCode.UNKNOWN_MODEL:
                self._thread.reason = ""
                return True
            return self._refused(refusal, f"Cannot unload {model_name}")
        self._thread.reason = ""
        self._say_unloaded(gone)
        return True

    def unload_idle_models(self) -> list[str]:
        """
        Unload what is idle for longer than its time, now; return the names.

        modeld does that by itself too.  Nothing happens where `models.auto_unload_idle` is false.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        gone = self._ask(Unload(idle=True), Unloaded, UNLOAD_TIMEOUT_S)
        self._say_unloaded(gone)
        return list(gone.models)

    def get_available_ram(self) -> float:
        """
        Return the memory that models may still take.  [GB]

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        return self._status().available_ram_gb

    def get_loaded_models(self) -> list[LoadedModel]:
        """
        Return the models that can be asked now, in the order of their start.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        now = datetime.now(UTC)
        return [
            LoadedModel(
                name=server.name,
                loaded_at=now - timedelta(seconds=server.up_seconds),
                ram_used_gb=round(server.memory_bytes / GIB, 3),
                provider="llama.cpp",
                last_used=now - timedelta(seconds=server.idle_seconds),
            )
            for server in self._ask(Ps(), Servers, LOOK_TIMEOUT_S).servers
            if server.state == "ready"
        ]

    def get_status(self) -> dict[str, object]:
        """
        Return how everything is, under the names that Airganizer gave it.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        report = self._status()
        return {
            "total_ram_gb": report.total_ram_gb,
            "used_ram_gb": report.used_ram_gb,
            "available_ram_gb": report.available_ram_gb,
            "loaded_models_count": report.loaded_models_count,
            "local_models_count": report.local_models_count,
            "loaded_models": [
                {
                    "name": model.name,
                    "ram_gb": model.ram_gb,
                    "provider": model.provider,
                    "idle_seconds": model.idle_seconds,
                }
                for model in report.loaded_models
            ],
        }

    def print_status(self) -> None:
        """
        Say how everything is, in the lines of `modelctl status`.

        Raises:
            ModeldError: modeld is not there, or does not answer.
        """
        self._say("\n".join(memory_lines(self._status())))

    def close(self) -> None:
        """Let go of the connections; the next call makes new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    # --- the socket --------------------------------------------------------------------------

    def _status(self) -> StatusReport:
        return self._ask(AskStatus(), StatusReport, LOOK_TIMEOUT_S)

    def _ask(self, request: Struct, reply: type[Reply], timeout_s: float) -> Reply:
        """Return the answer to a request."""
        with self._connection() as client:
            return client.ask(request, msgpack.Decoder(reply), timeout_s=timeout_s)

    @contextmanager
    def _connection(self) -> Iterator[Client]:
        """Lend a connection to one call; one that failed is not lent again."""
        require_listener(self._socket, os.getuid())
        with self._lock:
            if self._pid != os.getpid():  # ZeroMQ does not survive a fork
                self._pid, self._idle = os.getpid(), []
            client = self._idle.pop() if self._idle else None
        client = client or Client(self._socket, os.getuid())
        try:
            yield client
        except Refusal:
            self._give_back(client)
            raise
        except BaseException:
            client.close()
            raise
        self._give_back(client)

    def _give_back(self, client: Client) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(client)
                return
        client.close()

    # --- what is said ------------------------------------------------------------------------

    def _refused(self, refusal: Refusal, what: str) -> bool:
        self._thread.reason = _reason_of(refusal)
        self._say(f"{what}: {refusal.message}")
        return False

    def _say_unloaded(self, gone: Unloaded) -> None:
        if gone.models:
            freed = f"freed {gone.freed_bytes / GIB:.1f}GB"
            self._say(f"Unloaded {', '.join(gone.models)} ({freed})")


def _exactly(model_name: str) -> Selector:
    return Selector(pattern=model_name, exact=True)


def _reason_of(refusal: Refusal) -> str:
    """Return the reason where it is about the model; raise what is about modeld."""
    if refusal.word not in REFUSALS:
        raise refusal
    return refusal.message


_managers: list[ModelManager] = []
_managers_lock = threading.Lock()


def get_model_manager() -> ModelManager:
    """Return the manager of this process, always the same one; the daemon is the singleton."""
    with _managers_lock:
        if not _managers:
            _managers.append(ModelManager())
            atexit.register(_managers[0].close)
        return _managers[0]
