"""
The file of the gateway's keys: read within bounds, and only where nobody else can.

One key a line, as it is; empty lines and those that begin with `#` are left out.  A file that
another user may read, or wrote, is refused rather than repaired: what was in it is known already.
No key stands in any message from here.
"""

import os
import re
import stat

from modeld.errors import ConfigInvalid

MAX_FILE_BYTES = 64 * 1024
MAX_KEYS = 1000
LEAST_KEY_BYTES = 8
MOST_KEY_BYTES = 512
_KEY = re.compile(rb"[\x21-\x7e]+")
_ROOT = 0
_MAKE_ONE = "(umask 077; openssl rand -hex 24 > {path}) makes one with a new key"


class KeyFile:
    """Reads keys when a configuration is read, and has them when that comes into force."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[bytes, ...]] = {}
        self._last: frozenset[bytes] = frozenset()
        self.news: tuple[str, ...] = ()
        """What the last reading found otherwise than the one before: a sentence, or none."""

    def read(self, path: str) -> None:
        """
        Read the keys of a file; empty for no file.  Waits for the disk.

        Raises:
            ConfigInvalid: It can't be read, others can read it, or a line is no key.
        """
        keys = read_keys(path) if path else ()
        self._read = {**self._read, path: keys}  # another thread may be looking
        came, went = len({*keys} - self._last), len(self._last - {*keys})
        self._last = frozenset(keys)
        told = f"keys of the gateway: {came} new, {went} gone, {len(keys)} in all"
        self.news = (told,) if came or went else ()

    def keys(self, path: str) -> tuple[bytes, ...]:
        """Return the keys of a file as they were when it was last read."""
        return self._read[path]


def read_keys(path: str) -> tuple[bytes, ...]:
    """
    Return the keys in a file.

    Raises:
        ConfigInvalid: It can't be read, others can read it, or a line is no key.
    """
    try:
        # a FIFO must not hold up the start
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check(path, os.fstat(descriptor))
            data = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigInvalid(
            f"gateway.key_file: {path}: {error.strerror}", hint=_MAKE_ONE.format(path=path)
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigInvalid(
            f"gateway.key_file: {path} has more than {MAX_FILE_BYTES} bytes",
            hint="one key a line",
        )
    return _parse(path, data)


def _check(path: str, found: os.stat_result) -> None:
    """
    Check that nobody but this user, or root, wrote the file or can read it.

    Raises:
        ConfigInvalid: Somebody can.
    """
    if not stat.S_ISREG(found.st_mode):
        raise ConfigInvalid(f"gateway.key_file: {path} is no file", hint=f"ls -ld {path}")
    if found.st_uid not in {os.getuid(), _ROOT}:
        raise ConfigInvalid(
            f"gateway.key_file: {path} is user {found.st_uid}'s", hint=f"ls -l {path}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise ConfigInvalid(
            f"gateway.key_file: {path} has mode {mode:04o}: others can read or change it",
            hint=f"replace the keys if others were here, then chmod 600 {path}",
        )


def _parse(path: str, data: bytes) -> tuple[bytes, ...]:
    keys: dict[bytes, None] = {}
    for number, written in enumerate(data.splitlines(), 1):
        line = written.strip()
        if not line or line.startswith(b"#"):
            continue
        if not _KEY.fullmatch(line) or not LEAST_KEY_BYTES <= len(line) <= MOST_KEY_BYTES:
            raise ConfigInvalid(
                f"gateway.key_file: {path}:{number} is no key",
                hint=f"{LEAST_KEY_BYTES} to {MOST_KEY_BYTES} letters, digits and signs of ASCII, "
                "without spaces; a comment begins with # on a line of its own",
            )
        keys[line] = None
    if not keys:
        raise ConfigInvalid(
            f"gateway.key_file: {path} has no key", hint=_MAKE_ONE.format(path=path)
        )
    if len(keys) > MAX_KEYS:
        raise ConfigInvalid(
            f"gateway.key_file: {path} has more than {MAX_KEYS} keys",
            hint="leave out those that nobody uses",
        )
    return tuple(keys)
