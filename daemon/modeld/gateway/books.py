"""
One request in the books: its place among its model's, its time at a server, and what it costs.

Every end of a request closes them, and may do so again.  Looks at a server are not written down.
Nothing here sends a byte.
"""

from modeld.core.entities import Model
from modeld.gateway.accounts import Account, failure_of
from modeld.gateway.shared import Relay
from modeld.gateway.table import Wanted
from modeld.supervisor.door import Route


class Books:
    """What the loop and the counters hear of one request."""

    __slots__ = (
        "_is_look",
        "_is_stream",
        "_keep_alive_seconds",
        "_model",
        "_path",
        "_relay",
        "_request_id",
        "account",
        "server_id",
    )

    def __init__(self, relay: Relay, request_id: bytes, path: str) -> None:
        """Know a request by its id and its route; a client writes all the rest of its path."""
        self._relay = relay
        self._request_id = request_id
        self._path = path
        self._model: Model | None = None
        """Among whose requests in flight it is counted."""
        self._is_look = False
        self._is_stream = False
        self._keep_alive_seconds: float | None = None
        self.server_id = ""
        """Set while it is at a server."""
        self.account: Account | None = None
        """Of a request that is to be answered by a model, from then on until its end."""

    def open(self, model: Model, wanted: Wanted) -> None:
        """
        Count it in.

        Raises:
            Problem: Its model has as many as it may.
        """
        self._is_look = wanted.is_look
        if wanted.is_look:
            return
        self._is_stream = wanted.is_stream
        self._keep_alive_seconds = wanted.keep_alive_seconds
        if wanted.instead is None:
            self.account = Account(model.id, self._relay.clock)
        self._relay.enter(model)
        self._model = model

    def begin(self, route: Route) -> None:
        """Write down that it goes to a server."""
        if not self._is_look:
            self.server_id = route.server_id
            self._relay.reports.started(route.server_id)

    def leave(self) -> None:
        """Write down that it goes elsewhere: then nothing is said of its model."""
        if self.server_id:
            self._relay.reports.ended(self.server_id)
            self.server_id = ""

    def failure(self, status: int) -> str:
        """Return how a request with this status failed, or nothing."""
        return failure_of(status, was_sent=self.account is not None and self.account.was_sent)

    def close(self, failure: str, status: int) -> None:
        """Write down its end.  `status`: 0 where the client was told none."""
        account, self.account = self.account, None
        reports = self._relay.reports
        if account is not None:
            account.close(failure, is_stream=self._is_stream)
            if self._relay.config.log_requests:
                reports.served(self._request_id, self._path, status, account.figures())
        if self.server_id:
            reports.ended(self.server_id, self._keep_alive_seconds, account)
            self.server_id = ""
        elif account is not None:
            reports.counted(account.figures())
        if self._model is not None:
            self._relay.exit(self._model)
            self._model = None
