"""Keys in headers."""

import pytest

from modeld.gateway.keys import Keyring

FIRST, SECOND = b"first-secret-key", b"second-secret-key"
RING = Keyring((FIRST, SECOND))


@pytest.mark.parametrize(
    ("headers", "holder"),
    [
        ({}, ""),
        ({b"authorization": b"Bearer " + FIRST}, "key 1"),
        ({b"authorization": b"bearer  " + SECOND + b" "}, "key 2"),
        ({b"x-api-key": SECOND}, "key 2"),
        ({b"x-api-key": FIRST, b"authorization": b"Bearer x"}, "key 1"),
        ({b"x-api-key": b"x", b"authorization": b"Bearer " + FIRST}, "key 1"),
        ({b"x-api-key": FIRST, b"authorization": b"Basic abc"}, "key 1"),
        ({b"authorization": b"Basic " + FIRST}, ""),
        ({b"authorization": b"Bearer"}, ""),
        ({b"authorization": FIRST}, ""),
        ({b"x-api-key": b""}, ""),
        ({b"authorization": b"Bearer " + FIRST[:-1]}, None),
        ({b"authorization": b"Bearer " + FIRST + b"a"}, None),
        ({b"authorization": b"Bearer " + FIRST.upper()}, None),
        ({b"authorization": b"Bearer \xff\xfe"}, None),
        ({b"x-api-key": FIRST + b"," + SECOND}, None),
    ],
)
def test_keyring_tells_who_holds_a_key(headers: dict[bytes, bytes], holder: str | None) -> None:
    """Missing and wrong are two answers: 401 and 403."""
    assert RING.holder(headers) == holder


def test_keyring_does_not_hold_keys_themselves() -> None:
    """What is not there can't be in a traceback, a log or a core."""
    state = f"{RING!r} {[getattr(RING, slot) for slot in Keyring.__slots__]!r}"

    assert "secret" not in state.replace("_secret", "")
    assert repr(RING) == "Keyring(2 keys)"


def test_keyring_of_no_keys_opens_nothing() -> None:
    """An address that other machines reach stays shut when its keys are taken away."""
    assert not Keyring()
    assert Keyring().holder({b"x-api-key": FIRST}) is None
