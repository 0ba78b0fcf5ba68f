"""
What all connections share: who is there, for how many there is room, and who comes in at all.

Loopback TCP carries no credentials, so a client on this machine is known by its user; one from
elsewhere by its address alone, and the guard demands a key of it.  No bytes are read here.
"""

import asyncio
import ipaddress
from typing import Protocol

from modeld.gateway.following import Following
from modeld.gateway.guard import Address, Limits, Visitor
from modeld.gateway.peer import UNKNOWN, Peers, is_ours
from modeld.gateway.reading import Heads
from modeld.gateway.shared import Relay
from modeld.gateway.table import Table

MAX_REFUSED = 64
"""Connections beyond the limit that are told so; the others are only closed."""
_NETWORK_BYTES = 8
"""Of an IPv6 address, the half that a site is given: its owner has all the rest to choose from."""


class Present(Protocol):
    """One connection, as the hall sees it."""

    deadline: float
    is_dropped: bool

    @property
    def is_dispensable(self) -> bool:
        """Whether it has not sent a whole request, or has had its answer and only lingers."""

    @property
    def body_bytes(self) -> int:
        """How much of a body it, or what answers it, holds."""

    def expire(self) -> None:
        """End what took longer than its deadline."""

    def say_goodbye(self) -> None:
        """End with the next answer, or with the present one."""

    def close_if_idle(self) -> None:
        """End now, unless a request has begun to come or is being answered."""

    def drop(self) -> None:
        """Close at once."""


class Hall:
    """What all connections share."""

    def __init__(self, relay: Relay, table: Table, limits: Limits) -> None:
        self.relay = relay
        self.table = table
        self.limits = limits
        self.known = Heads()
        self.peers = Peers()
        self.connections: set[Present] = set()
        self.following: set[Following] = set()
        self.is_closing = False
        self.common = b""
        """Header lines of every answer: the date."""

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is accepted."""
        return self.relay.config.max_body_mb * 1024 * 1024

    @property
    def is_crowded(self) -> bool:
        """Whether so many are there that one more is not even told so."""
        return len(self.connections) > self.relay.config.max_connections + MAX_REFUSED

    def make_room(self) -> bool:
        """
        Return whether one more connection may be.

        A full house shows out whoever only lingers, or has sent no whole request, the one nearest
        its deadline first: sockets that only sit there must not keep out those that work.
        """
        limit = self.relay.config.max_connections
        if len(self.connections) < limit:
            return True
        present = [c for c in self.connections if not c.is_dropped]
        if len(present) < limit:
            return True
        dispensable = [c for c in present if c.is_dispensable]
        if len(present) - len(dispensable) >= limit:
            return False
        min(dispensable, key=lambda connection: connection.deadline).drop()
        return True

    def visit(self, transport: asyncio.BaseTransport) -> Visitor | None:
        """Return who is at the other end; None for a user of this machine who is not served."""
        client = transport.get_extra_info("peername")
        server = transport.get_extra_info("sockname")
        if not client or not server:
            return None
        host, reached = _plain(client[0]), Address(_plain(server[0]), server[1])
        address = ipaddress.ip_address(host)
        if not address.is_loopback:
            is_site = isinstance(address, ipaddress.IPv6Address)
            return Visitor(address.packed[:_NETWORK_BYTES].hex() if is_site else host, reached)
        config = self.relay.config
        if config.other_users and not config.rate_limit_per_minute:
            return Visitor(host, reached)  # it makes no difference who it is
        user = self.peers.user_of((host, client[1]), (reached.host, reached.port))
        return Visitor(f"user {user}", reached) if config.other_users or is_ours(user) else None

    def is_there(self, transport: asyncio.BaseTransport) -> bool:
        """
        Return whether a client that sends no more has its end open still.

        One on another machine, or of a kernel that can't be asked, is taken for gone.
        """
        client = transport.get_extra_info("peername")
        server = transport.get_extra_info("sockname")
        if not client or not server or not ipaddress.ip_address(_plain(client[0])).is_loopback:
            return False
        ends = ((_plain(client[0]), client[1]), (_plain(server[0]), server[1]))
        return self.peers.user_of(*ends) not in {None, UNKNOWN}

    def has_room_for_bodies(self) -> bool:
        """Return whether the bodies that are held now leave room for more."""
        held = sum(connection.body_bytes for connection in self.connections)
        return held <= self.limits.held_bodies * self.max_body_bytes


def _plain(host: str) -> str:
    """Return an address without its interface, and as IPv4 where it is that in IPv6's clothes."""
    return host.partition("%")[0].removeprefix("::ffff:")
