"""
The variables that point other programs at the gateway, as a shell reads them.

A key is never printed: where there are keys, the shell takes the first of them out of their file,
which only its owner can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote

FAMILIES = ("openai", "anthropic", "ollama")
_SPEAKING_OPENAI = frozenset(("openai", "llamacpp", "llama-swap", "karen"))
"""Families of `gateway.compat` whose clients generate in OpenAI's words."""
PLACEHOLDER = "modeld"
"""For clients that insist on a key where the gateway wants none."""
OLLAMA_PORT = ":11434"
_WITHIN = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - told apart, not bound
"""How this machine reaches those who listen everywhere."""
# Claude Code asks whether it may use an ANTHROPIC_API_KEY, and takes a token without a word; an
# empty key keeps everybody from sending here what is meant for Anthropic.
_KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_AUTH_TOKEN",),
    "ollama": (),
}


def served(compat: Sequence[str]) -> list[str]:
    """Return the families that the gateway serves; all of them where it does not say."""
    found = set(compat or FAMILIES)
    if not found.isdisjoint(_SPEAKING_OPENAI):
        found.add("openai")
    return [family for family in FAMILIES if family in found]


def variables(addresses: Sequence[str], families: Sequence[str]) -> dict[str, str]:
    """Return the variables that hold no key, for clients of these families."""
    base = f"http://{reachable(addresses[0])}"
    chosen = next((each for each in addresses if each.endswith(OLLAMA_PORT)), addresses[0])
    found = {
        "openai": {"OPENAI_BASE_URL": f"{base}/v1", "OPENAI_API_BASE": f"{base}/v1"},
        "anthropic": {"ANTHROPIC_BASE_URL": base, "ANTHROPIC_API_KEY": ""},
        "ollama": {"OLLAMA_HOST": f"http://{reachable(chosen)}"},
    }
    return {name: value for family in families for name, value in found[family].items()}


def key_variables(families: Sequence[str], *, has_keys: bool) -> tuple[str, ...]:
    """Return the variables that hold a key; Ollama's clients send one only where there is one."""
    names = [name for family in families for name in _KEYS[family]]
    return (*names, "OLLAMA_API_KEY") if has_keys and "ollama" in families else tuple(names)


def env_text(plain: Mapping[str, str], keys: Sequence[str], key_file: str, shell: str) -> str:
    """Return the lines for `eval`, or for fish's `source`."""
    first = "awk '/^[ \\t]*[^# \\t]/ { print $1; exit }' " + quote(key_file)
    is_fish = shell == "fish"
    key = (f"({first})" if is_fish else f'"$({first})"') if key_file else PLACEHOLDER
    written = {**{name: quote(value) for name, value in plain.items()}, **dict.fromkeys(keys, key)}
    return "".join(
        f"set -gx {name} {value}\n" if is_fish else f"export {name}={value}\n"
        for name, value in written.items()
    )


def reachable(address: str) -> str:
    """Return an address that a program on this machine can connect to."""
    host, _, port = address.rpartition(":")
    return f"{_WITHIN.get(host, host)}:{port}"
