"""
The gateway: listeners, the connections they accept, and the pulse that keeps their deadlines.

Sockets may be given, as by systemd; the configured addresses are bound otherwise.  One that other
machines can reach is used only where there are keys.  What a request is, and what becomes of it,
others know.
"""

import asyncio
import errno
import socket
from collections.abc import Collection, Iterable, Sequence
from email.utils import formatdate

from modeld.config.schema import Gateway as Settings
from modeld.errors import AddressInUse, ConfigInvalid
from modeld.gateway import (
    anthropic,
    audio,
    karen,
    live,
    management,
    measures,
    native,
    ollama,
    openai,
    passthrough,
)
from modeld.gateway.connection import Connection
from modeld.gateway.guard import Address, Guard, Limits, check_reach, parse_address
from modeld.gateway.hall import Hall
from modeld.gateway.http import header_line
from modeld.gateway.keys import Keyring
from modeld.gateway.rate import Rates
from modeld.gateway.shared import Relay
from modeld.gateway.table import Dialect, Row, Table, belonging
from modeld.supervisor.door import Door
from modeld.supervisor.ports import Clock

ROWS: tuple[Row, ...] = (
    *belonging(openai.FAMILIES, openai.ROWS),
    *belonging(openai.FAMILIES, audio.ROWS),
    *belonging(("anthropic",), anthropic.ROWS),
    *belonging(("ollama",), ollama.ROWS),
    *belonging(("llamacpp",), native.ROWS),
    *management.ROWS,
    *live.ROWS,
    *belonging(("llama-swap",), passthrough.ROWS),
    *measures.ROWS,
    *belonging(("karen",), karen.ROWS),
)
"""Every route; a dialect adds its own here."""
SPOKEN: dict[str, Dialect] = {
    f"{karen.PREFIX}/": karen.KAREN,
    "/api/": ollama.OLLAMA,
    "/v1/messages": anthropic.ANTHROPIC,
}
"""What is spoken below a path that has no row; the first that fits."""
BACKLOG = 512
DRAIN_POLL_SECONDS = 0.02
LAST_CALL_SECONDS = 0.25
"""For the next request of a client that works without pause."""
CLOSE_POLLS = 50
"""For the transports to tell that they are closed."""


class Gateway:
    """The HTTP front door."""

    def __init__(
        self,
        door: Door,
        config: Settings,
        clock: Clock,
        *,
        keys: Collection[bytes] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen
        rows: Iterable[Row] = ROWS,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._keys = Keyring(keys)
        self._rates = _rates(config)
        self._relay = Relay(door, config, clock, limits.grace_seconds)
        self._hall = Hall(self._relay, Table(rows, openai.OPENAI, SPOKEN), limits)
        self._hall.table.serve(config.compat)
        self._listeners: list[_Listener] = []
        self._pulse: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it listens, `HOST:PORT` each."""
        return [str(listener.address) for listener in self._listeners]

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._hall.connections)

    @property
    def waiting(self) -> int:
        """How many requests wait for a model to load."""
        return self._relay.waiting

    async def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """
        Listen on these sockets, or on the configured addresses where there are none.

        Raises:
            AddressInUse: Another program has an address.
            ConfigInvalid: An address can't be used, or other machines can reach it without a key.
        """
        bound = list(sockets) or self._bind_all()
        loop = asyncio.get_running_loop()
        for sock in bound:
            address = _address_of(sock)
            check_reach(address, self._keys)
            guard = Guard(self._relay.config, address, self._keys, self._rates)
            listener = _Listener(self._hall, address, guard)
            listener.server = await loop.create_server(listener.accept, sock=sock, backlog=BACKLOG)
            self._listeners.append(listener)
        self._beat()

    def _bind_all(self) -> list[socket.socket]:
        addresses = [parse_address(text) for text in self._relay.config.listen]
        for address in addresses:
            check_reach(address, self._keys)
        return [_bind(address) for address in addresses]

    def reconfigure(self, config: Settings, keys: Collection[bytes] = ()) -> tuple[str, ...]:
        """Use another configuration from now on; return its keys that need a restart."""
        old = self._relay.config
        if (old.rate_limit_per_minute, old.rate_burst) != (
            config.rate_limit_per_minute,
            config.rate_burst,
        ):
            self._rates = _rates(config)
        self._relay.config = config
        self._keys = Keyring(keys)
        self._hall.table.serve(config.compat)
        for listener in self._listeners:
            listener.guard.configure(config, self._keys, self._rates)
        return ("gateway.listen",) if config.listen != old.listen else ()

    async def drain(self, seconds: float) -> None:
        """
        Stop accepting, let what is being answered finish within `seconds`, close everything.

        A connection between two requests stays a moment: the next may be on its way already, and
        is answered, so that no client meets a connection that closes under it.
        """
        self._hall.is_closing = True
        for listener in self._listeners:
            if listener.server is not None:
                listener.server.close()
        await self._let_finish(self._clock.monotonic() + seconds)
        for connection in tuple(self._hall.connections):
            connection.drop()
        self._relay.leave()
        self._relay.pool.close()
        for _ in range(CLOSE_POLLS):
            if not self._hall.connections:
                break
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self._relay.reports.flush()
        self._hall.peers.close()
        if self._pulse is not None:
            self._pulse.cancel()
        self._listeners.clear()

    async def _let_finish(self, deadline: float) -> None:
        last_call = min(deadline, self._clock.monotonic() + LAST_CALL_SECONDS)
        for connection in tuple(self._hall.connections):
            connection.say_goodbye()
        while self._hall.connections and (now := self._clock.monotonic()) < deadline:
            if now >= last_call:
                for connection in tuple(self._hall.connections):
                    connection.close_if_idle()
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def _beat(self) -> None:
        """Once a second: the date, the deadlines, idle connections, and which servers move."""
        now = self._clock.monotonic()
        date = formatdate(self._clock.now(), usegmt=True)
        self._hall.common = header_line(b"Date", date.encode("ascii"))
        for connection in tuple(self._hall.connections):
            if 0 < connection.deadline <= now:
                connection.expire()
        self._relay.pool.sweep(now)
        self._relay.reports.tell_moves()
        loop = asyncio.get_running_loop()
        self._pulse = loop.call_later(self._limits.sweep_seconds, self._beat)


class _Listener:
    """One listening socket."""

    def __init__(self, hall: Hall, address: Address, guard: Guard) -> None:
        self.address = address
        self.guard = guard
        self.server: asyncio.Server | None = None
        self._hall = hall

    def accept(self) -> Connection:
        return Connection(self._hall, self.guard)


def _rates(config: Settings) -> Rates | None:
    limit = config.rate_limit_per_minute
    return Rates(limit, config.rate_burst) if limit else None


def _bind(address: Address) -> socket.socket:
    """
    Return a socket bound to `address`.

    Raises:
        AddressInUse: Another program has it.
        ConfigInvalid: This machine does not have it, or this user may not.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        told = f"gateway.listen: {address}: {error.strerror}"
        if error.errno != errno.EADDRINUSE:
            raise ConfigInvalid(
                told, hint="127.0.0.1 and a port from 1024 on always work"
            ) from error
        who = f"see who has it: ss -ltnp 'sport = :{address.port}'; or set gateway.listen"
        raise AddressInUse(told, hint=who) from error
    return sock


def _address_of(sock: socket.socket) -> Address:
    """
    Return where a socket listens.

    Raises:
        ConfigInvalid: Not for TCP.
    """
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        raise ConfigInvalid(f"the gateway listens on TCP only, not on {sock.family.name}")
    host, port = sock.getsockname()[:2]
    return Address(host, port)
