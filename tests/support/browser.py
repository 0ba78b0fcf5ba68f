"""A browser without a window, and a web server whose page it opens."""

import contextlib
import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
REPORT_SECONDS = 40.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root there is none, and the page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container has little of it
    "--no-first-run",
    "--disable-background-networking",
)


def installed() -> str:
    """Return a browser that can do without a window; empty where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), "")


class Site(ThreadingHTTPServer):
    """A web server on a free port, with one page whose script reports what it came to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = b""
        self.headers: dict[str, str] = {}
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self.port: int = self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    """Serves the page, takes its report, and passes on the rest as a proxy does."""

    server: Site

    def do_GET(self) -> None:
        """Give the page."""
        if self.path.endswith("/page"):
            self._answer(200, self.server.page, "text/html", self.server.headers)
        else:
            self._pass_on()

    def do_POST(self) -> None:
        """Take the report."""
        if self.path.endswith("/report"):
            self.server.reports.put(json.loads(self._body()))
            self._answer(204, b"", "text/plain")
        else:
            self._pass_on()

    def do_PUT(self) -> None:
        """Pass it on."""
        self._pass_on()

    def do_DELETE(self) -> None:
        """Pass it on."""
        self._pass_on()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _pass_on(self) -> None:
        """Ask this machine, whatever the name: so the name of an attacker comes to mean it."""
        target = urlsplit(self.path)
        if not target.port:
            self._answer(404, b"", "text/plain")
            return
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=10)
        with contextlib.closing(connection):
            headers = {k: v for k, v in self.headers.items() if not k.startswith("Proxy-")}
            path = urlunsplit(("", "", target.path, target.query, ""))
            connection.request(self.command, path, self._body(), headers)
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "")
            self._answer(answer.status, answer.read(), kind)

    def _answer(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def a_site() -> Iterator[Site]:
    """Run a web server."""
    site = Site()
    thread = threading.Thread(target=site.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


def visit(site: Site, url: str, home: Path, *flags: str) -> dict[str, Any]:
    """Open a page in a browser of its own, and return what its script reports."""
    home.mkdir(exist_ok=True)
    command = [installed(), *_FLAGS, f"--user-data-dir={home}", *flags, url]
    log = home / "browser.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return site.reports.get(timeout=REPORT_SECONDS)
    except queue.Empty:
        raise AssertionError(f"the page tells nothing: {log.read_text()[-3000:]}") from None
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it is many processes
        process.wait(10)
