"""Who may ask: hosts, origins, content types, addresses."""

import pytest

from modeld.config.schema import Gateway
from modeld.errors import ConfigInvalid
from modeld.gateway.guard import (
    Address,
    Guard,
    Visitor,
    check_reach,
    parse_address,
    preflight,
)
from modeld.gateway.http import Problem, RequestHead
from modeld.gateway.keys import Keyring
from modeld.gateway.rate import Rates


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


LOCAL = Address("127.0.0.1", 8080)
KEY = "the-key-of-a-client"
NO_KEYS = Keyring()


def guard(
    *,
    at: Address = LOCAL,
    keys: Keyring = NO_KEYS,
    rates: Rates | None = None,
    **settings: tuple[str, ...],
) -> Guard:
    """Return the guard of a listener, by default at the default address."""
    return Guard(Gateway(**settings), at, keys, rates)


def visitor(name: str = "user 1000", reached: Address = LOCAL) -> Visitor:
    """Return whoever is at the other end."""
    return Visitor(name, reached)


def head(
    method: str = "GET", length: int | None = 2, path: str = "/v1/models", **headers: str
) -> RequestHead:
    """Return a head with these headers, underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestHead(
        method=method,
        path=path,
        query="",
        headers={n.encode(): v.encode() for n, v in {"host": "localhost:8080", **named}.items()},
        minor=1,
        keep_alive=True,
        length=length,
        expects_continue=False,
    )


def problem(
    checked: Guard, request: RequestHead, who: Visitor | None = None, now: float = 0.0
) -> Problem | None:
    """Return why a request may not pass."""
    who = who or visitor()
    try:
        checked.admit(request, who)
        checked.authorise(request, who, lambda: now)
    except Problem as found:
        return found
    return None


def status(
    checked: Guard, request: RequestHead, who: Visitor | None = None, now: float = 0.0
) -> int:
    """Return 200 for a request that may pass."""
    found = problem(checked, request, who, now)
    return found.status if found is not None else 200


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
    other = guard(at=Address("127.0.0.5", 8080))

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

    assert checked.admit(head(), visitor()) == b""
    assert checked.admit(head(origin="https://app.example"), visitor()) == (
        b"Access-Control-Allow-Origin: https://app.example\r\n"
        b"Access-Control-Expose-Headers: Retry-After, X-Modeld-Context, X-Modeld-Model, "
        b"X-Modeld-Route, X-Request-Id, x-should-retry\r\n"
        b"Vary: Origin\r\n"
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
    ("asked", "allowed"),
    [
        ("authorization, content-type", "authorization, content-type"),
        ("Content-Type,X-API-Key", "content-type, x-api-key"),
        ("x-stainless-retry-count,anthropic-version", "x-stainless-retry-count, anthropic-version"),
        ("x-modeld-profile", "x-modeld-profile"),
        ("*", ""),
        ("cookie", ""),
        ("host, transfer-encoding, content-length", ""),
        ("x-forwarded-for, content-type", "content-type"),
        ("x-stainless-a b", ""),
        ("x-stainless-\xe9", ""),
        ("", ""),
        (",,,", ""),
    ],
)
def test_preflight_allows_known_headers_and_echoes_nothing_else(asked: str, allowed: str) -> None:
    """An echo lets a page send whatever a proxy in front takes for its own."""
    answer = preflight(head("OPTIONS", origin="https://a", access_control_request_headers=asked))

    assert answer is not None
    headers = dict(answer.headers)
    assert headers["Access-Control-Allow-Headers"] == allowed
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, DELETE"
    assert "Access-Control-Allow-Credentials" not in headers


# --- keys -----------------------------------------------------------------------------------

LOCKED = guard(keys=Keyring((KEY.encode(),)))
WIDE = Address("0.0.0.0", 8080)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"x_api_key": KEY}, 200),
        ({}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"authorization": "Bearer EMPTY"}, 403),
        ({"x_api_key": KEY[:-1]}, 403),
    ],
)
def test_guard_wants_a_key_where_there_are_keys(headers: dict[str, str], expected: int) -> None:
    """S2-16: 401 for none, 403 for a wrong one."""
    assert status(LOCKED, head(**headers)) == expected


def test_guard_tells_how_to_send_a_key_and_never_to_try_again_without() -> None:
    """A client that repeats itself only fills the log."""
    for request, error in ((head(), ""), (head(x_api_key="wrong"), "invalid_token")):
        found = problem(LOCKED, request)
        assert found is not None
        headers = dict(found.headers)
        assert headers["WWW-Authenticate"].startswith('Bearer realm="modeld"')
        assert error in headers["WWW-Authenticate"]
        assert headers["x-should-retry"] == "false"
        assert "wrong" not in found.message


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/ready"])
def test_guard_wants_no_key_for_health(path: str) -> None:
    """Whoever watches over services has no keys; the answer tells nothing else."""
    assert status(LOCKED, head(path=path)) == 200
    assert status(LOCKED, head(path="/metrics")) == 401
    assert status(LOCKED, head(path=f"{path}/")) == 401


@pytest.mark.parametrize("token", ["EMPTY", "x", "", "sk-anything", "modeld"])
def test_guard_takes_any_key_where_there_are_none(token: str) -> None:
    """S2-49: clients insist on sending one."""
    assert status(guard(), head(authorization=f"Bearer {token}", x_api_key=token)) == 200


def test_guard_of_a_wide_address_opens_for_nobody_without_keys() -> None:
    """A reload may take the keys away while the socket stays."""
    shut = guard(at=WIDE)

    assert status(shut, head()) == 401
    assert status(shut, head(x_api_key=KEY)) == 403
    assert status(shut, head(path="/health")) == 200


def test_a_page_may_ask_first_without_a_key() -> None:
    """Browsers send none with a preflight; what they may then send needs one."""
    checked = guard(keys=Keyring((KEY.encode(),)), allowed_origins=("https://a",))

    assert checked.admit(head("OPTIONS", origin="https://a"), visitor())
    assert status(checked, head(origin="https://a")) == 401


@pytest.mark.parametrize(
    ("reached", "host", "expected"),
    [
        ("192.168.1.5", "192.168.1.5:8080", 200),
        ("fd00::5", "[fd00::5]:8080", 200),
        ("192.168.1.5", "192.168.1.6:8080", 403),
        ("192.168.1.5", "192.168.1.5", 403),
        ("192.168.1.5", "192.168.1.5:80", 403),
        ("192.168.1.5", "evil.example:8080", 403),
        ("192.168.1.5", "mybox", 200),
        ("127.0.0.1", "127.0.0.1:8080", 200),
        ("127.0.0.1", "0.0.0.0:8080", 403),
        ("127.0.0.1", "0:8080", 403),
    ],
)
def test_guard_of_all_addresses_admits_the_one_that_was_reached(
    reached: str, host: str, expected: int
) -> None:
    """A number can't be rebound, and a socket for all addresses has none of its own."""
    checked = guard(at=WIDE, keys=Keyring((KEY.encode(),)), allowed_hosts=("mybox",))
    who = visitor(reached=Address(reached, 8080))

    assert status(checked, head(host=host, x_api_key=KEY), who) == expected


def test_guard_of_one_address_admits_no_other_that_was_reached() -> None:
    """The exact list stays exact."""
    who = visitor(reached=Address("127.0.0.2", 8080))

    assert status(guard(), head(host="127.0.0.2:8080"), who) == 403


# --- rates ----------------------------------------------------------------------------------


def test_guard_refuses_what_comes_too_often_and_says_when() -> None:
    """S2-17: 429 with Retry-After, rounded up."""
    checked = guard(rates=Rates(per_minute=60, burst=2))
    assert [status(checked, head()) for _ in range(3)] == [200, 200, 429]
    found = problem(checked, head(), now=0.5)

    assert found is not None
    assert ("Retry-After", "1") in found.headers
    assert (found.code, found.kind) == ("rate_limit_exceeded", "rate_limit_error")
    assert status(checked, head(), now=1.0) == 200
    slow = guard(rates=Rates(per_minute=1, burst=1))
    status(slow, head())
    later = problem(slow, head(), now=0.5)
    assert later is not None
    assert ("Retry-After", "60") in later.headers


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/ready", "/metrics"])
def test_guard_counts_no_looks_by_the_clock(path: str) -> None:
    """A probe each second must not use up what its user has."""
    checked = guard(rates=Rates(per_minute=1, burst=1))

    assert [status(checked, head(path=path)) for _ in range(5)] == [200] * 5
    assert status(checked, head()) == 200


def test_guard_counts_for_the_key_and_else_for_the_visitor() -> None:
    """Behind a proxy all clients have one address, and keys of their own."""
    keys = Keyring((b"key-of-one", b"key-of-other"))
    checked = guard(keys=keys, rates=Rates(per_minute=1, burst=1))

    assert status(checked, head(x_api_key="key-of-one")) == 200
    assert status(checked, head(x_api_key="key-of-one"), visitor("elsewhere")) == 429
    assert status(checked, head(x_api_key="key-of-other")) == 200
    open_to_all = guard(rates=Rates(per_minute=1, burst=1))
    assert status(open_to_all, head(x_api_key="a"), visitor("user 1")) == 200
    assert status(open_to_all, head(x_api_key="b"), visitor("user 1")) == 429
    assert status(open_to_all, head(x_api_key="a"), visitor("user 2")) == 200


def test_guard_counts_wrong_keys_for_the_visitor() -> None:
    """Guessing has its rate, and takes nothing from those who know a key."""
    checked = guard(keys=Keyring((KEY.encode(),)), rates=Rates(per_minute=1, burst=2))

    wrong = [status(checked, head(x_api_key=f"guess-{n}")) for n in range(4)]
    assert wrong == [403, 403, 429, 429]
    assert status(checked, head(x_api_key=KEY)) == 200


# --- addresses ------------------------------------------------------------------------------


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
    example.org:80 :8080 8080 127.0.0.1 127.0.0.1: 127.0.0.1:x 127.0.0.1:65536 127.0.0.1:-1
    127.0.0.1:٨ *:80 127.1:80 [::1 2130706433:80
    """),
)
def test_address_is_refused_when_it_is_none(text: str) -> None:
    """A name may mean another address tomorrow."""
    with pytest.raises(ConfigInvalid, match=r"gateway\.listen"):
        parse_address(text)


@pytest.mark.parametrize(
    "text", words("0.0.0.0:8080 [::]:8080 192.168.1.2:8080 8.8.8.8:80 [::ffff:8.8.8.8]:80")
)
def test_address_that_others_can_reach_needs_a_key(text: str) -> None:
    """Whoever listens wider must do so knowingly, and let nobody in unasked."""
    address = parse_address(text)
    check_reach(address, Keyring((b"some-key",)))
    check_reach(parse_address("127.0.0.1:8080"), NO_KEYS)
    with pytest.raises(ConfigInvalid, match=r"gateway\.listen") as raised:
        check_reach(address, NO_KEYS)

    assert "gateway.key_file" in raised.value.hint


def test_address_is_shown_as_in_urls() -> None:
    """IPv6 needs its brackets."""
    assert str(Address("::1", 8080)) == "[::1]:8080"
    assert str(Address("127.0.0.1", 8080)) == "127.0.0.1:8080"
