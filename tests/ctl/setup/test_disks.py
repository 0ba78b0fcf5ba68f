"""Which disk a path is on, by a /sys and a list of mounts that the tests write."""

import os
from pathlib import Path

import pytest

from modelctl.setup.disks import Disk, Kind, Mount, disk_of, read_mounts


def number(path: Path) -> str:
    """Return the device of a path, as /sys names it."""
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def a_disk(root: Path, name: str, rotational: str) -> Path:
    """Make a disk as /sys has it."""
    disk = root / name
    (disk / "queue").mkdir(parents=True)
    (disk / "queue" / "rotational").write_text(f"{rotational}\n")
    return disk


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A /sys/dev/block of one's own."""
    made = tmp_path / "blocks"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("flag", "kind"), [("0", Kind.SSD), ("1", Kind.ROTATING), ("?", Kind.UNKNOWN)]
)
def test_disk_is_what_the_kernel_says(tmp_path: Path, blocks: Path, flag: str, kind: Kind) -> None:
    """A wrong guess makes an SSD the slow tier."""
    (blocks / number(tmp_path)).symlink_to(a_disk(tmp_path, "sda", flag))

    assert disk_of(str(tmp_path), [], blocks) == Disk("sda", kind)


def test_partition_is_on_its_disk(tmp_path: Path, blocks: Path) -> None:
    """Only the disk has the flag."""
    partition = a_disk(tmp_path, "sda", "0") / "sda1"
    partition.mkdir()
    (partition / "partition").write_text("1\n")
    (blocks / number(tmp_path)).symlink_to(partition)

    assert disk_of(str(tmp_path), [], blocks) == Disk("sda", Kind.SSD)


def test_volume_over_several_disks_is_as_slow_as_the_slowest(tmp_path: Path, blocks: Path) -> None:
    """LVM and dm-crypt say nothing worth of themselves."""
    volume = tmp_path / "dm-0"
    (volume / "slaves").mkdir(parents=True)
    for name, flag in (("sdb", "0"), ("sda", "1")):
        (volume / "slaves" / name).symlink_to(a_disk(tmp_path, name, flag))
    (blocks / number(tmp_path)).symlink_to(volume)

    assert disk_of(str(tmp_path), [], blocks) == Disk("sda+sdb", Kind.ROTATING)


def test_folder_that_is_not_there_is_on_the_disk_of_the_one_above(
    tmp_path: Path, blocks: Path
) -> None:
    """The built-in folder often is not there yet."""
    (blocks / number(tmp_path)).symlink_to(a_disk(tmp_path, "sda", "0"))

    assert disk_of(str(tmp_path / "not" / "there"), [], blocks) == Disk("sda", Kind.SSD)


def test_file_system_without_a_disk_is_of_no_known_kind(tmp_path: Path, blocks: Path) -> None:
    """A network is neither, and two of them are two."""
    mounts = [Mount("/", "ext4", "/nowhere"), Mount(str(tmp_path), "nfs4", "server:/models")]

    assert disk_of(str(tmp_path), mounts, blocks) == Disk("nfs4", Kind.UNKNOWN, number(tmp_path))


def test_two_mounts_whose_devices_are_hidden_are_two(tmp_path: Path, blocks: Path) -> None:
    """As in a container, where the kernel's folders of disks are masked."""
    mounts = [Mount("/", "ext4", "/dev/not-here")]

    assert disk_of(str(tmp_path), mounts, blocks) == Disk("ext4", Kind.UNKNOWN, number(tmp_path))
    assert disk_of("/proc", mounts, blocks) != disk_of(str(tmp_path), mounts, blocks)


def test_mounts_are_read_with_their_blanks(tmp_path: Path) -> None:
    """The kernel writes them as octal numbers; a list that is not there is an empty one."""
    listed = tmp_path / "mountinfo"
    listed.write_text("36 35 8:1 / /my\\040disk rw shared:1 - ext4 /dev/sda1 rw\nnonsense\n")

    assert read_mounts(listed) == [Mount("/my disk", "ext4", "/dev/sda1")]
    assert read_mounts(tmp_path / "none") == []
