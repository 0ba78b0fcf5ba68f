"""`errors`: one table for shells, sockets and HTTP."""

import inspect

import pytest

from modeld import errors
from modeld.errors import STATUSES, ErrorCode, ModeldError, exit_status

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, ModeldError) and each is not ModeldError
]


def test_table_has_a_row_for_every_code() -> None:
    """A code without a row would crash the error path, of all places."""
    assert set(STATUSES) == set(ErrorCode)


def test_every_code_has_a_class_that_says_when_it_is_raised() -> None:
    """Callers decide by class; `internal` is for bugs, which have none."""
    assert {each.code for each in CLASSES} == set(ErrorCode) - {ErrorCode.INTERNAL}
    assert all(each.__doc__ for each in CLASSES)


def test_error_carries_message_hint_and_numbers() -> None:
    """Every error tells its cause, a hint and numbers."""
    error = errors.Throttled("too soon", hint="wait", retry_after_s=3)

    assert (str(error), error.hint, error.numbers) == ("too soon", "wait", {"retry_after_s": 3})
    assert error.status.exit_status == 75


@pytest.mark.parametrize(("code", "expected"), [("model_not_found", 4), ("of another day", 1)])
def test_exit_status_of_an_unknown_code_is_failure(code: str, expected: int) -> None:
    """A newer daemon may send codes that this client does not know."""
    assert exit_status(code) == expected


def test_module_names_every_class_in_its_tree() -> None:
    """Prose about code needs a test."""
    missing = [each.__name__ for each in CLASSES if each.__name__ not in (errors.__doc__ or "")]

    assert missing == []
