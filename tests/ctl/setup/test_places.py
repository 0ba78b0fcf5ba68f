"""Where is looked for models, by environment and mounts."""

from modelctl.setup.disks import Mount
from modelctl.setup.places import Place, usual


def paths(*mounts: Mount, **environment: str) -> list[str]:
    """Return the paths of all places."""
    return [place.path for place in usual(environment, "/home/me", mounts)]


def test_places_of_other_programs_have_an_owner() -> None:
    """Copies must not go into another program's folder."""
    places = list(usual({}, "/home/me", ()))

    assert Place("/home/me/models") in places
    assert Place("/srv/models") in places
    assert Place("/home/me/.cache/llama.cpp", "llama.cpp") in places
    assert Place("/home/me/.cache/huggingface/hub", "Hugging Face") in places
    assert Place("/home/me/.lmstudio/models", "LM Studio") in places


def test_variables_of_other_programs_are_heeded() -> None:
    """Whoever moved the downloads did so for want of space: there are many."""
    found = paths(LLAMA_CACHE="/big/llama", HF_HOME="/big/hf", XDG_CACHE_HOME="/c")

    assert {"/big/llama", "/big/hf/hub"} <= {*found}
    assert not [each for each in found if each.startswith(("/c/llama", "/c/hugging"))]
    assert "/big/hub" in paths(HF_HUB_CACHE="/big/hub", HF_HOME="/big/hf")


def test_every_mounted_disk_may_have_a_folder_of_models() -> None:
    """But no network, which may never answer, and nothing of the system's."""
    disk = Mount("/mnt/hdd1", "ext4", "/dev/sdb1")
    found = paths(
        disk, disk, Mount("/", "ext4", "/dev/sda1"), Mount("/boot/efi", "vfat", "/dev/sda2"),
        Mount("/mnt/nas", "nfs4", "nas:/"), Mount("/proc", "proc", "proc"),
    )  # fmt: skip

    assert found.count("/mnt/hdd1/models") == 1
    assert len(found) == len(paths()) + 1
