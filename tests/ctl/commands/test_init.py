"""`modelctl init` in a home of its own, on made-up disks, with modeld and without."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelctl.setup import finding, places
from modelctl.setup.disks import Disk, Kind, Mount
from modeld.wire.codec import Failure
from modeld.wire.configuration import AskConfig, CheckConfig, ConfigChecked, ConfigReport, Setting
from modeld.wire.daemon import Reload, Reloaded
from tests.ctl.conftest import Call, Result
from tests.support.fake_daemon import FakeDaemon
from tests.support.terminal import Terminal
from tests.support.tiny_gguf import write_model


class Machine:
    """A home, and disks by the name of the folder in it."""

    def __init__(self, root: Path, modelctl: Call) -> None:
        self.home = root / "home"
        self.home.mkdir()
        self.root = root
        self.file = self.home / ".config" / "modeld" / "modeld.toml"
        self._modelctl = modelctl

    def models(self, path: str, *sizes: int) -> Path:
        """Make a folder below the root with files of these sizes."""
        folder = self.root / path
        folder.mkdir(parents=True)
        for at, size in enumerate(sizes):
            (folder / f"m{at}.gguf").write_bytes(b"x" * size)
        return folder

    def init(self, *words: str) -> Result:
        """Run it; no program of this machine is found."""
        home = str(self.home)
        return self._modelctl("init", *words, HOME=home, PATH=home)

    def written(self) -> object:
        """Return what the file says of folders."""
        return tomllib.loads(self.file.read_text())["storage"]


@pytest.fixture
def machine(tmp_path: Path, modelctl: Call, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine with an SSD, and a disk that turns at `hdd`."""

    def disk_of(path: str, mounts: Sequence[Mount]) -> Disk:
        is_slow = path.startswith(f"{tmp_path}/hdd")
        return Disk("sda", Kind.ROTATING) if is_slow else Disk("nvme0n1", Kind.SSD)

    monkeypatch.setattr(finding, "disk_of", disk_of)
    monkeypatch.setattr(places, "SYSTEM_FOLDERS", ())
    mounts = [Mount(str(tmp_path / "hdd"), "ext4", "/dev/sda1")]
    monkeypatch.setattr(finding, "read_mounts", lambda: mounts)
    return Machine(tmp_path, modelctl)


def test_init_writes_what_it_finds(machine: Machine) -> None:
    """Two folders, two disks, one file, and nothing else is touched."""
    ssd, hdd = machine.models("home/models", 10), machine.models("hdd/models", 20, 30)
    done = machine.init()

    assert done.status == 0
    assert machine.written() == {"ssd_path": str(ssd), "hdd_paths": [str(hdd)]}
    assert machine.file.read_text().startswith("# The configuration of modeld.")
    assert done.out.splitlines() == [
        f"{ssd}\t1\t10\tssd:nvme0n1\tssd_path\tthe SSD folder with the most",
        f"{hdd}\t2\t50\trotating:sda\thdd_paths\twhat is used often is copied to the SSD",
    ]


def test_init_again_changes_nothing(machine: Machine) -> None:
    """Whoever is not sure types it twice."""
    machine.models("home/models", 10)
    machine.init()
    before = machine.file.stat()
    answer = json.loads(machine.init("--json").out)
    after = machine.file.stat()

    # not the time of the last access: it was read again
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (answer["written"], answer["changed"]) == (False, [])
    assert answer["folders"][0]["kept"]


def test_init_makes_no_folder(machine: Machine) -> None:
    """S0-46: it says what to type instead."""
    machine.models("hdd/models", 10)
    answer = json.loads(machine.init("--json").out)
    default = machine.home / ".local" / "share" / "modeld" / "models"

    assert not default.exists()
    assert f"mkdir -p {default}" in [step["command"] for step in answer["next"]]
    assert "ssd_path" not in machine.file.read_text()


def test_init_with_dry_run_writes_nothing(machine: Machine) -> None:
    """And tells what it would."""
    machine.models("home/models", 10)
    answer = json.loads(machine.init("--dry-run", "--json").out)

    assert not machine.file.exists()
    assert (answer["dry_run"], answer["written"]) == (True, False)
    assert answer["changed"][0].startswith("storage.ssd_path: ")


def test_init_keeps_what_is_configured(machine: Machine) -> None:
    """Every comment and every key: somebody has thought about them."""
    machine.models("home/models", 10)
    mine = machine.models("hdd/mine", 10)
    more = machine.models("hdd/models", 10)
    text = f'# mine\n[storage]\nssd_path = "{mine}"   # because\nhdd_paths = []\n'
    machine.file.parent.mkdir(parents=True)
    machine.file.write_text(text)
    answer = json.loads(machine.init("--json").out)

    assert machine.file.read_text() == text
    assert {each["path"] for each in answer["folders"] if not each["key"]} == {
        str(machine.home / "models"),
        str(more),
    }
    assert not answer["written"]


def test_init_adds_what_is_not_configured(machine: Machine) -> None:
    """The rest of the file stays as it is."""
    ssd, hdd = machine.models("home/mine", 10), machine.models("hdd/models", 10)
    machine.file.parent.mkdir(parents=True)
    machine.file.write_text(f'storage.ssd_path = "{ssd}" # mine\n[load]\nreplace = false\n')
    assert machine.init().status == 0

    assert machine.written() == {"ssd_path": str(ssd), "hdd_paths": [str(hdd)]}
    assert "# mine" in machine.file.read_text()


def test_init_says_where_it_looked_where_there_is_no_model(machine: Machine) -> None:
    """And writes no file that a later look would have to respect."""
    machine.models("home/models")
    done = machine.init()

    assert (done.status, done.out) == (4, "")
    assert f"{machine.home}/models" in done.err
    assert "modelctl init --ssd FOLDER" in done.err
    assert not machine.file.exists()


def test_init_writes_the_folders_that_are_named(machine: Machine) -> None:
    """As they are named, with no look at others; an empty one has its next step."""
    machine.models("home/models", 10)
    fast, one, two = (machine.models(name) for name in ("a b", "hdd/one", "hdd/two"))
    answer = json.loads(
        machine.init("--json", "--ssd", str(fast), "--hdd", f"{one}/", "--hdd", str(two)).out
    )

    assert machine.written() == {"ssd_path": str(fast), "hdd_paths": [str(one), str(two)]}
    assert answer["searched"] == []
    assert f"cp MODEL.gguf '{fast}'/" in [step["command"] for step in answer["next"]]


def test_init_warns_of_disks_that_gain_nothing(machine: Machine) -> None:
    """It is written all the same: it was asked for."""
    one, two = machine.models("hdd/one"), machine.models("hdd/two")
    done = machine.init("--ssd", str(one), "--hdd", str(two))

    assert done.status == 0
    assert "on a disk that turns (sda)" in done.err
    assert f"{two} is on the same disk as {one}" in done.err


def test_init_refuses_folders_that_can_not_be(machine: Machine) -> None:
    """Each with its cause and its cure, and nothing is written."""
    file = machine.models("home/models", 10) / "m0.gguf"
    for words, told in (
        (("--ssd", "/no/where"), "mkdir -p /no/where"),
        (("--hdd", ""), "no folder is named"),
        (("--hdd", str(file)), "is no folder"),
        (("--ssd", str(machine.home), "--hdd", str(machine.home / "models")), "inside each other"),
        (("--ssd", f"{machine.home}/\x07"), "can't stand in a configuration"),
    ):
        done = machine.init(*words)
        assert (done.status, done.out) == (2, "")
        assert told in done.err
    assert not machine.file.exists()


def test_init_replaces_no_other_setting(machine: Machine) -> None:
    """The command that does is told."""
    old, new = machine.models("home/old"), machine.models("home/new")
    machine.init("--ssd", str(old))
    done = machine.init("--ssd", str(new))

    assert done.status == 5
    assert f"modelctl config set storage.ssd_path {new}" in done.err
    assert machine.written() == {"ssd_path": str(old)}
    assert machine.init("--ssd", "~/old").status == 0


def ready(daemon: FakeDaemon, file: Path, *settings: Setting) -> FakeDaemon:
    """Have a daemon that would take anything."""
    report = ConfigReport(settings=settings, files=(), user_file=str(file))
    checked = ConfigChecked(changed=("storage.ssd_path: ...",), needs_restart=())
    return daemon.on(AskConfig, report).on(CheckConfig, checked).on(Reload, Reloaded(changed=()))


def test_init_has_a_daemon_read_the_file(machine: Machine, daemon: FakeDaemon) -> None:
    """Models are there at once; nothing needs to be started."""
    machine.models("home/models", 10)
    ready(daemon, machine.file)
    answer = json.loads(machine.init("--json").out)

    assert (answer["written"], answer["reloaded"]) == (True, True)
    assert [step["command"] for step in answer["next"]] == ["modelctl doctor", "modelctl list"]


def test_init_keeps_what_the_daemon_has_from_elsewhere(
    machine: Machine, daemon: FakeDaemon
) -> None:
    """The environment of its unit, say, of which this one knows nothing."""
    machine.models("home/models", 10)
    where = Setting(key="storage.ssd_path", value="/x", text='"/x"', origin="$MODELD_X")
    ready(daemon, machine.file, where)
    done = machine.init("--ssd", str(machine.home / "models"))

    assert done.status == 5
    assert "$MODELD_X" in done.err


def test_init_writes_nothing_that_modeld_would_not_take(
    machine: Machine, daemon: FakeDaemon
) -> None:
    """The whole file is checked, not only what is new in it."""
    machine.models("home/models", 10)
    ready(daemon, machine.file).on(CheckConfig, Failure("config", "load.x: no such key"))

    assert machine.init().status == 78
    assert not machine.file.exists()


def test_init_of_a_broken_file_says_so(machine: Machine, daemon: FakeDaemon) -> None:
    """A daemon that started before it broke knows nothing of it."""
    machine.models("home/models", 10)
    machine.file.parent.mkdir(parents=True)
    machine.file.write_text("[storage\n")
    ready(daemon, machine.file)
    done = machine.init()

    assert done.status == 78
    assert "modelctl config edit" in done.err
    assert machine.file.read_text() == "[storage\n"


def test_init_starts_the_unit_where_there_is_one(machine: Machine) -> None:
    """By hand it is started only where there is none."""
    machine.models("home/models", 10)
    steps = json.loads(machine.init("--json").out)["next"]
    assert steps[0]["command"] == "modeld"
    program = machine.home / "systemctl"
    program.write_text("#!/bin/sh\necho LoadState=loaded\n")
    program.chmod(0o755)
    steps = json.loads(machine.init("--json").out)["next"]
    assert steps[0]["command"] == "systemctl --user enable --now modeld"


def test_init_names_only_folders_where_it_is_to_be_quiet(machine: Machine) -> None:
    """For a script."""
    ssd = machine.models("home/models", 10)
    assert machine.init("-q").out == f"{ssd}\n"


def test_init_on_a_terminal_tells_sums_and_what_is_next(tmp_path: Path) -> None:
    """The real program, which may find this machine's models besides."""
    import sys

    models = tmp_path / "models"
    models.mkdir()
    write_model(models / "tiny.gguf")
    program = Path(sys.executable).parent / "modelctl"
    environment = {"HOME": str(tmp_path), "PATH": "/none", "TERM": "xterm", "NO_COLOR": "1",
                   "XDG_RUNTIME_DIR": str(tmp_path), "LANG": "C.UTF-8"}  # fmt: skip
    with Terminal([program.as_posix(), "init", "--ssd", str(models)], environment) as terminal:
        assert terminal.wait() == 0, terminal.text
    text = terminal.text.replace("\r", "")

    assert "\n1 model, " in text
    assert f"{tmp_path}/.config/modeld/modeld.toml is written\n" in text
    assert "next:\n  modeld           # start modeld\n  modelctl doctor  # is all well?\n" in text
