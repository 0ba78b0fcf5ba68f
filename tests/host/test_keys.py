"""The file of keys: what is taken, and what is refused with its cause."""

import os
from pathlib import Path

import pytest

from modeld.errors import ConfigInvalid
from modeld.host.keys import MAX_FILE_BYTES, MAX_KEYS, KeyFile, read_keys

SECRET = "a-secret-of-somebody"


def key_file(folder: Path, text: str, mode: int = 0o600) -> str:
    """Write a file of keys."""
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def refusal(path: str) -> str:
    """Return why a file is refused; there is a hint, and no key in either."""
    with pytest.raises(ConfigInvalid) as raised:
        read_keys(path)
    assert raised.value.hint
    assert SECRET not in raised.value.message + raised.value.hint
    return raised.value.message


def test_keys_are_read_one_a_line_without_comments(tmp_path: Path) -> None:
    """People note whose key is whose."""
    text = f"# the laptop\n{SECRET}\r\n\n  # the phone\n  another-secret  \n{SECRET}\n"

    assert read_keys(key_file(tmp_path, text)) == (SECRET.encode(), b"another-secret")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644, 0o777])
def test_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    """Its keys are not secret, or not ours."""
    assert f"mode {mode:04o}" in refusal(key_file(tmp_path, SECRET, mode))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """They know the keys in it."""
    path = key_file(tmp_path, SECRET)
    os.chown(path, 65534, 65534)

    assert "user 65534's" in refusal(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no key"),
        ("# nothing\n", "has no key"),
        (f"{SECRET}\n{SECRET} {SECRET}\n", ":2 is no key"),
        (f"{SECRET} # mine\n", ":1 is no key"),
        ("short\n", ":1 is no key"),
        ("k" * 513, ":1 is no key"),
        ("schlüssel-mit-umlaut\n", ":1 is no key"),
        (f"{SECRET}\x00\n", ":1 is no key"),
        ("k" * (MAX_FILE_BYTES + 1), "more than 65536 bytes"),
        ("\n".join(f"key-{number:04}" for number in range(MAX_KEYS + 1)), "more than 1000 keys"),
    ],
)
def test_file_that_holds_no_keys_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """A key that silently is none locks its owner out, or lets everybody in."""
    assert why in refusal(key_file(tmp_path, text))


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO would hold up the start for ever."""
    os.mkfifo(tmp_path / "fifo")

    assert "is no file" in refusal(str(tmp_path / "fifo"))
    assert "is no file" in refusal(str(tmp_path))
    assert "No such file" in refusal(str(tmp_path / "none"))


def test_key_file_keeps_what_it_read_when_the_next_one_is_bad(tmp_path: Path) -> None:
    """A reload that fails leaves the keys as they were."""
    found = KeyFile()
    path = key_file(tmp_path, SECRET)
    found.read("")
    found.read(path)
    key_file(tmp_path, "bad")
    with pytest.raises(ConfigInvalid):
        found.read(path)

    assert found.keys("") == ()
    assert found.keys(path) == (SECRET.encode(),)


def test_key_file_tells_that_keys_changed_and_not_which(tmp_path: Path) -> None:
    """A reload that says "nothing has changed" leaves its user in doubt."""
    found = KeyFile()
    path = key_file(tmp_path, f"{SECRET}\nsecond-secret\n")
    found.read(path)
    assert found.news == ("keys of the gateway: 2 new, 0 gone, 2 in all",)
    found.read(path)
    assert found.news == ()
    key_file(tmp_path, f"{SECRET}\n")
    found.read(path)
    assert found.news == ("keys of the gateway: 0 new, 1 gone, 1 in all",)
    found.read("")
    assert found.news == ("keys of the gateway: 0 new, 1 gone, 0 in all",)
