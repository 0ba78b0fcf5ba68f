"""Files of other programs, read with care: whatever somebody points this at, it ends in words."""

import os
import stat

from modeld.errors import Usage

MAX_BYTES = 16 << 20


def read(path: str) -> str:
    """
    Return the text of a file.

    Raises:
        Usage: It is no text file, too large, or can't be read.
    """
    try:
        # not blocked by a FIFO that nobody writes to
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 (pathlib costs 3 ms)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Usage(f"{path} is no file")
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(f"{path} can't be read: {why}") from error
    if len(content) > MAX_BYTES:
        raise Usage(f"{path} is larger than {MAX_BYTES >> 20} MB: no configuration is so large")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Usage(f"{path} is no text", hint="is it the right file?") from error
