"""What people get who do not work in the checkout: the wheel, and `make install`."""

import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeld.version import VERSION

ROOT = Path(__file__).parent.parent
UNITS = {path.name for path in (ROOT / "systemd").iterdir() if path.is_file() and path.suffix}
DROP_INS = {str(path.relative_to(ROOT / "systemd")) for path in ROOT.glob("systemd/*.d/*.conf")}
PAGES = {f"man{path.suffix[1:]}/{path.name}" for path in (ROOT / "man").iterdir()}
MODULES = {
    str(path.relative_to(root))
    for root in (ROOT / "daemon", ROOT / "ctl")
    for path in root.rglob("*.py")
}
OFFLINE = re.compile(r"NewConnectionError|Connection(Refused|Reset)?Error|Could not find a version|"
                     r"Network is unreachable|name resolution|ReadTimeout|ProxyError")  # fmt: skip
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words: str, status: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run make in the checkout; check its exit status."""
    surroundings = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    done = subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={sys.executable}", *words],
        cwd=ROOT,
        env={**surroundings, **environment},
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,  # what a careful root has must not become the mode of the files
    )
    assert done.returncode == status or status < 0, done.stdout + done.stderr
    return done


def files(directory: Path) -> set[str]:
    """Return everything below a directory that is no directory, by its path in it."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


# --- the wheel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build the wheel, without network, and open it."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = directory.iterdir()
    assert path.name == f"modeld-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_wheel_has_both_packages_and_nothing_of_the_tests(wheel: zipfile.ZipFile) -> None:
    """A module that is missing here is found missing by whoever installs it."""
    code = {name for name in wheel.namelist() if not name.startswith(f"modeld-{VERSION}.")}

    assert code >= MODULES
    assert {name.split("/")[0] for name in code} == {"modeld", "modelctl"}
    assert not [name for name in code if "__pycache__" in name]
    assert {f"modeld/scenarios/{path.name}" for path in ROOT.glob("etc/scenarios/*")} <= code


def test_wheel_carries_units_manual_and_example(wheel: zipfile.ZipFile) -> None:
    """So that `pip install` leaves everything on the disk that a set-up needs."""
    base = f"modeld-{VERSION}.data/data/share/"
    shared = {name.removeprefix(base) for name in wheel.namelist() if name.startswith(base)}

    assert {f"man/{page}" for page in PAGES} <= shared
    assert {f"modeld/systemd/{name}" for name in UNITS | DROP_INS} <= shared
    assert "modeld/modeld.toml" in shared


def test_wheel_declares_commands_extras_and_licence(wheel: zipfile.ZipFile) -> None:
    """What pip reads."""
    about = f"modeld-{VERSION}.dist-info"
    commands = wheel.read(f"{about}/entry_points.txt").decode()
    metadata = wheel.read(f"{about}/METADATA").decode()

    assert "modeld = modeld.__main__:main" in commands
    assert "modelctl = modelctl.__main__:main" in commands
    assert "Provides-Extra: engine" in metadata
    assert "Provides-Extra: nvidia" in metadata
    assert f"{about}/licenses/LICENSE" in wheel.namelist()


# --- for a distribution --------------------------------------------------------------------------


@pytest.fixture
def package() -> Iterator[Path]:
    """Return a directory to install into; its name is short and has nothing to be quoted."""
    with tempfile.TemporaryDirectory(prefix="md-", dir="/tmp") as name:
        yield Path(name)


@needs_make
def test_package_has_exactly_what_is_expected_and_uninstall_takes_it_back(package: Path) -> None:
    """A distribution lists the files of a package, and so does the manifest."""
    where = (f"DESTDIR={package}", "PREFIX=/usr")
    make("install", *where)
    found = files(package)
    library = {name for name in found if name.startswith("usr/lib/modeld/")}

    assert found - library == {
        "etc/modeld/modeld.toml",
        "usr/bin/modelctl",
        "usr/bin/modeld",
        *(f"usr/lib/systemd/user/{name}" for name in UNITS),
        "usr/libexec/modeld/stop-post",
        *(f"usr/share/man/{page}" for page in PAGES),
        "usr/share/modeld/manifest",
        "usr/share/modeld/modeld.toml",
        "usr/share/modeld/systemd/choose-drop-ins",
        *(f"usr/share/modeld/systemd/{name}" for name in DROP_INS),
    }
    code = {name.removeprefix("usr/lib/modeld/") for name in library if name.endswith(".py")}
    assert code == MODULES
    assert len({name for name in library if name.endswith(".pyc")}) == len(MODULES)
    assert not [name for name in found if not (package / name).stat().st_mode & 0o004]
    assert not [path for path in package.rglob("*/") if path.stat().st_mode & 0o005 != 0o005]
    listed = (package / "usr/share/modeld/manifest").read_text().splitlines()
    listed_files = {name for name in listed if not name.endswith("/")}
    assert listed_files == found - library - {"etc/modeld/modeld.toml"}

    make("uninstall", *where)
    assert list(package.iterdir()) == []


@needs_make
def test_package_is_full_of_final_paths(package: Path) -> None:
    """A placeholder, or the packager's own directory, would be found at the first start."""
    make("install", f"DESTDIR={package}", "PREFIX=/usr")
    units = package / "usr/lib/systemd/user"
    service = (units / "modeld.service").read_text()
    server = (units / "modeld-llama@.service").read_text()

    assert "ExecStart=/usr/bin/modeld\n" in service
    assert "ExecStopPost=-/usr/libexec/modeld/stop-post\n" in service
    assert "=/usr/bin/python3 -I -S /usr/lib/modeld/modeld/host/launch.py start %t" in server
    for name in files(package):
        content = (package / name).read_bytes()
        assert str(package).encode() not in content, name
        if "/share/modeld/" not in name:
            assert not re.search(rb"=-?@[A-Z]+@", content), name


def a_python(directory: Path) -> Path:
    """Return a Python that has this one's libraries, and no modeld."""
    venv.create(directory, symlinks=True)
    (libraries,) = directory.glob("lib/python*/site-packages")
    # a directory that is named so is no place whose own .pth files count
    (libraries / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    return directory / "bin/python"


@needs_make
def test_packaged_commands_run_where_they_were_unpacked(package: Path) -> None:
    """With the distribution's Python and libraries; here this one's stand for them."""
    prefix = package / "usr"
    python = a_python(package / "python")
    make("install", f"DESTDIR={package}/root", f"PREFIX={prefix}", f"INTERPRETER={python}")
    shutil.move(f"{package}/root{prefix}", prefix)
    environment = {"HOME": str(package), "PATH": "/usr/bin:/bin"}
    for words in (
        ["modeld", "--version"],
        ["modelctl", "--version"],
        ["modeld", "--check"],
        ["modelctl", "config", "check"],  # starts a modeld that answers: none runs here
    ):
        done = subprocess.run(
            [prefix / "bin" / words[0], *words[1:]],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert VERSION in done.stdout or "valid" in done.stdout


@needs_make
def test_packaged_units_are_understood_by_systemd(package: Path) -> None:
    """`systemd-analyze verify` also looks for the programs."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    prefix = package / "usr"
    make("install", f"DESTDIR={package}/root", f"PREFIX={prefix}", f"INTERPRETER={sys.executable}")
    shutil.move(f"{package}/root{prefix}", prefix)
    # an instance of the template stands for it
    units = sorted(
        path.with_name(path.name.replace("@", "@0123456789abcdef"))
        for path in (prefix / "share/systemd/user").iterdir()
    )
    done = subprocess.run(
        [analyze, "verify", "--user", "--man=no", *units],
        env={"XDG_RUNTIME_DIR": str(package), "PATH": os.environ["PATH"], "HOME": str(package)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    told = [line for line in done.stderr.splitlines() if str(prefix) in line or "modeld" in line]
    assert (done.returncode, told) == (0, []), done.stderr


@needs_make
def test_install_over_an_older_one_keeps_the_configuration_and_removes_what_is_stale(
    package: Path,
) -> None:
    """An upgrade must neither undo somebody's settings nor leave yesterday's unit in force."""
    where = (f"DESTDIR={package}", "PREFIX=/usr")
    make("install", *where)
    config = package / "etc/modeld/modeld.toml"
    config.write_text("load.replace = false\n")
    stale = package / "usr/lib/systemd/user/yesterday.service"
    stale.touch()
    manifest = package / "usr/share/modeld/manifest"
    lines = [*manifest.read_text().splitlines(), "usr/lib/systemd/user/yesterday.service"]
    manifest.write_text("".join(f"{line}\n" for line in sorted(lines)))
    strange = package / "usr/bin/strange"
    strange.touch()
    make("install", *where)

    assert config.read_text() == "load.replace = false\n"
    assert not stale.exists()

    make("uninstall", *where)
    assert files(package) == {"etc/modeld/modeld.toml", "usr/bin/strange"}
    make("uninstall", *where, status=2)


@needs_make
@pytest.mark.parametrize("prefix", ["/opt/two words", "/opt/100%"])
def test_prefix_that_no_unit_could_name_is_refused(package: Path, prefix: str) -> None:
    """Half an installation is worse than none."""
    done = make("install", f"DESTDIR={package}", f"PREFIX={prefix}", status=2)

    assert "must have no spaces" in done.stderr
    assert not any(package.iterdir())


# --- for this machine ----------------------------------------------------------------------------


@needs_make
def test_install_below_a_home_directory_works_and_uninstall_takes_it_back(package: Path) -> None:
    """The README's way, from PyPI; skipped where that can't be reached."""
    words = ("PREFIX=~/.local", "ENGINE=0")
    quick = {"PIP_RETRIES": "1", "PIP_TIMEOUT": "5", "HOME": str(package)}
    keep = {name: os.environ[name] for name in ("PIP_INDEX_URL", "HTTPS_PROXY", "SSL_CERT_FILE",
            "PIP_CACHE_DIR", "PIP_CERT") if name in os.environ}  # fmt: skip
    done = make("install", *words, status=-1, **keep, **quick)
    if done.returncode and OFFLINE.search(done.stderr):
        pytest.skip(f"PyPI can't be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = package / ".local"
    units = prefix / "share/systemd/user"
    launcher = re.search(r"ExecStart=(\S+) -I -S (\S+) start", (units / "modeld-llama@.service")
                         .read_text())  # fmt: skip
    version = subprocess.run(
        [prefix / "bin/modelctl", "--version"], capture_output=True, text=True, check=True
    )
    subprocess.run([prefix / "bin/modeld", "--check"], capture_output=True, check=True)

    assert launcher is not None
    assert Path(launcher[1]).samefile(prefix / "lib/modeld/bin/python")
    assert Path(launcher[2]).is_file()
    assert f"ExecStart={prefix}/bin/modeld\n" in (units / "modeld.service").read_text()
    assert VERSION in version.stdout
    assert list((prefix / "lib").rglob("modeld/__pycache__/__main__.*.pyc"))
    assert not (package / "etc").exists()

    make("uninstall", *words, HOME=str(package))
    assert not prefix.exists()
