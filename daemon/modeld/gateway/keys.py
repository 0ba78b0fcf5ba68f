"""
The keys of clients, so kept that they can't leak: neither by a log, nor by how long a look takes.

What is held of a key is a hash of it, under a secret that each process draws anew.  Whoever sends
a key can't choose where in the table it is looked for, so the time tells nothing of those that are
there; the last word is a comparison in constant time.
"""

import hashlib
import hmac
import os
from collections.abc import Collection, Mapping

_TAG_BYTES = 8


class Keyring:
    """The keys that open the gateway; none means that it needs none."""

    __slots__ = ("_known", "_secret")

    def __init__(self, keys: Collection[bytes] = ()) -> None:
        self._secret = os.urandom(32)
        self._known: dict[bytes, tuple[bytes, str]] = {}
        for number, key in enumerate(keys, 1):
            digest = self._hash(key)
            self._known[digest[:_TAG_BYTES]] = digest, f"key {number}"

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"Keyring({len(self)} keys)"

    def holder(self, headers: Mapping[bytes, bytes]) -> str | None:
        """
        Return who sends one of the keys, `key 1` for the first; empty for no key, None for others.

        A request may have both headers: a proxy's user is in `Authorization`, say, and the key in
        `X-Api-Key`.  One that fits is enough.
        """
        sent = [headers.get(b"x-api-key", b""), _bearer(headers.get(b"authorization", b""))]
        for key in filter(None, sent):
            digest = self._hash(key)
            known = self._known.get(digest[:_TAG_BYTES])
            if known is not None and hmac.compare_digest(known[0], digest):
                return known[1]
        return None if any(sent) else ""

    def _hash(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=32, key=self._secret).digest()


def _bearer(header: bytes) -> bytes:
    """Return the token of an `Authorization` header; empty for another scheme."""
    scheme, _, token = header.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
