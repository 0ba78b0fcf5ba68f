"""A fake daemon and a way to call modelctl, for every test of the client."""

import shutil
import tempfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import pytest

from modelctl.__main__ import run
from tests.support.fake_daemon import FakeDaemon


class Result(NamedTuple):
    """What one call of modelctl did."""

    status: int
    out: str
    err: str


class Call(Protocol):
    """Runs modelctl in this process, its output not a terminal."""

    def __call__(self, *argv: str, **environment: str) -> Result:
        """Run it with these arguments and variables."""


@pytest.fixture
def socket_path() -> Iterator[str]:
    """A path short enough for a UNIX socket, in a directory of its own."""
    directory = tempfile.mkdtemp(prefix="mc", dir="/tmp")
    yield f"{directory}/s"
    shutil.rmtree(directory)


@pytest.fixture
def daemon(socket_path: str) -> Iterator[FakeDaemon]:
    """A daemon that listens at `socket_path`, with nothing to say yet."""
    with FakeDaemon(socket_path) as fake:
        yield fake


@pytest.fixture
def modelctl(socket_path: str, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs modelctl against `socket_path`."""

    def call(*argv: str, **environment: str) -> Result:
        status = run(list(argv), {"MODELD_SOCKET": socket_path, **environment})
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return call
