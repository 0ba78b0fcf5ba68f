"""
Questions about the configuration, to the daemon, or where none runs to a modeld that answers one.

The messages are the same either way, and so are the answers, but that the second knows neither the
environment nor the options of the daemon that will run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, TypeVar

from msgspec import MsgspecError, Raw, msgpack

from modelctl.errors import Refusal
from modeld.errors import ModeldError, TimedOut, Unavailable
from modeld.wire.codec import Failure

if TYPE_CHECKING:
    from msgspec import Struct

    from modelctl.session import Session

Reply = TypeVar("Reply", bound="Struct")


class Questions:
    """Asks whoever is there."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.is_daemon = True
        """Whether a daemon answered, as far as one was asked."""

    def ask(self, request: Struct, reply: type[Reply]) -> Reply:
        """
        Return the answer to a request.

        Raises:
            Refusal: It is a no.
            ModeldError: There is no answer.
        """
        if self.is_daemon:
            try:
                return self._session.ask(request, reply)
            except Unavailable:
                self.is_daemon = False
        return self._ask_alone(request, reply)

    def _ask_alone(self, request: Struct, reply: type[Reply]) -> Reply:
        from modelctl.client import check

        check(request)
        timeout_s = self._session.timeout_s
        # What this program could import that one can: a packaged modeld is on nobody's own path.
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(
                # -P: what lies in the current directory is no part of modeld
                [sys.executable, "-P", "-m", "modeld", "--answer"],
                input=msgpack.encode(request),
                capture_output=True,
                env={**self._session.surroundings.environment, **paths},
                timeout=timeout_s or None,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            message = f"modeld did not answer within {timeout_s:g} s"
            raise TimedOut(message, timeout_s=timeout_s) from error
        try:
            kind, body = msgpack.decode(done.stdout, type=tuple[str, Raw])
            if kind == "reply":
                return msgpack.decode(body, type=reply)
            said = msgpack.decode(body, type=Failure)
        except MsgspecError as error:
            told = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise ModeldError(f"modeld could not be asked: {told or error}") from error
        raise Refusal(said.code, said.message, said.hint, said.numbers)
