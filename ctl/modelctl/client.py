"""
The socket to modeld: requests, progress, deadlines, and a daemon that goes and comes back.

libzmq never says that nobody is there: it waits.  So a plain connection is tried first, which
also tells who listens; and the connection is watched, so that a daemon that dies is noticed at
once rather than at the deadline.  When it comes back, the request is sent again under the same
id: a new daemon does it, an old one answers what it answered before.  Prints nothing.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from stat import S_ISSOCK
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, ValidationError, convert, msgpack, to_builtins

from modelctl import __version__
from modelctl.errors import Refusal
from modeld.errors import (
    ModeldError,
    NotPermitted,
    ProtocolMismatch,
    TimedOut,
    Unavailable,
    Usage,
)
from modeld.wire.codec import (
    VERSION,
    Failure,
    Header,
    Progress,
    decode_body,
    decode_header,
    encode,
)
from modeld.wire.endpoint import MAX_PATH_BYTES

if TYPE_CHECKING:
    import zmq

Reply = TypeVar("Reply", bound=Struct)

PATIENCE_S = 10.0
MAX_HANG_UPS = 2
"""So often may whoever listens hang up before it has said anything."""
"""How long a daemon that went away may take to come back; systemd restarts it within two."""
GRACE_S = 0.5
"""Added to the deadline, so that modeld's own account of a timeout comes first."""
MAX_RESENDS = 3
"""Without a word in between: more restarts than that are no accident."""
LEAVE_MS = 500
MAX_REPLY_BYTES = 64 << 20
START_HINT = "systemctl --user start modeld"

_RESTORED: list[bytes] = []
"""Stands for a message: the connection was lost, and is back."""
_failures = msgpack.Decoder(Failure)
_steps = msgpack.Decoder(Progress)


def require_listener(path: str, uid: int) -> None:
    """
    Check that a process of ours listens at `path`.

    Raises:
        Usage: No socket can have this path.
        Unavailable: Nobody listens.
        NotPermitted: Somebody else does, or may stand between.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise Usage(
            f"the socket's path is longer than {MAX_PATH_BYTES} bytes: {path}",
            hint="set MODELD_SOCKET to a shorter one, for modeld and modelctl",
        )
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _check_owner(path, uid)
        probe.connect(path)
        peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        found = "no socket" if isinstance(error, FileNotFoundError) else "nobody listens"
        raise Unavailable(f"modeld is not running ({found} at {path})", hint=START_HINT) from error
    except PermissionError as error:
        raise _foreign(path) from error
    except OSError as error:
        raise Unavailable(f"modeld can't be reached at {path}: {error.strerror}") from error
    finally:
        probe.close()
    if struct.unpack("3i", peer)[1] != uid:
        raise _foreign(path)


def _check_owner(path: str, uid: int) -> None:
    """
    Check that nobody else can have put the socket there.

    Raises:
        NotPermitted: The socket or its directory belongs to another user.
        Unavailable: It is no socket.
    """
    status = os.stat(path)  # noqa: PTH116 (pathlib costs 3 ms)
    directory = os.stat(os.path.dirname(path) or ".")  # noqa: PTH116, PTH120
    if status.st_uid != uid or directory.st_uid not in {uid, 0}:
        raise _foreign(path)
    if not S_ISSOCK(status.st_mode):
        raise Unavailable(f"{path} is no socket", hint="is MODELD_SOCKET right?")


def _foreign(path: str) -> NotPermitted:
    return NotPermitted(
        f"the socket belongs to another user: {path}",
        hint="each user has a modeld of their own; is MODELD_SOCKET or XDG_RUNTIME_DIR right?",
    )


def _alien(path: str) -> ProtocolMismatch:
    return ProtocolMismatch(f"what listens at {path} is not modeld", hint="is MODELD_SOCKET right?")


def _mute(path: str) -> Unavailable:
    return Unavailable(
        f"whoever was reached at {path} hung up without a word",
        hint="if modeld does not start: systemctl --user status modeld;  modelctl config check",
    )


def wait_for_listener(path: str, uid: int, timeout_s: float) -> None:
    """
    Return as soon as a process of ours listens at `path`.

    Raises:
        Unavailable: Nobody did within `timeout_s`.
        NotPermitted: Somebody else does.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            require_listener(path, uid)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def new_id() -> str:
    """Return an id for a request, unique as far as the daemon remembers."""
    return os.urandom(8).hex()


class Client:
    """One connection to modeld; one request at a time."""

    def __init__(self, path: str, uid: int) -> None:
        """
        Connect to the daemon that listens at `path`.

        Raises:
            Unavailable: Nobody listens.
            NotPermitted: Somebody else does.
        """
        require_listener(path, uid)
        # 25 ms, and in vain if nobody listens.
        import zmq

        self._path = path
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        self._link = _Link(self._socket, path)
        self._socket.connect(f"ipc://{path}")
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._link.monitor, zmq.POLLIN)

    def close(self, *, linger_ms: int = 0) -> None:
        """Leave, once everything is sent or `linger_ms` have passed; what was begun goes on."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._link.monitor.close(linger=0)
            self._socket.close(linger=linger_ms)
            self._context.term()

    def ask(self, request: Struct, decoder: "msgpack.Decoder[Reply]", *, timeout_s: float) -> Reply:
        """
        Return the answer to a request, its progress unseen.

        Raises:
            Refusal: The daemon says no.
            ModeldError: There is no answer.
        """
        for answer in self.exchange(request, decoder, timeout_s=timeout_s):
            if answer is not None and not isinstance(answer, Progress):
                return answer
        raise AssertionError("an exchange ends with a reply or raises")

    def exchange(
        self,
        request: Struct,
        decoder: "msgpack.Decoder[Reply]",
        *,
        timeout_s: float,
        request_id: str = "",
        tick_s: float = 0,
    ) -> Iterator[Progress | Reply | None]:
        """
        Yield what comes of a request: any progress, then the reply.

        Args:
            request: What is asked.
            decoder: Of the reply that is expected.
            timeout_s: [s] How long to wait; 0 for as long as it takes.
            request_id: Its id, where the caller needs it.
            tick_s: [s] Yield None whenever nothing came for this long; 0 for never.

        Raises:
            Refusal: The daemon says no.
            ModeldError: There is no answer.
        """
        for kind, frame in self._messages(request, timeout_s, request_id or new_id(), tick_s):
            if kind == "progress":
                yield decode_body(_steps, frame)
            elif kind == "reply":
                yield decode_body(decoder, frame)
                return
            else:
                yield None

    def stream(
        self, request: Struct, decoder: "msgpack.Decoder[Reply]", *, timeout_s: float
    ) -> Iterator[Reply]:
        """
        Yield every message that answers a request, until the caller has enough of them.

        Raises:
            Refusal: The daemon says no.
            ModeldError: There is no answer.
        """
        for kind, frame in self._messages(request, timeout_s, new_id(), 0):
            if kind != "tick":
                yield decode_body(decoder, frame)

    def _messages(
        self, request: Struct, timeout_s: float, request_id: str, tick_s: float
    ) -> Iterator[tuple[str, bytes]]:
        """Yield the kind and the body of every answer, and `tick` where one was wished for."""
        check(request)
        header = Header(
            v=VERSION,
            id=request_id,
            deadline_ms=round(timeout_s * 1000),
            program=f"modelctl {__version__}",
        )
        frames = encode(header, request)
        deadline = time.monotonic() + timeout_s + GRACE_S if timeout_s else float("inf")
        self._socket.send_multipart(frames)
        resends = MAX_RESENDS
        while True:
            message = self._receive(deadline, timeout_s, tick_s)
            if message is None:
                yield "tick", b""
            elif message is _RESTORED:
                if resends == 0:
                    raise self._went_away()
                resends -= 1
                self._socket.send_multipart(frames)
            elif (answer := self._answer(message, request_id)) is not None:
                resends = MAX_RESENDS
                yield answer

    def _receive(self, deadline: float, timeout_s: float, tick_s: float) -> list[bytes] | None:
        """Return the next message, `_RESTORED`, or None when a tick has passed."""
        tick = time.monotonic() + tick_s if tick_s else float("inf")
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise self._timed_out(timeout_s)
            if self._link.lost_at + PATIENCE_S < now:
                raise self._went_away()
            if now >= tick:
                return None
            until = min(deadline, tick, self._link.lost_at + PATIENCE_S, now + 3600)
            ready = dict(self._poller.poll(max(1, int((until - now) * 1000))))
            if self._socket in ready:
                return self._socket.recv_multipart()
            if self._link.monitor in ready and self._link.update():
                return _RESTORED

    def _answer(self, frames: list[bytes], request_id: str) -> tuple[str, bytes] | None:
        """Return kind and body of an answer to this request; None for one to an older."""
        header = decode_header(frames)
        if header.v != VERSION:
            raise ProtocolMismatch(
                f"{header.program or 'modeld'} speaks protocol {header.v}, "
                f"this modelctl {__version__} speaks {VERSION}",
                hint="install both from one version, then: systemctl --user restart modeld",
                server_version=header.v,
                client_version=VERSION,
            )
        if header.id != request_id:
            return None
        if header.kind == "failure":
            said = decode_body(_failures, frames[2])
            raise Refusal(said.code, said.message, said.hint, said.numbers)
        return header.kind, frames[2]

    def _went_away(self) -> ModeldError:
        if not self._link.established:
            return _mute(self._path)
        return Unavailable(
            "modeld went away, and did not come back",
            hint="systemctl --user status modeld;  journalctl --user -u modeld -n 50",
        )

    def _timed_out(self, timeout_s: float) -> TimedOut:
        hint = "what was begun goes on: modelctl ps"
        if not self._link.established:
            hint = f"is it modeld that listens at {self._path}?"
        message = f"modeld did not answer within {timeout_s:g} s"
        return TimedOut(message, hint=hint, timeout_s=timeout_s)


def check(request: Struct) -> None:
    """
    Check a request against the bounds that the daemon holds it to.

    Raises:
        Usage: Something is too long, or has letters that it must not have.
    """
    try:
        convert(to_builtins(request), type(request))
        msgpack.encode(request)
    except ValidationError as error:
        raise Usage(f"not allowed: {error}") from error
    except UnicodeEncodeError as error:
        raise Usage("not allowed: bytes that are no text") from error


class _Link:
    """What libzmq says of the connection: whether it was lost, and whether it is back."""

    def __init__(self, dealer: "zmq.Socket[bytes]", path: str) -> None:
        import zmq

        self._path = path
        self._restored = zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._alien = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        self._denied = zmq.EVENT_HANDSHAKE_FAILED_AUTH
        lost = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_CLOSED
        self.monitor = dealer.get_monitor_socket(
            lost | zmq.EVENT_CONNECT_RETRIED | self._restored | self._alien | self._denied
        )
        self.lost_at = float("inf")
        """[monotonic s] Infinite while the connection stands."""
        self.established = False
        """Whether it ever stood."""
        self._hung_up = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self._patience = MAX_HANG_UPS

    def update(self) -> bool:
        """
        Read one event, and return whether a connection that was lost is back.

        Raises:
            ProtocolMismatch: Whoever listens does not speak ZeroMQ.
            Unavailable: It says nothing at all.
            NotPermitted: It does not want us.
        """
        # 16 bits of event and 32 of value, unaligned; zmq.utils.monitor would import asyncio.
        event = int(struct.unpack_from("=H", self.monitor.recv_multipart()[0])[0])
        if event == self._alien:
            raise _alien(self._path)
        if event == self._denied:
            raise _foreign(self._path)
        was_lost = self.lost_at != float("inf")
        if event == self._restored:
            self.established = True
            self.lost_at = float("inf")
            return was_lost
        if not was_lost:
            self.lost_at = time.monotonic()
        if event & self._hung_up and not self.established:
            # A service manager may start modeld for every try, and in vain.
            self._patience -= 1
            if not self._patience:
                raise _mute(self._path)
        return False
