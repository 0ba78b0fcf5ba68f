"""What the tests of copies share: a copier, the folders, and no sharing of blocks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.copying import Copying, a_copier


@pytest.fixture
def no_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every copy read and written, also where the folder for tests could share blocks."""
    monkeypatch.setattr("modeld.host.copy.sink.clone", lambda _source, _target: False)


@pytest.fixture
def copying() -> Iterator[Copying]:
    """Return a copier."""
    with a_copier() as found:
        yield found


@pytest.fixture
def hdd(tmp_path: Path) -> Path:
    """Return the folder that is copied from."""
    path = tmp_path / "hdd"
    path.mkdir()
    return path


@pytest.fixture
def ssd(tmp_path: Path) -> Path:
    """Return the folder that is copied to."""
    path = tmp_path / "ssd"
    path.mkdir()
    return path
