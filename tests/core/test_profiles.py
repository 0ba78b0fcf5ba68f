"""The four profiles: exactly these, and how models score for them."""

import pytest

from modeld.core.limits import Facts
from modeld.core.profiles import (
    PROFILES,
    candidates,
    lacks,
    require_capabilities,
    require_profile,
    score,
)
from modeld.errors import Usage
from tests.support.routing import known


def test_profiles_are_exactly_these() -> None:
    """Families, contexts and fallbacks are OLLM's; whoever comes from there relies on them."""
    assert {
        name: (one.families, one.context_tokens, one.capabilities, one.fallback)
        for name, one in PROFILES.items()
    } == {
        "fast": (("phi", "gemma", "mistral"), 4096, ("streaming",), "general"),
        "general": (("llama", "mistral", "qwen"), 8192, ("streaming",), ""),
        "code": (
            ("codellama", "deepseek-coder", "starcoder", "qwen"),
            16_384,
            ("streaming",),
            "general",
        ),
        "creative": (("llama", "mistral"), 8192, ("streaming",), "general"),
    }


@pytest.mark.parametrize(
    ("profile", "model", "points"),
    [
        ("general", known("llama3.1-8b"), 3.5),
        ("general", known("mistral-7b"), 2.5),
        ("general", known("qwen2.5-7b"), 1.5),
        ("general", known("phi3-mini"), 0),
        ("code", known("codellama-7b"), 4.5),  # the tables say llama: the name has to count too
        ("code", known("deepseek-coder-6.7b"), 3.5),
        ("code", known("starcoder2-15b"), 2.5),
        ("code", known("qwen2.5-coder-7b"), 1.5),
        ("code", known("qwen2.5-7b"), 1),
        ("code", known("llama3.1-8b"), 0.5),
        ("fast", known("phi3-mini"), 3.5),
        ("creative", known("llama3.1-8b"), 2),
        ("general", known("codellama-7b"), 3),
        ("general", known("llamafication-7b"), 0.5),
    ],
)
def test_score_is_the_place_of_the_family_and_half_a_point(
    profile: str, model: Facts, points: float
) -> None:
    """What a profile prefers is the order of its families; a table decides between equals."""
    assert score(PROFILES[profile], model) == points


def test_lacks_says_what_and_how_much() -> None:
    """Without the number nobody knows what to change."""
    model = known("phi3-mini", context_tokens=4096)

    assert list(lacks(PROFILES["code"], model, frozenset(["vision"]))) == [
        "context 4096 < 16384 tokens",
        "no vision",
    ]


def test_lacks_allows_a_context_that_just_suffices() -> None:
    """At least means at least."""
    assert not list(lacks(PROFILES["code"], known("x", context_tokens=16_384), frozenset()))


def test_candidates_are_in_a_stable_order() -> None:
    """The same question has the same answer, in whatever order the disks were read."""
    models = [known("llama3.1-8b"), known("Llama-3.1-70b"), known("mistral-7b"), known("bge-m3")]
    for each in (models, models[::-1]):
        found = candidates(PROFILES["general"], each)

        assert [one.model_id for one in found] == [
            "Llama-3.1-70b",
            "llama3.1-8b",
            "mistral-7b",
            "bge-m3",
        ]
        assert found[-1].left_out


def test_candidates_leave_out_what_is_impossible() -> None:
    """A model that no memory holds must not be chosen for its family."""
    found = candidates(
        PROFILES["general"],
        [known("llama3.1-405b"), known("qwen2.5-7b")],
        impossible={"llama3.1-405b": "too large"},
    )

    assert [(one.model_id, one.left_out) for one in found] == [
        ("qwen2.5-7b", ""),
        ("llama3.1-405b", "too large"),
    ]


def test_require_profile_lists_the_known_ones() -> None:
    """A mistyped profile is corrected by its message."""
    with pytest.raises(Usage) as caught:
        require_profile("codes")

    assert caught.value.hint == "there are fast, general, code, creative"


def test_require_capabilities_lists_the_known_ones() -> None:
    """The same for what a model is to be able to do."""
    assert require_capabilities(["vision"]) == {"vision"}
    with pytest.raises(Usage) as caught:
        require_capabilities(["sight"])
    assert "vision" in caught.value.hint
