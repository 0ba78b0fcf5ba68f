"""The command `warm`: loads models beside what runs, and has each say one word."""

import socket
from http.client import HTTPConnection, HTTPException

from msgspec import msgpack

from modelctl.render import load as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.errors import Usage
from modeld.wire.common import Selector
from modeld.wire.load import Load, Loaded, Warmed
from modeld.wire.models import Ps, Servers

WORD_TIMEOUT_S = 60.0
"""Of a large model on a slow machine, the first word takes seconds."""
_REQUEST = b'{"prompt":"a","n_predict":1,"max_tokens":1}'
_OK = 200


class _Server(HTTPConnection):
    """A connection to a server's own socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WORD_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def warm(session: Session) -> int:
    """Load each model, nothing being unloaded for it, and have it generate one token."""
    options = session.options
    names = [*options.positional, *(options.model and [options.model])]
    selectors = [Selector(pattern=word) for word in names]
    if options.nick:
        selectors.append(Selector(nickname=options.nick))
    if options.slot:
        selectors.append(Selector(slot=options.slot))
    if not selectors:
        raise Usage("which models?", hint="modelctl warm MODEL...")
    found = []
    for selector in selectors:
        each = _warm(session, selector)
        found.append(each)
        if not session.json:
            session.print(f"{each.model}\n" if session.quiet else _text(session, each))
    if session.json:
        session.print_json({"models": [body(each) for each in found]})
    return 0


def _text(session: Session, warmed: Warmed) -> str:
    return view.warmed_text(warmed, session.screen)


def _warm(session: Session, selector: Selector) -> Warmed:
    request = Load(selector=selector, keep_others=True, by_program=True)
    reply = session.client.ask(request, msgpack.Decoder(Loaded), timeout_s=session.timeout_s)
    servers = session.ask(Ps(), Servers).servers
    path = next((each.socket for each in servers if each.server_id == reply.server_id), "")
    return Warmed(
        model=reply.model,
        seconds=reply.seconds,
        already=reply.already,
        word_seconds=_word_seconds(session, path) if path else None,
        memory_bytes=reply.memory_bytes,
        tier=reply.tier,
    )


def _word_seconds(session: Session, path: str) -> float | None:
    """Return how long a server takes for one token; None where it gives none, as embedders do."""
    began = session.surroundings.clock()
    server = _Server(path)
    try:
        headers = {"Content-Type": "application/json"}
        server.request("POST", "/v1/completions", _REQUEST, headers)
        answer = server.getresponse()
        answer.read()
    except (OSError, HTTPException):
        return None
    finally:
        server.close()
    return round(session.surroundings.clock() - began, 3) if answer.status == _OK else None
