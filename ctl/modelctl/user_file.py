"""
The user's own file: read, and replaced as a whole or not at all.

It keeps its mode, and the link that leads to it; what somebody else wrote into it meanwhile is
never lost.  What stands in it is not looked at here.
"""

import contextlib
import os
from pathlib import Path

from modeld.errors import ConfigInvalid, Refused, StateNotSaved

MODE = 0o644
"""Of a new one, before the umask: there are no secrets in it."""


class UserFile:
    """One file, as it was when it was read."""

    def __init__(self, path: str) -> None:
        """
        Read it; one that does not exist is empty.

        Raises:
            ConfigInvalid: It can't be read, or is no text.
        """
        self.path = path
        self.exists = True
        self.text = ""
        self._mode: int | None = None
        try:
            self.text = _read(path)
            self._mode = Path(path).stat().st_mode & 0o7777
        except FileNotFoundError:
            self.exists = False
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"{path}: {error}", hint="is it a text file of yours?") from error

    @property
    def absolute(self) -> str:
        """Its path from the root."""
        return str(Path(self.path).absolute())

    def replace(self, text: str) -> None:
        """
        Put another text in its place.

        Raises:
            Refused: It was changed meanwhile.
            StateNotSaved: The disk refused.
        """
        target = Path(self.path).resolve()
        fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(fresh, text, self._mode)
            self._require_unchanged()
            fresh.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise StateNotSaved(
                f"{self.path} was not changed: {error.strerror}", hint="is it yours to write?"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink()
        self.text, self.exists = text, True

    def _require_unchanged(self) -> None:
        try:
            now: str | None = _read(self.path)
        except FileNotFoundError:
            now = None
        except UnicodeDecodeError:
            now = ""
        if now != (self.text if self.exists else None):
            raise Refused(f"{self.path} was changed by somebody else meanwhile", hint="try again")


def _read(path: str) -> str:
    return Path(path).read_bytes().decode("utf-8-sig")


def _write(path: Path, text: str, mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, MODE), "wb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
