"""
Who may ask: the checks that come before a request is looked at any closer.

A web page that the user visits is the attacker here.  The exact Host list stops DNS rebinding;
the Origin list and the demand for `application/json`, which a page can't send without a
preflight, stop requests across origins.  There is no wildcard in either list.  No sockets, and
nothing about models.
"""

import ipaddress

from msgspec import Struct

from modeld.config.schema import Gateway
from modeld.errors import ConfigInvalid
from modeld.gateway.http import Answer, Headers, Problem, RequestHead, header_line


class Limits(Struct, frozen=True, kw_only=True):
    """How long the gateway waits for a client, and for whom it makes room."""

    head_seconds: float = 10.0
    """For a whole head, from its first byte; for a new connection, from the start."""
    body_idle_seconds: float = 60.0
    """Between two reads of a body."""
    keep_alive_seconds: float = 75.0
    """Between two requests."""
    linger_seconds: float = 2.0
    """For the client to read an error that ends a request half way, and to close."""
    write_stall_seconds: float = 600.0
    """For a client that takes nothing of its answer; it holds a place in the server meanwhile."""
    grace_seconds: float = 1.0
    """Before a stream that waits for its model says so: an error until then has its own status."""
    sweep_seconds: float = 1.0
    """Between two looks at the deadlines."""
    held_bodies: int = 8
    """How many bodies of the largest size all connections together may hold."""


class Address(Struct, frozen=True):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in URLs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """
    Return the address that `HOST:PORT` means.

    Raises:
        ConfigInvalid: It means none, or one that other machines can reach.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigInvalid(f"gateway.listen: {text!r} is not HOST:PORT", hint="127.0.0.1:8080")
    return require_loopback(Address("127.0.0.1" if host == "localhost" else host, int(port)))


def require_loopback(address: Address) -> Address:
    """
    Return `address` if only this machine can reach it.

    Raises:
        ConfigInvalid: Others can too, or it is no IP address.
    """
    try:
        is_loopback = ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigInvalid(
            f"gateway.listen: {address} is not a loopback address",
            hint="use 127.0.0.1 or [::1]; a reverse proxy can serve other machines",
        )
    return address


class Guard:
    """The gate of one listener."""

    def __init__(self, config: Gateway, address: Address) -> None:
        self._address = address
        self.configure(config)

    def configure(self, config: Gateway) -> None:
        """Use these lists from now on, for connections that are open as well."""
        port = self._address.port
        own = {"127.0.0.1", "localhost", "[::1]", str(self._address).rpartition(":")[0]}
        hosts = {f"{host}:{port}" for host in own}
        for host in config.allowed_hosts:  # a reverse proxy's Host has its port, or none
            hosts |= {host.lower(), f"{host.lower()}:{port}"}
        self._hosts = frozenset(host.encode() for host in hosts)
        self._origins = frozenset(origin.encode() for origin in config.allowed_origins)

    def admit(self, head: RequestHead) -> bytes:
        """
        Return the header lines that let the caller's page read the answer; empty for no page.

        Raises:
            Problem: 403 or 415.
        """
        host = head.headers[b"host"]
        if host not in self._hosts and host.lower() not in self._hosts:
            raise Problem(403, "this Host is not served here (gateway.allowed_hosts)")
        origin = head.headers.get(b"origin")
        if origin is not None and origin not in self._origins:
            raise Problem(403, "this Origin may not call (gateway.allowed_origins)")
        if head.method not in {"GET", "HEAD", "OPTIONS", "DELETE"}:
            # a page's POST always has an Origin; a program's without a body needs no type
            kind = head.headers.get(
                b"content-type", b"" if head.length != 0 else b"application/json"
            )
            if kind != b"application/json" and not _is_json(kind):
                raise Problem(415, "the Content-Type must be application/json (no forms)")
        if origin is None:
            return b""
        return header_line(b"Access-Control-Allow-Origin", origin) + b"Vary: Origin\r\n"


def preflight(head: RequestHead) -> Answer | None:
    """Return the answer to an admitted page that asks what it may send; None if it does not ask."""
    if head.method != "OPTIONS" or b"origin" not in head.headers:
        return None
    asked = head.headers.get(b"access-control-request-headers", b"content-type")
    headers: Headers = (
        ("Access-Control-Allow-Methods", "GET, POST, DELETE"),
        ("Access-Control-Allow-Headers", asked.decode("latin-1")),
        ("Access-Control-Max-Age", "600"),
    )
    return Answer(content_type=b"", headers=headers)


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"
