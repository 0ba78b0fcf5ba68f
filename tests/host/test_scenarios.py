"""`host.scenarios`: files by name, from the first folder that has them."""

from pathlib import Path

import pytest

from modeld.host.scenarios import ScenarioFolders


@pytest.fixture
def folders(tmp_path: Path) -> ScenarioFolders:
    """Return two folders that share a name, and one that is not there."""
    for folder, text in (("one", "first"), ("two", "second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "both.toml").write_text(text)
    (tmp_path / "two" / "only.toml").write_text("only")
    (tmp_path / "two" / ".hidden.toml").write_text("hidden")
    (tmp_path / "two" / "other.txt").write_text("other")
    (tmp_path / "secret.toml").write_text("secret")
    return ScenarioFolders([tmp_path / "none", tmp_path / "one", tmp_path / "two"])


def test_names_are_those_of_all_folders_once(folders: ScenarioFolders) -> None:
    """A checkout and an installation may both be there."""
    assert folders.names() == ["both", "only"]


def test_text_is_that_of_the_first_folder(folders: ScenarioFolders) -> None:
    """The same order for everybody."""
    assert folders.text("both") == "first"
    assert folders.text("only") == "only"


@pytest.mark.parametrize("name", ["none", "../secret", ".hidden", "", "a/b", "both\n"])
def test_text_of_another_name_is_none(name: str, folders: ScenarioFolders) -> None:
    """A name never leads out of the folders."""
    assert folders.text(name) is None
