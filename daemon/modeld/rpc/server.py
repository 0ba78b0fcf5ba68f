"""
The ROUTER socket: frames in, frames out, and who may send them.

Only this user gets in: the socket is 0600 in a 0700 directory, every connection is asked for its
uid by ZAP, and every message carries it again.  Requests become tasks, bounded in number, their
answers frames.  A client that does not read loses progress messages, never its answer's place in
the queue of others.  What a request means is `handlers`' business.

libzmq's descriptor tells of changes, not of states, so everything that can be read is read each
time, also after each send.  Source: zmq_getsockopt(3), ZMQ_FD.
"""

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection

import msgspec
import zmq
from msgspec import Struct

from modeld.errors import Busy, ErrorCode, ModeldError, TimedOut
from modeld.supervisor.ports import Journal
from modeld.version import VERSION
from modeld.wire import codec
from modeld.wire.codec import Failure, Header, Progress
from modeld.wire.daemon import Happened

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"modeld"
MAX_AT_ONCE = 64
"""Messages taken before the rest of the daemon has its turn."""
MAX_REQUESTS = 512
"""Requests under way at once; more are refused as busy."""
KEPT_ANSWERS = 256
KEPT_SECONDS = 600.0
"""For clients that ask again because a restart swallowed the answer."""
PROGRAM = f"modeld/{VERSION}"

Send = Callable[[Struct], None]
"""Sends one message of progress to whoever asked."""
Handler = Callable[[Struct, Header, Send], Awaitable[Struct]]


class RpcServer:
    """Serves one `Handler` on one ROUTER socket."""

    def __init__(
        self,
        handler: Handler,
        decoder: "msgspec.msgpack.Decoder[Struct]",
        journal: Journal,
        looks: Collection[type[Struct]] = (),
    ) -> None:
        """
        Make a server that does not listen yet.

        Args:
            handler: What handles every request.
            decoder: Of the requests that there are.
            journal: For what is refused, and for bugs.
            looks: Requests that change nothing.  Asked again they are handled again; the answers
                to all others are kept, so that nothing is done twice.
        """
        self._looks = frozenset(looks)
        self._handler = handler
        self._decoder = decoder
        self._journal = journal
        self._context = zmq.Context(io_threads=1)
        self._socket: zmq.Socket[bytes] | None = None
        self._zap: zmq.Socket[bytes] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._peers: dict[str, list[bytes]] = {}
        """Who waits for each request: more than one after a client asked again."""
        self._kept: OrderedDict[str, tuple[float, Struct]] = OrderedDict()
        self._missed: dict[tuple[bytes, str], int] = {}
        self._uid = os.getuid()

    def start(self, path: str, descriptor: int | None) -> None:
        """
        Serve on a UNIX socket.

        Args:
            path: Of the socket; removed first if a dead daemon left one (the caller holds the
                lock that says so).
            descriptor: A listening socket that the service manager made at `path`; None to
                make one.
        """
        loop = asyncio.get_running_loop()
        self._zap = self._context.socket(zmq.REP)
        self._zap.linger = 0
        self._zap.bind(ZAP_ENDPOINT)
        loop.add_reader(_descriptor(self._zap), self._on_zap)
        router = self._context.socket(zmq.ROUTER)
        _set_options(router, self._uid)
        if descriptor is not None:
            router.setsockopt(zmq.USE_FD, descriptor)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 (a socket, not a file of the disk tiers)
        before = os.umask(0o177)
        try:
            router.bind(f"ipc://{path}")
        finally:
            os.umask(before)
        self._socket = router
        loop.add_reader(_descriptor(router), self._on_readable)
        loop.call_soon(self._on_readable)

    async def close(self, seconds: float) -> None:
        """Let requests under way end for `seconds`, then close."""
        if self._socket is None or self._zap is None:
            return
        loop = asyncio.get_running_loop()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)
        for task in tuple(self._tasks.values()):
            task.cancel()
        loop.remove_reader(_descriptor(self._socket))
        loop.remove_reader(_descriptor(self._zap))
        # what was answered gets half a second to leave; nobody waits longer for a dead client
        self._socket.close(linger=500)
        self._zap.close(linger=0)
        self._socket = None
        await asyncio.wait_for(asyncio.to_thread(self._context.term), 3)

    # --- who may come in ---------------------------------------------------------------------

    def _on_zap(self) -> None:
        """Answer libzmq's question whether a new connection may speak."""
        zap = self._zap
        while zap is not None and _events(zap) & zmq.POLLIN:
            frames = zap.recv_multipart(zmq.NOBLOCK)
            allowed = len(frames) >= 6 and self._is_own(frames[3].decode("utf-8", "replace"))
            request_id = frames[1] if len(frames) > 1 else b""
            verdict = (b"200", b"OK") if allowed else (b"400", b"another user")
            if not allowed:
                self._journal.record("client-refused", "another user at the socket", priority=4)
            zap.send_multipart([b"1.0", request_id, *verdict, b"", b""])

    def _is_own(self, address: str) -> bool:
        """Whether `localhost:UID:GID:PID`, libzmq's name of an ipc peer, is this user."""
        parts = address.split(":")
        return len(parts) >= 4 and parts[1] == str(self._uid)

    # --- messages ----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Take every message that has come, and leave the loop to others now and then."""
        for _ in range(MAX_AT_ONCE):
            router = self._socket
            if router is None or not _events(router) & zmq.POLLIN:
                return
            try:
                frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take(frames)
        asyncio.get_running_loop().call_soon(self._on_readable)

    def _take(self, frames: "list[zmq.Frame]") -> None:
        peer, *message = (frame.bytes for frame in frames)
        try:
            if not self._is_own(str(frames[-1].get("Peer-Address"))):
                return
            header = codec.decode_header(message)
        except (zmq.ZMQError, codec.BadFrame):
            return  # not ours, or not modeld's: there is nobody to answer
        try:
            codec.require_version(header)
            body = codec.decode_body(self._decoder, message[2])
            if len(self._tasks) >= MAX_REQUESTS:
                raise Busy(f"{MAX_REQUESTS} requests are under way", retry_after_s=1)
        except ModeldError as error:
            self._send(peer, header.id, codec.failure(error), "failure")
            return
        self._begin(peer, header, body)

    def _begin(self, peer: bytes, header: Header, body: Struct) -> None:
        """Handle a request once, however often it is asked."""
        kept = self._kept.get(header.id)
        if kept is not None:
            self._answer([peer], header.id, kept[1])
        elif header.id in self._tasks:
            self._peers[header.id].append(peer)
        else:
            self._peers[header.id] = [peer]
            task = asyncio.get_running_loop().create_task(self._serve(header, body))
            self._tasks[header.id] = task
            task.add_done_callback(lambda _: self._forget(header.id))

    def _forget(self, request_id: str) -> None:
        self._tasks.pop(request_id, None)
        for peer in self._peers.pop(request_id, ()):
            self._missed.pop((peer, request_id), None)

    async def _serve(self, header: Header, body: Struct) -> None:
        """Have one request handled, and answer it."""
        deadline = header.deadline_ms / 1000 if header.deadline_ms else None
        reply: Struct
        bound = asyncio.timeout(deadline)
        try:
            async with bound:
                reply = await self._handler(
                    body, header, lambda part: self._progress(header.id, part)
                )
        except ModeldError as error:
            reply = codec.failure(error)
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 (one request's bug must not end the others)
            reply = self._out_of_time(header) if bound.expired() else self._bug(body, error, header)
        if type(body) not in self._looks:
            self._keep(header.id, reply)
        self._answer(self._peers.get(header.id, []), header.id, reply)

    def _out_of_time(self, header: Header) -> Failure:
        error = TimedOut(
            f"not done after {header.deadline_ms / 1000:g} s",
            hint="it goes on: modelctl ps shows how far it is",
        )
        return codec.failure(error)

    def _bug(self, body: Struct, error: Exception, header: Header) -> Failure:
        self._journal.record(
            "bug", f"{type(body).__name__}: {error!r}", priority=2, request=header.id
        )
        return Failure(
            ErrorCode.INTERNAL, f"a bug in modeld: {error!r}", "journalctl --user -u modeld"
        )

    def _keep(self, request_id: str, reply: Struct) -> None:
        """Keep an answer for a client that asks again."""
        now = asyncio.get_running_loop().time()
        self._kept[request_id] = (now, reply)
        while self._kept:
            oldest, (at, _) = next(iter(self._kept.items()))
            if len(self._kept) <= KEPT_ANSWERS and now - at < KEPT_SECONDS:
                return
            del self._kept[oldest]

    def _answer(self, peers: list[bytes], request_id: str, reply: Struct) -> None:
        kind: codec.Kind = "failure" if isinstance(reply, Failure) else "reply"
        for peer in peers:
            self._send(peer, request_id, reply, kind)

    def _progress(self, request_id: str, part: Struct) -> None:
        """Send one message of progress; whoever does not read misses it, and is told how many."""
        for peer in tuple(self._peers.get(request_id, ())):
            key = (peer, request_id)
            missed = self._missed.get(key, 0)
            told = part
            if missed and isinstance(part, Progress | Happened):
                told = msgspec.structs.replace(part, missed=missed)
            if self._send(peer, request_id, told, "progress"):
                self._missed.pop(key, None)
            else:
                self._missed[key] = missed + 1

    def _send(self, peer: bytes, request_id: str, body: Struct, kind: codec.Kind) -> bool:
        """Send a message to one client; False when it left or does not read."""
        if self._socket is None:
            return False
        head = Header(v=codec.VERSION, id=request_id, kind=kind, program=PROGRAM)
        try:
            self._socket.send_multipart([peer, *codec.encode(head, body)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH and kind == "progress":
                self._leave(peer, request_id)
            return False
        # the send may have swallowed the notice that something can be read
        asyncio.get_running_loop().call_soon(self._on_readable)
        return True

    def _leave(self, peer: bytes, request_id: str) -> None:
        """A client is gone: when nobody waits any more, stop; what was begun goes on."""
        peers = self._peers.get(request_id, [])
        if peer in peers:
            peers.remove(peer)
        task = self._tasks.get(request_id)
        if task is not None and not peers:
            task.cancel()


def _events(socket: "zmq.Socket[bytes]") -> int:
    return int(socket.getsockopt(zmq.EVENTS))


def _descriptor(socket: "zmq.Socket[bytes]") -> int:
    return int(socket.getsockopt(zmq.FD))


def _set_options(router: "zmq.Socket[bytes]", uid: int) -> None:
    """Bound everything that a peer could make grow; measured values, see the socket's tests."""
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.MAXMSGSIZE, codec.MAX_MESSAGE_BYTES),
        (zmq.HANDSHAKE_IVL, 2000),
        (zmq.SNDHWM, 100),
        (zmq.RCVHWM, 100),
        (zmq.ROUTER_MANDATORY, 1),
        (zmq.ROUTER_HANDOVER, 0),
        (zmq.HEARTBEAT_IVL, 5000),
        (zmq.HEARTBEAT_TIMEOUT, 15000),
        (zmq.IPC_FILTER_UID, uid),
        (zmq.ZAP_ENFORCE_DOMAIN, 1),
    ):
        router.setsockopt(option, value)
    router.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
