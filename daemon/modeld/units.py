"""
Bytes and durations, to and from the words people use.

One place, so that `30g`, `4.7 GB` and `5m` mean the same everywhere.  Sizes are powers of
1024 under their everyday names, as ls(1) and llama.cpp print them.  No other units here.
"""

import re

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w|M|y)?")
# A month and a year are for scenarios, where "3M" means about a quarter.
_SECONDS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 7 * 86400.0,
    "M": 30 * 86400.0,
    "y": 365 * 86400.0,
}
# As Go writes durations, which Ollama's clients send, and days.
_STAY = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|\u00b5s|\u03bcs|ms|s|m|h|d)?", re.ASCII
)
_SMALL_SECONDS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6}
_MAX_STAY_LETTERS = 64
GIB = 1024**3
MIB = 1024**2


def parse_bytes(text: str) -> int:
    """
    Return the number of bytes that `text` names, such as `30g`, `512 MiB` or `1000`.

    Raises:
        ValueError: `text` is not a size.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"not a size: {text!r} (write 512m, 4.7g or a number of bytes)")
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**power)


def format_bytes(count: int) -> str:
    """Return `count` as people read it: `0 B`, `460 KB`, `4.7 GB`."""
    value, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB", "PB"):
        if abs(value) < 1000:  # 1000, so that no figure ever needs four digits
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def parse_duration(text: str) -> float:
    """
    Return the seconds that `text` names: `90`, `5m`, `1h30m`, `2d`, `250ms`.

    Raises:
        ValueError: `text` is not a duration.
    """
    text = text.strip()
    seconds, position = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != position:
            break
        seconds += float(match[1]) * _SECONDS[match[2] or "s"]
        position = match.end()
    if position != len(text) or not text:
        raise ValueError(f"not a duration: {text!r} (write 30s, 5m, 1h30m or a number of seconds)")
    return seconds


def parse_keep_alive(text: str) -> float:
    """
    Return the seconds that a model is to stay, as `keep_alive` says it; negative for ever.

    `300`, `5m`, `1h30m` and `1.5h` as durations, `0` for not at all, `-1` or `-1m` for ever.

    Raises:
        ValueError: `text` is none of these.
    """
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in {"-", "+"} else text
    parts = _STAY.findall(rest[:_MAX_STAY_LETTERS])
    # a number without a unit stands alone
    is_whole = "".join(number + unit for number, unit in parts) == rest
    if not is_whole or not parts or (len(parts) > 1 and not all(unit for _, unit in parts)):
        raise ValueError(f"{text[:_MAX_STAY_LETTERS]!r} is no duration, as 5m or 300 is")
    seconds = {**_SECONDS, **_SMALL_SECONDS}
    return sign * sum(float(number) * seconds[unit or "s"] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Return `seconds` in at most two units: `0.4 s`, `12 s`, `4m 12s`, `3d 4h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, large, small_unit, small in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large}{unit}" + (f" {rest}{small_unit}" if rest else "")
    raise AssertionError("every whole number of seconds above 59 has minutes")
