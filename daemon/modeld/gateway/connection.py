"""
One client's connection: requests read, judged, answered or relayed, each within its time.

    head (10 s) -- judged -- body (60 s between reads) -- answered -- next head (75 s idle)
       `-- refused: the answer, then a close that lets the client read it

A request that is refused before it is whole ends its connection; one that is refused as a whole
does not.  A client that left is not answered: what it asked for is given up.  The end of its bytes
looks the same as its leaving; of a client on this machine that has sent a whole request the kernel
knows which it is, any other has left.  Nothing here knows models or dialects.
"""

import asyncio
from collections.abc import Awaitable
from typing import cast

from modeld.gateway.following import Following
from modeld.gateway.guard import Guard, Visitor, preflight
from modeld.gateway.hall import Hall
from modeld.gateway.http import Answer, Problem, RequestHead, ResponseWriter
from modeld.gateway.reading import RequestReader
from modeld.gateway.relay import Exchange
from modeld.gateway.table import Call, Followed, Relayed, Row, problem_of

HIGH_WATER_BYTES = 256 * 1024
"""Of an answer in memory before its server has to wait."""
SMALL_BODY_BYTES = 64 * 1024
"""Up to here nobody asks for how much all others hold: a full house of these is little."""
LOOK_SECONDS = 0.02
"""After the end of a client's bytes: one that is just closing holds its end a moment longer."""
MAX_LOOK_SECONDS = 0.5
"""Between two later looks: its generation is to stop within a second of its leaving."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, hall: Hall, guard: Guard) -> None:
        self.writer = ResponseWriter(None)
        self.is_paused = False
        self.deadline = 0.0
        """[monotonic s] When its patience ends; 0 for never."""
        self._hall = hall
        self._guard = guard
        self._reader = RequestReader(hall.max_body_bytes, hall.known)
        self._visitor: Visitor | None = None
        self._row: Row | None = None
        self._argument = ""
        self._exchange: Exchange | Following | None = None
        self._task: asyncio.Task[None] | None = None
        self._taken_bytes = 0
        self._is_answering = False
        self._is_ending = False
        self._is_overdue = False
        """It was given more time already to read the last of an answer."""
        self._looking: asyncio.TimerHandle | None = None
        """For whether a client that sends no more is still there."""
        self.is_dropped = False
        self._transport: asyncio.Transport | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it has not sent a whole request."""
        return not self._is_answering and not self._is_ending

    @property
    def is_dispensable(self) -> bool:
        """Whether it has not sent a whole request, or has had its answer and only lingers."""
        return not self._has_unsent() if self._is_ending else self.is_waiting

    @property
    def body_bytes(self) -> int:
        """How much of a body it, or what answers it, holds."""
        return self._reader.body_bytes + self._taken_bytes

    # --- bytes come ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part, if there is room."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._wait(self._hall.limits.head_seconds)
        self.writer = ResponseWriter(None, common=self._hall.common)
        has_room = self._hall.make_room()
        self._hall.connections.add(self)
        self._visitor = self._hall.visit(transport)
        if self._visitor is None:
            self._refuse(
                Problem(
                    403,
                    "another user's modeld (gateway.other_users)",
                    code="not_permitted",
                    kind="permission_error",
                )
            )
            return
        if has_room:
            return
        if self._hall.is_crowded:
            self.drop()
            return
        retry = ("Retry-After", "1")
        self._refuse(Problem(503, "too many connections", kind="server_error", headers=(retry,)))

    def data_received(self, data: bytes) -> None:
        """Read on, and act once a request is whole."""
        if self._is_ending:
            return
        reader = self._reader
        is_first = not reader.has_begun
        try:
            reader.receive(data)
            if self._is_answering:
                self.writer.keep_alive = False  # more came: pipelining
                return
            if reader.head is None:
                if is_first:
                    self._wait(self._hall.limits.head_seconds)
                return
            if self._row is None and not self._judge():
                return
            if not reader.is_complete:
                self._expect_body()
                return
        except Problem as problem:
            self._refuse(problem)
            return
        self._answer()

    def _judge(self) -> bool:
        """Look at the head; return whether there is more to do."""
        head = self._reader.head
        assert head is not None, "called with a head"
        assert self._visitor is not None, "nobody else is listened to"
        self._begin_answer(head, self._hall.common)
        cors = self._guard.admit(head, self._visitor)
        if cors:
            self._begin_answer(head, self._hall.common + cors)
            answer = preflight(head)
            if answer is not None:
                self._finish_with(answer)
                return False
        self._guard.authorise(head, self._visitor, self._hall.relay.clock.monotonic)
        self._row, self._argument = self._hall.table.find(head)
        if head.expects_continue and not self._reader.is_complete:
            self.write(_CONTINUE)
        return True

    def _begin_answer(self, head: RequestHead, common: bytes) -> None:
        self.writer = ResponseWriter(head, common=common)
        if self._hall.is_closing:
            self.writer.keep_alive = False

    def _expect_body(self) -> None:
        self._wait(self._hall.limits.body_idle_seconds)
        is_small = self._reader.body_bytes < SMALL_BODY_BYTES
        if not is_small and not self._hall.has_room_for_bodies():
            raise Problem(503, "too many large requests", kind="server_error")

    # --- the answer ---------------------------------------------------------------------------

    def _answer(self) -> None:
        head, row = self._reader.head, self._row
        assert head is not None, "a whole request has one"
        assert row is not None, "it was judged"
        self._is_answering = True
        self.deadline = 0.0
        if self.is_paused:  # by the last answer, which nobody has read; it is told so only once
            self._wait(self._hall.limits.write_stall_seconds)
        if self._reader.has_more:
            self.writer.keep_alive = False
        body = self._reader.take_body()
        self._taken_bytes = len(body)
        relay = self._hall.relay
        call = Call(
            head=head,
            body=body,
            argument=self._argument,
            door=relay.door,
            clock=relay.clock,
            begin_load=relay.begin_load,
            unload=relay.unload,
            config=relay.config,
            used=relay.reports.used,
        )
        if isinstance(row.action, Relayed):
            self._exchange = Exchange(relay, self, row, call)
            self._exchange.start()
            return
        try:
            if isinstance(row.action, Followed):
                self._exchange = following = Following(self, self._hall.following)
                following.start(row.action, call)
                return
            answer = row.action.answer(call)
        except Exception as error:  # noqa: BLE001 - a bug is told to the client too
            self._finish_with(self._words(problem_of(error)))
        else:
            if isinstance(answer, Answer):
                self._finish_with(answer)
            else:
                self._task = asyncio.get_running_loop().create_task(self._await(answer))

    async def _await(self, answer: Awaitable[Answer]) -> None:
        try:
            self._finish_with(await answer)
        except Exception as error:  # noqa: BLE001 - a bug is told to the client too
            self._finish_with(self._words(problem_of(error)))

    def _words(self, problem: Problem) -> Answer:
        if self._row is not None:
            dialect = self._row.dialect
        else:
            dialect = self._hall.table.dialect_of(self._reader.line)
        return Answer(
            status=problem.status, body=dialect.error_body(problem), headers=problem.headers
        )

    def _refuse(self, problem: Problem) -> None:
        """Answer with an error; the rest of a request that isn't whole will not be read."""
        self._finish_with(self._words(problem))

    def _finish_with(self, answer: Answer) -> None:
        self._is_answering = True
        if not self._reader.is_complete or self._reader.has_more or self._hall.is_closing:
            self.writer.keep_alive = False
        self.write(self.writer.whole(answer))
        self.finish()

    def write(self, data: bytes) -> None:
        """Send."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def finish(self) -> None:
        """Make ready for the next request, or close where there can be none."""
        self._exchange = None
        self._task = None
        self._taken_bytes = 0
        if not self.writer.keep_alive:
            self._end()
            return
        self._is_answering = False
        self._row = None
        self._reader.reset()
        self._wait(self._hall.limits.keep_alive_seconds)

    # --- ends ---------------------------------------------------------------------------------

    def _end(self) -> None:
        """Close so that the client can read what was sent, though it may still be sending."""
        transport = self._transport
        assert transport is not None, "nothing ends before it began"
        self._is_ending = True
        self._reader.take_body()  # of a request that was refused half way: nobody wants it
        self._wait(self._hall.limits.linger_seconds)
        if self._reader.is_complete and not self._reader.has_more:
            transport.close()
        elif not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()  # a close with bytes unread would reset, and lose the answer

    def cut(self) -> None:
        """Close in the middle of an answer, so that nobody takes it for whole."""
        self._exchange = None
        self.drop()

    def drop(self) -> None:
        """Close at once."""
        self.is_dropped = True
        self._is_ending = True
        if self._transport is not None:
            self._transport.abort()

    def say_goodbye(self) -> None:
        """Close with the next answer, or with the present one; one without end ends now."""
        self.writer.keep_alive = False
        if isinstance(self._exchange, Following):
            self._exchange.end()

    def close_if_idle(self) -> None:
        """Close now, unless a request has begun to come or is being answered."""
        if self.is_waiting and not self._reader.has_begun:
            self.drop()

    def expire(self) -> None:
        """Act on the deadline."""
        if self.is_waiting and self._reader.has_begun:
            self._refuse(Problem(408, "the request took too long to come"))
            assert self._transport is not None, "it sent something"
            self._transport.close()  # no lingering: nothing more is on its way
        elif self._is_ending and self._has_unsent() and not self._is_overdue:
            self._is_overdue = True
            self._wait(self._hall.limits.write_stall_seconds)
        else:
            self.drop()

    def _has_unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _wait(self, seconds: float) -> None:
        self.deadline = self._hall.relay.clock.monotonic() + seconds

    def pause_writing(self) -> None:
        """Let the server wait for a client that is slower."""
        self.is_paused = True
        if self._exchange is not None:
            self._wait(self._hall.limits.write_stall_seconds)
            self._exchange.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self.is_paused = False
        if self._exchange is not None:
            self.deadline = 0.0
            self._exchange.resume()

    def eof_received(self) -> bool:
        """Return whether to stay open: the client has said all, and waits for its answer."""
        if self._is_answering and not self._is_ending and self._is_there():
            self.writer.keep_alive = False
            self._look_again(LOOK_SECONDS)
            return True
        self._leave()
        return False

    def _is_there(self) -> bool:
        return self._transport is not None and self._hall.is_there(self._transport)

    def _look_again(self, seconds: float) -> None:
        """Look after a while, since nothing tells that a client leaves which had its say."""
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(seconds, self._look, min(2 * seconds, MAX_LOOK_SECONDS))

    def _look(self, next_seconds: float) -> None:
        if self._is_ending:
            return
        if self._is_there():
            self._look_again(next_seconds)
            return
        self._leave()
        self.drop()

    def _leave(self) -> None:
        if self._exchange is not None:
            self._exchange.abandon()
            self.cut()
        if self._task is not None:
            self._task.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up whatever it asked for."""
        del exc
        self._hall.connections.discard(self)
        self._is_ending = True
        if self._looking is not None:
            self._looking.cancel()
        self._leave()
