"""
What a value must be before it is taken, and which names are those of secrets.

Each reader returns the value as modeld has it, or raises Unfit with what was expected.  The
bounds are modeld's own, and modeld checks them again.
"""

import re
from collections.abc import Callable

from modeld.units import parse_duration

MAX_LETTERS = 4096
PROFILES = ("fast", "general", "code", "creative")
"""Of modeld's routing; what is said of all requests is said of each of them."""
NO_DOWNLOADS = "modeld downloads nothing by itself"
ALREADY = "it is so here already"
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SECRET_WORDS = frozenset(
    (
        "token", "secret", "secrets", "password", "passwords", "passwd", "passphrase", "key",
        "keys", "apikey", "apikeys", "credential", "credentials", "hash", "auth",
    )
)  # fmt: skip
_BEFORE_TOKENS = frozenset(("refresh", "access", "auth", "bearer", "api", "session"))

Reader = Callable[[object], object]


class Unfit(ValueError):
    """A value that is not what its key must have; says what was expected."""


def is_secret(name: object) -> bool:
    """Whether a key with this name holds a secret: `auth_token`, `apiKey`; not `maxTokens`."""
    words = [word.lower() for word in _WORD.findall(str(name))]
    if not words:
        return False
    if words[-1] == "tokens":
        return bool(_BEFORE_TOKENS.intersection(words[:-1]))
    return words[-1] in _SECRET_WORDS or ("api" in words and "key" in words)


def boolean(value: object) -> bool:
    """Return `value`, true or false."""
    if not isinstance(value, bool):
        raise Unfit("expected true or false")
    return value


def whole(low: int, high: int) -> Reader:
    """Return a reader of whole numbers."""

    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Unfit(f"expected a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """Return a reader of numbers."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit(f"expected a number from {low:.12g} to {high:.12g}")
        if not low <= value <= high:
            raise Unfit(f"expected a number from {low:.12g} to {high:.12g}")
        return float(value)

    return read


def text(value: object) -> str:
    """Return `value`, a line of text."""
    if not isinstance(value, str) or not value or len(value) > MAX_LETTERS:
        raise Unfit(f"expected a text of at most {MAX_LETTERS} letters")
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise Unfit("expected a text without control characters")
    return value


def texts(value: object) -> list[str]:
    """Return `value`, a list of texts."""
    if not isinstance(value, list):
        raise Unfit("expected a list of texts")
    return [text(one) for one in value]


def one_of(*words: str) -> Reader:
    """Return a reader of one of these words, in any case of letters."""

    def read(value: object) -> str:
        word = value.lower() if isinstance(value, str) else ""
        if word not in words:
            raise Unfit(f"expected {', '.join(words[:-1])} or {words[-1]}")
        return word

    return read


def model(value: object) -> str:
    """Return the name of a model: of a path its file, without what every model's name ends in."""
    return text(value).rsplit("/", 1)[-1].removesuffix(".gguf")


def folder(value: object) -> str:
    """Return a folder that means the same wherever modeld runs."""
    path = text(value)
    if not path.startswith(("/", "~/", "$HOME", "${HOME}")) and path != "~":
        raise Unfit("expected an absolute path, or one below ~")
    return path


def seconds(value: object) -> float:
    """Return a time in seconds: a number of them, `10m`, or a negative one for ever."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        sign = -1 if value.strip().startswith("-") else 1
        try:
            return sign * parse_duration(value.strip().removeprefix("-"))
        except (ValueError, OverflowError):
            pass
    raise Unfit("expected a time, such as 300 or 10m")


LOG_LEVELS = {
    "trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "warning": "warning",
    "error": "error", "critical": "error", "fatal": "error",
}  # fmt: skip


def log_level(value: object) -> str:
    """Return modeld's word for how much is logged."""
    word = value.lower() if isinstance(value, str) else ""
    if word not in LOG_LEVELS:
        raise Unfit("expected debug, info, warning or error")
    return LOG_LEVELS[word]
