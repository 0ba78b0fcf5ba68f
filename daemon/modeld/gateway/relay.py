"""
The life of one request that a model answers: found, waited for, sent, relayed, reported.

    find the model -- a ready server ------------------ send -- pass the answer on -- end
                  `-- none: ask the loop, and wait --'      `-- server gone: ask once more
                      (a stream gets signs of life)         `-- idle connection was closed: resend

A request for a ready server runs from callback to callback without a task.  Whatever becomes of
it, the loop hears of its start and its end once each.  When the client goes, the connection to
the server goes with it, which frees the slot there.  The body of an answer passes as it comes, or
through the dialect's translator; nothing here reads it.
"""

import asyncio
import logging

from modeld.core.entities import Model
from modeld.errors import Inactive, ServerFailed
from modeld.gateway import lengths
from modeld.gateway.books import Books
from modeld.gateway.destination import Destination, decide
from modeld.gateway.http import CHUNK, Answer, Problem, header_line
from modeld.gateway.patience import Client, Patience
from modeld.gateway.shared import Relay
from modeld.gateway.table import NO_RETRY, Call, Relayed, Row, Wanted, problem_of
from modeld.gateway.translation import SERVER_STREAM_TYPE, Collected, Instead, Translator
from modeld.gateway.upstream import AnswerHead, Upstream
from modeld.supervisor.door import Route

_STREAM_HEADERS = b"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
_NOTHING = Wanted(model="", is_stream=False, path="", body=b"")
_NO_RETRY_LINE = header_line(NO_RETRY[0].encode(), NO_RETRY[1].encode())
_log = logging.getLogger("modeld.gateway")


class Exchange:
    """One request and its answer."""

    def __init__(self, relay: Relay, client: Client, row: Row, call: Call) -> None:
        self._relay = relay
        self._client = client
        self._dialect = row.dialect
        self._call = call
        self._row = row
        request_id = relay.request_ids.of(call.head.headers)
        client.writer.common += b"X-Request-Id: %b\r\n" % request_id
        self._books = Books(relay, request_id, row.path)
        self._wanted = _NOTHING
        self._model: Model | None = None
        self._headers = b""
        """What the client is told of where its request goes."""
        self._upstream: Upstream | None = None
        self._task: asyncio.Task[None] | None = None
        self._patience: Patience | None = None
        """From when it begins to wait; most never do."""
        self._head: AnswerHead | None = None
        self._translator: Translator | None = None
        self._collected: Collected | None = None
        self._is_resent = False
        self._is_plain = False
        """Its answer has begun, and the rest of it passes as it comes."""
        self._last_piece = b""
        self._moving = relay.reports.moving

    def start(self) -> None:
        """Begin; everything else comes in callbacks."""
        action = self._row.action
        assert isinstance(action, Relayed), "a local row needs no exchange"
        try:
            wanted = action.prepare(self._call)
            if isinstance(wanted, Wanted):
                self._admit(decide(self._relay.door.routes, wanted, self._call))
        except Exception as error:  # noqa: BLE001 - a bug is told to the client too
            self._fail(problem_of(error))
            return
        if isinstance(wanted, Answer):
            self._client.write(self._client.writer.whole(wanted))
            self._client.finish()
        else:
            self._go()

    def _admit(self, destination: Destination) -> None:
        """
        Note where it goes, and count it there.

        Raises:
            Problem: It is far too long, or its model has as many as it may.
        """
        relay, model, wanted = self._relay, destination.model, destination.wanted
        self._model, self._wanted, self._headers = model, wanted, destination.headers
        if destination.decision is not None:
            relay.reports.routed(destination.decision)
        if relay.refuses_overlong and not wanted.is_look:
            lengths.refuse_far_over(model.name, wanted, relay.context_of(model, wanted))
        self._books.open(model, wanted)

    def _go(self) -> None:
        """Send at once where that can be done; else begin the slow way."""
        model = self._model
        assert model is not None, "it was admitted"
        route = self._relay.door.routes.ready(model.id)
        upstream = None
        if route is not None and self._wanted.instead is None and not self._must_count(route):
            upstream = self._relay.pool.take(route.socket_path)
        if route is not None and upstream is not None:
            self._send(upstream)
            self._books.begin(route)
        else:
            self._task = asyncio.get_running_loop().create_task(self._reach(model))

    # --- the slow way: load, connect ----------------------------------------------------------

    async def _reach(self, model: Model) -> None:
        try:
            if self._wanted.instead is not None:
                await self._do(self._wanted.instead, model)
            else:
                self._send(await self._find_server(model))
        except Exception as error:  # noqa: BLE001 - a bug is told to the client too
            self._fail(problem_of(error))

    async def _find_server(self, model: Model) -> Upstream:
        """Return a connection to a server of the model; of another one if the first is gone."""
        route = self._relay.door.routes.ready(model.id) or await self._load(model)
        upstream = await self._connect(route)
        if upstream is None:
            await self._relay.wait_until_noticed(route)
            route = await self._load(model)
            upstream = await self._connect(route)
        if upstream is None:
            raise ServerFailed(f"the server of {model.name} can't be reached")
        return await self._measured(route, upstream, model) if self._must_count(route) else upstream

    def _must_count(self, route: Route) -> bool:
        if not lengths.may_be_too_long(self._wanted, route.context_tokens):  # as good as always
            return False
        return self._relay.refuses_overlong and not self._is_resent  # or else it was counted

    async def _measured(self, route: Route, upstream: Upstream, model: Model) -> Upstream:
        """Return a connection to a server that has room for the request."""
        tokens = await lengths.count(upstream, self._wanted)
        if tokens is not None:
            fraction = lengths.fraction_of(model.name, tokens, route.context_tokens)
            if fraction >= lengths.WARN_FRACTION:
                self._headers += b"X-Modeld-Context: %.2f\r\n" % fraction
        try:
            pool = self._relay.pool
            return pool.take(route.socket_path) or await pool.connect(route.socket_path)
        except OSError:
            raise ServerFailed(f"the server of {model.name} ended") from None

    async def _do(self, instead: Instead, model: Model) -> None:
        if instead.is_load:
            self._books.begin(self._relay.door.routes.ready(model.id) or await self._load(model))
        else:
            self._wait_for(model)
            await self._relay.unload(model)
        self._finish_with(instead.body())

    async def _load(self, model: Model) -> Route:
        if self._wanted.is_look:
            raise Inactive(f"{model.name} is not loaded", hint="POST /models/load loads it")
        patience = self._wait_for(model)
        load = self._relay.load(model, patience.note, context_tokens=self._wanted.context_tokens)
        account = self._books.account
        route = await (account.waiting_for(load) if account is not None else load)
        patience.loaded()
        return route

    def _wait_for(self, model: Model) -> Patience:
        """Return what shows the client signs of life from now on."""
        if self._patience is None:
            self._patience = Patience(self._relay, self._client, self._dialect, self._stream_head)
        self._patience.begin(self._wanted, model.name)
        return self._patience

    async def _connect(self, route: Route) -> Upstream | None:
        """Return a new connection; None where the server is gone."""
        self._books.begin(route)
        try:
            return await self._relay.pool.connect(route.socket_path)
        except OSError as error:
            _log.info("server=%s model=%s unreachable: %s", route.server_id, route.model_id, error)
            self._books.leave()
            return None

    def _stream_head(self) -> bytes:
        kind = self._dialect.stream_type if self._wanted.is_stream else b"application/json"
        headers = _STREAM_HEADERS + self._headers
        return self._client.writer.start(200, kind, None, headers)

    # --- the way to the server and back -------------------------------------------------------

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        if self._wanted.translator is not None:
            self._translator = self._wanted.translator()
        if self._books.account is not None:
            self._books.account.sent()
        wanted = self._wanted
        upstream.send(
            wanted.path, wanted.body, self, method=wanted.method, content_type=wanted.content_type
        )
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
            # most likely a token of a stream: nearly all that a gateway has to do
            if self._is_plain and not is_last:
                books = self._books
                if books.account is not None:
                    books.account.took(body)
                is_chunked = self._client.writer.is_chunked
                self._client.write(CHUNK % (len(body), body) if is_chunked else body)
                self._last_piece = body
                self._moving.add(books.server_id)
            else:
                self._pass_on(head, body, is_last)
        except Exception:
            self.abandon()  # a bug; nobody else would ever answer the client
            self._client.cut()
            raise

    def _pass_on(self, head: AnswerHead | None, body: bytes, is_last: bool) -> None:
        data = b""
        books = self._books
        if books.account is not None:
            books.account.took(body)
        if head is not None:
            if self._patience is not None:
                self._patience.stop()
            self._head = head
            data = self._take_head(head)
        if is_last:
            self._upstream = None
        if self._collected is not None:
            self._collect(self._collected, body, is_last)
            return
        if self._translator is not None:
            body = self._translator.piece(body) + (self._translator.end() if is_last else b"")
        writer = self._client.writer
        if writer.is_chunked:
            data += writer.body(body) + (writer.end() if is_last else b"")
        elif writer.has_body:
            data += body
        self._client.write(data)
        # the client has its bytes: only now the rest
        self._moving.add(books.server_id)
        self._last_piece = body or self._last_piece
        if is_last:
            status = self._head.status if self._head is not None else 200
            self._settle(books.failure(status) if status >= 400 else "", status)
            self._client.finish()

    def _take_head(self, head: AnswerHead) -> bytes:
        writer = self._client.writer
        stream_type = SERVER_STREAM_TYPE if self._translator else self._dialect.stream_type
        is_stream = head.content_type.startswith(stream_type)
        is_own = self._translator is None and not self._dialect.rewords_errors
        if head.status != 200 and (writer.is_started or not is_own):
            self._collected = Collected(head.status, None)
        elif self._translator is not None and not (is_stream and self._wanted.is_stream):
            self._collected = Collected(head.status, self._translator)
        if writer.is_started or self._collected is not None:
            return b""
        if self._translator is not None:
            return self._stream_head()
        self._is_plain = writer.has_body
        headers = self._headers + (_STREAM_HEADERS if is_stream else b"")
        if head.status == 501:  # OpenAI's clients retry every 5xx
            headers += _NO_RETRY_LINE
        return writer.start(head.status, head.content_type, head.length, headers)

    def _collect(self, collected: Collected, body: bytes, is_last: bool) -> None:
        self._moving.add(self._books.server_id)
        try:
            collected.take(body)
            if is_last:
                self._finish_with(collected.finish())
        except Problem as problem:
            if self._upstream is not None:
                self._upstream.abort()
                self._upstream = None
            self._fail(problem)

    def _finish_with(self, body: bytes) -> None:
        """End with a body that is known as a whole."""
        writer = self._client.writer
        data = b""
        if not writer.is_started:
            kind = self._dialect.stream_type if self._wanted.is_stream else b"application/json"
            data = writer.start(200, kind, len(body), self._headers)
        self._client.write(data + writer.body(body) + writer.end())
        self._settle()
        self._client.finish()

    def answer_failed(self, may_resend: bool) -> None:
        """Tell the client what can be told, or ask the server again where nothing was begun."""
        self._upstream = None
        self._books.leave()
        if may_resend and not self._is_resent and self._model is not None:
            self._is_resent = True
            self._task = asyncio.get_running_loop().create_task(self._reach(self._model))
        elif self._can_still_tell():
            self._fail(Problem(502, "the server ended", code="server_failed", kind="server_error"))
        else:
            self._settle("server")
            self._client.cut()

    def _can_still_tell(self) -> bool:
        """Return whether an error would reach the client as one."""
        if self._head is None or self._translator is not None:
            return True
        return self._head.content_type.startswith(self._dialect.stream_type)

    # --- ends ---------------------------------------------------------------------------------

    def _fail(self, problem: Problem) -> None:
        """Answer with an error, inside the stream where one has begun."""
        self._settle(self._books.failure(problem.status), problem.status)
        writer = self._client.writer
        if writer.is_started:
            last = self._last_piece
            is_between = self._translator is not None or not last or last.endswith(b"\n\n")
            gap = b"" if is_between else b"\n\n"  # one too many is nothing to a reader of events
            writer.keep_alive = False
            data = writer.body(gap + self._dialect.stream_error(problem)) + writer.end()
        else:
            body = self._dialect.error_body(problem)
            writer.common += self._headers  # of a model, where it came so far
            data = writer.whole(Answer(status=problem.status, body=body, headers=problem.headers))
        self._client.write(data)
        self._client.finish()

    def abandon(self) -> None:
        """Know that the client is gone."""
        self._settle("left")
        if self._task is not None:
            self._task.cancel()
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    def _settle(self, failure: str = "", status: int = 0) -> None:
        if self._patience is not None:
            self._patience.stop()
        if not status and self._client.writer.is_started:
            status = self._head.status if self._head is not None else 200
        self._books.close(failure, status)
