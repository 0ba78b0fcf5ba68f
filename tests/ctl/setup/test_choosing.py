"""Which folder becomes what: the table of `choosing`, row by row."""

from modelctl.setup.choosing import Choice, Folder, Settled, choose
from modelctl.setup.disks import Disk, Kind

NVME, SATA = Disk("nvme0n1", Kind.SSD), Disk("sda", Kind.SSD)
TURNING, NETWORK = Disk("sdb", Kind.ROTATING), Disk("nfs4", Kind.UNKNOWN, "0:50")
DEFAULT = Folder("/default", NVME, is_writable=False)
NOTHING = Settled()


def folder(path: str, disk: Disk, gigabytes: int = 1, owner: str = "", **more: bool) -> Folder:
    """Return a folder with models."""
    return Folder(path, disk, 1, gigabytes << 30, owner=owner, **more)


def left(choice: Choice) -> list[str]:
    """Return the folders that go into no setting."""
    return [use.folder.path for use in choice.uses if not use.key]


def test_ssd_folder_with_the_most_is_the_fast_tier_where_others_are_slower() -> None:
    """What is on another SSD may be copied too; what is on the same one must not."""
    found = [
        folder("/small", NVME), folder("/big", NVME, 9), folder("/hdd", TURNING, 99),
        folder("/nas", NETWORK), folder("/sata", SATA),
    ]  # fmt: skip
    choice = choose(found, DEFAULT, NOTHING)

    assert (choice.ssd, choice.hdds) == ("/big", ("/hdd", "/nas", "/sata"))
    assert left(choice) == ["/small"]


def test_no_copies_go_into_another_programs_folder() -> None:
    """It would count them as its own, or throw them away; the built-in folder is there for them."""
    found = [folder("/hub", NVME, 9, "Hugging Face"), folder("/hdd", TURNING)]
    choice = choose(found, DEFAULT, NOTHING)

    assert (choice.ssd, choice.hdds, left(choice)) == (None, ("/hdd",), ["/hub"])


def test_no_copies_go_where_nothing_can_be_written() -> None:
    """They would only fail."""
    found = [folder("/ro", SATA, 9, is_writable=False), folder("/hdd", TURNING)]

    assert choose(found, DEFAULT, NOTHING)[:2] == (None, ("/ro", "/hdd"))


def test_one_folder_alone_is_where_models_load_from() -> None:
    """On an SSD, or on something that the kernel does not know."""
    for disk in (NVME, NETWORK._replace(number="0:1")):
        default = DEFAULT._replace(disk=NETWORK)
        choice = choose([folder("/only", disk)], default, NOTHING)
        assert (choice.ssd, choice.hdds) == ("/only", None)


def test_nothing_is_copied_between_equals() -> None:
    """A copy from one SSD folder to another costs its room and gains nothing."""
    for disk, default in ((NVME, NVME), (TURNING, TURNING), (NETWORK, NETWORK)):
        found = [folder("/a", disk), folder("/b", disk)]
        choice = choose(found, DEFAULT._replace(disk=default), NOTHING)
        assert (choice.ssd, choice.hdds, left(choice)) == ("", ("/a", "/b"), [])
    turning = DEFAULT._replace(disk=TURNING)
    assert choose([folder("/a", TURNING)], turning, NOTHING)[:2] == ("", ("/a",))


def test_disk_that_turns_is_a_slow_tier_where_the_built_in_folder_is_on_an_ssd() -> None:
    """Copies go where modeld keeps them by itself."""
    choice = choose([folder("/hdd", TURNING)], DEFAULT, NOTHING)

    assert (choice.ssd, choice.hdds) == (None, ("/hdd",))


def test_what_is_configured_stays() -> None:
    """Somebody has thought about it."""
    ssd, hdd, more = folder("/ssd", NVME), folder("/hdd", TURNING), folder("/more", TURNING)
    both = choose([more], DEFAULT, Settled(ssd=ssd, has_ssd=True, hdds=(hdd,)))
    assert (both.ssd, both.hdds, left(both)) == (None, None, ["/more"])
    assert [use.folder.path for use in both.uses if use.is_kept] == ["/ssd", "/hdd"]

    one = choose([more, folder("/same", NVME)], DEFAULT, Settled(ssd=ssd, has_ssd=True))
    assert (one.ssd, one.hdds, left(one)) == (None, ("/more",), ["/same"])

    none = choose([more], DEFAULT, Settled(has_ssd=True))
    assert (none.ssd, none.hdds) == (None, ("/more",))

    slow = choose([ssd], DEFAULT, Settled(hdds=(hdd,)))
    assert (slow.ssd, slow.hdds, left(slow)) == ("/ssd", None, [])
