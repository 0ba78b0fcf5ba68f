"""
What no single key can tell: folders that overlap, addresses that others could reach.

Each mistake comes with the key that it is about, so that the loader can say where that stands.
Whether a folder exists is not asked here: one that does not is no mistake, it may be mounted later.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from posixpath import isabs, normpath

from msgspec import Struct

from modeld.config.schema import Config

MEBIBYTES_IN_GIBIBYTE = 1024
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/*]+")
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_VARIABLE = re.compile(r"\$(?:HOME\b|\{HOME\})")


class Mistake(Struct, frozen=True):
    """One thing that is wrong."""

    key: str
    what: str


def expand(path: str, home: str) -> str:
    """Return `path` with a leading `~`, and `$HOME` wherever it stands, replaced by `home`."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return _VARIABLE.sub(lambda _: home, path)


def mistakes(config: Config, home: str) -> Iterator[Mistake]:
    """Yield everything that is wrong between the keys of a configuration."""
    yield from _folders(config, home)
    yield from _addresses(config.gateway.listen)
    for host in config.gateway.allowed_hosts:
        if not _HOST.fullmatch(host):
            yield Mistake("gateway.allowed_hosts", f"'{host}': expected HOST or HOST:PORT")
    for origin in config.gateway.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
            yield Mistake(
                "gateway.allowed_origins", f"'{origin}': expected one such as https://host:port"
            )
    memory = config.memory
    limit_mb = (memory.limit_gb or 0) * MEBIBYTES_IN_GIBIBYTE
    if limit_mb and memory.headroom_mb >= limit_mb:
        yield Mistake(
            "memory.headroom_mb", f"{memory.headroom_mb}: nothing of memory.limit_gb would be left"
        )
    binary = expand(config.servers.binary, home)
    if "/" in binary and not isabs(binary):
        yield Mistake("servers.binary", f"'{binary}': expected a name on PATH, or an absolute path")


def _folders(config: Config, home: str) -> Iterator[Mistake]:
    storage = config.storage
    paths = [("storage.ssd_path", storage.ssd_path)] if storage.ssd_path else []
    paths += [("storage.hdd_paths", path) for path in storage.hdd_paths]
    seen: list[str] = []
    for key, written in paths:
        path = normpath(expand(written, home)) if written else ""
        if not isabs(path):
            yield Mistake(key, f"'{written}': expected an absolute path, or one below ~")
            continue
        for other in seen:
            if path == other:
                yield Mistake(key, f"'{written}': this folder is named twice")
            elif path.startswith(f"{other}/") or other.startswith(f"{path}/"):
                yield Mistake(key, f"'{written}': it and {other} lie inside each other")
        seen.append(path)


def _addresses(listen: Sequence[str]) -> Iterator[Mistake]:
    seen: set[tuple[str, int]] = set()
    for text in listen:
        host, colon, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        digits = port.isascii() and port.isdigit()
        if not colon or not digits or int(port) > 65535:
            yield Mistake("gateway.listen", f"'{text}': expected HOST:PORT, such as 127.0.0.1:8080")
            continue
        if not _is_loopback(host):
            yield Mistake(
                "gateway.listen",
                f"'{text}': expected a loopback address (127.0.0.1, [::1]); a reverse proxy can "
                "serve other machines",
            )
        if (host, int(port)) in seen and int(port):
            yield Mistake("gateway.listen", f"'{text}': this address is named twice")
        seen.add((host, int(port)))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
