"""
The life of one request that a model answers: found, waited for, sent, relayed, reported.

    find the model -- a ready server ------------------ send -- pass the answer on -- end
                  `-- none: ask the loop, and wait --'      `-- server gone: ask once more
                      (a stream gets signs of life)         `-- idle connection was closed: resend

A request for a ready server runs from callback to callback without a task.  Whatever becomes of
it, the loop hears of its start and its end once each.  When the client goes, the connection to
the server goes with it, which frees the slot there.  The body of an answer passes as it comes;
nothing here reads it, and nothing here changes what is loaded.
"""

import asyncio
import functools
import logging
from typing import Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct

from modeld.config.schema import Gateway
from modeld.core.entities import Model, Origin
from modeld.core.events import LoadAsked, Selection
from modeld.errors import ModeldError, ServerFailed, TimedOut
from modeld.gateway.http import Answer, Problem, ResponseWriter, header_line
from modeld.gateway.reports import Reports
from modeld.gateway.table import RETRY_AFTER_S, Call, Relayed, Row, Wanted, problem_of
from modeld.gateway.upstream import AnswerHead, Pool, Upstream
from modeld.supervisor.door import Door, OnProgress, Route
from modeld.supervisor.ports import Clock
from modeld.wire.codec import Progress

MAX_ERROR_BYTES = 64 * 1024
"""Of a server's error that has to be told inside a stream."""
NOTICE_POLLS = 50
NOTICE_POLL_SECONDS = 0.02
"""How long the loop may take to notice that a server died, before it is asked for another."""
_STREAM_HEADERS = b"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
_PHASES = {"stop": "making room", "start": "starting", "load": "loading"}
_log = logging.getLogger("modeld.gateway")


class Client(Protocol):
    """The connection that a request came on."""

    writer: ResponseWriter
    is_paused: bool
    """Whether it takes no more bytes for now."""

    def write(self, data: bytes) -> None:
        """Send."""

    def finish(self) -> None:
        """Know that the answer is complete."""

    def cut(self) -> None:
        """Close in the middle: the answer can't be completed."""


class Relay:
    """What all requests share."""

    def __init__(self, door: Door, config: Gateway, clock: Clock, grace_seconds: float) -> None:
        self.door = door
        self.config = config
        self.clock = clock
        self.grace_seconds = grace_seconds
        self.pool = Pool()
        self.reports = Reports(door, clock)
        self.waiting = 0
        self._asked = 0

    async def load(self, model: Model, on_progress: OnProgress) -> Route:
        """
        Return the way to a server for `model`, once there is one.

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
        self._asked += 1
        event = LoadAsked(
            request_id=f"gateway-{self._asked}",
            selection=Selection(model_id=model.id),
            origin=Origin.GATEWAY,
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
        return route

    async def wait_until_noticed(self, route: Route) -> None:
        """Wait, within bounds, until the routes no longer lead to a server that is dead."""
        for _ in range(NOTICE_POLLS):
            if self.door.routes.ready(route.model_id) != route:
                return
            await asyncio.sleep(NOTICE_POLL_SECONDS)


class Exchange:
    """One request and its answer."""

    def __init__(self, relay: Relay, client: Client, row: Row, call: Call) -> None:
        self._relay = relay
        self._client = client
        self._dialect = row.dialect
        self._call = call
        self._action = row.action
        self._wanted = Wanted(model="", is_stream=False, path="", body=b"")
        self._model: Model | None = None
        self._server_id = ""
        """Set from RequestStarted to RequestEnded."""
        self._upstream: Upstream | None = None
        self._task: asyncio.Task[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._phase = "waiting"
        self._head: AnswerHead | None = None
        self._error: bytearray | None = None
        """A server's error, when the stream has begun already."""
        self._is_resent = False
        self._tail = b""

    def start(self) -> None:
        """Begin; everything else comes in callbacks."""
        assert isinstance(self._action, Relayed), "a local row needs no exchange"
        try:
            self._wanted = self._action.prepare(self._call)
            model = self._find()
        except Problem as problem:
            self._fail(problem)
            return
        except ModeldError as error:
            self._fail(problem_of(error))
            return
        self._model = model
        route = self._relay.door.routes.ready(model.id)
        upstream = self._relay.pool.take(route.socket_path) if route is not None else None
        if route is not None and upstream is not None:
            self._send(upstream)
            self._begin(route)
        else:
            self._task = asyncio.get_running_loop().create_task(self._reach(model))

    def _find(self) -> Model:
        routes = self._relay.door.routes
        name = self._wanted.model or routes.default_model
        if not name:
            raise Problem(
                400, "model name is missing from the request, and no models.default is set"
            )
        return routes.find(name)

    # --- the slow way: load, connect ----------------------------------------------------------

    async def _reach(self, model: Model) -> None:
        try:
            self._send(await self._find_server(model))
        except Problem as problem:
            self._fail(problem)
        except ModeldError as error:
            self._fail(problem_of(error))
        except Exception:  # noqa: BLE001 - a bug, told to the client instead of to nobody
            _log.exception("a request failed for a reason that nobody foresaw")
            self._fail(Problem(500, "a bug in modeld", code="internal", kind="server_error"))

    async def _find_server(self, model: Model) -> Upstream:
        """Return a connection to a server of the model; of another one if the first is gone."""
        route = self._relay.door.routes.ready(model.id) or await self._load(model)
        upstream = await self._connect(route)
        if upstream is None:
            await self._relay.wait_until_noticed(route)
            upstream = await self._connect(await self._load(model))
        if upstream is None:
            raise ServerFailed(f"the server of {model.name} can't be reached")
        return upstream

    async def _load(self, model: Model) -> Route:
        if self._wanted.is_stream and self._beat is None:
            self._arm_beat(self._relay.grace_seconds)
        return await self._relay.load(model, self._note)

    async def _connect(self, route: Route) -> Upstream | None:
        """Return a new connection; None where the server is gone."""
        self._begin(route)
        try:
            return await self._relay.pool.connect(route.socket_path)
        except OSError as error:
            _log.info("server=%s model=%s unreachable: %s", route.server_id, route.model_id, error)
            self._end()
            return None

    def _note(self, progress: Progress) -> None:
        percent = f" {progress.fraction:.0%}".replace("%", " %") if progress.fraction >= 0 else ""
        self._phase = f"{_PHASES.get(progress.phase, 'waiting')}{percent}"

    def _arm_beat(self, seconds: float) -> None:
        self._beat = asyncio.get_running_loop().call_later(seconds, self._show_life)

    def _show_life(self) -> None:
        writer = self._client.writer
        data = b"" if writer.is_started else self._stream_head()
        if not self._client.is_paused:
            data += writer.body(self._dialect.sign_of_life(self._phase))
        self._client.write(data)
        self._arm_beat(self._relay.config.heartbeat_seconds)

    def _stop_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _stream_head(self) -> bytes:
        headers = _STREAM_HEADERS + self._model_header()
        return self._client.writer.start(200, self._dialect.stream_type, None, headers)

    # --- the way to the server and back -------------------------------------------------------

    def _begin(self, route: Route) -> None:
        self._server_id = route.server_id
        self._relay.reports.started(route.server_id)

    def _end(self) -> None:
        if self._server_id:
            self._relay.reports.ended(self._server_id)
            self._server_id = ""

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        upstream.send(self._wanted.path, self._wanted.body, self)
        if self._client.is_paused:
            upstream.pause()

    def pause(self) -> None:
        """Stop the server's bytes: the client has enough for now."""
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """Let the server's bytes come again."""
        if self._upstream is not None:
            self._upstream.resume()

    def answer_came(self, head: AnswerHead | None, body: bytes, is_last: bool) -> None:
        """Pass on what the server sent, in one write."""
        try:
            self._pass_on(head, body, is_last)
        except Exception:
            self.abandon()  # a bug; nobody else would ever answer the client
            self._client.cut()
            raise

    def _pass_on(self, head: AnswerHead | None, body: bytes, is_last: bool) -> None:
        data = b""
        if head is not None:
            self._stop_beat()
            self._head = head
            data = self._take_head(head)
        if is_last:
            self._upstream = None
        if self._error is not None:
            self._collect(body, is_last)
            return
        writer = self._client.writer
        data += writer.body(body)
        self._client.write(data + writer.end() if is_last else data)
        # the client has its bytes: only now the rest
        self._relay.reports.moved(self._server_id)
        self._tail = (self._tail + body)[-2:] if len(body) < 2 else body[-2:]
        if is_last:
            self._settle()
            self._client.finish()

    def _take_head(self, head: AnswerHead) -> bytes:
        writer = self._client.writer
        is_stream = head.content_type.startswith(self._dialect.stream_type)
        if writer.is_started:
            self._error = bytearray() if head.status != 200 else None
            return b""
        headers = self._model_header() + (_STREAM_HEADERS if is_stream else b"")
        return writer.start(head.status, head.content_type, head.length, headers)

    def _collect(self, body: bytes, is_last: bool) -> None:
        assert self._error is not None, "called while one is collected"
        if len(self._error) < MAX_ERROR_BYTES:
            self._error += body
        if is_last:
            assert self._head is not None, "the head comes first"
            self._fail(_read_error(self._head.status, bytes(self._error)))

    def answer_failed(self, may_resend: bool) -> None:
        """Tell the client what can be told, or ask the server again where nothing was begun."""
        self._upstream = None
        self._end()
        if may_resend and not self._is_resent and self._model is not None:
            self._is_resent = True
            self._task = asyncio.get_running_loop().create_task(self._reach(self._model))
        elif self._head is None or self._head.content_type.startswith(self._dialect.stream_type):
            self._fail(Problem(502, "the server ended", code="server_failed", kind="server_error"))
        else:
            self._settle()
            self._client.cut()

    def _model_header(self) -> bytes:
        return _model_header(self._model.name) if self._model is not None else b""

    # --- ends ---------------------------------------------------------------------------------

    def _fail(self, problem: Problem) -> None:
        """Answer with an error, inside the stream where one has begun."""
        self._settle()
        writer = self._client.writer
        if writer.is_started:
            gap = b"" if self._tail in {b"", b"\n\n"} else b"\n\n"
            writer.keep_alive = False
            data = writer.body(gap + self._dialect.stream_error(problem)) + writer.end()
        else:
            body = self._dialect.error_body(problem)
            data = writer.whole(Answer(status=problem.status, body=body, headers=problem.headers))
        self._client.write(data)
        self._client.finish()

    def abandon(self) -> None:
        """Know that the client is gone."""
        self._settle()
        if self._task is not None:
            self._task.cancel()
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    def _settle(self) -> None:
        self._stop_beat()
        self._end()


@functools.lru_cache(maxsize=256)
def _model_header(name: str) -> bytes:
    """Return the header that names the model; what headers can't carry is percent-encoded."""
    return header_line(b"X-Modeld-Model", quote(name, safe=" !#$&'()*+,/:;=?@[]~").encode("ascii"))


class _ServerError(Struct):
    message: str = ""
    type: str = "server_error"


class _ServerFailure(Struct):
    error: _ServerError


def _read_error(status: int, body: bytes) -> Problem:
    """Return what a server's error says, in whatever words it came."""
    try:
        error = msgspec.json.decode(body, type=_ServerFailure).error
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        error = _ServerError(message=body.decode("utf-8", "replace"))
    return Problem(status, error.message, code=error.type, kind=error.type)
