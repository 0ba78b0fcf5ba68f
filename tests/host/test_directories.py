"""The runtime directory: whose it must be, and who may be in it."""

import os
from pathlib import Path

import pytest

from modeld.errors import Busy, ConfigInvalid, NotPermitted
from modeld.host.directories import check_socket, prepare_runtime, take_lock


def test_runtime_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    """Sockets and launch records are in it."""
    prepare_runtime(f"{tmp_path}/run/modeld")

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*")}
    assert modes == {"modeld": 0o700, "launch": 0o700, "kids": 0o700}


def test_runtime_directory_that_is_too_open_is_closed(tmp_path: Path) -> None:
    """It may have been made by a service manager with another idea."""
    (tmp_path / "kids").mkdir(mode=0o755)
    prepare_runtime(str(tmp_path))

    assert (tmp_path / "kids").stat().st_mode & 0o777 == 0o700


def test_link_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    """Whoever put it there decides where sockets and records go."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kids").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotPermitted, match="kids is not a directory of this user"):
        prepare_runtime(str(tmp_path))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """They could look into it, or swap what is there."""
    directory = tmp_path / "modeld"
    directory.mkdir()
    os.chown(directory, 65534, 65534)

    with pytest.raises(NotPermitted):
        prepare_runtime(str(directory))


def test_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    """It would be found out only when the first model is loaded."""
    with pytest.raises(ConfigInvalid) as refused:
        prepare_runtime(f"{tmp_path}/{'x' * 100}")

    assert "shorten XDG_RUNTIME_DIR" in refused.value.hint
    assert not any(tmp_path.iterdir())


def test_longest_path_that_a_socket_can_have_is_taken() -> None:
    """`sun_path` of Linux ends at 107 bytes."""
    check_socket("/" + "x" * 106)

    with pytest.raises(ConfigInvalid):
        check_socket("/" + "x" * 107)


def test_lock_is_held_by_one_alone_and_names_it(tmp_path: Path) -> None:
    """Two daemons would both start and stop the same servers."""
    with take_lock(str(tmp_path)):
        with pytest.raises(Busy, match=rf"pid {os.getpid()}"), take_lock(str(tmp_path)):
            pass
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"

    with take_lock(str(tmp_path)):
        pass
