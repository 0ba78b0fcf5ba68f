"""Names with what the configuration adds to them: variants, and the changes of requests."""

from modeld.config.schema import Entry, Parameters, Rewrite
from modeld.core.entities import Model, State
from modeld.supervisor.naming import in_words, naming
from tests.support.fake_door import model

COLD = Rewrite(set=Parameters(temperature=0.0))
SHORT = Rewrite(default=Parameters(max_tokens=100), strip=("logit_bias",))


def catalogue(*names: str) -> dict[str, Model]:
    """Return models by id."""
    return {name: model(name) for name in names}


def test_variant_means_its_model_with_changes_of_both() -> None:
    """What holds for every request to a model holds for those that name a variant."""
    entries = {"tiny": Entry(request=SHORT, variants={"tiny:cold": COLD, "exact": COLD})}

    found = naming(catalogue("tiny"), State(), entries)

    assert found.variants == {"tiny:cold": "tiny", "exact": "tiny"}
    assert found.index["tiny:cold"] == found.index["exact"] == found.index["exact:latest"]
    assert found.index["exact"] == ("tiny",)
    assert found.rewrites["exact"] == found.rewrites["exact:latest"] == (SHORT, COLD)
    assert found.rewrites["tiny"] == (SHORT,)
    assert found.problems == ()


def test_default_of_a_variant_takes_the_place_of_its_models() -> None:
    """The model's was put in first, and the variant's found that something was said already."""
    request = Rewrite(default=Parameters(max_tokens=100, top_k=5), set=Parameters(seed=1))
    long = Rewrite(default=Parameters(max_tokens=9000))

    found = naming(catalogue("a"), State(), {"a": Entry(request=request, variants={"b": long})})

    kept = Rewrite(default=Parameters(top_k=5), set=Parameters(seed=1))
    assert found.rewrites["b"] == (kept, long)
    assert found.rewrites["a"] == (request,)


def test_default_that_a_variant_has_too_leaves_no_empty_change() -> None:
    """Whoever reads `modelctl status` would look for what it does."""
    request = Rewrite(default=Parameters(max_tokens=100))
    long = Rewrite(default=Parameters(max_tokens=9000))

    found = naming(catalogue("a"), State(), {"a": Entry(request=request, variants={"b": long})})

    assert found.rewrites["b"] == (long,)


def test_entry_is_found_by_nickname() -> None:
    """Settings may be written under whatever name a person uses."""
    found = naming(
        catalogue("tiny"), State(nicknames={"nick": "tiny"}), {"nick": Entry(request=COLD)}
    )

    assert found.rewrites == {"tiny": (COLD,)}


def test_existing_name_wins_over_a_variant_and_it_is_said() -> None:
    """A line in the configuration must not take a name away under the feet of programs."""
    state = State(nicknames={"quick": "other"}, slots={"tool": "other"})
    entries = {"tiny": Entry(variants={"quick": COLD, "tool": COLD, "other": COLD, "mine": COLD})}

    found = naming(catalogue("tiny", "other"), state, entries)

    assert found.variants == {"mine": "tiny"}
    assert all(found.index[name] == ("other",) for name in ("quick", "tool", "other"))
    assert found.problems[0] == "variant 'quick' has no effect: the name means other"
    assert len(found.problems) == 3


def test_variant_of_two_models_is_nobodys() -> None:
    """A program must not get one of two models by the order of a table."""
    entries = {"a": Entry(variants={"same": COLD}), "b": Entry(variants={"same": COLD})}

    found = naming(catalogue("a", "b"), State(), entries)

    assert "same" not in found.index
    assert found.problems == ("variant 'same' has no effect: it would be one of a, b",)


def test_nothing_configured_changes_nothing() -> None:
    """Most people have no entries, and pay nothing for those who do."""
    found = naming(catalogue("tiny"), State(), {"tiny": Entry(arguments=("-ngl", "1"))})

    assert (found.variants, found.rewrites, found.problems) == ({}, {}, ())


def test_changes_are_told_in_the_order_in_which_they_are_made() -> None:
    """`modelctl show` must not leave anybody guessing which of two wins."""
    assert in_words((SHORT, COLD)) == (
        "strip logit_bias",
        "default max_tokens 100",
        "set temperature 0.0",
    )
