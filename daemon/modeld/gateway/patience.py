"""
What a client gets while its model loads, so that it neither gives up nor thinks the line dead.

A stream gets signs of life that clients skip, or, where `gateway.loading_text` wants that, text
that people read.  An answer that is one JSON may have white space before it, in dialects whose
clients hang up after 30 seconds of silence; its status is 200 from then on, and an error comes as
a body.  So it begins late: until then an error has a status of its own.  Nothing here loads.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from modeld.gateway.http import ResponseWriter
from modeld.gateway.shared import Relay
from modeld.gateway.table import Dialect, Wanted
from modeld.wire.codec import Progress

WHOLE_SECONDS = 8.0
"""Before the first white space of an answer that is one JSON: well within 30, and rarely at all."""
TEXT_SECONDS = 1.0
"""Between two looks at whether there is something new to tell people."""
_PHASES = {"stop": "making room", "start": "starting", "load": "loading"}


class Client(Protocol):
    """The connection that a request came on."""

    writer: ResponseWriter
    is_paused: bool
    """Whether it takes no more bytes for now."""

    def write(self, data: bytes) -> None:
        """Send."""

    def finish(self) -> None:
        """Know that the answer is complete."""

    def cut(self) -> None:
        """Close in the middle: the answer can't be completed."""


class Patience:
    """The signs of life for one request."""

    __slots__ = (
        "_beat",
        "_begin_answer",
        "_begun_at",
        "_client",
        "_dialect",
        "_name",
        "_phase",
        "_relay",
        "_told",
        "_wanted",
    )

    def __init__(
        self, relay: Relay, client: Client, dialect: Dialect, begin_answer: Callable[[], bytes]
    ) -> None:
        """Wait on behalf of `client`; `begin_answer` returns the head of a 200."""
        self._relay = relay
        self._client = client
        self._dialect = dialect
        self._begin_answer = begin_answer
        self._beat: asyncio.TimerHandle | None = None
        self._wanted: Wanted | None = None
        self._name = ""
        self._begun_at = 0.0
        self._phase = "waiting"
        self._told = ""

    def begin(self, wanted: Wanted, name: str) -> None:
        """Show signs of life from now on, where this request can have any."""
        if self._beat is not None:
            return
        self._wanted, self._name = wanted, name
        self._begun_at = self._relay.clock.monotonic()
        if wanted.is_stream:
            self._arm(self._relay.grace_seconds)
        elif self._dialect.white_space:
            self._arm(WHOLE_SECONDS)

    def note(self, progress: Progress) -> None:
        """Know how far the load is."""
        percent = f" {progress.fraction:.0%}".replace("%", " %") if progress.fraction >= 0 else ""
        self._phase = f"{_PHASES.get(progress.phase, 'waiting')}{percent}"

    def loaded(self) -> None:
        """Know that the model is there; whoever read that it loads reads that too."""
        self._phase = "ready"
        if self._told and self._wanted is not None and not self._client.is_paused:
            seconds = self._relay.clock.monotonic() - self._begun_at
            self._client.write(
                self._client.writer.body(self._words(self._wanted, f"ready after {seconds:.1f} s"))
            )
            self._told = self._phase

    def stop(self) -> None:
        """Show none any more: the answer has come, or will not."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _arm(self, seconds: float) -> None:
        self._beat = asyncio.get_running_loop().call_later(seconds, self._show_life)

    def _show_life(self) -> None:
        wanted = self._wanted
        assert wanted is not None, "it was armed for a request"
        writer = self._client.writer
        data = b"" if writer.is_started else self._begin_answer()
        if not self._client.is_paused:
            data += writer.body(self._sign(wanted))
        self._client.write(data)
        seconds = self._relay.config.heartbeat_seconds
        self._arm(min(seconds, TEXT_SECONDS) if self._is_visible(wanted) else seconds)

    def _is_visible(self, wanted: Wanted) -> bool:
        return self._relay.config.loading_text and wanted.loading_words is not None

    def _sign(self, wanted: Wanted) -> bytes:
        if not wanted.is_stream:
            return self._dialect.white_space
        if self._is_visible(wanted) and self._phase != self._told:
            is_first, self._told = not self._told, self._phase
            text = f"modeld loads {self._name}: {self._phase}" if is_first else self._phase
            return self._words(wanted, text)
        return self._dialect.sign_of_life(self._phase)

    def _words(self, wanted: Wanted, text: str) -> bytes:
        assert wanted.loading_words is not None, "it was asked for"
        return wanted.loading_words(self._name, f"{text}\n", self._relay.clock.now())
