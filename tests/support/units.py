"""The unit files, put where a user manager finds them, with their placeholders filled in."""

import os
import shutil
import stat
import sys
from pathlib import Path

import modeld

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "systemd"
PACKAGE = Path(modeld.__file__).parent
DROP_INS = ("modeld-llama@.service.d/10-sandbox.conf", "modeld-llama@.service.d/20-cpu.conf")
UNITS = (
    "app-modeld.slice",
    "modeld-http.socket",
    "modeld-llama@.service",
    "modeld.service",
    "modeld.socket",
)


def drop_ins() -> list[Path]:
    """Return all drop-ins that come with the units."""
    return sorted(SOURCE.glob("*.d/*.conf"))


def user_directory() -> Path:
    """Return where this user's own units lie."""
    return Path(os.environ["HOME"], ".config", "systemd", "user")


def install(directory: Path, drop_ins: tuple[str, ...] = DROP_INS) -> None:
    """Put the units and some drop-ins into a directory, as `make install` does."""
    places = {
        "@BINDIR@": str(Path(sys.executable).parent),
        "@LIBEXECDIR@": str(SOURCE),
        "@PYTHON@": sys.executable,
        "@PACKAGEDIR@": str(PACKAGE),
    }
    for old in directory.glob("modeld*.d"):
        shutil.rmtree(old)  # what an earlier test wanted
    if ROOT.is_relative_to("/tmp") and any(
        each.startswith("modeld.service.d") for each in drop_ins
    ):
        # PrivateTmp= hides a checkout that lies there; `make install` puts nothing there
        checkout = directory / "modeld.service.d" / "90-checkout.conf"
        checkout.parent.mkdir(parents=True)
        checkout.write_text(f"[Service]\nBindReadOnlyPaths={ROOT}\n")
    for name in (*UNITS, *drop_ins):
        text = (SOURCE / name).read_text()
        for placeholder, value in places.items():
            text = text.replace(placeholder, value)
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(stat.S_IRUSR | stat.S_IWUSR)
