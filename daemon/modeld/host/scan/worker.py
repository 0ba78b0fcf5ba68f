"""
Reads GGUF headers in a process of its own: `python -m modeld.host.scan.worker`.

Each line on stdin is a file that a scan found, each line on stdout what it says of itself.  What
a hostile file or a failing disk can do ends here: memory is limited, the processor's time for
one file is limited, and a crash costs nobody anything.  It ends with its stdin.
"""

import contextlib
import mmap
import os
import resource
import signal
import stat
import sys

import msgspec

from modeld.core.entities import FoundFile, Header
from modeld.core.gguf import BadGguf, read_header
from modeld.core.gguf_bytes import MAX_HEADER_BYTES
from modeld.host.scan.answer import PROCESSOR_SECONDS, Answer

MEMORY_BYTES = 512 * 1024**2
"""Address space: the largest header that is mapped, twice."""
NICENESS = 5


def read_file(file: FoundFile) -> Answer:
    """Return what a file says of itself, if it still is the file that was found."""
    try:
        # Whatever took the file's place since must neither block nor become a terminal.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(file.path, flags)
    except OSError as error:
        return Answer(problem=f"it can't be opened: {error.strerror}", is_lasting=False)
    try:
        status = os.fstat(descriptor)
        found = (file.device, file.inode, file.size_bytes, file.mtime_ns)
        now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if found != now or not stat.S_ISREG(status.st_mode):
            return Answer(problem="it changed while it was read", is_lasting=False)
        return Answer(header=_read(descriptor, file.size_bytes))
    except BadGguf as refusal:
        return Answer(problem=str(refusal))
    except MemoryError:
        return Answer(problem=f"its header needs more than {MEMORY_BYTES} bytes of memory")
    except OSError as error:
        return Answer(problem=f"it can't be read: {error.strerror}", is_lasting=False)
    finally:
        os.close(descriptor)


def _read(descriptor: int, size_bytes: int) -> Header:
    """Map the start of a file and read its header."""
    if not size_bytes:
        return read_header(b"", 0)
    view = mmap.mmap(descriptor, min(size_bytes, MAX_HEADER_BYTES), access=mmap.ACCESS_READ)
    # Headers are read from front to back: a disk does that best in large pieces.
    view.madvise(mmap.MADV_SEQUENTIAL)
    return read_header(memoryview(view), size_bytes)


def main() -> None:
    """Answer until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    decoder = msgspec.json.Decoder(FoundFile)
    for line in sys.stdin.buffer:
        # SIGPROF ends the process: the parent sees which file did that, and starts another.
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        answer = read_file(decoder.decode(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
