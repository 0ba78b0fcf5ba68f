"""What is counted below a folder, and when the count ends."""

from pathlib import Path

import pytest

from modelctl.setup import looking
from modelctl.setup.looking import Contents, look


def a_file(path: Path, size: int = 10) -> Path:
    """Make a file of this size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def now() -> float:
    """Return a time that stands still."""
    return 0.0


def test_models_are_counted_as_modeld_counts_them(tmp_path: Path) -> None:
    """A number that `modelctl list` does not confirm is not believed again."""
    a_file(tmp_path / "a.gguf")
    a_file(tmp_path / "deep" / "er" / "B.GGUF")
    a_file(tmp_path / "big-00001-of-00012.gguf")
    a_file(tmp_path / "big-00012-of-00012.gguf")
    a_file(tmp_path / "mmproj-a.gguf")
    a_file(tmp_path / "ggml-vocab-bert.gguf", 1)
    a_file(tmp_path / ".trash" / "old.gguf")
    a_file(tmp_path / "a.txt")
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.gguf").mkdir()

    assert look(str(tmp_path), 1, now) == Contents(models=3, size_bytes=51)


def test_file_is_counted_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    """Hugging Face's hub has a link for each revision."""
    blob = a_file(tmp_path / "blobs" / "0123")
    for revision in ("one", "two"):
        folder = tmp_path / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "m.gguf").symlink_to(blob)

    assert look(str(tmp_path), 1, now) == Contents(models=1, size_bytes=10)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """Somebody has one, always."""
    a_file(tmp_path / "a.gguf")
    (tmp_path / "round").symlink_to(tmp_path)

    assert look(str(tmp_path), 1, now).models == 1


def test_count_ends_with_its_time_and_says_so(tmp_path: Path) -> None:
    """What was counted until then is still true."""
    a_file(tmp_path / "a.gguf")
    ticks = iter(range(100))

    assert look(str(tmp_path), -1, lambda: float(next(ticks))) == Contents(0, 0, is_whole=False)


def test_count_ends_with_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to `/` must cost seconds at most."""
    monkeypatch.setattr(looking, "MAX_ENTRIES", 2)
    for name in "abc":
        a_file(tmp_path / f"{name}.gguf")

    assert look(str(tmp_path), 1, now) == Contents(2, 20, is_whole=False)


def test_folder_that_is_too_deep_is_not_entered(tmp_path: Path) -> None:
    """Models lie near the top."""
    a_file(tmp_path.joinpath(*"123456789", "a.gguf"))

    assert look(str(tmp_path), 1, now) == Contents()


def test_folder_that_can_not_be_read_has_nothing(tmp_path: Path) -> None:
    """The disk may have gone meanwhile."""
    assert look(str(tmp_path / "none"), 1, now) == Contents()
