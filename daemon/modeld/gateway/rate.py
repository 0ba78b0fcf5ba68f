"""
How many requests each client may make: a bucket of tokens for each, in one number.

A bucket holds `burst` tokens, and one comes back every 60 / `per_minute` seconds.  What is kept of
it is the moment at which it will be full; a client whose moment has passed is not kept at all.
The table has an end: when it is full of clients that are not, newcomers share one bucket, so that
nobody gets a fresh one by pushing out another's.  No clock: the time is an argument.
"""

from typing import Final

MAX_CLIENTS = 4096
_LEAST_SECONDS: Final = 1e-6
"""A shorter wait is none: the sum of many tokens is off by its last bits."""
_STRANGERS: Final = ""
"""Those who came when the table was full."""


class Rates:
    """The buckets of all clients."""

    def __init__(self, per_minute: int, burst: int, max_clients: int = MAX_CLIENTS) -> None:
        self._seconds = 60.0 / per_minute
        """For one token."""
        self._room = (burst - 1) * self._seconds
        self._max_clients = max_clients
        self._full_at: dict[str, float] = {}
        self._clean_at = 0.0

    def take(self, client: str, now: float) -> float:
        """
        Take a token; return 0, or the seconds until there is one.

        Args:
            client: Whatever tells this one from others.
            now: [monotonic s]
        """
        full_at = self._full_at.get(client)
        if full_at is None:
            client = self._find_place(client, now)
            full_at = self._full_at.get(client, now)
        begins = max(full_at, now)
        wait = begins - now - self._room
        if wait > _LEAST_SECONDS:
            return round(wait, 6)
        self._full_at[client] = begins + self._seconds
        return 0.0

    def _find_place(self, client: str, now: float) -> str:
        if len(self._full_at) < self._max_clients:
            return client
        if now >= self._clean_at:  # at most once for each token: a flood must not pay for a walk
            self._clean_at = now + self._seconds
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        return client if len(self._full_at) < self._max_clients else _STRANGERS
