"""Who may ask: hosts, origins, content types, addresses."""

import pytest

from modeld.config.schema import Gateway
from modeld.errors import ConfigInvalid
from modeld.gateway.guard import Address, Guard, parse_address, preflight
from modeld.gateway.http import Problem, RequestHead


def words(text: str) -> list[str]:
    """Return the words of a table."""
    return text.split()


GOOD_HOSTS = words("""
    127.0.0.1:8080 localhost:8080 LOCALHOST:8080 LocalHost:8080 [::1]:8080 mybox mybox:8080 MyBox
    models.example.org models.example.org:8443
""")
BAD_HOSTS = words("""
    127.0.0.1 localhost [::1] 127.0.0.1:80 127.0.0.1:8081 127.0.0.1:808 127.0.0.1:80800
    127.0.0.1:08080 localhost:443 localhost.:8080 localhost.localdomain:8080 localhost.evil:8080
    localhost.evil.example:8080 127.0.0.1.nip.io:8080 127.0.0.1.evil:8080 evil:8080 evil
    evil.example evil.localhost:8080 localhost.local:8080 my.local:8080 a.internal:8080 0:8080
    0.0.0.0:8080 2130706433:8080 0x7f000001:8080 0177.0.0.1:8080 127.1:8080 127.0.1:8080
    127.0.0.2:8080 127.000.000.001:8080 127.0.0.1.:8080 [::]:8080 [0:0:0:0:0:0:0:1]:8080
    [::ffff:127.0.0.1]:8080
    [::1%lo]:8080 ::1:8080 [::1]8080 [::1:8080 user@localhost:8080 localhost:8080@evil
    evil@127.0.0.1:8080 localhost:8080,evil localhost:8080;evil localhost:8080/ localhost:8080#a
    localhost:8080?a localhost%00:8080 192.168.1.10:8080 10.0.0.1:8080
    mybox:8081 mybox.:8080 mybox.evil:8080 models.example.org:8444 *:8080 * null
""")
ODD_HOSTS = [
    "",
    " localhost:8080 x",
    "localhost:8080 evil",
    "localhost:8080\tevil",
    "\u217cocalhost:8080",
    "localhost\uff1a8080",
]


def guard(**settings: tuple[str, ...]) -> Guard:
    """Return the guard of a listener at the default address."""
    return Guard(Gateway(**settings), Address("127.0.0.1", 8080))


def head(method: str = "GET", length: int | None = 2, **headers: str) -> RequestHead:
    """Return a head with these headers, underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestHead(
        method=method,
        path="/",
        query="",
        headers={n.encode(): v.encode() for n, v in {"host": "localhost:8080", **named}.items()},
        minor=1,
        keep_alive=True,
        length=length,
        expects_continue=False,
    )


def status(checked: Guard, request: RequestHead) -> int:
    """Return 200 for a request that may pass."""
    try:
        checked.admit(request)
    except Problem as problem:
        return problem.status
    return 200


def test_the_host_tables_are_as_large_as_promised() -> None:
    """The promise is a table of sixty values."""
    assert len(set(GOOD_HOSTS + BAD_HOSTS + ODD_HOSTS)) >= 60


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_guard_admits_a_host_that_is_ours(host: str) -> None:
    """People type these."""
    names = ("mybox", "models.example.org", "models.example.org:8443")

    assert status(guard(allowed_hosts=names), head(host=host)) == 200


@pytest.mark.parametrize("host", [*BAD_HOSTS, *ODD_HOSTS])
def test_guard_refuses_a_host_that_is_not_exactly_ours(host: str) -> None:
    """A page whose name is rebound to 127.0.0.1 sends its own name."""
    names = ("mybox", "models.example.org", "models.example.org:8443")

    assert status(guard(allowed_hosts=names), head(host=host)) == 403


def test_guard_admits_the_address_that_is_listened_on() -> None:
    """All of 127.0.0.0/8 is loopback, and some people use it."""
    other = Guard(Gateway(), Address("127.0.0.5", 8080))

    assert status(other, head(host="127.0.0.5:8080")) == 200
    assert status(guard(), head(host="127.0.0.5:8080")) == 403


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, 200),
        ("https://app.example", 200),
        ("null", 403),
        ("", 403),
        ("https://evil.example", 403),
        ("http://app.example", 403),
        ("https://app.example:444", 403),
        ("https://app.example.evil", 403),
        ("https://APP.example", 403),
        ("http://127.0.0.1:8080", 403),
        ("http://localhost:8080", 403),
        ("file://", 403),
    ],
)
def test_guard_knows_three_states_of_origin(method: str, origin: str | None, expected: int) -> None:
    """Absent is a program, listed is a page that may, anything else is a page that may not."""
    checked = guard(allowed_origins=("https://app.example",))
    headers = {"content_type": "application/json"} | (
        {"origin": origin} if origin is not None else {}
    )

    assert status(checked, head(method, **headers)) == expected


def test_guard_gives_no_cors_headers_when_no_page_asks() -> None:
    """A wildcard here is how llama-server lets every page in."""
    checked = guard(allowed_origins=("https://app.example",))

    assert checked.admit(head()) == b""
    assert checked.admit(head(origin="https://app.example")) == (
        b"Access-Control-Allow-Origin: https://app.example\r\nVary: Origin\r\n"
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/json ;charset=utf-8", 200),
        ("", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=application/json", 415),
        ("text/plain; application/json", 415),
        ("application/jsonp", 415),
        ("application/json-patch+json", 415),
        ("application/json, text/plain", 415),
    ],
)
def test_guard_wants_json_when_something_is_posted(kind: str, expected: int) -> None:
    """These are the types that a page can send across origins without asking first."""
    assert status(guard(), head("POST", content_type=kind)) == expected
    assert status(guard(), head("GET", content_type=kind)) == 200


def test_guard_refuses_a_post_without_content_type() -> None:
    """A page's blob without a type has none."""
    assert status(guard(), head("POST")) == 415
    assert status(guard(), head("POST", length=None)) == 415


def test_guard_asks_no_content_type_of_an_empty_post() -> None:
    """`curl -X POST .../unload` is ordinary; a page's has its Origin, and ends there."""
    assert status(guard(), head("POST", length=0)) == 200
    assert status(guard(), head("POST", length=0, origin="https://evil.example")) == 403
    assert status(guard(), head("POST", length=0, content_type="text/plain")) == 415


def test_preflight_answers_pages_only() -> None:
    """OPTIONS of a program is a method like others."""
    answer = preflight(
        head("OPTIONS", origin="https://a", access_control_request_headers="x-stainless-os")
    )

    assert preflight(head("OPTIONS")) is None
    assert preflight(head("GET", origin="https://a")) is None
    assert answer is not None
    assert ("Access-Control-Allow-Headers", "x-stainless-os") in answer.headers


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:80", Address("127.0.0.1", 80)),
        ("[::1]:8080", Address("::1", 8080)),
        ("127.5.6.7:1", Address("127.5.6.7", 1)),
    ],
)
def test_address_is_parsed_when_it_is_loopback(text: str, address: Address) -> None:
    """These are the ways that people write it."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    words("""
    0.0.0.0:8080 [::]:8080 192.168.1.2:8080 8.8.8.8:80 example.org:80 :8080 8080 127.0.0.1
    127.0.0.1: 127.0.0.1:x 127.0.0.1:65536 127.0.0.1:-1 127.0.0.1:٨ [::ffff:8.8.8.8]:80 *:80
    """),
)
def test_address_is_refused_when_others_can_reach_it(text: str) -> None:
    """Whoever listens wider must do so knowingly, with a proxy that checks who asks."""
    with pytest.raises(ConfigInvalid, match=r"gateway\.listen"):
        parse_address(text)


def test_address_is_shown_as_in_urls() -> None:
    """IPv6 needs its brackets."""
    assert str(Address("::1", 8080)) == "[::1]:8080"
    assert str(Address("127.0.0.1", 8080)) == "127.0.0.1:8080"
