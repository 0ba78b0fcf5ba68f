"""
The user's own table of what models can do: its file, which need not be there.

Read when a configuration is read, and at hand when that comes into force.
"""

from pathlib import Path

from modeld.config.limits import parse
from modeld.core.limits import Row
from modeld.errors import ConfigInvalid


class LimitsFile:
    """Reads tables, and keeps them."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Row, ...]] = {}

    def read(self, path: str) -> None:
        """
        Read the table of a file; empty for no file.  Waits for the disk.

        Raises:
            ConfigInvalid: It can't be read, or has mistakes, all told at once.
        """
        self._read = {**self._read, path: read_limits(path)}  # another thread may be looking

    def rows(self, path: str) -> tuple[Row, ...]:
        """Return the table of a file as it was when it was last read."""
        return self._read.get(path, ())


def read_limits(path: str) -> tuple[Row, ...]:
    """
    Return the table in a file; empty where there is none.

    Raises:
        ConfigInvalid: It can't be read, or has mistakes.
    """
    if not path or not Path(path).exists():
        return ()
    if not Path(path).is_file():  # a FIFO must not hold up the start
        raise ConfigInvalid(f"models.limits_file: {path} is no file")
    try:
        return parse(path, Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"models.limits_file: {path} is no text") from error
    except OSError as error:
        raise ConfigInvalid(f"models.limits_file: {path}: {error.strerror}") from error
