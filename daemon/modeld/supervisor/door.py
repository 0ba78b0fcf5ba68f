"""
What the supervisor offers to the front doors (rpc and gateway), and what it publishes for them.

The doors read the newest `Routes`, which never change once published, and ask for everything
else.  A stale read may inform, as when the gateway looks for a server that is ready; whatever
changes something is asked of the loop.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from msgspec import Struct, field

from modeld.config.schema import Rewrite
from modeld.core.entities import Model, ServerState
from modeld.core.events import Event
from modeld.errors import Ambiguous, UnknownModel
from modeld.supervisor.guide import Guide
from modeld.wire.codec import Progress

OnProgress = Callable[[Progress], None]
_READY = ServerState.READY  # in Python 3.11 a look at a member of an Enum is a call


class Route(Struct, frozen=True, kw_only=True):
    """The way to one server."""

    server_id: str
    model_id: str
    socket_path: str
    state: ServerState
    context_tokens: int = 0
    """As the server has it; 0 where it isn't known yet."""
    fraction: float = 0.0
    """How much of it is loaded, while it loads; to the percent."""


class Routes(Struct, frozen=True, kw_only=True):
    """Which model every name means, and which server has it; published anew on every change."""

    index: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Every exact name -> the ids that it may mean; one, unless it is ambiguous."""
    models: Mapping[str, Model] = field(default_factory=dict)
    """By id."""
    servers: Mapping[str, Route] = field(default_factory=dict)
    """By model id; only those that start, load or are ready."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Further names whose requests are changed -> the id of the model; in `index` as well."""
    rewrites: Mapping[str, tuple[Rewrite, ...]] = field(default_factory=dict)
    """Model id or variant -> the changes of its requests, in this order."""
    default_model: str = ""
    """The name that a request without one means; empty where none is configured."""
    guide: Guide = field(default_factory=Guide)
    """What decides about requests that name no model, and what bounds all of them."""
    problem: str = ""
    """What keeps every model from being loaded, a sentence; empty when nothing does."""

    def find(self, name: str) -> Model:
        """
        Return the model that a program means by `name`.

        Raises:
            UnknownModel: None has that name.
            Ambiguous: Several do.
        """
        ids = self.index.get(name) or self.index.get(f"{name}:latest") or ()
        if len(ids) == 1:
            return self.models[ids[0]]
        if not ids:
            raise UnknownModel(f"model '{name}' not found", hint="GET /v1/models lists them")
        raise Ambiguous(f"'{name}' may mean {', '.join(ids)}", hint="use one of these ids")

    def ready(self, model_id: str) -> Route | None:
        """Return the way to a server that is ready for this model, if there is one."""
        route = self.servers.get(model_id)
        return route if route is not None and route.state is _READY else None


class Logs(Protocol):
    """What was done, and what servers wrote, in lines."""

    def recent(self, count: int) -> tuple[str, ...]:
        """Return the last things that modeld did, oldest first."""

    def follow_own(self, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """Give the last things that modeld did, then each as it happens."""

    def follow(self, model_id: str, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """Give the last lines of a model's server, then each as it comes, of later ones too."""


class Door(Protocol):
    """The supervisor, as the front doors see it."""

    @property
    def logs(self) -> Logs:
        """What was done, and what servers wrote."""

    @property
    def routes(self) -> Routes:
        """The newest routes."""

    def submit(self, event: Event) -> None:
        """Tell the loop that something happened."""

    async def changed(self) -> None:
        """Wait until the routes change."""

    async def ask(self, event: Event, on_progress: OnProgress | None = None) -> Struct:
        """
        Ask the loop for something and return its answer, a Struct of `modeld.wire`.

        Cancelling the call makes the waiter leave; what was begun goes on.  `on_progress` is
        called in the loop's thread and must not block.

        Raises:
            ModeldError: It was refused or failed.
        """
