"""
What the gateway answers: rows of method, path and action, and the dialects they speak.

A new route is a row, a new dialect one module with its rows and the four functions of a
`Dialect`.  Nothing else is reachable: what has no row is 404.  This module knows no dialect and
does no I/O.
"""

import asyncio
import itertools
import logging
import math
import operator
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from modeld.config.schema import Gateway
from modeld.core.entities import Model
from modeld.core.routing import Decision
from modeld.errors import ErrorCode, ModeldError
from modeld.gateway.http import Answer, Body, Headers, Problem, RequestHead
from modeld.gateway.translation import Instead, Translator
from modeld.supervisor.door import Door, Route
from modeld.supervisor.ports import Clock

_log = logging.getLogger("modeld.gateway")
_numbers = itertools.count(1)
MAX_LINE_BYTES = 8 * 1024
"""Of a request's first line, in which its path is looked for."""
_BEFORE_PATH = re.compile(r"\A(?:https?://[^/]*)?/+")
"""What a proxy's client puts there, and whoever's base URL ends in a slash."""
RETRY_AFTER_S = 5
"""Where an error that passes does not say itself when."""
_PASSING = frozenset((ErrorCode.THROTTLED, ErrorCode.BUSY))
# Clients retry 409, 429 and 5xx on their own.  Those below stay the same until a person acts, or
# took so long that a silent repetition would only hide it.
_LASTING = frozenset(
    (
        ErrorCode.REFUSED,
        ErrorCode.DOES_NOT_FIT,
        ErrorCode.TOO_MANY_LOADED,
        ErrorCode.PINNED,
        ErrorCode.NAME_TAKEN,
        ErrorCode.INACTIVE,
        ErrorCode.STATE_NOT_SAVED,
        ErrorCode.CONFIG,
        ErrorCode.TIMED_OUT,
    )
)


class Dialect(Struct, frozen=True, kw_only=True):
    """How one family of clients wants to hear of trouble, and of patience."""

    error_body: Callable[[Problem], bytes]
    """The JSON body of an error."""
    stream_type: bytes
    """The Content-Type of a stream."""
    stream_error: Callable[[Problem], bytes]
    """An error inside a stream that has begun."""
    sign_of_life: Callable[[str], bytes]
    """Bytes that say in a stream what it waits for, and that clients ignore."""
    rewords_errors: bool = False
    """Whether a server's own errors look otherwise than clients expect."""
    white_space: bytes = b""
    """What comes before a JSON answer that waits; empty where clients need its status first."""


class Call(Struct, frozen=True, kw_only=True):
    """One request for an action."""

    head: RequestHead
    body: Body
    argument: str = ""
    """The rest of the path, decoded, where the row takes one."""
    door: Door
    clock: Clock
    begin_load: Callable[[Model], asyncio.Future[Route]]
    """Loads a model within the gateway's bounds, and goes on when nobody waits for it."""
    unload: Callable[[Model | None], Awaitable[None]]
    """Unloads a model, or all of them but the pinned ones."""
    config: Gateway = Gateway()
    """As it is in force."""
    used: Callable[[], tuple[str, ...]] = tuple
    """Returns the servers that were asked or loaded here, the last one first."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What a request wants of a model's server."""

    model: str
    """The name as given; empty for none."""
    is_stream: bool
    path: str
    """The server's own."""
    body: Body
    translator: Callable[[], Translator] | None = None
    """Where the server speaks another dialect; called when the request is sent."""
    instead: Instead | None = None
    """Where the server is not to be asked at all."""
    loading_words: Callable[[str, str, float], bytes] | None = None
    """Makes words for people of a model's name, a text and the time, where there can be any."""
    keep_alive_seconds: float | None = None
    """How long the model stays idle after this; negative for ever, None for as configured."""
    task: Callable[[], str] | None = None
    """Returns what the last message of the user says; None where that chooses no model."""
    decision: Decision | None = None
    """How the model was chosen already, where the dialect needed to know it."""
    context_tokens: int = 0
    """What its server gets where this loads it; 0 for as usual."""
    has_tools: bool = False
    """Whether the request offers tools."""
    method: str = "POST"
    content_type: str = "application/json"
    """Of the body."""
    is_verbatim: bool = False
    """The body passes as it came, whatever the configuration has requests changed to."""
    is_look: bool = False
    """A look at a server: it loads nothing, and does not count as use."""


class Relayed(Struct, frozen=True):
    """The request goes to a server, unless it can be answered at once."""

    prepare: Callable[[Call], Wanted | Answer]
    """Raises `Problem` or `ModeldError` for what no server should see."""


Answering = Callable[[Call], Answer | Awaitable[Answer]]


class Local(Struct, frozen=True):
    """The gateway answers, at once or after asking the supervisor."""

    answer: Answering
    """Raises `Problem` or `ModeldError`."""


class Followed(Struct, frozen=True, kw_only=True):
    """The gateway tells what happens, until the client leaves."""

    content_type: bytes
    begin: Callable[[Call], AsyncGenerator[bytes, None]]
    """Returns what gives the pieces, empty ones included; raises `Problem` or `ModeldError`."""


Families = tuple[str, ...]


class Row(Struct, frozen=True, kw_only=True):
    """One route."""

    method: str
    """HEAD comes with GET."""
    path: str
    """Exact, or ending in `/*` for any argument that isn't empty."""
    dialect: Dialect
    action: Relayed | Local | Followed
    families: Families = ()
    """Whose clients it is for, as `gateway.compat` names them; empty for everybody's."""


def belonging(families: Families, rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the rows of a module, of which those that don't say whose they are belong to these."""
    return tuple(row if row.families else replace(row, families=families) for row in rows)


ALWAYS: Families = ("always",)
"""For rows that are served whatever `gateway.compat` says."""


class Table:
    """The rows, to look up."""

    def __init__(
        self, rows: Iterable[Row], fallback: Dialect, prefixes: Mapping[str, Dialect] = {}
    ) -> None:
        """
        Serve all rows, until `serve` says which.

        Args:
            rows: Every route that there is.
            fallback: What is spoken where a path tells nothing.
            prefixes: What is spoken below a path, where no row has it.
        """
        self._rows = tuple(rows)
        self._fallback = fallback
        self._prefixes = prefixes
        self._served = _Lines(self._rows)
        self._unserved = _Lines(())

    def serve(self, families: Iterable[str]) -> None:
        """Serve only the rows of these families from now on, and what is everybody's."""
        wanted = {*families, *ALWAYS}
        is_served = [not row.families or not wanted.isdisjoint(row.families) for row in self._rows]
        self._served = _Lines(itertools.compress(self._rows, is_served))
        self._unserved = _Lines(itertools.compress(self._rows, map(operator.not_, is_served)))

    def dialect_of(self, line: bytes) -> Dialect:
        """Return what is spoken to whoever sent this as the first line of a request."""
        words = line[:MAX_LINE_BYTES].split(b" ", 2)
        path = words[1].partition(b"?")[0].decode("latin-1") if len(words) > 1 else ""
        path = _BEFORE_PATH.sub("/", path)
        for lines in (self._served, self._unserved):
            methods, _ = lines.find(path)
            if methods:
                return next(iter(methods.values())).dialect
        found = (each for prefix, each in self._prefixes.items() if path.startswith(prefix))
        return next(found, self._fallback)

    def find(self, head: RequestHead) -> tuple[Row, str]:
        """
        Return the row for a request, and the argument that its path has.

        Raises:
            Problem: 404 or 405.
        """
        method = "GET" if head.method == "HEAD" else head.method
        methods, argument = self._served.find(head.path)
        if methods is None:
            raise self._missing(head.path)
        row = methods.get(method)
        if row is None:
            names = sorted(methods) + (["HEAD"] if "GET" in methods else [])
            allow = ", ".join(names)
            raise Problem(405, f"{head.path} takes {allow}", headers=(("Allow", allow),))
        return row, argument

    def _missing(self, path: str) -> Problem:
        text = f"there is no {path} here"
        methods, _ = self._unserved.find(path)
        if methods:
            names = " or ".join(dict.fromkeys(f for row in methods.values() for f in row.families))
            text += f": gateway.compat has no {names}"
        return Problem(404, text, headers=(NO_RETRY,))


class _Lines:
    """Rows by path and method."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._exact: dict[str, dict[str, Row]] = {}
        self._open: dict[str, dict[str, Row]] = {}
        for row in rows:
            is_open = row.path.endswith("/*")
            methods = (self._open if is_open else self._exact).setdefault(row.path.rstrip("*"), {})
            assert row.method not in methods, f"two rows for {row.method} {row.path}"
            methods[row.method] = row
        # the longest first: below `/models/unload/` is not a model that is called `unload/...`
        self._open = dict(sorted(self._open.items(), key=lambda item: -len(item[0])))

    def find(self, path: str) -> tuple[dict[str, Row] | None, str]:
        """Return what a path takes, by method, and the argument in it; None for no such path."""
        methods = self._exact.get(path)
        if methods is not None:
            return methods, ""
        for prefix, methods in self._open.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return methods, unquote(path[len(prefix) :])
        return None, ""


NO_RETRY = ("x-should-retry", "false")
"""What OpenAI's clients obey instead of guessing from the status."""


def next_id() -> str:
    """Return an id for a question to the loop."""
    return f"gateway-{next(_numbers)}"


def problem_of(error: Exception) -> Problem:
    """Return what a failure is to an HTTP client; a bug is logged, for that is all it can do."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ModeldError):
        return _expected(error)
    if isinstance(error, RecursionError):  # what could be read may be too deep to be written
        return Problem(400, "the JSON of the body is nested too deeply")
    _log.error("a request failed for a reason that nobody foresaw", exc_info=error)
    return Problem(500, "a bug in modeld", code="internal", kind="server_error")


def _expected(error: ModeldError) -> Problem:
    status = error.status
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    headers: Headers = ()
    if error.code in _LASTING:
        headers = (NO_RETRY,)
    elif error.code in _PASSING or "retry_after_s" in error.numbers:
        seconds = error.numbers.get("retry_after_s", RETRY_AFTER_S)
        headers = (("Retry-After", str(max(1, math.ceil(float(seconds))))),)
    return Problem(
        status.http_status, text, code=str(error.code), kind=status.http_type, headers=headers
    )
