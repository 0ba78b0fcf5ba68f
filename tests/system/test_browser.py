"""A real browser's pages against a real modeld: what none of them can do, and what one may."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import browser
from tests.support.browser import Site
from tests.support.daemon import Daemon, a_daemon
from tests.system.test_main_job import SENTENCES, with_models

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not browser.installed(), reason="there is no Chromium here"),
]
PAGE = Path(browser.__file__).parent / "hostile_page.html"
EVIL = "evil.test"
"""A name that an attacker has an address for, which is this machine's."""
LISTED = "models.test"
"""A name in `gateway.allowed_hosts`: to it, browsers don't tell over HTTP whose page asks."""
SETTINGS = f'gateway.upstream = true\ngateway.allowed_hosts = ["{LISTED}"]'


@pytest.fixture(scope="module")
def loaded() -> Iterator[Daemon]:
    """Return a daemon with one of two models loaded."""
    with a_daemon(start=False) as daemon:
        daemon.configure(SETTINGS)
        with_models(daemon, "alpha", "beta")
        daemon.modelctl("load", "alpha", "--nickname", "kept")
        yield daemon


@pytest.fixture
def site() -> Iterator[Site]:
    """Return the web server of a page."""
    with browser.a_site() as found:
        yield found


def settings(daemon: Daemon, more: str = "") -> None:
    """Change the configuration of a daemon that runs."""
    daemon.configure(f"{SETTINGS}\n{more}")
    daemon.modelctl("reload")


def state_of(daemon: Daemon) -> tuple[Any, ...]:
    """Return what a page would change if it could: servers, their uses, and names."""
    keys = ("name", "pid", "state", "uses", "nicknames")
    rows = daemon.servers()
    assert {row["pid"] for row in rows} == set(daemon.engines())
    return tuple(row[key] for row in rows for key in keys)


def visit(
    daemon: Daemon, site: Site, url: str, *flags: str, modeld: str = "", may: bool = False
) -> dict[str, Any]:
    """Open the hostile page at an address, aimed at modeld's; return what each attempt came to."""
    modeld = modeld or f"http://127.0.0.1:{daemon.port}"
    words = {
        "MODELD": f'"{modeld}"',
        "REPORT": f'"http://127.0.0.1:{site.port}/report"',
        "MAY": str(may).lower(),
    }
    constants = "".join(f"const {name} = {value};\n" for name, value in words.items())
    site.page = PAGE.read_text().replace("<script>\n", f"<script>\n{constants}", 1).encode()
    home = daemon.home / "browser"
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1, MAP {LISTED} 127.0.0.1"
    try:
        return browser.visit(site, url, home, rules, *flags)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize(
    ("page", "modeld", "headers"),
    [
        ("127.0.0.1", "127.0.0.1", {}),
        (EVIL, "localhost", {}),
        (
            "127.0.0.1",
            "localhost",
            {"Content-Security-Policy": "sandbox allow-scripts allow-forms"},
        ),
        ("127.0.0.1", LISTED, {}),
    ],
    ids=["same site", "other site", "no origin", "listed name"],
)
def test_page_neither_changes_nor_reads_anything(
    loaded: Daemon, site: Site, page: str, modeld: str, headers: dict[str, str]
) -> None:
    """F2: whatever a page sends without or after asking; and what it sent did get here."""
    before = state_of(loaded)
    site.headers = headers
    aim = f"http://{modeld}:{loaded.port}"
    told = visit(loaded, site, f"http://{page}:{site.port}/page", modeld=aim)

    assert state_of(loaded) == before
    assert {each["type"] for each in told.values()} <= {"opaque", "failed", "loaded", "endless"}
    assert not any(each["status"] or each["text"].startswith("{") for each in told.values())
    sent = [each for name, each in told.items() if name.startswith("no-cors ")]
    assert len(sent) > 40
    assert {each["type"] for each in sent} == {"opaque"}  # an answer came, and stayed shut
    for what in ("script /unload", "img /unload", "link /unload", "script /upstream/beta/v1"):
        assert told[what]["type"] == "failed", what


def test_page_of_an_allowed_origin_reads_json_and_streams(loaded: Daemon, site: Site) -> None:
    """What `gateway.allowed_origins` is for; what it may not send without asking stays refused."""
    before = state_of(loaded)[:3]
    origin = f"http://localhost:{site.port}"
    settings(loaded, f'gateway.allowed_origins = ["{origin}"]')
    try:
        told = visit(loaded, site, f"{origin}/page", may=True)
    finally:
        settings(loaded)

    assert state_of(loaded)[:3] == before == ("alpha", *loaded.engines(), "ready")
    for what in ("json", "stream", "list"):
        assert (told[what]["type"], told[what]["status"]) == ("cors", 200), told[what]
    assert told["json"]["model"] == told["stream"]["model"] == "alpha"
    assert SENTENCES["alpha"] in told["json"]["text"]
    assert told["stream"]["text"].endswith("data: [DONE]\n\n")
    assert '"id":"beta"' in told["list"]["text"]
    assert told["events"]["type"] == "read"
    for name, each in told.items():
        if name.startswith("cors "):
            assert (each["status"], each["type"]) == (415, "cors"), name


def test_name_that_comes_to_mean_this_machine_gets_nothing(loaded: Daemon, site: Site) -> None:
    """F1: the page's own origin is then modeld's, and its browser keeps nothing from it."""
    before = state_of(loaded)
    url = f"http://{EVIL}:{loaded.port}"
    proxy = f"--proxy-server=http://127.0.0.1:{site.port}"
    told = visit(loaded, site, f"{url}/page", proxy, modeld=url)

    assert state_of(loaded) == before
    answered = {each["status"] for each in told.values() if each["type"] == "basic"}
    assert answered == {403}
    assert "gateway.allowed_hosts" in told["get /v1/models"]["text"]
    assert sum(each["type"] == "basic" for each in told.values()) > 80
