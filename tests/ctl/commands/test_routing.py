"""`modelctl route`: what is asked, what is printed, and how it ends."""

import json

import pytest

from modelctl.render.routing import routed_text, suits_text
from modelctl.render.screen import Screen
from modeld.wire.common import Selector
from modeld.wire.routing import (
    MAX_TEXT_LETTERS,
    AskRoute,
    AskSuits,
    ProfileVerdict,
    RouteCandidate,
    Routed,
    RouteStep,
    Suits,
)
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

TERMINAL = Screen(width=100, terminal=True)
PIPE = Screen()
ROUTED = Routed(
    model="coder",
    id="sub/coder",
    route="profile:code",
    profile="code",
    reason="profile code: coder scores 4.5",
    steps=(
        RouteStep(what="rule 1", outcome="'^x' does not fit"),
        RouteStep(what="profile code", outcome="coder scores 4.5"),
    ),
    candidates=(
        RouteCandidate(model="coder", score=4.5),
        RouteCandidate(model="phi", score=0, left_out="context 4096 < 16384 tokens"),
    ),
    options={"temperature": 0.1, "stop": ["x"]},
    warnings=("routing.roles.fast: there is no model 'gone' now",),
)
NOBODY = Routed(model="", id="", route="", reason="no model fits", candidates=ROUTED.candidates)
SUITS = Suits(
    model="phi",
    id="phi",
    suits=False,
    profiles=(
        ProfileVerdict(profile="fast", suits=True, score=3.5),
        ProfileVerdict(
            profile="code", suits=False, score=0, lacks=("context 4096 < 16384 tokens", "no tools")
        ),
    ),
    family="phi",
    context_tokens=4096,
    context_source="header",
    max_output_tokens=2048,
    tools=False,
    vision=False,
    streaming=True,
    reasoning=False,
    pattern="phi3:*",
)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ([], AskRoute()),
        (["write", "a function"], AskRoute(text="write a function")),
        (["--profile", "code", "--explain"], AskRoute(profile="code", explain=True)),
        (
            ["--capability", "vision", "--capability", "tools", "x"],
            AskRoute(text="x", capabilities=("vision", "tools")),
        ),
    ],
)
def test_route_asks_what_was_typed(
    words: list[str], request_: AskRoute, daemon: FakeDaemon, modelctl: Call
) -> None:
    """Several words are one text."""
    daemon.on(AskRoute, ROUTED)

    assert modelctl("route", *words).status == 0
    assert daemon.requests == [request_]


def test_route_says_how_long_a_text_may_be(modelctl: Call) -> None:
    """A pasted file is told in words, before anybody is asked."""
    done = modelctl("route", "x" * (MAX_TEXT_LETTERS + 1))

    assert done.status == 2
    assert done.err.splitlines() == [
        f"error: TEXT has {MAX_TEXT_LETTERS + 1} letters",
        f"hint: at most {MAX_TEXT_LETTERS} are taken",
    ]


def test_route_prints_a_line_for_a_pipe_and_warns_beside_it(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """Model, route, reason; what is missing is no part of the answer."""
    daemon.on(AskRoute, ROUTED)
    result = modelctl("route", "x")

    assert result.out == "coder\tprofile:code\tprofile code: coder scores 4.5\n"
    assert "'gone'" in result.err


def test_route_prints_the_name_alone_when_quiet(daemon: FakeDaemon, modelctl: Call) -> None:
    """For a script that loads it."""
    daemon.on(AskRoute, ROUTED)

    assert modelctl("route", "-q", "x").out == "coder\n"


def test_route_explains_every_step_and_every_model() -> None:
    """Whoever asks why wants all of it."""
    text = routed_text(ROUTED, TERMINAL, explain=True)

    assert "'^x' does not fit" in text
    assert "context 4096 < 16384 tokens" in text
    assert "temperature 0.1, stop 'x'" in text


def test_route_ends_with_4_where_nobody_would_answer(daemon: FakeDaemon, modelctl: Call) -> None:
    """As for any model that is not there; the reasons are told all the same."""
    daemon.on(AskRoute, NOBODY)
    result = modelctl("route", "--explain", "--profile", "code")

    assert result.status == 4
    assert "no model fits" in result.out
    assert "left out" not in result.out.replace("LEFT OUT", "")
    assert "16384" in result.out


@pytest.mark.parametrize(("suits", "status"), [(True, 0), (False, 1)])
def test_check_ends_with_its_verdict(
    suits: bool, status: int, daemon: FakeDaemon, modelctl: Call
) -> None:
    """For `if modelctl route --check ...`."""
    from msgspec.structs import replace

    daemon.on(AskSuits, replace(SUITS, suits=suits))
    result = modelctl("route", "--check", "phi", "--profile", "code")

    assert result.status == status
    assert daemon.requests == [AskSuits(selector=Selector(pattern="phi"), profile="code")]


def test_check_prints_what_is_known_and_what_is_lacking() -> None:
    """And where the context is from."""
    text = suits_text(SUITS, PIPE)

    assert "4096 tokens, from its header" in text
    assert "at most 2048 tokens" in text
    assert "context 4096 < 16384 tokens; no tools" in text
    assert "phi3:*" in text


def test_check_takes_no_text(daemon: FakeDaemon, modelctl: Call) -> None:
    """It would be ignored, which nobody expects."""
    assert modelctl("route", "--check", "phi", "some", "text").status == 2


def test_route_answers_in_json(daemon: FakeDaemon, modelctl: Call) -> None:
    """One object with all of it."""
    daemon.on(AskRoute, ROUTED)
    answer = json.loads(modelctl("route", "--json").out)

    assert answer["ok"] is True
    assert answer["candidates"][1]["left_out"] == "context 4096 < 16384 tokens"
    assert answer["options"] == {"temperature": 0.1, "stop": ["x"]}
