"""A supervisor's door whose routes, loads and refusals a test writes itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from modeld.config.schema import Config
from modeld.core.entities import Header, Location, Model, ServerState
from modeld.core.events import Event, LoadAsked, NamesAsked, ServersAsked, UnloadAsked, VerdictAsked
from modeld.core.traffic import RequestMoved, RequestsEnded, RequestStarted
from modeld.errors import UnknownName
from modeld.supervisor.door import OnProgress, Route, Routes
from modeld.supervisor.guide import Prospect, default_model, guide, outlook
from modeld.wire.load import Loaded, Unloaded, Verdict
from modeld.wire.models import ServerRow, Servers
from modeld.wire.names import Named

Loader = Callable[[LoadAsked, OnProgress | None], Awaitable[None]]


def model(name: str, model_id: str = "") -> Model:
    """Return a model of which only the names matter."""
    location = Location(
        tier="ssd",
        path=f"/models/{name}.gguf",
        shard_paths=(f"/models/{name}.gguf",),
        size_bytes=1000,
        mtime_ns=1_700_000_000_000_000_000,
    )
    header = Header(architecture="llama", context_tokens=512, quantisation="F16")
    return Model(
        id=model_id or name, name=name, size_bytes=1000, header=header, locations=(location,)
    )


class FakeLogs:
    """Logs that a test writes."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {"": []}
        """By model; modeld's own without a name."""
        self.followers = 0

    def recent(self, count: int) -> tuple[str, ...]:
        """Return modeld's own."""
        return tuple(self.lines[""][-count:])

    def follow_own(self, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """Give modeld's own."""
        return self.follow("", backlog)

    async def follow(self, model_id: str, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """Give what a test wrote, and writes."""
        self.followers += 1
        try:
            lines = self.lines.setdefault(model_id, [])
            given = len(lines) - min(backlog, len(lines))
            while True:
                new, given = tuple(lines[given:]), len(lines)
                yield new
                await asyncio.sleep(0.005)
        finally:
            self.followers -= 1


class FakeDoor:
    """Publishes what it is told, keeps what it hears, and loads as the test says."""

    def __init__(self) -> None:
        self.routes = Routes()
        self.config = Config()
        """What routing goes by: see `configure`."""
        self.prospects: dict[str, Prospect] = {}
        """By model id, where it matters how a model would be loaded."""
        self._changed = asyncio.Event()
        self.logs = FakeLogs()
        self.events: list[Event] = []
        self.asked: list[LoadAsked] = []
        self.unloaded: list[str] = []
        """The ids of models that were asked to go."""
        self.nicknames: set[str] = set()
        """Those that were given through it."""
        self.loader: Loader | None = None
        self.rows: list[ServerRow] = []
        """What it says of its servers to whoever asks."""

    def add(self, name: str, *names: str, model_id: str = "") -> Model:
        """Make a model known, under its name and these."""
        added = model(name, model_id)
        index = dict(self.routes.index)
        for word in {added.id, name, *names}:
            index[word] = (*index.get(word, ()), added.id)
        models = {**self.routes.models, added.id: added}
        self.routes = replace(self.routes, index=index, models=models)
        self.configure(self.config)
        return added

    def change(self, changed: Model) -> None:
        """Put another model in the place of one with its id."""
        self.routes = replace(self.routes, models={**self.routes.models, changed.id: changed})
        self.configure(self.config)

    def configure(self, config: Config) -> None:
        """Have requests routed as this says."""
        self.config = config
        known = [
            outlook(each, self.prospects.get(each.id, Prospect()))
            for each in self.routes.models.values()
        ]
        self.routes = replace(
            self.routes,
            default_model=default_model(config, self.routes.index),
            guide=guide(config, known, self.routes.index),
        )

    def serve(
        self, name: str, socket_path: str, server_id: str = "s1", context_tokens: int = 0
    ) -> None:
        """Say that a server is ready."""
        self._publish(name, ServerState.READY, socket_path, server_id, context_tokens)

    def loading(self, name: str) -> None:
        """Say that a server loads."""
        self._publish(name, ServerState.LOADING, "", "s1", 0)

    def _publish(
        self, name: str, state: ServerState, path: str, server_id: str, context_tokens: int
    ) -> None:
        model_id = self.routes.find(name).id
        route = Route(
            server_id=server_id,
            model_id=model_id,
            socket_path=path,
            state=state,
            context_tokens=context_tokens,
        )
        self.routes = replace(self.routes, servers={**self.routes.servers, model_id: route})

    def gone(self, name: str) -> None:
        """Say that the server is gone."""
        servers = dict(self.routes.servers)
        servers.pop(self.routes.find(name).id, None)
        self.routes = replace(self.routes, servers=servers)

    def default(self, name: str) -> None:
        """Set what answers a request that names no model."""
        self.configure(replace(self.config, models=replace(self.config.models, default=name)))

    def publish(self, routes: Routes) -> None:
        """Put others in place of the routes, and wake who waits for that."""
        self.routes = routes
        self._changed.set()
        self._changed.clear()

    async def changed(self) -> None:
        """Wait for `publish`."""
        await self._changed.wait()

    def submit(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    async def ask(self, event: Event, on_progress: OnProgress | None = None) -> Struct:
        """Load as the test says; unload at once."""
        if isinstance(event, UnloadAsked):
            return self._unload(event)
        if isinstance(event, NamesAsked):
            return self._name(event)
        if isinstance(event, VerdictAsked):
            return Verdict(
                can_load=True, reason="Model can be loaded", model=event.selection.pattern
            )
        if isinstance(event, ServersAsked):
            return Servers(servers=tuple(self.rows))
        assert isinstance(event, LoadAsked)
        assert self.loader is not None, "nobody expected a load"
        self.asked.append(event)
        await self.loader(event, on_progress)
        return Loaded(
            model=event.selection.model_id, server_id="s1", address="", seconds=0, message=""
        )

    def _unload(self, event: UnloadAsked) -> Unloaded:
        models = tuple(each.model_id for each in event.selections)
        self.unloaded += models
        for model_id in models:
            self.gone(model_id)
        return Unloaded(models=models)

    def _name(self, event: NamesAsked) -> Named:
        index = dict(self.routes.index)
        for name in event.change.delete_nicknames:
            if name not in self.nicknames:
                raise UnknownName(f"no nickname {name}")
            self.nicknames.remove(name)
            del index[name]
        for name in event.change.add_nicknames:
            self.nicknames.add(name)
            index[name] = (event.selection.model_id,)
        self.routes = replace(self.routes, index=index)
        return Named(model=event.selection.model_id, changes=(), nicknames=(), slots=())

    def in_flight(self) -> dict[str, int]:
        """Return the requests that the loop thinks are running, by server, without the zeros."""
        counts: Counter[str] = Counter()
        for event in self.events:
            if isinstance(event, RequestStarted):
                counts[event.server_id] += 1
            elif isinstance(event, RequestsEnded):
                counts[event.server_id] += event.began - event.ended
                assert counts[event.server_id] >= 0, "ended before it started"
        return {server: count for server, count in counts.items() if count}

    def started(self) -> int:
        """Return how many requests were told to have begun."""
        starts = sum(isinstance(event, RequestStarted) for event in self.events)
        return starts + sum(e.began for e in self.events if isinstance(e, RequestsEnded))

    def ended(self) -> int:
        """Return how many requests were told to be over."""
        return sum(e.ended for e in self.events if isinstance(e, RequestsEnded))

    def moved(self) -> int:
        """Return how often it was told that bytes came."""
        return sum(isinstance(event, RequestMoved) for event in self.events)
