"""The manual page is the schema in prose: each key with its type and its default, and no other."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from modeld.config.fields import as_toml, fields, parameters
from modeld.config.load import Source, load

PAGE = Path(__file__).parents[2] / "man" / "modeld.toml.5"
TEXT = PAGE.read_text("utf-8")
ALL = [*fields(), *parameters()]
_KEY = re.compile(
    r"^\.It Ic (?P<key>[\w.\[\]]+)(?: = (?P<default>.+))?\n\.Pq (?P<expected>.+)$", re.MULTILINE
)


def _plain(text: str) -> str:
    """Return what roff(7) makes of a word."""
    for escape, letter in ((r"\(dq", '"'), (r"\(ti", "~"), (r"\(ha", "^"), (r"\e", "\\")):
        text = text.replace(escape, letter)
    return text


def test_page_has_every_key_with_its_type_and_default() -> None:
    """A manual that is wrong is worse than none."""
    written = {
        found["key"]: (_plain(found["expected"]), _plain(found["default"] or ""))
        for found in _KEY.finditer(TEXT)
    }
    keys = [key for key in written if "." in key] + [key for key in written if "." not in key]

    assert keys == [one.key for one in ALL]
    assert written == {one.key: (one.expected, as_toml(one.default)) for one in ALL}


def test_page_explains_every_key() -> None:
    """A type and a default are no explanation."""
    parts = re.split(r"^\.(?:It Ic|El|Sh|Ss).*$", TEXT, flags=re.MULTILINE)
    told = [part.strip() for part in parts if part.strip().startswith(".Pq ")]

    assert len(told) == len(ALL)
    assert all(len(part.splitlines()) > 1 for part in told)


def test_example_of_the_page_is_valid() -> None:
    """It is copied."""
    example = re.search(r"\.Sh EXAMPLES.*?\n\.Bd [^\n]*\n(.*?)\n\.Ed", TEXT, re.DOTALL)
    assert example is not None

    loaded = load([Source("example", example[1])], {}, ())
    assert len(loaded.origins) == 8


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_page_is_without_warnings() -> None:
    """It must look right everywhere, not only where it was written."""
    done = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning", str(PAGE)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout + done.stderr == ""


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_page_fits_a_terminal() -> None:
    """80 columns."""
    done = subprocess.run(
        ["groff", "-mandoc", "-Tutf8", "-rLL=80n", "-P-cbou", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
