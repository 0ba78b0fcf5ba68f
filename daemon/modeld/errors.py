"""
Everything that can be refused or go wrong, and the one table of what it means outside.

    ModeldError
    ├── Usage                what was asked for makes no sense
    │   ├── Ambiguous        several models fit, and one was wanted
    │   └── ArgumentDenied   a llama-server argument that modeld does not pass on
    ├── UnknownModel  UnknownName
    ├── Inactive             known, but not loaded
    ├── Refused              a promise stands against it
    │   ├── DoesNotFit       not enough memory, whatever may be unloaded
    │   ├── TooManyLoaded    the count limit
    │   ├── Pinned  NameTaken
    ├── ServerFailed         llama-server died, hung or could not be started
    ├── Throttled  Busy      try again later; both say when
    ├── Cancelled  TimedOut
    ├── Unavailable          nobody is there to ask
    ├── AddressInUse         another program listens where modeld should
    ├── StateNotSaved        disk full or broken: nothing was acknowledged
    ├── ProtocolMismatch  NotPermitted
    └── ConfigInvalid

Each carries a message (the cause), a hint (the cure) and numbers.  A bug is none of these:
it raises something else and ends as `internal`.  This module prints nothing and exits nothing.
"""

from enum import StrEnum
from typing import ClassVar, NamedTuple

Numbers = dict[str, int | float | str]
"""Facts behind an error, by name, with the unit last: `{"retry_after_s": 12}`."""


class ErrorCode(StrEnum):
    """The stable word for an error, the same on the wire, in JSON and in HTTP bodies."""

    USAGE = "usage"
    AMBIGUOUS = "ambiguous"
    ARGUMENT_DENIED = "argument_denied"
    UNKNOWN_MODEL = "model_not_found"
    UNKNOWN_NAME = "name_not_found"
    INACTIVE = "inactive"
    REFUSED = "refused"
    DOES_NOT_FIT = "does_not_fit"
    TOO_MANY_LOADED = "too_many_loaded"
    PINNED = "pinned"
    NAME_TAKEN = "name_taken"
    SERVER_FAILED = "server_failed"
    THROTTLED = "throttled"
    BUSY = "busy"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    UNAVAILABLE = "unavailable"
    ADDRESS_IN_USE = "address_in_use"
    STATE_NOT_SAVED = "state_not_saved"
    PROTOCOL = "protocol"
    NOT_PERMITTED = "not_permitted"
    CONFIG = "config"
    INTERNAL = "internal"


class Status(NamedTuple):
    """What an error code means to a shell and to an HTTP client."""

    exit_status: int
    http_status: int
    http_type: str
    meaning: str


_REQUEST, _SERVER = "invalid_request_error", "server_error"  # OpenAI's words for whose fault it is

# The one table.  Exit statuses follow sysexits(3) from 64 on, systemctl(1) for 3 and 4, and
# timeout(1) for 124; a client that does not know a code treats it as failure.
# fmt: off
STATUSES: dict[ErrorCode, Status] = {
    ErrorCode.SERVER_FAILED:    Status(1, 502, _SERVER, "the server died, hung or did not start"),
    ErrorCode.USAGE:            Status(2, 400, _REQUEST, "bad arguments"),
    ErrorCode.AMBIGUOUS:        Status(2, 400, _REQUEST, "several models fit"),
    ErrorCode.ARGUMENT_DENIED:  Status(2, 400, _REQUEST, "an argument that is not passed on"),
    ErrorCode.INACTIVE:         Status(3, 409, _REQUEST, "known, but not loaded"),
    ErrorCode.UNKNOWN_MODEL:    Status(4, 404, _REQUEST, "no such model"),
    ErrorCode.UNKNOWN_NAME:     Status(4, 404, _REQUEST, "no such nickname or slot"),
    ErrorCode.REFUSED:          Status(5, 409, _REQUEST, "refused"),
    ErrorCode.DOES_NOT_FIT:     Status(5, 507, _SERVER, "not enough memory"),
    ErrorCode.TOO_MANY_LOADED:  Status(5, 503, _SERVER, "too many models are loaded"),
    ErrorCode.PINNED:           Status(5, 409, _REQUEST, "the model is pinned"),
    ErrorCode.NAME_TAKEN:       Status(5, 409, _REQUEST, "the name is another model's"),
    ErrorCode.UNAVAILABLE:      Status(69, 503, _SERVER, "modeld is not reachable"),
    ErrorCode.ADDRESS_IN_USE:   Status(69, 503, _SERVER, "another program has the address"),
    ErrorCode.INTERNAL:         Status(70, 500, _SERVER, "a bug in modeld"),
    ErrorCode.STATE_NOT_SAVED:  Status(74, 507, _SERVER, "the disk refused the change"),
    ErrorCode.THROTTLED:        Status(75, 429, "rate_limit_error", "too soon, try again later"),
    ErrorCode.BUSY:             Status(75, 503, _SERVER, "busy, try again later"),
    ErrorCode.PROTOCOL:         Status(76, 400, _REQUEST, "client and daemon differ in version"),
    ErrorCode.NOT_PERMITTED:    Status(77, 403, "permission_error", "the socket is another user's"),
    ErrorCode.CONFIG:           Status(78, 500, _SERVER, "the configuration is invalid"),
    ErrorCode.TIMED_OUT:        Status(124, 504, _SERVER, "time ran out"),
    ErrorCode.CANCELLED:        Status(130, 499, _REQUEST, "cancelled"),
}
# fmt: on


def exit_status(code: str) -> int:
    """Return the exit status of an error code; 1 for a code that this version does not know."""
    try:
        return STATUSES[ErrorCode(code)].exit_status
    except ValueError:
        return 1


class ModeldError(Exception):
    """The base: an expected failure with its cause, its cure and the numbers behind it."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "", **numbers: float | str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.numbers: Numbers = dict(numbers)

    @property
    def status(self) -> Status:
        """What this means to a shell and to an HTTP client."""
        return STATUSES[self.code]


class Usage(ModeldError):
    """What was asked for makes no sense; asking again will not help."""

    code = ErrorCode.USAGE


class Ambiguous(Usage):
    """Several models fit, and one was wanted."""

    code = ErrorCode.AMBIGUOUS


class ArgumentDenied(Usage):
    """A llama-server argument that modeld does not pass on."""

    code = ErrorCode.ARGUMENT_DENIED


class UnknownModel(ModeldError):
    """No model fits the words that were given."""

    code = ErrorCode.UNKNOWN_MODEL


class UnknownName(ModeldError):
    """No such nickname, or an empty slot."""

    code = ErrorCode.UNKNOWN_NAME


class Inactive(ModeldError):
    """The model is known but not loaded."""

    code = ErrorCode.INACTIVE


class Refused(ModeldError):
    """A promise or a limit stands against it."""

    code = ErrorCode.REFUSED


class DoesNotFit(Refused):
    """No order of unloading frees enough memory."""

    code = ErrorCode.DOES_NOT_FIT


class TooManyLoaded(Refused):
    """As many models are loaded as are allowed."""

    code = ErrorCode.TOO_MANY_LOADED


class Pinned(Refused):
    """A pin is a promise never to unload."""

    code = ErrorCode.PINNED


class NameTaken(Refused):
    """Another model has that nickname."""

    code = ErrorCode.NAME_TAKEN


class ServerFailed(ModeldError):
    """llama-server died, hung or could not be started."""

    code = ErrorCode.SERVER_FAILED


class Throttled(ModeldError):
    """Asked again too soon; `numbers["retry_after_s"]` says how long to wait."""

    code = ErrorCode.THROTTLED


class Busy(ModeldError):
    """A bounded queue is full, or everything that could make room is in use."""

    code = ErrorCode.BUSY


class Cancelled(ModeldError):
    """Somebody asked for it to stop."""

    code = ErrorCode.CANCELLED


class TimedOut(ModeldError):
    """The deadline that the client gave has passed."""

    code = ErrorCode.TIMED_OUT


class Unavailable(ModeldError):
    """Nobody answers where modeld should be."""

    code = ErrorCode.UNAVAILABLE


class AddressInUse(ModeldError):
    """Another program listens where modeld should."""

    code = ErrorCode.ADDRESS_IN_USE


class StateNotSaved(ModeldError):
    """The disk refused the change, so it was not made."""

    code = ErrorCode.STATE_NOT_SAVED


class ProtocolMismatch(ModeldError):
    """The other side speaks another version, or not our protocol at all."""

    code = ErrorCode.PROTOCOL


class NotPermitted(ModeldError):
    """The socket, or the peer, belongs to another user."""

    code = ErrorCode.NOT_PERMITTED


class ConfigInvalid(ModeldError):
    """The configuration has mistakes; `message` lists them all, one a line."""

    code = ErrorCode.CONFIG
