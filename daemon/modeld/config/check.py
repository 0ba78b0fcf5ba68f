"""
What no single key can tell: folders that overlap, addresses that others could reach without a key.

Each mistake comes with the key that it is about, so that the loader can say where that stands.
Whether a folder exists is not asked here: one that does not is no mistake, it may be mounted later.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from posixpath import isabs, normpath
from typing import get_args

from msgspec import Struct

from modeld.config.fields import as_toml
from modeld.config.layers import dotted
from modeld.config.schema import Config, Entry, Profile, Rewrite, Routing
from modeld.core.names import PROFILE_PREFIX, check_nickname
from modeld.core.rules import compiled
from modeld.errors import Usage
from modeld.units import parse_keep_alive

ESSENTIAL = frozenset(("model", "messages", "prompt", "input", "stream"))
"""Fields that say what a request is; none of them can be stripped."""
PROFILES: tuple[str, ...] = get_args(Profile)
MEBIBYTES_IN_GIBIBYTE = 1024
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/*]+")
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_VARIABLE = re.compile(r"\$(?:HOME\b|\{HOME\})")


class Mistake(Struct, frozen=True):
    """One thing that is wrong."""

    key: str
    what: str
    has_value: bool = True
    """Whether `what` begins with the value."""

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.key} = {self.what}" if self.has_value else f"{self.key}: {self.what}"


def expand(path: str, home: str) -> str:
    """Return `path` with a leading `~`, and `$HOME` wherever it stands, replaced by `home`."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return _VARIABLE.sub(lambda _: home, path)


def mistakes(config: Config, home: str) -> Iterator[Mistake]:
    """Yield everything that is wrong between the keys of a configuration."""
    yield from _folders(config, home)
    yield from _addresses(config.gateway.listen, has_keys=bool(config.gateway.key_file))
    key_file = expand(config.gateway.key_file, home)
    if key_file and not isabs(key_file):
        yield Mistake(
            "gateway.key_file",
            f"'{config.gateway.key_file}': expected an absolute path, or one below ~",
        )
    for host in config.gateway.allowed_hosts:
        if not _HOST.fullmatch(host):
            yield Mistake("gateway.allowed_hosts", f"'{host}': expected HOST or HOST:PORT")
    for origin in config.gateway.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
            yield Mistake(
                "gateway.allowed_origins", f"'{origin}': expected one such as https://host:port"
            )
    memory = config.memory
    for kind, limit_gb, headroom_mb in (
        ("", memory.limit_gb, memory.headroom_mb),
        ("vram_", memory.vram_limit_gb, memory.vram_headroom_mb),
    ):
        if limit_gb is not None and headroom_mb >= limit_gb * MEBIBYTES_IN_GIBIBYTE:
            # the limit is what somebody wrote; the headroom may be as it is built in
            yield Mistake(
                f"memory.{kind}limit_gb",
                f"{limit_gb:g}: memory.{kind}headroom_mb = {headroom_mb} would leave nothing of it",
            )
    yield from _routing(config.routing)
    yield from _choices(config)
    for name, entry in config.models.entries.items():
        yield from _stay(name, entry)
        yield from _rewrites(name, entry)
    yield from _paths(config, home)


def _paths(config: Config, home: str) -> Iterator[Mistake]:
    binary = expand(config.servers.binary, home)
    if "/" in binary and not isabs(binary):
        yield Mistake("servers.binary", f"'{binary}': expected a name on PATH, or an absolute path")
    limits = config.models.limits_file
    if limits and not isabs(expand(limits, home)):
        yield Mistake(
            "models.limits_file", f"'{limits}': expected an absolute path, or one below ~"
        )


def _routing(routing: Routing) -> Iterator[Mistake]:
    for table, keys in (("overrides", routing.overrides), ("options", routing.options)):
        for key in keys:
            if key not in PROFILES:
                what = f"there is no such profile: there are {', '.join(PROFILES)}"
                yield Mistake(dotted(("routing", table, key)), what, has_value=False)
    yield from rule_mistakes([(rule.pattern, rule.model) for rule in routing.rules])


def _choices(config: Config) -> Iterator[Mistake]:
    """Yield what is to name a model and asks for a choice instead, which would never end."""
    routing = config.routing
    named = {"models.default": config.models.default}
    for role in routing.roles.__struct_fields__:
        named[f"routing.roles.{role}"] = getattr(routing.roles, role)
    for profile, model in routing.overrides.items():
        named[dotted(("routing", "overrides", profile))] = model
    for number, rule in enumerate(routing.rules, 1):
        named[dotted(("routing", "rules", number, "model"))] = rule.model
    for key, name in named.items():
        if name.startswith(PROFILE_PREFIX):
            yield Mistake(key, f"{as_toml(name)}: expected the name of a model, and no profile")


def rule_mistakes(rules: Sequence[tuple[str | None, str | None]]) -> Iterator[Mistake]:
    """Yield what is wrong with each rule by itself: its pattern and its model, where they stand."""
    for number, (pattern, model) in enumerate(rules, 1):
        above = ("routing", "rules", number)
        try:
            compiled(pattern or "")
        except ValueError as error:
            yield Mistake(dotted((*above, "pattern")), f"{as_toml(pattern)}: {error}")
        if model == "":
            yield Mistake(dotted((*above, "model")), '"": expected the name of a model, or a role')


def _stay(name: str, entry: Entry) -> Iterator[Mistake]:
    try:
        if entry.keep_alive:
            parse_keep_alive(entry.keep_alive)
    except ValueError as error:
        key = dotted(("models", "entries", name, "keep_alive"))
        yield Mistake(key, str(error), has_value=False)


def _rewrites(name: str, entry: Entry) -> Iterator[Mistake]:
    above = ("models", "entries", name)
    rewrites: dict[tuple[str, ...], Rewrite] = {(*above, "request"): entry.request}
    for variant, rewrite in entry.variants.items():
        key = (*above, "variants", variant)
        rewrites[key] = rewrite
        try:
            check_nickname(variant)
        except Usage as error:
            what = "; ".join(filter(None, (error.message, error.hint)))
            yield Mistake(dotted(key), what, has_value=False)
    for place, rewrite in rewrites.items():
        for field in ESSENTIAL.intersection(rewrite.strip):
            yield Mistake(
                dotted((*place, "strip")), f"'{field}': without it a request would be another one"
            )


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


def _addresses(listen: Sequence[str], *, has_keys: bool) -> Iterator[Mistake]:
    seen: set[tuple[str, int]] = set()
    for text in listen:
        host, colon, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        digits = port.isascii() and port.isdigit()
        if not colon or not digits or int(port) > 65535:
            yield Mistake("gateway.listen", f"'{text}': expected HOST:PORT, such as 127.0.0.1:8080")
            continue
        address = _ip_address(host)
        if address is None:
            yield Mistake("gateway.listen", f"'{text}': expected an IP address and a port")
        elif not address.is_loopback and not has_keys:
            yield Mistake(
                "gateway.listen",
                f"'{text}': other machines can reach it, so gateway.key_file must be set; or use "
                "127.0.0.1 or [::1] behind a reverse proxy: modeld-gateway(7)",
            )
        if (host, int(port)) in seen and int(port):
            yield Mistake("gateway.listen", f"'{text}': this address is named twice")
        seen.add((host, int(port)))


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None
