"""The server for KAREN: its template, and what its installer writes."""

import pytest

from modelctl.importing.source import leaves, parse
from modelctl.importing.values import is_secret
from tests.ctl.importing.support import DATA, fixture, gleaned, reasons, sources, wrong


def test_template_is_taken() -> None:
    """S2 3.2: everything that modeld has a word for."""
    imported = fixture("karen", "karen-template.json")
    defaults = {"temperature": 0.7, "top_p": 0.9, "repeat_penalty": 1.1, "max_tokens": 2048}

    assert imported.config == {
        "gateway": {
            "listen": ["127.0.0.1:8088"],
            "max_requests_per_model": 10,
            "rate_limit_per_minute": 60,
            "rate_burst": 12,
            "karen_prompt_template": True,
        },
        "storage": {"hdd_paths": ["/models/llama-cpp"], "scan_interval_seconds": 60},
        "memory": {"limit_gb": 6.0},
        "models": {
            "max_concurrent_loaded": 3,
            "default": "Phi-3-mini-4k-instruct-q4",
            "preload": ["Phi-3-mini-4k-instruct-q4"],
        },
        "servers": {
            "context_tokens": 4096,
            "optimize_for": "balanced",
            "arguments": ["--n-gpu-layers", "35", "--threads", "4", "--batch-size", "512"],
        },
        "routing": {
            "options": dict.fromkeys(("fast", "general", "code", "creative"), defaults),
        },
        "log": {"level": "debug"},
    }
    assert not wrong(imported)


def test_installed_configuration_is_taken() -> None:
    """Another mixture of the same words."""
    imported = fixture("karen", "karen-installed.json")

    assert imported.config == {
        "gateway": {
            "listen": ["127.0.0.1:8080"],
            "allowed_origins": ["https://karen.example.org"],
            "rate_limit_per_minute": 120,
        },
        "storage": {"hdd_paths": ["/srv/karen/models"]},
        "models": {"max_concurrent_loaded": 2, "default": "Phi-3-mini-4k-instruct-q4"},
        "servers": {
            "context_tokens": 4096,
            "optimize_for": "balanced",
            "arguments": ["--n-gpu-layers", "0", "--threads", "4", "--batch-size", "128"],
        },
        "log": {"level": "warning"},
    }


@pytest.mark.parametrize("name", ["karen-template.json", "karen-installed.json"])
def test_no_secret_is_taken_or_shown(name: str) -> None:
    """Not in what is taken, not in a reason, not as a part of something."""
    imported = fixture("karen", name)
    document = parse((DATA / name).read_text(), name)
    secrets = [
        secret
        for path, value in leaves(document.values)
        if any(map(is_secret, path))
        for secret in (value if isinstance(value, list) else [value])
        if isinstance(secret, str) and secret != "X-API-Key"
    ]

    assert secrets
    assert not any(secret in str(imported) for secret in secrets)
    assert all(
        is_secret(one.source.split(".")[-1]) for one in imported.left if "secret" in one.reason
    )


@pytest.mark.parametrize("name", ["karen-template.json", "karen-installed.json"])
def test_every_key_is_told_of(name: str) -> None:
    """Nothing passes in silence: itself, or the section that it is in."""
    told = sources(fixture("karen", name))
    document = parse((DATA / name).read_text(), name)
    silent = []
    for path, value in leaves(document.values):
        words = [".".join(map(str, path[:end])) for end in range(1, len(path) + 1)]
        if value not in (None, [], {}) and not told.intersection(words):
            silent.append(words[-1])

    assert silent == []


def test_what_is_open_to_the_network_stays_on_loopback() -> None:
    """Nobody asked this machine whether it may serve others."""
    left = reasons(fixture("karen", "karen-template.json"))

    assert "gateway.key_file" in left["server.host"]
    assert "gateway.allowed_origins" in left["server.cors_origins"]


@pytest.mark.parametrize("host", ["[]", "{}", "[1]", "7"])
def test_host_of_any_type_is_left(host: str) -> None:
    """It was looked for in a set, which a list cannot be."""
    imported = gleaned("karen", f'{{"server": {{"host": {host}}}}}', "c.json")

    assert imported.config == {}


def test_values_of_wrong_types_are_told_and_left() -> None:
    """One by one; the rest is taken."""
    performance = '{"num_threads": "many", "max_memory_mb": -1}'
    text = f'{{"performance": {performance}, "models": {{"max_loaded_models": 2}}}}'
    imported = gleaned("karen", text, "c.json")

    assert imported.config == {"models": {"max_concurrent_loaded": 2}}
    assert set(wrong(imported)) == {"performance.num_threads", "performance.max_memory_mb"}
