"""
A process that copies and is ended in the midst of it: `python -m tests.support.copy_victim`.

    copy_victim SSD DEATH SOURCE...

It surveys SSD, says `ready`, copies the sources there as a set, says how that ended, and removes
them again, for ever.  Where DEATH is a number above 0, it kills itself at that system call, counted
from its first copy on.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from modeld.host.copy import sink
from tests.support.copying import Copying, an_order

CALLS = ("open", "write", "pwritev", "fsync", "mkdir", "rename", "unlink", "rmdir", "utime")

_Words = ParamSpec("_Words")
_Answer = TypeVar("_Answer")


def main(ssd: Path, death: int, sources: list[Path]) -> None:
    """Copy until somebody ends this."""
    sink.clone = lambda _source, _target: False  # where blocks can be shared, nothing is written
    copying = Copying()
    copying.survey(ssd)
    print("ready", flush=True)
    if death:
        _die_at(death)
    names = [f"made/{path.name}" for path in sources]
    while True:
        ended = copying.copy(an_order(sources, ssd, names=names))
        print(ended.reason, flush=True)
        if death or ended.reason != "done":
            break
        copying.remove(ssd, *names)
    copying.close()


def _die_at(death: int) -> None:
    """Have the process end before a certain call of those that change something."""
    count = [0]
    lock = threading.Lock()

    def dying(call: Callable[_Words, _Answer]) -> Callable[_Words, _Answer]:
        def counted(*words: _Words.args, **named: _Words.kwargs) -> _Answer:
            with lock:
                count[0] += 1
                if count[0] == death:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*words, **named)

        return counted

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    from modeld.host.copy import publish

    publish.rename_new = dying(publish.rename_new)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(word) for word in sys.argv[3:]])
