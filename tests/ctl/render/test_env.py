"""Variables for other programs, as shells read them."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelctl.render.env import FAMILIES, env_text, key_variables, variables

ADDRESSES = ("127.0.0.1:8080", "127.0.0.1:11434")


def read_by_a_shell(text: str) -> dict[str, str]:
    """Return what a shell's children get to see."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'eval "$1"; env', "sh", text],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def expected(more: Mapping[str, str]) -> dict[str, str]:
    """Return what clients of all families are to see."""
    return {
        "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1",
        "OPENAI_API_BASE": "http://127.0.0.1:8080/v1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080",
        "ANTHROPIC_API_KEY": "",
        "OLLAMA_HOST": "http://127.0.0.1:11434",
        **more,
    }


def test_variables_are_read_by_a_shell_as_they_are_meant() -> None:
    """`eval "$(modelctl env)"` is what people type."""
    keys = key_variables(FAMILIES, has_keys=False)
    seen = read_by_a_shell(env_text(variables(ADDRESSES, FAMILIES), keys, "", "sh"))

    more = {"OPENAI_API_KEY": "modeld", "ANTHROPIC_AUTH_TOKEN": "modeld"}
    assert {name: seen[name] for name in expected(more)} == expected(more)
    assert "OLLAMA_API_KEY" not in seen


def test_key_is_read_by_the_shell_and_not_printed(tmp_path: Path) -> None:
    """What is printed is seen over shoulders, and kept in scroll-back."""
    path = tmp_path / "the user's keys"
    path.write_text("# of the laptop\n\n  the-first-key \nthe-second-key\n")
    keys = key_variables(FAMILIES, has_keys=True)
    text = env_text(variables(ADDRESSES, FAMILIES), keys, str(path), "sh")
    seen = read_by_a_shell(text)

    assert "the-first-key" not in text
    assert {seen[name] for name in keys} == {"the-first-key"}
    assert set(keys) == {"OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OLLAMA_API_KEY"}


def test_fish_gets_its_own_words() -> None:
    """It knows no export with an equals sign in scripts of old."""
    assert env_text({"A": "b c", "E": ""}, ("K",), "", "fish") == (
        "set -gx A 'b c'\nset -gx E ''\nset -gx K modeld\n"
    )
    assert env_text({}, ("K",), "/k", "fish").startswith("set -gx K (awk ")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_understands_them(tmp_path: Path) -> None:
    """Its quotes are not those of sh."""
    path = tmp_path / "keys"
    path.write_text("# mine\nthe-key\n")
    text = env_text({"A": "b'c"}, ("K",), str(path), "fish")
    command = ["fish", "-c", "$argv[1] | source; echo $A $K", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout == "b'c the-key\n"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("[::1]:80", "[::1]:80"),
        ("192.168.1.5:80", "192.168.1.5:80"),
    ],
)
def test_variables_name_an_address_that_can_be_reached(address: str, host: str) -> None:
    """Nobody can connect to all addresses at once."""
    assert variables((address,), ("ollama",)) == {"OLLAMA_HOST": f"http://{host}"}


def test_variables_are_those_of_the_families_that_were_asked_for() -> None:
    """Whoever wants one must not have the others bent."""
    assert list(variables(ADDRESSES, ("anthropic",))) == ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"]
    assert key_variables(("ollama",), has_keys=False) == ()
    assert key_variables(("openai",), has_keys=True) == ("OPENAI_API_KEY",)
