"""
`make test`: the whole suite, in the two surroundings that it needs.

    python -m tests.run [PYTEST ARGUMENT ...]

Everything that runs anywhere, and beside it, for half of the time is waiting, what is marked
`systemd`, below a user manager of its own (`tests.support.user_systemd`); its report comes last.
What could not run here is listed with its reason.  The exit status is 0 when nothing failed.
"""

import subprocess
import sys
import tempfile
import time

from tests.support import user_systemd

REPORT = ["-q", "-ra", "--durations=5", "--durations-min=3"]
NO_TESTS = 5  # pytest's status when a selection is empty


def main(arguments: list[str]) -> int:
    """Run both parts; return the exit status."""
    began = time.monotonic()
    obstacle = user_systemd.obstacle()
    runner = [sys.executable, "-m", "tests.support.user_systemd", "--"]
    with tempfile.TemporaryFile() as report:
        there = None
        if not obstacle:
            words = [*runner, *_pytest(*arguments, "-m", "systemd", "-p", "no:cacheprovider")]
            there = subprocess.Popen(words, stdout=report, stderr=subprocess.STDOUT)
        try:
            print("== the suite, on this machine ==", flush=True)
            done = subprocess.run(_pytest(*arguments, "-m", "not systemd"), check=False)
        except BaseException:  # Ctrl-C, most likely: nothing may stay behind
            if there is not None:
                there.terminate()
                there.wait()
            raise
        failed = _has_failed(done.returncode)
        print("\n== what needs a user manager, below one of its own ==", flush=True)
        if there is None:
            print(f"skipped: {obstacle}")
        else:
            failed |= _has_failed(there.wait())
            report.seek(0)
            print(report.read().decode(errors="replace"))
    seconds = time.monotonic() - began
    print(f"\nmake test: {'FAILED' if failed else 'passed'} in {seconds:.0f} s", flush=True)
    return int(failed)


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *REPORT, *arguments]


def _has_failed(status: int) -> bool:
    return status not in {0, NO_TESTS}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
