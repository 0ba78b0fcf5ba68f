"""
The folders in which people and programs usually keep models.

Names alone, from the environment and the list of mounts: no folder is looked into.  Of what is
mounted only disks are named, since a network may never answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from modelctl.setup.disks import Mount

SYSTEM_FOLDERS = ("/models", "/srv/models", "/opt/models")
MAX_MOUNTS = 64
_NO_DISKS_OF_MODELS = ("/boot", "/efi", "/snap", "/var/lib/docker", "/var/lib/containers", "/etc")
"""Where what is mounted belongs to the system."""


class Place(NamedTuple):
    """One folder that may have models, and may not be there."""

    path: str
    owner: str = ""
    """The program that keeps its downloads there; empty for a folder of the user's own."""


def default_folder(home: str) -> str:
    """Return the folder that modeld has for an SSD where nothing is configured."""
    return f"{home}/.local/share/modeld/models"


def usual(environment: Mapping[str, str], home: str, mounts: Sequence[Mount]) -> Iterator[Place]:
    """Yield the places to look at, those of the user's own first."""
    yield Place(default_folder(home))
    yield Place(f"{home}/models")
    yield Place(f"{home}/Models")
    for path in SYSTEM_FOLDERS:
        yield Place(path)
    for path in _mounted(mounts):
        yield Place(f"{path.rstrip('/')}/models")
    cache = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    hub = environment.get("HF_HOME") or f"{cache}/huggingface"
    yield Place(environment.get("LLAMA_CACHE") or f"{cache}/llama.cpp", "llama.cpp")
    yield Place(environment.get("HF_HUB_CACHE") or f"{hub}/hub", "Hugging Face")
    yield Place(f"{home}/.lmstudio/models", "LM Studio")
    yield Place(f"{home}/.cache/lm-studio/models", "LM Studio")
    yield Place(f"{home}/.local/share/nomic.ai/GPT4All", "GPT4All")


def _mounted(mounts: Sequence[Mount]) -> list[str]:
    """Return where disks are mounted beside the system's own, each once."""
    paths = dict.fromkeys(
        one.path
        for one in mounts
        if one.source.startswith("/dev/")
        and not any(f"{one.path}/".startswith(f"{each}/") for each in _NO_DISKS_OF_MODELS)
        and one.path != "/"
    )
    return list(paths)[:MAX_MOUNTS]
