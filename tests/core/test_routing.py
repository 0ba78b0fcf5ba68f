"""Which model answers what: the order, the vectors of RustyClaw, the fallbacks of OLLM."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.profiles import PROFILES
from modeld.core.routing import Ask, Decision, Router, is_choice
from modeld.errors import ModeldError, UnknownModel, Usage
from tests.support.routing import known, router, rules

PRIMARY, CODE, FAST = "qwen2.5:32b", "deepseek-coder-v2:16b", "qwen2.5:7b"
ROLES = {"primary": PRIMARY, "code": CODE, "fast": FAST}
TRANSLATE = ("translate.*to.*language", FAST)
SHORT = ("^.{0,100}$", FAST)
PROSE = (
    "Tell me about the long history of the great river that runs through this land, "
    "and of all the peoples who live beside it."
)


def routed(text: str, *pairs: tuple[str, str], **settings: object) -> Decision:
    """Return where a message goes with RustyClaw's models."""
    with_rules = {"roles": ROLES, "rules": rules(*pairs), **settings}
    return router(PRIMARY, CODE, FAST, **with_rules).decide(Ask(text=lambda: text))


# --- the vectors of S3-11 and S3-12 ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "model", "route"),
    [
        ("Write a function to sort an array", CODE, "heuristic:code"),
        ("Hi", FAST, "heuristic:short"),
        (PROSE, PRIMARY, "default"),
        ("translate this to Spanish language", FAST, "rule:1"),
        ("Translate this to Spanish language", FAST, "heuristic:short"),
        ("x" * 100, PRIMARY, "default"),
        ("", FAST, "heuristic:short"),
    ],
)
def test_decide_routes_as_rustyclaw_does(text: str, model: str, route: str) -> None:
    """Its users bring their rules, and expect the same models."""
    decision = routed(text, TRANSLATE)

    assert (decision.model_id, decision.route) == (model, route)


def test_prose_of_the_vectors_is_as_long_as_they_say() -> None:
    """121 letters, and none of the words."""
    assert len(PROSE) == 121


@pytest.mark.parametrize(
    ("text", "model", "route"),
    [
        ("x" * 100, FAST, "rule:2"),
        ("two\nlines", FAST, "heuristic:short"),
        ("Write a function", CODE, "rule:1"),
        ("How are you?", FAST, "rule:2"),
        ("y" * 101, PRIMARY, "default"),
    ],
)
def test_decide_routes_by_the_sample_rules(text: str, model: str, route: str) -> None:
    """Code, else up to 100 letters, else the primary."""
    decision = routed(text, ("code|function|implement|debug", "code"), SHORT)

    assert (decision.model_id, decision.route) == (model, route)


# --- the order ------------------------------------------------------------------------------


def test_decide_tries_rules_in_their_order() -> None:
    """The first that fits decides, whatever comes after."""
    assert routed("abc", ("z", CODE), ("b", PRIMARY), ("a", CODE)).route == "rule:2"


def test_decide_takes_rules_before_heuristics_and_profiles_before_the_default_model() -> None:
    """Rules > heuristics > default profile > default model."""
    here = (known("llama3.1-8b"), known("phi3", context_tokens=4096))
    plain: dict[str, Any] = {"default_model": "phi3"}
    roles = {"roles": {"fast": "phi3"}}

    def route(**settings: object) -> str:
        return router(*here, **settings).decide(Ask(name="auto", text=lambda: "Hi")).route

    assert route(**plain, **roles, rules=rules(("Hi", "llama3.1-8b"))) == "rule:1"
    assert route(**plain, **roles) == "heuristic:short"
    assert route(**plain) == "profile:general"
    assert router(here[1], **plain).decide(Ask(name="auto")).route == "default"


def test_decide_takes_the_default_model_first_where_nothing_at_all_is_named() -> None:
    """It is what somebody chose for such requests; `auto` is what asks for a choice."""
    chosen = router("llama3.1-8b", "mistral-7b", default_model="mistral-7b")

    assert chosen.decide(Ask()).model_id == "mistral-7b"
    assert chosen.decide(Ask(name="auto")).model_id == "llama3.1-8b"


def test_decide_lets_a_profile_that_is_asked_for_come_before_rules() -> None:
    """Who says what kind of work it is needs no guess."""
    chosen = router(PRIMARY, CODE, FAST, roles=ROLES, rules=rules((".", FAST)))

    for ask in (Ask(name="profile:code"), Ask(name="auto", profile="code"), Ask(profile="code")):
        assert chosen.decide(ask).route == "profile:code"


def test_decide_needs_no_heuristics_where_they_are_off() -> None:
    """The primary is their last resort, and goes with them."""
    decision = routed("Hi", heuristics=False)

    assert decision.route == "profile:general"


def test_decide_asks_for_no_words_where_none_decide() -> None:
    """Finding the last message costs more than the choice."""

    def text() -> str:
        raise AssertionError("nobody needs it")

    assert router("llama3.1-8b").decide(Ask(name="auto", text=text)).model_id == "llama3.1-8b"


def test_decide_takes_no_words_for_short_ones() -> None:
    """Where there are none, neither rule nor heuristic has anything to say."""
    chosen = router("llama3.1-8b", "phi3", roles={"fast": "phi3"}, rules=rules(("", "phi3")))

    assert chosen.decide(Ask(name="auto")).model_id == "llama3.1-8b"


# --- rules and roles ------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["primary", "code", "fast"])
def test_decide_takes_a_role_for_a_name(role: str) -> None:
    """Programs may ask for a role; it needs no rule and no switch."""
    decision = router(PRIMARY, CODE, FAST, roles=ROLES, enabled=False).decide(Ask(name=role))

    assert (decision.model_id, decision.route) == (ROLES[role], f"role:{role}")


def test_decide_does_not_advise_a_default_model_where_capabilities_decide() -> None:
    """With them it is not even looked at, so setting it would cure nothing."""
    with pytest.raises(UnknownModel, match="with vision") as caught:
        router(PRIMARY).decide(Ask(capabilities=frozenset({"vision"})))

    assert caught.value.hint == "modelctl route --explain tells what each model lacks"


def test_decide_says_that_a_role_is_nobodys() -> None:
    """Instead of an answer by any model."""
    with pytest.raises(UnknownModel, match="nobody's") as caught:
        router(PRIMARY).decide(Ask(name="code"))
    assert "routing.roles.code" in caught.value.hint

    with pytest.raises(UnknownModel, match="which is not there"):
        router(PRIMARY, roles={"code": CODE}).decide(Ask(name="code"))


def test_decide_resolves_roles_in_rules_and_in_the_default_model() -> None:
    """A model is named once, and meant in many places."""
    assert routed("abc", ("b", "code")).model_id == CODE
    assert routed("x" * 200, heuristics=False, default_model="fast").model_id == FAST


def test_decide_prefers_real_names_to_roles_in_rules() -> None:
    """As everywhere: what a file is called comes first."""
    chosen = router(PRIMARY, "fast", roles={"fast": PRIMARY}, rules=rules(("a", "fast")))

    assert chosen.decide(Ask(text=lambda: "a")).model_id == "fast"


def test_decide_goes_on_where_a_rules_model_is_not_there() -> None:
    """A disk that is away must not refuse every message that fits."""
    decision = routed("abc", ("b", "gone"), ("c", PRIMARY))

    assert decision.route == "rule:2"
    assert "'gone' is not there" in decision.steps[0].outcome


def test_decide_goes_on_where_a_roles_model_is_not_there() -> None:
    """The same."""
    chosen = router(PRIMARY, roles={"primary": PRIMARY, "code": "gone"})

    assert chosen.decide(Ask(text=lambda: "debug")).route == "default"


def test_warnings_name_everything_that_is_not_there() -> None:
    """They may come yet, and so are no mistakes; but who mistyped wants to know."""
    told = router(
        PRIMARY,
        roles={"fast": "a", "primary": PRIMARY},
        overrides={"code": "b"},
        rules=rules(("x", "c"), ("y", "primary")),
    ).warnings()

    assert [line.partition(":")[0] for line in told] == [
        "routing.roles.fast",
        "routing.overrides.code",
        "routing.rules[1].model",
    ]


# --- profiles -------------------------------------------------------------------------------


def test_decide_takes_the_best_score_of_a_profile() -> None:
    """And tells of everything that it looked at."""
    here = (known("qwen2.5-coder-7b"), known("codellama-7b"), known("phi3", context_tokens=4096))
    decision = router(*here).decide(Ask(name="profile:code"))

    assert decision.model_id == "codellama-7b"
    assert decision.route == "profile:code"
    assert decision.profile == "code"
    assert [(one.model_id, one.score, one.left_out) for one in decision.candidates] == [
        ("codellama-7b", 4.5, ""),
        ("qwen2.5-coder-7b", 1.5, ""),
        ("phi3", 0, "context 4096 < 16384 tokens"),
    ]
    assert decision.reason == "profile code: codellama-7b scores 4.5"


def test_decide_takes_an_override_while_it_is_there() -> None:
    """Whatever its family or context."""
    overrides = {"code": "phi3"}
    small = known("phi3", context_tokens=2048)

    chosen = router(small, "codellama-7b", overrides=overrides).decide(Ask(name="profile:code"))
    without = router("codellama-7b", overrides=overrides).decide(Ask(name="profile:code"))

    assert chosen.model_id == "phi3"
    assert without.model_id == "codellama-7b"
    assert without.steps[0].outcome == "has an override, and 'phi3' is not there"


def test_decide_asks_the_fallback_where_no_model_fits() -> None:
    """The header says whose choice it was."""
    decision = router(known("llama3.1-8b", context_tokens=8192)).decide(Ask(name="profile:code"))

    assert (decision.model_id, decision.route) == ("llama3.1-8b", "profile:general")
    assert decision.steps[0].outcome == "none of 1 models fits"


@pytest.mark.parametrize("profile", PROFILES)
def test_decide_ends_where_no_fallback_fits(profile: str) -> None:
    """In words, and in time."""
    with pytest.raises(UnknownModel, match="no model fits profile"):
        router(known("phi3", context_tokens=512)).decide(Ask(name=f"profile:{profile}"))


def test_decide_survives_fallbacks_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are none today; an endless loop would end the daemon."""
    from msgspec.structs import replace

    monkeypatch.setitem(
        PROFILES,  # type: ignore[arg-type]  # a dict underneath
        "general",
        replace(PROFILES["general"], fallback="code"),
    )

    with pytest.raises(UnknownModel):
        router().decide(Ask(name="profile:code"))


def test_decide_gives_no_tools_to_a_model_without_them() -> None:
    """The request would be refused by the model that was chosen for it."""
    here = (
        known("llama3.1-8b", has_chat_template=True),
        known("mistral-7b", has_chat_template=True, has_tool_template=True),
    )
    chosen = router(*here)

    assert chosen.decide(Ask(name="auto")).model_id == "llama3.1-8b"
    assert (
        chosen.decide(Ask(name="auto", capabilities=frozenset(["tools"]))).model_id == "mistral-7b"
    )


def test_decide_passes_over_what_is_named_and_lacks_what_is_needed() -> None:
    """A rule may send pictures to a model that sees none; the next one may see."""
    sees = known("seer", mmproj="/m/mmproj.gguf")
    named = router(
        "blind",
        sees,
        roles={"primary": "seer", "fast": "blind"},
        rules=rules(("a", "blind")),
        overrides={"fast": "blind"},
    )
    vision = frozenset(["vision"])

    decision = named.decide(Ask(text=lambda: "a", capabilities=vision))

    assert decision.route == "default"
    assert [step.outcome for step in decision.steps[:2]] == [
        "fits, and blind has no vision",
        "blind has no vision",
    ]
    assert named.decide(Ask(name="profile:fast", capabilities=vision)).model_id == "seer"


def test_decide_never_chooses_what_cannot_be() -> None:
    """A model larger than the machine would be chosen for ever, and refused for ever."""
    chosen = router("llama3.1-405b", "qwen2.5-7b", impossible={"llama3.1-405b": "too large"})

    assert chosen.decide(Ask(name="auto")).model_id == "qwen2.5-7b"


def test_decide_names_the_known_profiles_for_an_unknown_one() -> None:
    """By name and by header."""
    for ask in (Ask(name="profile:x"), Ask(name="profile:"), Ask(profile="x")):
        with pytest.raises(Usage) as caught:
            router("llama3.1-8b").decide(ask)
        assert "fast, general, code, creative" in caught.value.hint


def test_decide_chooses_nothing_where_routing_is_off() -> None:
    """Only the default model is left."""
    off = router("llama3.1-8b", enabled=False, rules=rules((".", "llama3.1-8b")))
    with pytest.raises(UnknownModel, match="routing is off"):
        off.decide(Ask(name="auto"))
    with pytest.raises(UnknownModel, match="routing is off"):
        off.decide(Ask(name="profile:code"))

    default = router("llama3.1-8b", enabled=False, default_model="llama3.1-8b")
    assert default.decide(Ask(name="auto")).route == "default"


def test_decide_says_why_nothing_can_be_chosen() -> None:
    """Whoever reads it knows what to set."""
    with pytest.raises(UnknownModel) as caught:
        router(default_model="gone").decide(Ask())

    assert "'gone' is not there" in caught.value.message
    assert "profile general" in caught.value.message


def test_decide_tells_of_rules_that_did_not_fit_when_asked() -> None:
    """`route --explain` shows the whole way."""
    chosen = router(PRIMARY, rules=rules(("x", PRIMARY), ("a", PRIMARY)))
    plain = chosen.decide(Ask(text=lambda: "a"))
    told = chosen.decide(Ask(text=lambda: "a"), explain=True)

    assert [step.what for step in plain.steps] == ["rule 2"]
    assert [step.what for step in told.steps] == ["rule 1", "rule 2"]


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "auto", "auto:latest", "primary", "code", "fast", "profile:x", "fast:latest"]
)
def test_is_choice_knows_the_words(name: str) -> None:
    """Ollama's clients put `:latest` behind every name."""
    assert is_choice(name)


@pytest.mark.parametrize("name", ["Auto", "auto ", "profiles", "llama", "general"])
def test_is_choice_knows_no_others(name: str) -> None:
    """A mistyped model must not be answered by another."""
    assert not is_choice(name)


MODELS = st.lists(
    st.tuples(
        st.sampled_from(["llama3.1", "mistral", "qwen2.5", "phi3", "codellama", "other"]),
        st.integers(1, 5),
        st.sampled_from([512, 4096, 8192, 16_384, 131_072]),
    ),
    max_size=12,
    unique_by=lambda each: each[:2],
)


@given(MODELS, st.sampled_from([*PROFILES]), st.randoms())
def test_decide_depends_on_nothing_but_what_there_is(
    models: list[tuple[str, int, int]], profile: str, random: Random
) -> None:
    """The same models in any order: the same choice, which has what the profile wants."""
    here = [known(f"{name}-{size}b", context_tokens=context) for name, size, context in models]
    shuffled = list(here)
    random.shuffle(shuffled)

    def choice(one: Router) -> str:
        try:
            return one.decide(Ask(name=f"profile:{profile}")).model_id
        except ModeldError:
            return ""

    first = choice(router(*here))
    assert first == choice(router(*shuffled))
    fitting = [one for one in here if one.context_tokens >= PROFILES[profile].context_tokens]
    if fitting:
        assert first in {one.model_id for one in fitting}
