"""`gateway.translation`: a server's errors, whatever they look like."""

import pytest

from modeld.gateway.http import Problem
from modeld.gateway.translation import Collected


def problem(status: int, body: bytes) -> Problem:
    """Return what becomes of an answer."""
    collected = Collected(status, None)
    collected.take(body)
    with pytest.raises(Problem) as raised:
        collected.finish()
    return raised.value


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error":{"message":"too hot","type":"invalid_request_error"}}', "too hot"),
        (b'{"error":{"message":" "}}', "status 413 and without a word"),
        (b'{"error":{}}', "status 413 and without a word"),
        (b"", "status 413 and without a word"),
        (b"\n", "status 413 and without a word"),
        (b"Payload Too Large", "Payload Too Large"),
        (b"\xff", "\ufffd"),
        (b"[" * 60_000, "[" * 100),
    ],
)
def test_error_has_its_status_and_words(body: bytes, told: str) -> None:
    """Clients show the words; an empty text tells a person nothing."""
    found = problem(413, body)

    assert found.status == 413
    assert told in found.message


@pytest.mark.parametrize("status", [204, 205, 206, 304, 302, 101, 600, 999])
def test_status_that_is_no_error_s_is_not_passed_on(status: int) -> None:
    """A body after 204 or 304 would be taken for the beginning of the next answer."""
    found = problem(status, b"")

    assert found.status == 502
    assert str(status) in found.message
