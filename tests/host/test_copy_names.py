"""Names and links that lead elsewhere: nothing is written or removed outside of the folder."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeld.host.copy.failure import CopyFailed
from modeld.host.copy.tier import open_root, open_work, parts_of, relative_to
from tests.support.copying import WORK_NAME, Copying, an_order, leftovers, visible

HOSTILE = [
    "",
    ".",
    "..",
    "../a.gguf",
    "a/../../b.gguf",
    "/etc/passwd",
    "a//b.gguf",
    "a/",
    "a\0b.gguf",
    ".hidden.gguf",
    f"{WORK_NAME}/manifest.json",
    "a/.b/c.gguf",
    "\ud800.gguf",
    "x" * 256,
    "/".join(["d"] * 17),
]


pytestmark = pytest.mark.usefixtures("no_clones")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file to copy."""
    path = tmp_path / "a.gguf"
    path.write_bytes(b"model" * 1000)
    return path


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_name_is_refused(copying: Copying, ssd: Path, source: Path, name: str) -> None:
    """A name from a download must not choose where modeld writes."""
    ended = copying.copy(an_order(source, ssd, names=[name]))

    assert ended.reason == "refused"
    assert not list(ssd.iterdir())


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=300))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_name_that_is_accepted_leads_nowhere_else(name: str) -> None:
    """Whatever people call their files."""
    try:
        parts = parts_of(name)
    except CopyFailed:
        return

    path = os.path.normpath("/tier/" + "/".join(parts))
    assert path == f"/tier/{name}"
    assert not any(part.startswith(".") for part in parts)


@given(
    st.lists(st.sampled_from(["..", ".", "a", "-rf", "$HOME", "%n", "\n", " ", "é"]), max_size=4)
)
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
def test_copy_is_where_its_name_says_or_nowhere(
    copying: Copying, tmp_path: Path, source: Path, parts: list[str]
) -> None:
    """Odd names are allowed, as long as they are names."""
    ssd = tmp_path / "ssd"
    ssd.mkdir(exist_ok=True)
    name = "/".join([*parts, "a.gguf"])
    outside = sorted(path.name for path in tmp_path.iterdir())

    ended = copying.copy(an_order(source, ssd, names=[name]))

    assert visible(ssd) == ({name: source.read_bytes()} if ended.reason == "done" else {})
    assert (ended.reason == "refused") == any(part.startswith(".") for part in parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == outside
    if ended.reason == "done":
        assert copying.remove(ssd, name).error == ""


def test_taken_name_is_left_as_it_is(copying: Copying, ssd: Path, source: Path) -> None:
    """Somebody put a file there meanwhile; it is theirs."""
    (ssd / "a.gguf").write_bytes(b"mine")

    assert copying.copy(an_order(source, ssd)).reason == "refused"
    assert (ssd / "a.gguf").read_bytes() == b"mine"


def test_name_that_is_taken_in_the_midst_of_a_copy_is_left_as_it_is(
    copying: Copying, ssd: Path, tmp_path: Path
) -> None:
    """A set is taken back as a whole."""
    sources = [tmp_path / "1.gguf", tmp_path / "2.gguf"]
    for path in sources:
        path.write_bytes(bytes(1024 * 1024))
    copying.start(an_order(sources, ssd, rate_limit_bytes_per_s=2 * 1024 * 1024))
    copying.moved(lambda event: event.copied_bytes > 0)
    copying.call(lambda: copying.copier.pause("c"))
    (ssd / "1.gguf").write_bytes(b"mine")
    copying.call(lambda: copying.copier.resume("c"))

    assert copying.ended().reason == "refused"
    assert visible(ssd) == {"1.gguf": b"mine"}
    assert not leftovers(ssd)


@pytest.mark.parametrize("kind", ["dangling", "to-a-file"])
def test_link_in_place_of_the_file_is_not_followed(
    copying: Copying, ssd: Path, source: Path, tmp_path: Path, kind: str
) -> None:
    """Writing through it would overwrite what it points to."""
    victim = tmp_path / "victim"
    if kind == "to-a-file":
        victim.write_bytes(b"secret")
    (ssd / "a.gguf").symlink_to(victim)

    assert copying.copy(an_order(source, ssd)).reason == "refused"
    assert not victim.exists() or victim.read_bytes() == b"secret"


def test_link_in_place_of_a_folder_is_not_followed(
    copying: Copying, ssd: Path, source: Path, tmp_path: Path
) -> None:
    """The copy would land where nobody asked for it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (ssd / "sub").symlink_to(outside)

    ended = copying.copy(an_order(source, ssd, names=["sub/a.gguf"]))

    assert ended.reason == "refused"
    assert not list(outside.iterdir())


def test_link_in_place_of_modelds_own_folder_is_not_followed(
    copying: Copying, ssd: Path, source: Path, tmp_path: Path
) -> None:
    """Leftovers are removed in there: it must not be somewhere else."""
    outside = tmp_path / "outside"
    (outside / "part-1").mkdir(parents=True)
    (outside / "part-1" / "keep").write_bytes(b"mine")
    (outside / "README").touch()
    (ssd / WORK_NAME).symlink_to(outside)

    assert "link" in copying.survey(ssd).problem
    assert copying.copy(an_order(source, ssd)).reason == "refused"
    assert (outside / "part-1" / "keep").exists()


def test_folder_that_others_may_write_to_is_refused(
    copying: Copying, ssd: Path, source: Path
) -> None:
    """They could put anything in the place of a model."""
    ssd.chmod(0o777)

    assert "everybody" in copying.survey(ssd).problem
    assert copying.copy(an_order(source, ssd)).reason == "refused"


def test_list_that_others_may_write_is_not_believed(
    copying: Copying, ssd: Path, source: Path
) -> None:
    """Whoever writes the list chooses what is removed."""
    copying.copy(an_order(source, ssd))
    (ssd / WORK_NAME).chmod(0o770)

    assert "others may write" in copying.survey(ssd).problem
    assert copying.remove(ssd, "a.gguf").error
    assert (ssd / "a.gguf").exists()


def test_folder_with_modelds_name_that_is_not_modelds_is_left_alone(
    copying: Copying, ssd: Path, source: Path
) -> None:
    """Only a folder with the marker is tidied."""
    own = ssd / WORK_NAME / "part-1"
    own.mkdir(parents=True)
    (own / "mine").touch()

    assert "not made by modeld" in copying.survey(ssd).problem
    assert copying.copy(an_order(source, ssd)).reason == "refused"
    assert (own / "mine").exists()


def test_remove_of_a_copy_that_became_a_link_touches_nothing(
    copying: Copying, ssd: Path, source: Path, tmp_path: Path
) -> None:
    """Neither the link nor what it points to is modeld's."""
    copying.copy(an_order(source, ssd))
    victim = tmp_path / "victim"
    victim.write_bytes(source.read_bytes())
    (ssd / "a.gguf").unlink()
    (ssd / "a.gguf").symlink_to(victim)

    assert copying.remove(ssd, "a.gguf").error
    assert victim.exists()
    assert (ssd / "a.gguf").is_symlink()


def test_remove_of_a_copy_with_a_second_name_leaves_that_one(
    copying: Copying, ssd: Path, source: Path, tmp_path: Path
) -> None:
    """Whoever linked it wants to keep it; its space is not freed."""
    copying.copy(an_order(source, ssd))
    (tmp_path / "kept.gguf").hardlink_to(ssd / "a.gguf")

    removed = copying.remove(ssd, "a.gguf")

    assert (removed.error, removed.freed_bytes) == ("", 0)
    assert (tmp_path / "kept.gguf").read_bytes() == source.read_bytes()


def test_remove_outside_of_the_folder_is_refused(copying: Copying, ssd: Path, source: Path) -> None:
    """A path that leads out of the tier is no copy of modeld's."""
    copying.copy(an_order(source, ssd))

    assert copying.remove(ssd, "../a.gguf").error
    assert source.exists()


def test_nothing_outside_is_touched_while_somebody_swaps_links(
    copying: Copying, ssd: Path, source: Path, tmp_path: Path
) -> None:
    """A race must not do what a link could not."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"secret")
    outside = tmp_path / "outside"
    outside.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name, target in (("a.gguf", victim), ("sub", outside)):
                try:
                    (ssd / name).symlink_to(target)
                    (ssd / name).unlink()
                except OSError:
                    pass

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for number in range(12):
            name = "a.gguf" if number % 2 else "sub/a.gguf"
            copying.copy(an_order(source, ssd, names=[name]))
            copying.remove(ssd, name)
    finally:
        stop.set()
        attacker.join()

    assert victim.read_bytes() == b"secret"
    assert not list(outside.iterdir())


def test_tier_that_is_a_link_itself_is_followed(tmp_path: Path, ssd: Path) -> None:
    """A person wrote it in the configuration, and knows what it is."""
    link = tmp_path / "link"
    link.symlink_to(ssd)

    with open_root(str(link)) as root, open_work(root, make=True):
        pass

    assert (ssd / WORK_NAME / "README").exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/ssd/a.gguf", "a.gguf"), ("/ssd/d/a", "d/a"), ("/ssdx/a", ""), ("d/a", "d/a"), ("/ssd", "")],
)
def test_path_is_seen_from_its_folder(path: str, expected: str) -> None:
    """The list has paths below the tier, the catalogue has whole ones."""
    assert relative_to("/ssd/", path) == expected
