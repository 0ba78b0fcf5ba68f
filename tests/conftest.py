"""Fixtures of several places: the engines that the suite runs on."""

from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon, a_daemon
from tests.support.engines import Engine, engines


@pytest.fixture(params=engines(), ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return each engine in turn: the embedded one, and a real llama-server where there is one."""
    found: Engine = request.param
    return found


@pytest.fixture
def daemon(engine: Engine) -> Iterator[Daemon]:
    """Return a modeld that is not started yet, on each engine."""
    with a_daemon(engine=engine.binary, start=False) as found:
        yield found


@pytest.fixture
def embedded_daemon() -> Iterator[Daemon]:
    """Return a modeld that is not started yet, on the embedded engine: where that is no matter."""
    with a_daemon(start=False) as found:
        yield found
