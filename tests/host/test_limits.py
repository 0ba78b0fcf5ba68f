"""The file of the user's limits, on a real disk."""

import os
from pathlib import Path

import pytest

from modeld.errors import ConfigInvalid
from modeld.host.limits import LimitsFile, read_limits


def test_a_file_that_is_not_there_is_an_empty_table(tmp_path: Path) -> None:
    """It need not be there."""
    assert read_limits(str(tmp_path / "limits.toml")) == ()
    assert read_limits("") == ()


def test_what_was_read_stays_until_it_is_read_again(tmp_path: Path) -> None:
    """A configuration that is refused changes nothing."""
    path = tmp_path / "limits.toml"
    path.write_text('[[model]]\npattern = "a"\n')
    file = LimitsFile()
    file.read(str(path))
    path.write_text("[[model]]\n")

    with pytest.raises(ConfigInvalid, match="pattern is missing"):
        file.read(str(path))
    assert [row.pattern for row in file.rows(str(path))] == ["a"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A FIFO would hold up the start for ever."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")

    for name in ("fifo", ".", "bytes"):
        with pytest.raises(ConfigInvalid, match=r"models\.limits_file"):
            read_limits(str(tmp_path / name))
    with pytest.raises(ConfigInvalid, match="bytes is no text"):
        read_limits(str(tmp_path / "bytes"))
