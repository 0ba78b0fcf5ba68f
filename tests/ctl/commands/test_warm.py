"""`modelctl warm`, against a daemon that is not one and servers that are."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from tempfile import TemporaryDirectory

import pytest

from modeld.wire.common import Selector
from modeld.wire.load import Load, Loaded
from modeld.wire.models import Ps, ServerRow, Servers
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server on a socket of its own; yields its path and the bodies that came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def address_string(self) -> str:
            return "unix"

    with TemporaryDirectory(dir="/tmp") as directory:
        path = str(Path(directory) / "s.sock")
        with UnixStreamServer(path, Handler) as serving:
            thread = threading.Thread(target=serving.serve_forever)
            thread.start()
            try:
                yield path, bodies
            finally:
                serving.shutdown()
                thread.join()


def ready(daemon: FakeDaemon, path: str) -> None:
    """Have the daemon say that a server is there."""
    daemon.on(Load, Loaded(model="m", server_id="s", address="", seconds=1.5, message=""))
    row = ServerRow(server_id="s", name="m", id="m", state="ready", socket=path)
    daemon.on(Ps, Servers(servers=(row,)))


def test_warm_loads_beside_the_others_and_asks_for_one_token(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """S3-20: the word brings the weights to where they are used."""
    with server(200) as (path, bodies):
        ready(daemon, path)
        result = modelctl("warm", "m")

    assert result.status == 0, result.err
    load = Load(selector=Selector(pattern="m"), keep_others=True, by_program=True)
    assert daemon.requests[0] == load
    assert [json.loads(body)["max_tokens"] for body in bodies] == [1]
    assert "m is ready in 1.5 s, one token in" in result.out


@pytest.mark.parametrize("status", [501, 200])
def test_warm_tells_programs_the_figures(daemon: FakeDaemon, modelctl: Call, status: int) -> None:
    """A model that generates nothing, as embedders do, is warm all the same."""
    with server(status) as (path, _):
        ready(daemon, path)
        result = modelctl("warm", "m", "--json")
    found = json.loads(result.out)["models"]

    assert [(each["model"], each["seconds"]) for each in found] == [("m", 1.5)]
    assert (found[0]["word_seconds"] is None) == (status != 200)
