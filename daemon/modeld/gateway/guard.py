"""
Who may ask: the checks that come before a request is looked at any closer.

A web page that the user visits is the first attacker here.  The exact Host list stops DNS
rebinding; the Origin list and the demand for `application/json`, which a page can't send without a
preflight, stop requests across origins.  There is no wildcard in either list.  The second is
whoever else reaches the address: keys, where there are any, and they must be where other machines
can.  The third is a client in a loop: rates.  No sockets, and nothing about models.
"""

import ipaddress
import math
import re
from collections.abc import Callable

from msgspec import Struct

from modeld.config.schema import Gateway
from modeld.errors import ConfigInvalid
from modeld.gateway.http import Answer, Headers, Problem, RequestHead, header_line
from modeld.gateway.keys import Keyring
from modeld.gateway.rate import Rates
from modeld.gateway.table import NO_RETRY

FREE_OF_KEYS = frozenset(("/health", "/v1/health", "/api/v1/health", "/ready"))
"""What tells nothing but that modeld is there."""
FREE_OF_RATES = FREE_OF_KEYS | {"/metrics"}
"""What is asked for by the clock."""
FORM_PATHS = frozenset(("/v1/audio/transcriptions",))
"""Where clients send a file."""
METHODS = "GET, POST, DELETE"
_SENT_BY_PAGES = frozenset(
    b"accept accept-language anthropic-beta anthropic-dangerous-direct-browser-access "
    b"anthropic-version authorization cache-control content-language content-type "
    b"openai-beta openai-organization openai-project user-agent x-api-key "
    b"x-request-id x-requested-with".split()
)
_SENT_BY_CLIENTS = re.compile(rb"x-(?:stainless|modeld)-[a-z0-9-]+")
"""What OpenAI's and Anthropic's clients tell of themselves, and what is said to modeld alone."""
_READ_BY_PAGES = (
    b"Retry-After, X-Modeld-Context, X-Modeld-Model, X-Modeld-Route, X-Request-Id, x-should-retry"
)
_KEYLESS = 'Bearer realm="modeld"'
_WRONG_KEY = 'Bearer realm="modeld", error="invalid_token"'


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

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


class Visitor(Struct, frozen=True):
    """Who is at the other end of a connection, as far as the connection tells."""

    name: str
    """A user of this machine, or an address: whose bucket it draws from where it has no key."""
    reached: Address
    """The address that it connected to, which a socket for all addresses does not know."""


def parse_address(text: str) -> Address:
    """
    Return the address that `HOST:PORT` means.

    Raises:
        ConfigInvalid: It means none.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    host = "127.0.0.1" if host == "localhost" else host
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigInvalid(f"gateway.listen: {text!r} is not HOST:PORT", hint="127.0.0.1:8080")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigInvalid(
            f"gateway.listen: {text!r} has no IP address", hint="127.0.0.1:8080, or [::1]:8080"
        ) from None
    return Address(host, int(port))


def check_reach(address: Address, keys: Keyring) -> None:
    """
    Check that whoever can reach an address needs a key, or is on this machine.

    Raises:
        ConfigInvalid: Neither is so.
    """
    if not address.is_loopback and not keys:
        raise ConfigInvalid(
            f"gateway.listen: {address} is not a loopback address, and there is no key",
            hint="set gateway.key_file; better still, listen on 127.0.0.1 behind a reverse proxy "
            "with TLS: modeld-gateway(7), Other machines",
        )


class Guard:
    """The gate of one listener."""

    def __init__(
        self, config: Gateway, address: Address, keys: Keyring, rates: Rates | None
    ) -> None:
        self._address = address
        self._is_wide = ipaddress.ip_address(address.host).is_unspecified
        self.configure(config, keys, rates)

    def configure(self, config: Gateway, keys: Keyring, rates: Rates | None) -> None:
        """Use these from now on, for connections that are open as well."""
        port = self._address.port
        own = {"127.0.0.1", "localhost", "[::1]"}
        if not self._is_wide:  # 0.0.0.0 is what pages try that may not say 127.0.0.1
            own.add(str(self._address).rpartition(":")[0])
        hosts = {f"{host}:{port}" for host in own}
        for host in config.allowed_hosts:  # a reverse proxy's Host has its port, or none
            hosts |= {host.lower(), f"{host.lower()}:{port}"}
        self._hosts = frozenset(host.encode() for host in hosts)
        self._origins = frozenset(origin.encode() for origin in config.allowed_origins)
        self._keys = keys
        self._rates = rates
        # without any key nobody from elsewhere has the right one
        self._is_locked = bool(keys) or not self._address.is_loopback

    def admit(self, head: RequestHead, visitor: Visitor) -> bytes:
        """
        Return the header lines that let the caller's page read the answer; empty for no page.

        Raises:
            Problem: 403, for a Host or an Origin that is not served.
        """
        host = head.headers[b"host"]
        if host not in self._hosts and not self._is_ours(host.lower(), visitor):
            raise Problem(403, "this Host is not served here (gateway.allowed_hosts)")
        origin = head.headers.get(b"origin")
        if origin is None:
            return b""
        if origin not in self._origins:
            raise Problem(403, "this Origin may not call (gateway.allowed_origins)")
        return (
            header_line(b"Access-Control-Allow-Origin", origin)
            + header_line(b"Access-Control-Expose-Headers", _READ_BY_PAGES)
            + b"Vary: Origin\r\n"
        )

    def _is_ours(self, host: bytes, visitor: Visitor) -> bool:
        """Whether a Host that is not listed is so in other words, or is what was connected to."""
        return host in self._hosts or (self._is_wide and host == str(visitor.reached).encode())

    def authorise(
        self, head: RequestHead, visitor: Visitor, monotonic: Callable[[], float]
    ) -> None:
        """
        Check that this client may ask, that it does not ask too often, and that it sends JSON.

        Raises:
            Problem: 401, 403, 415 or 429.
        """
        if self._is_locked or self._rates is not None:
            self._check_caller(head, visitor, monotonic)
        if head.method not in {"GET", "HEAD", "OPTIONS", "DELETE"}:
            # a page's POST always has an Origin; a program's without a body needs no type
            kind = head.headers.get(
                b"content-type", b"" if head.length != 0 else b"application/json"
            )
            if kind != b"application/json" and not _is_json(kind) and not _is_form(head, kind):
                raise Problem(415, "the Content-Type must be application/json (no forms)")
            if b"content-encoding" in head.headers:
                raise _encoded()

    def _check_caller(
        self, head: RequestHead, visitor: Visitor, monotonic: Callable[[], float]
    ) -> None:
        needs_key = self._is_locked and head.path not in FREE_OF_KEYS
        holder = self._keys.holder(head.headers) if needs_key else ""
        if self._rates is not None and head.path not in FREE_OF_RATES:
            # a wrong key is counted for the address: guessing has its rate too
            wait = self._rates.take(holder or visitor.name, monotonic())
            if wait:
                raise _too_many(wait)
        if needs_key and not holder:
            raise _unauthorised(is_missing=holder is not None)


def _encoded() -> Problem:
    """Return what refuses a body that is compressed, or says so: which it is, is not tried out."""
    return Problem(
        415,
        "the body must not be compressed: no Content-Encoding is understood",
        headers=(("Accept-Encoding", "identity"),),  # RFC 9110, 15.5.16
    )


def _unauthorised(*, is_missing: bool) -> Problem:
    if is_missing:
        return Problem(
            401,
            "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY (gateway.key_file)",
            code="missing_api_key",
            kind="authentication_error",
            headers=(("WWW-Authenticate", _KEYLESS), NO_RETRY),
        )
    return Problem(
        403,
        "this key is not known here (gateway.key_file)",
        code="invalid_api_key",
        kind="permission_error",
        headers=(("WWW-Authenticate", _WRONG_KEY), NO_RETRY),
    )


def _too_many(wait_seconds: float) -> Problem:
    seconds = max(1, math.ceil(wait_seconds))
    return Problem(
        429,
        f"too many requests in a minute (gateway.rate_limit_per_minute); try again in {seconds} s",
        code="rate_limit_exceeded",
        kind="rate_limit_error",
        headers=(("Retry-After", str(seconds)),),
    )


def preflight(head: RequestHead) -> Answer | None:
    """Return the answer to an admitted page that asks what it may send; None if it does not ask."""
    if head.method != "OPTIONS" or b"origin" not in head.headers:
        return None
    asked = head.headers.get(b"access-control-request-headers", b"content-type").lower()
    names = [name.strip() for name in asked.split(b",")]
    allowed = [name for name in names if name in _SENT_BY_PAGES or _SENT_BY_CLIENTS.fullmatch(name)]
    headers: Headers = (
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", b", ".join(allowed).decode("ascii")),
        ("Access-Control-Max-Age", "600"),
    )
    return Answer(content_type=b"", headers=headers)


def _is_form(head: RequestHead, content_type: bytes) -> bool:
    """
    Whether this is a form, where one may be, that no page had sent without asking.

    A page can send one to any address.  Its browser then names the page's origin, which `admit`
    has looked at.
    """
    if head.path not in FORM_PATHS or not content_type.lower().startswith(b"multipart/form-data"):
        return False
    return b"origin" in head.headers or not may_be_of_page(head)


def may_be_of_page(head: RequestHead) -> bool:
    """
    Whether a web page may have had this sent: an image's address is enough for a GET.

    Browsers say whose wish it was, but over HTTP only to loopback addresses and `localhost`.  To
    a name of `gateway.allowed_hosts` they just say that they are browsers, as all of them do.
    """
    site = head.headers.get(b"sec-fetch-site")
    if site is None:
        return head.headers.get(b"user-agent", b"").startswith(b"Mozilla/")
    return site not in {b"none", b"same-origin"}


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"
