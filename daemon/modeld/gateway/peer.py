"""
Which user is at the other end of a loopback connection.

Loopback TCP is open to every user of the machine, and carries no credentials as a UNIX socket
does.  The kernel knows who owns the other end, and says so over netlink in 50 microseconds.
Where it can't be asked (a sandbox without AF_NETLINK) nobody is refused, and that is logged.
"""

import logging
import os
import socket
import struct

_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_OPEN = frozenset((1, 4, 5))
"""TCP's states, net/tcp_states.h: established, and half closed by the client (FIN_WAIT)."""
_ROOT = 0
UNKNOWN = -1
"""A user that the kernel does not tell."""
_ANSWER_SECONDS = 0.5
# linux/netlink.h, struct nlmsghdr: length, type, flags, sequence, port
_HEADER = struct.Struct("=IHHII")
# linux/inet_diag.h, struct inet_diag_req_v2: family, protocol, extensions, states, then
# struct inet_diag_sockid: ports and addresses in network order, interface, cookie
_QUESTION = struct.Struct("=BBBxI2s2s16s16sI8s")
# struct inet_diag_msg: family, state, timer, retransmits, the same id, expires, then the lengths of
# both queues, user and inode
_ANSWER = struct.Struct("=BBBB48sIIIII")
_ANY_COOKIE = b"\xff" * 8
_log = logging.getLogger("modeld.gateway")

Endpoint = tuple[str, int]
"""IP address and port."""


def is_ours(user: int | None) -> bool:
    """Return whether a user is this one, or root, or can't be told."""
    return user in {os.getuid(), _ROOT, UNKNOWN}


class Peers:
    """Tells our user's connections from others."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._sequence = 0
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._netlink = socket.socket(socket.AF_NETLINK, kind, _SOCK_DIAG)
            self._netlink.settimeout(_ANSWER_SECONDS)
        except OSError as error:
            _log.warning("the gateway cannot tell who connects: %s", error)

    def user_of(self, client: Endpoint, server: Endpoint) -> int | None:
        """
        Return the id of the user who holds the client's end; `UNKNOWN` where that can't be asked.

        A client that has closed already owns nothing any more, and is nobody's: None.
        """
        if self._netlink is None:
            return UNKNOWN
        try:
            return self._ask(self._netlink, client, server)
        except OSError as error:
            _log.warning("the gateway cannot tell who connected: %s", error)
            return UNKNOWN

    def _ask(self, netlink: socket.socket, client: Endpoint, server: Endpoint) -> int | None:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
        question = _QUESTION.pack(
            family,
            socket.IPPROTO_TCP,
            0,
            0xFFFFFFFF,
            client[1].to_bytes(2, "big"),
            server[1].to_bytes(2, "big"),
            socket.inet_pton(family, client[0]),
            socket.inet_pton(family, server[0]),
            0,
            _ANY_COOKIE,
        )
        size = _HEADER.size + len(question)
        head = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST, self._sequence, 0)
        netlink.send(head + question)
        while True:  # an answer that came too late for its question may be first in line
            data = netlink.recv(4096)
            _, kind, _, sequence, _ = _HEADER.unpack_from(data)
            if sequence == self._sequence:
                break
        if kind != _SOCK_DIAG_BY_FAMILY:
            return None
        fields = _ANSWER.unpack_from(data, _HEADER.size)
        state, user, inode = fields[1], fields[-2], fields[-1]
        # a socket that nobody holds any more has no inode, and says that it is root's
        return user if inode and state in _OPEN else None

    def close(self) -> None:
        """Let go of the kernel."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
