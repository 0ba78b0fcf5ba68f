"""
`make test`: the whole suite, in the two surroundings that it needs.

    python -m tests.run [PYTEST ARGUMENT ...]

First everything that runs anywhere, then what is marked `systemd` below a user manager of its own
(`tests.support.user_systemd`).  What could not run here is listed with its reason.  The exit
status is 0 when nothing failed.
"""

import subprocess
import sys
import time

from tests.support import user_systemd

REPORT = ["-q", "-ra", "--durations=5", "--durations-min=3"]
NO_TESTS = 5  # pytest's status when a selection is empty


def main(arguments: list[str]) -> int:
    """Run both parts; return the exit status."""
    began = time.monotonic()
    print("== the suite, on this machine ==", flush=True)
    here = _pytest([], [*arguments, "-m", "not systemd"])
    print("\n== what needs a user manager, below one of its own ==", flush=True)
    obstacle = user_systemd.obstacle()
    if obstacle:
        print(f"skipped: {obstacle}")
        there = 0
    else:
        runner = [sys.executable, "-m", "tests.support.user_systemd", "--"]
        there = _pytest(runner, [*arguments, "-m", "systemd", "-p", "no:cacheprovider"])
    print(f"\nmake test: {'passed' if not here and not there else 'FAILED'} in "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
    return here or there


def _pytest(runner: list[str], arguments: list[str]) -> int:
    words = [*runner, sys.executable, "-m", "pytest", *REPORT, *arguments]
    status = subprocess.run(words, check=False).returncode
    return 0 if status == NO_TESTS else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
