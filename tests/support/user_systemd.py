"""
A real `systemd --user`, with its journal, on machines whose PID 1 is something else.

    python -m tests.support.user_systemd -- COMMAND [ARGUMENT ...]

Runs COMMAND as an ordinary user below a user manager of its own, in private mount, PID and
cgroup namespaces: nothing outside them is touched, and all of it ends with COMMAND, whose exit
status is returned; 77 where it cannot be done.  It needs root, and systemd, dbus and util-linux;
the checkout and the interpreter are made reachable for that user, wherever they lie.

`make test` runs the tests marked `systemd` in it; elsewhere they are skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CANNOT = 77  # what automake's tests return to be skipped
TEST_UID = 1000
ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).with_suffix(".sh")
MARK = "MODELD_TEST_USER_MANAGER"
SYSTEMD_DIRECTORIES = ("/usr/lib/systemd", "/lib/systemd")
TOOLS = (
    "unshare",
    "setpriv",
    "mount",
    "umount",
    "dbus-daemon",
    "systemctl",
    "journalctl",
    "busctl",
)


def is_inside() -> bool:
    """Return whether this process runs below such a manager."""
    return bool(os.environ.get(MARK))


def obstacle() -> str:
    """Return why it cannot be done on this machine; empty when it can."""
    if os.geteuid() != 0:
        return "a private user manager needs root, to make namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or systemd_directory() is None:
        return f"not installed: {', '.join(missing) or 'systemd-journald'}"
    if not Path("/etc/machine-id").exists():
        return "there is no /etc/machine-id, so no journal"
    if cgroup_directory() is None:
        return "there is no cgroup v2 tree to make a group in"
    return ""


def systemd_directory() -> str | None:
    """Return where systemd keeps its programs."""
    for directory in SYSTEMD_DIRECTORIES:
        if all(Path(directory, name).exists() for name in ("systemd", "systemd-journald")):
            return directory
    return None


def cgroup_directory() -> Path | None:
    """Return the root of the cgroup v2 tree, where groups can be made."""
    for directory in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (directory / "cgroup.procs").exists() and os.access(directory, os.W_OK):
            return directory
    return None


def run(command: list[str]) -> int:
    """Run a command below a manager of its own and return its exit status."""
    tree, systemd = cgroup_directory(), systemd_directory()
    assert tree is not None
    assert systemd is not None
    # A group of its own: the manager never sees, and so never adopts, a process outside.
    group = tree / f"modeld-tests-{os.getpid()}"
    group.mkdir()
    interpreter = Path(sys.executable)
    paths = {ROOT, interpreter.parent, interpreter.resolve().parent.parent, Path(sys.base_prefix)}
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup"]
    try:
        return subprocess.run(
            [
                *("bash", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group)),
                *("unshare", *namespaces, "--propagation", "private", str(SCRIPT)),
                *("root", str(TEST_UID), ":".join(map(str, sorted(paths))), "--"),
                *command,
            ],
            env={**os.environ, "SYSTEMD": systemd},
            check=False,
        ).returncode
    finally:
        for path in sorted(group.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
        group.rmdir()


def main() -> int:
    """Run what the arguments say."""
    words = sys.argv[1:]
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        print(__doc__, file=sys.stderr)
        return 64
    if is_inside():
        return subprocess.run(command, check=False).returncode
    if reason := obstacle():
        print(f"skipped: {reason}", file=sys.stderr)
        return CANNOT
    return run(command)


if __name__ == "__main__":
    sys.exit(main())
