"""
What every command has at hand: its options, the connection, and the two streams to print on.

Data goes to stdout, talk to stderr.  The environment and the clock come from `__main__`.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TextIO, TypeVar

from modelctl.parse import Parsed, seconds
from modelctl.render import answer
from modelctl.render.screen import Screen
from modeld.errors import Usage

if TYPE_CHECKING:
    from msgspec import Struct

    from modelctl.client import Client
    from modeld.wire.common import Selector

Reply = TypeVar("Reply", bound="Struct")


class Surroundings(NamedTuple):
    """Where modelctl runs."""

    environment: Mapping[str, str]
    uid: int
    stdout: TextIO
    stderr: TextIO
    screen_of: Callable[[TextIO], Screen]
    """How wide a stream is now, and what it can show."""
    clock: Callable[[], float]
    """[unix s]"""


class Session:
    """One run of one command."""

    def __init__(self, parsed: Parsed, surroundings: Surroundings) -> None:
        self.command = parsed.command
        self.options: Namespace = parsed.options
        self.surroundings = surroundings
        self.now = surroundings.clock()
        self.streaming = False
        """Whether stdout has one JSON object a line."""
        self._client: Client | None = None

    @property
    def json(self) -> bool:
        """Whether answers are JSON."""
        return bool(self.options.json) or self.streaming

    @property
    def quiet(self) -> bool:
        """Whether only data is wanted, and no talk."""
        return bool(self.options.quiet)

    @property
    def verbose(self) -> bool:
        """Whether more is wanted."""
        return bool(self.options.verbose)

    @property
    def screen(self) -> Screen:
        """What stdout can show."""
        return self.surroundings.screen_of(self.surroundings.stdout)

    @property
    def talk_screen(self) -> Screen:
        """What stderr can show."""
        return self.surroundings.screen_of(self.surroundings.stderr)

    @property
    def timeout_s(self) -> float:
        """[s] How long to wait for an answer: as asked for, or the command's own."""
        return self.timeout_or(self.command.timeout_s)

    def timeout_or(self, default_s: float) -> float:
        """
        Return how many seconds to wait for an answer: `--timeout`, `MODELCTL_TIMEOUT`, `default_s`.

        Raises:
            Usage: The variable is no duration.
        """
        if self.options.timeout is not None:
            return float(self.options.timeout)
        text = self.surroundings.environment.get("MODELCTL_TIMEOUT", "")
        if not text:
            return default_s
        try:
            return seconds(text)
        except ArgumentTypeError as error:
            raise Usage(f"MODELCTL_TIMEOUT: {error}") from error

    @property
    def socket_path(self) -> str:
        """Where modeld listens: `--socket`, `MODELD_SOCKET`, or the usual place."""
        from modeld.wire.endpoint import socket_path

        return str(self.options.socket) or socket_path(
            self.surroundings.environment, self.surroundings.uid
        )

    @property
    def client(self) -> Client:
        """
        The connection, made when it is first needed.

        Raises:
            Unavailable: Nobody listens.
            NotPermitted: Somebody else does.
        """
        from modelctl.client import Client

        if self._client is None:
            self._client = Client(self.socket_path, self.surroundings.uid)
        return self._client

    def close(self) -> None:
        """Leave the connection, if there is one."""
        if self._client is not None:
            self._client.close()

    def ask(self, request: Struct, reply: type[Reply]) -> Reply:
        """
        Return the answer to a request.

        Raises:
            Refusal: The daemon says no.
            ModeldError: There is no answer.
        """
        from msgspec import msgpack

        return self.client.ask(request, msgpack.Decoder(reply), timeout_s=self.timeout_s)

    def print(self, text: str) -> None:
        """Write data."""
        self.surroundings.stdout.write(text)

    def print_now(self, text: str) -> None:
        """Write data that somebody waits for."""
        self.print(text)
        self.flush()

    def print_json(self, fields: Mapping[str, object], *, ok: bool = True) -> None:
        """Write one answer as JSON, spread out for people where they look at it."""
        self.print(answer.encode(fields, ok=ok, indent=self._spread) + "\n")

    @property
    def _spread(self) -> bool:
        return self.screen.terminal and not self.streaming

    def print_item(self, kind: str, fields: Mapping[str, object]) -> None:
        """Write one item of a stream as a line of JSON, at once."""
        self.print_now(answer.encode_item(kind, fields) + "\n")

    def flush(self) -> None:
        """Send what was written on its way."""
        self.surroundings.stdout.flush()

    def say(self, text: str) -> None:
        """Write talk."""
        if not self.quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """Write what must be heard even where no talk is wanted."""
        self.flush()
        self.surroundings.stderr.write(text)
        self.surroundings.stderr.flush()

    def warn(self, text: str) -> None:
        """Write a warning; in JSON it stands in the answer already."""
        if not self.json:
            self.say(answer.labelled("warning", "warning", text, self.talk_screen))

    def warn_of_restart(self, keys: Iterable[str]) -> None:
        """Write which keys have changed, and take effect only when modeld starts anew."""
        for key in keys:
            self.warn(f"{key}: only a restart applies it: systemctl --user restart modeld")

    def hint(self, text: str) -> None:
        """Write what would help."""
        self.say(answer.labelled("hint", "info", text, self.talk_screen))

    def selector(self) -> Selector | None:
        """
        Return the model that the options name, None where they name none.

        Raises:
            Usage: They name several.
        """
        from modeld.wire.common import Selector

        options = self.options
        given = [
            ("-m", options.model),
            ("MODEL", options.positional),
            ("-n", getattr(options, "nick", "")),
            ("-n1", getattr(options, "slot", "")),
        ]
        named = [flag for flag, value in given if value]
        if len(named) > 1:
            raise Usage(f"{' and '.join(named)} both name a model", hint="name it once")
        if not named:
            return None
        return Selector(
            pattern=options.model or options.positional,
            nickname=getattr(options, "nick", ""),
            slot=getattr(options, "slot", ""),
            best=getattr(options, "rank1", False),
            only=getattr(options, "no_multi_match", False),
        )

    def require_selector(self) -> Selector:
        """
        Return the model that the options name.

        Raises:
            Usage: They name none, or several.
        """
        found = self.selector()
        if found is None:
            raise Usage(
                "which model?", hint=f"modelctl {self.command.name} MODEL, -n NICK or -n1 SLOT"
            )
        return found
