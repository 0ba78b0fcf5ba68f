"""
What all requests share: the pool, the reports, and how a model is loaded and unloaded for them.

Both are asked of the loop; nothing here decides what is loaded, and nothing here reads a request.
"""

import asyncio
import logging

from modeld.config.schema import Gateway
from modeld.core.entities import Model, Origin
from modeld.core.events import LoadAsked, Selection, UnloadAsked
from modeld.errors import ServerFailed, TimedOut
from modeld.gateway.http import Problem
from modeld.gateway.pool import Pool
from modeld.gateway.reports import Reports
from modeld.gateway.request_ids import RequestIds
from modeld.gateway.table import RETRY_AFTER_S, Wanted, next_id
from modeld.supervisor.door import Door, OnProgress, Route
from modeld.supervisor.ports import Clock

NOTICE_POLLS = 50
NOTICE_POLL_SECONDS = 0.02
"""How long the loop may take to notice that a server died, before it is asked for another."""
_log = logging.getLogger("modeld.gateway")


class Relay:
    """What all requests share."""

    def __init__(self, door: Door, config: Gateway, clock: Clock, grace_seconds: float) -> None:
        self.door = door
        self.config = config
        self.clock = clock
        self.grace_seconds = grace_seconds
        self.pool = Pool()
        self.reports = Reports(door, clock)
        self.request_ids = RequestIds()
        self.waiting = 0
        self._in_flight: dict[str, int] = {}
        """Requests, by model."""
        self._loads: set[asyncio.Task[Route]] = set()

    @property
    def refuses_overlong(self) -> bool:
        """Whether a request that its context has no room for is refused here."""
        return self.config.on_overlong == "refuse"

    def enter(self, model: Model) -> None:
        """
        Count a request that is in flight, until `exit` of the same model.

        Raises:
            Problem: 429, the model has as many as it may.
        """
        count = self._in_flight.get(model.id, 0)
        if count >= self.config.max_requests_per_model:
            raise Problem(
                429,
                f"{model.name} has {count} requests in flight (gateway.max_requests_per_model)",
                code="concurrency_limit",
                kind="rate_limit_error",
                headers=(("Retry-After", "1"),),
            )
        self._in_flight[model.id] = count + 1

    def exit(self, model: Model) -> None:
        """Know that a request that was counted has ended."""
        count = self._in_flight.pop(model.id) - 1
        if count:
            self._in_flight[model.id] = count

    def context_of(self, model: Model, wanted: Wanted) -> int:
        """Return the context that a request meets or that it loads; 0 where nobody knows."""
        route = self.door.routes.servers.get(model.id)
        if route is not None and route.context_tokens:
            return route.context_tokens
        return wanted.context_tokens or self.door.routes.guide.contexts.get(model.id, 0)

    def begin_load(self, model: Model) -> asyncio.Task[Route]:
        """Load `model`, whether or not somebody waits for it."""
        task = asyncio.get_running_loop().create_task(self.load(model))
        self._loads.add(task)
        task.add_done_callback(self._forget_load)
        return task

    def _forget_load(self, task: asyncio.Task[Route]) -> None:
        self._loads.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("a load that was asked for failed: %s", error)

    async def load(
        self, model: Model, on_progress: OnProgress | None = None, *, context_tokens: int = 0
    ) -> Route:
        """
        Return the way to a server for `model`, once there is one.

        Args:
            model: To be served.
            on_progress: Hears how far it is.
            context_tokens: What a server has that this starts; 0 for as usual.

        Raises:
            Problem: As many wait as may.
            ModeldError: It was refused, failed or took too long.
        """
        if self.waiting >= self.config.max_waiting:
            raise Problem(
                429,
                "too many requests wait for their models",
                code="too_many_waiting",
                kind="rate_limit_error",
                headers=(("Retry-After", str(RETRY_AFTER_S)),),
            )
        self.reports.flush()  # a model that has just answered may go for this one
        event = LoadAsked(
            request_id=next_id(),
            selection=Selection(model_id=model.id),
            origin=Origin.GATEWAY,
            context_tokens=context_tokens,
        )
        self.waiting += 1
        try:
            async with asyncio.timeout(self.config.max_wait_seconds):
                await self.door.ask(event, on_progress)
        except TimeoutError:
            raise TimedOut(f"{model.name} took longer than the gateway waits") from None
        finally:
            self.waiting -= 1
        route = self.door.routes.ready(model.id)
        if route is None:
            raise ServerFailed(f"{model.name} was gone as soon as it was ready")
        self.reports.note_use(route.server_id)
        return route

    async def unload(self, model: Model | None) -> None:
        """
        Stop the model's server, or all but the pinned, once they have answered what they answer.

        Raises:
            ModeldError: It was refused or failed.
        """
        self.reports.flush()
        selections = (Selection(model_id=model.id),) if model is not None else ()
        await self.door.ask(
            UnloadAsked(request_id=next_id(), selections=selections, everything=model is None)
        )

    def leave(self) -> None:
        """Wait for no load any more."""
        for task in tuple(self._loads):
            task.cancel()

    async def wait_until_noticed(self, route: Route) -> None:
        """Wait, within bounds, until the routes no longer lead to a server that is dead."""
        for _ in range(NOTICE_POLLS):
            if self.door.routes.ready(route.model_id) != route:
                return
            await asyncio.sleep(NOTICE_POLL_SECONDS)
