"""
What the supervisor's loop hears of requests: each start, each end, and that bytes move.

A start is told at once; an end waits a moment, so that the next request needn't wait until the
loop has noted it, and takes the place of the one that ended there.  What came together is told
together: the loop never counts fewer requests than there are, and hears 50 times a second of a
server that answers thousands.  Every start is followed by its end.  Nothing here knows what a
request is.
"""

import asyncio
from typing import Protocol

from modeld.core.routing import Decision
from modeld.core.traffic import (
    RequestLost,
    RequestMoved,
    RequestsEnded,
    RequestServed,
    RequestsRouted,
    RequestStarted,
)
from modeld.core.usage import Figures
from modeld.supervisor.door import Door
from modeld.supervisor.ports import Clock

END_SECONDS = 0.02
"""How late an end is told, or twice that where others begin meanwhile."""
MAX_REMEMBERED_SERVERS = 64
"""More than can run at once."""
ROUTED_SECONDS = 10.0
"""Between two tellings of requests that were routed alike."""
MAX_REMEMBERED_ROUTES = 256


class Cost(Protocol):
    """What a request cost that is over."""

    def figures(self) -> Figures:
        """Return it; it takes longer than the end of an answer should."""


class _Late:
    """What is not told yet of one server."""

    __slots__ = ("began", "costs", "ended", "keep_alive_seconds")

    def __init__(self) -> None:
        self.ended = 0
        self.began = 0
        """Of starts that took the place of an end."""
        self.keep_alive_seconds: float | None = None
        self.costs: list[Cost] = []


class Reports:
    """Tells the loop."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door = door
        self._clock = clock
        self._late: dict[str, _Late] = {}
        """What is told in a moment, by server."""
        self._is_due = False
        self.moving: set[str] = set()
        """Servers of whose answers bytes came; whoever passes them on adds them here."""
        self._used: dict[str, None] = {}
        """Servers, the one that was asked last at the end."""
        self._last_used = ""
        self._routed: dict[tuple[str, str], tuple[float, int]] = {}
        """Route and model -> when it was told last, and how many requests came since."""

    def started(self, server_id: str) -> None:
        """
        Tell that a request went to a server.

        Where another has just ended there, whose end is not told yet, this one takes its place:
        it is told with that end, since in between the loop counts enough.
        """
        if server_id != self._last_used:
            self.note_use(server_id)
        late = self._late.get(server_id)
        if late is not None and late.began < late.ended:
            late.began += 1
        else:
            self.flush()
            self._door.submit(RequestStarted(server_id=server_id))

    def note_use(self, server_id: str) -> None:
        """Remember that somebody wanted this server, by a request or by a load."""
        self._last_used = server_id
        self._used.pop(server_id, None)
        self._used[server_id] = None
        if len(self._used) > MAX_REMEMBERED_SERVERS:
            del self._used[next(iter(self._used))]

    def used(self) -> tuple[str, ...]:
        """Return the servers that somebody wanted, the last one first."""
        return tuple(reversed(self._used))

    def ended(
        self,
        server_id: str,
        keep_alive_seconds: float | None = None,
        cost: Cost | None = None,
    ) -> None:
        """Tell, in a moment, that a request is over."""
        late = self._late.get(server_id)
        if late is None:
            late = self._late[server_id] = _Late()
            self._arm()
        late.ended += 1
        if keep_alive_seconds is not None:
            late.keep_alive_seconds = keep_alive_seconds
        if cost is not None:
            late.costs.append(cost)

    def routed(self, decision: Decision) -> None:
        """Tell how a model was chosen, now and then where that is done again and again."""
        key = decision.route, decision.model_id
        now = self._clock.monotonic()
        told_at, requests = self._routed.get(key, (-ROUTED_SECONDS, 0))
        if now - told_at < ROUTED_SECONDS:
            self._routed[key] = told_at, requests + 1
            return
        if key not in self._routed and len(self._routed) >= MAX_REMEMBERED_ROUTES:
            self._routed.clear()
        self._routed[key] = now, 0
        self._door.submit(
            RequestsRouted(
                model_id=decision.model_id,
                route=decision.route,
                reason=decision.reason,
                pattern=decision.pattern,
                requests=requests + 1,
            )
        )

    def counted(self, figures: Figures) -> None:
        """Tell, at once, what a request cost that no server has any more, or ever had."""
        self.flush()
        self._door.submit(RequestLost(figures=figures))

    def served(self, request_id: bytes, path: str, status: int, figures: Figures) -> None:
        """Tell what is to be logged of a request.  `path`: the route's."""
        self._door.submit(
            RequestServed(
                request_id=request_id.decode("ascii"), path=path, status=status, figures=figures
            )
        )

    def _arm(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(END_SECONDS, self._tell)

    def _tell(self) -> None:
        """
        Tell of the ends, but keep those back whose places are likely to be taken in a moment.

        Where starts took places since the last time, clients ask without a pause, and each start
        without a free place would wake the loop.  The rest is told once no more starts come.
        """
        self._is_due = False
        late, self._late = self._late, {}
        for server_id, each in late.items():
            if 0 < each.began < each.ended:
                self._late[server_id] = kept = _Late()
                kept.ended = each.ended - each.began
                each.ended = each.began
                self._arm()
            self._submit(server_id, each)

    def flush(self) -> None:
        """Tell of all ends now."""
        late, self._late = self._late, {}
        for server_id, each in late.items():
            self._submit(server_id, each)

    def _submit(self, server_id: str, late: _Late) -> None:
        self._door.submit(
            RequestsEnded(
                server_id=server_id,
                ended=late.ended,
                began=late.began,
                keep_alive_seconds=late.keep_alive_seconds,
                figures=tuple(cost.figures() for cost in late.costs),
            )
        )

    def tell_moves(self) -> None:
        """Tell which servers moved bytes since the last time; called about once a second."""
        self.moving.discard("")  # looks, which are nobody's requests
        for server_id in self.moving:
            self._door.submit(RequestMoved(server_id=server_id))
        self.moving.clear()
