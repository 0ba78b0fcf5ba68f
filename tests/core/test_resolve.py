"""What a name means must be one rule, or two programs will mean two models by one word."""

from collections.abc import Mapping

import pytest

from modeld.core.entities import Header, Location, Model, State
from modeld.core.events import Selection
from modeld.core.resolve import Chosen, exact_index, select
from modeld.errors import Ambiguous, UnknownModel, UnknownName, Usage


def _model(model_id: str, *aliases: str, path: str = "") -> Model:
    path = path or f"/ssd/{model_id}.gguf"
    location = Location(tier="ssd", path=path, shard_paths=(path,), size_bytes=1, mtime_ns=1)
    return Model(
        id=model_id,
        name=model_id.rpartition("/")[2],
        aliases=aliases,
        size_bytes=1,
        header=Header(),
        locations=(location,),
    )


MODELS = {
    model.id: model
    for model in (
        _model("gemma-2b-Q4_K_M"),
        _model("gemma-7b-Q4_K_M"),
        _model("qwen/coder-7b"),
        _model("mistral/coder-7b"),
        _model("phi-3", "old/phi-3"),
        _model("big", path="/hdd/big-00001-of-00003.gguf"),
    )
}
STATE = State(
    nicknames={"talk": "gemma-2b-Q4_K_M", "phi-3": "big", "lost": "gone/away", "both": "phi-3"},
    slots={"tool": "gemma-7b-Q4_K_M", "both": "big"},
)
RANKS = {"gemma-2b-Q4_K_M": 3.0, "gemma-7b-Q4_K_M": 41.5, "qwen/coder-7b": -2.0}


def _chosen(
    selection: Selection,
    models: Mapping[str, Model] = MODELS,
    state: State = STATE,
    ranks: Mapping[str, float] = RANKS,
) -> Chosen:
    return select(selection, models, state, index=exact_index(models, state), ranks=lambda: ranks)


def _select(pattern: str, *, only: bool = False) -> Chosen:
    return _chosen(Selection(pattern=pattern, only=only))


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("tool", ("gemma-7b-Q4_K_M",)),
        ("@tool", ("gemma-7b-Q4_K_M",)),
        ("tool:latest", ("gemma-7b-Q4_K_M",)),
        ("talk", ("gemma-2b-Q4_K_M",)),
        ("talk:latest", ("gemma-2b-Q4_K_M",)),
        ("gemma-2b-Q4_K_M.gguf", ("gemma-2b-Q4_K_M",)),
        ("/ssd/gemma-2b-Q4_K_M.gguf", ("gemma-2b-Q4_K_M",)),
        ("gemma-2b-Q4_K_M", ("gemma-2b-Q4_K_M",)),
        ("gemma-2b-Q4_K_M:latest", ("gemma-2b-Q4_K_M",)),
        ("qwen/coder-7b", ("qwen/coder-7b",)),
        ("coder-7b", ("mistral/coder-7b", "qwen/coder-7b")),
        ("coder-7b.gguf", ("mistral/coder-7b", "qwen/coder-7b")),
        ("old/phi-3", ("phi-3",)),
        ("big-00001-of-00003.gguf", ("big",)),
    ],
)
def test_index_has_every_exact_name(name: str, ids: tuple[str, ...]) -> None:
    """X-GW-4: a name that a client was told of must be found again."""
    assert exact_index(MODELS, STATE)[name] == ids


def test_index_prefers_a_slot_to_a_nickname() -> None:
    """S0-07: the role is the stronger word."""
    assert exact_index(MODELS, STATE)["both"] == ("big",)


def test_index_prefers_a_nickname_to_a_stem() -> None:
    """S0-06: a person gave the nickname on purpose; the file name came with the download."""
    assert exact_index(MODELS, STATE)["phi-3"] == ("big",)
    assert exact_index(MODELS, STATE)["phi-3.gguf"] == ("phi-3",)


@pytest.mark.parametrize("name", ["lost", "gemma", "gone/away", ""])
def test_index_has_nothing_else(name: str) -> None:
    """A part of a name must never reach a program's request (X-GW-4)."""
    assert name not in exact_index(MODELS, STATE)


def test_names_of_a_moved_model_follow_its_alias() -> None:
    """A model that moved to another folder keeps its nickname."""
    state = State(nicknames={"p": "old/phi-3"})

    assert exact_index(MODELS, state)["p"] == ("phi-3",)


def test_names_of_a_moved_model_follow_its_name_where_unique() -> None:
    """Without an alias the last part tells, unless two models have it."""
    state = State(nicknames={"p": "elsewhere/phi-3", "c": "elsewhere/coder-7b"})
    index = exact_index(MODELS, state)

    assert index["p"] == ("phi-3",)
    assert "c" not in index


def test_select_takes_the_best_rank_of_several() -> None:
    """S0-31: the highest rank, and all candidates told, best first."""
    chosen = _select("gemma")

    assert chosen.model.id == "gemma-7b-Q4_K_M"
    assert [(one.model_id, one.rank) for one in chosen.candidates] == [
        ("gemma-7b-Q4_K_M", 41.5),
        ("gemma-2b-Q4_K_M", 3.0),
    ]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("GEMMA-2B", ["gemma-2b-Q4_K_M"]),
        ("*q4*", ["gemma-7b-Q4_K_M", "gemma-2b-Q4_K_M"]),
        ("gemma-?b-*.gguf", ["gemma-7b-Q4_K_M", "gemma-2b-Q4_K_M"]),
        ("qwen/*", ["qwen/coder-7b"]),
        ("qwen/co", ["qwen/coder-7b"]),
        ("7b.gguf", ["mistral/coder-7b", "qwen/coder-7b"]),
        (".", []),
        ("gguf", []),
        ("[", []),
    ],
)
def test_select_takes_globs_and_parts(pattern: str, wanted: list[str]) -> None:
    """S0-30: literal and case-insensitive, of the base name; regex characters mean themselves."""
    if wanted:
        assert [one.model_id for one in _select(pattern).candidates] == wanted
    else:
        with pytest.raises(UnknownModel):
            _select(pattern)


def test_select_prefers_an_exact_name_to_a_part_of_others() -> None:
    """S0-30: an exact name is never ambiguous because it is part of another."""
    models = {one.id: one for one in (_model("gemma"), _model("gemma-7b"))}
    chosen = _chosen(Selection(pattern="gemma"), models, State(), {"gemma-7b": 99.0})

    assert [one.model_id for one in chosen.candidates] == ["gemma"]


def test_select_only_refuses_several_and_numbers_them() -> None:
    """S0-33: `--no-multi-match` starts nothing."""
    with pytest.raises(Ambiguous, match=r"fits 2 models: gemma-7b-Q4_K_M \(rank 41\.5\)"):
        _select("gemma", only=True)


@pytest.mark.parametrize("pattern", ["gemma", "gemma-*", "phi", "PHI-3"])
def test_select_of_a_program_takes_no_parts(pattern: str) -> None:
    """X-GW-4: else a new file changes what it gets."""
    with pytest.raises(UnknownModel):
        _chosen(Selection(pattern=pattern, exact=True))


def test_select_of_a_program_takes_whole_names_of_one_model() -> None:
    """Nicknames, slots, files and ids as people do; several are an error."""
    for name in ("tool", "talk", "qwen/coder-7b", "big.gguf"):
        assert _chosen(Selection(pattern=name, exact=True))
    with pytest.raises(Ambiguous):
        _chosen(Selection(pattern="coder-7b", exact=True))


def test_select_takes_what_the_index_says_and_ranks_only_several() -> None:
    """Names that the configuration adds mean their model, as a whole and no part of them."""
    index = {**exact_index(MODELS, STATE), "phi-quick": ("phi-3",)}

    def never() -> Mapping[str, float]:
        raise AssertionError

    chosen = select(Selection(pattern="phi-quick"), MODELS, STATE, index=index, ranks=never)
    assert chosen.model.id == "phi-3"
    with pytest.raises(UnknownModel):
        select(Selection(pattern="phi-qui"), MODELS, STATE, index=index, ranks=never)


def test_select_rank1_and_no_multi_match_contradict() -> None:
    """S0-33: both together are a usage error."""
    with pytest.raises(Usage):
        _chosen(Selection(pattern="gemma", best=True, only=True))


def test_select_of_nothing_is_a_usage_error() -> None:
    """An empty pattern would be part of every name."""
    with pytest.raises(Usage):
        _chosen(Selection())


def test_select_unknown_says_so_in_the_words_of_llama_pack() -> None:
    """S0-30: scripts look for exactly this message; people need the hint."""
    with pytest.raises(UnknownModel) as caught:
        _select("gema-2b-q4_k_m")

    assert caught.value.message == "Model 'gema-2b-q4_k_m' not found."
    assert caught.value.hint.startswith("did you mean 'gemma-2b-Q4_K_M'?")
    assert "modelctl list" in caught.value.hint


def test_select_unknown_tells_what_there_is() -> None:
    """S1-08: a few names, however many there are."""
    many = {f"m{number:02}": _model(f"m{number:02}") for number in range(10)}
    for models, told in (
        ({}, "none"),
        ({"a": _model("x/a"), "b": _model("b")}, "a, b"),
        (many, "m00, m01, m02, m03, m04, m05, m06, m07 and 2 more"),
    ):
        with pytest.raises(UnknownModel) as caught:
            _chosen(Selection(pattern="zebra"), models, State(), {})

        assert caught.value.hint == f"Available models: {told} (modelctl list)"


def test_select_by_nickname_takes_no_parts() -> None:
    """S0-04: `-n` is exact."""
    with pytest.raises(UnknownName, match="there is no nickname 'tal'") as caught:
        _chosen(Selection(nickname="tal"))

    assert "did you mean 'talk'?" in caught.value.hint


def test_select_by_nickname_never_means_a_file() -> None:
    """`-n phi-3` is the nickname, though a file is called so as well."""
    assert _chosen(Selection(nickname="phi-3")).model.id == "big"


def test_select_by_slot_takes_its_holder() -> None:
    """S0-08."""
    assert _chosen(Selection(slot="tool")).model.id == "gemma-7b-Q4_K_M"


def test_select_by_an_empty_slot_is_refused() -> None:
    """S0-08: nothing is guessed for an empty role."""
    with pytest.raises(UnknownName, match="slot 'vision' is empty"):
        _chosen(Selection(slot="vision"))


@pytest.mark.parametrize(
    "selection",
    [Selection(nickname="lost"), Selection(pattern="lost"), Selection(pattern="lost:latest")],
)
def test_select_of_a_name_whose_file_is_gone_says_that(selection: Selection) -> None:
    """`not found` would send people looking for a typing mistake."""
    with pytest.raises(UnknownModel, match="nickname 'lost' names gone/away, whose file is gone"):
        _chosen(selection)


def test_select_by_id_means_that_model_whatever_hides_its_name() -> None:
    """A program that asked for a file by its name must not be given another model."""
    chosen = _chosen(Selection(model_id="phi-3"))

    assert chosen.model.id == "phi-3"  # though 'phi-3' is a nickname of big
    with pytest.raises(UnknownModel):
        _chosen(Selection(model_id="gone/away"))


def test_id_means_its_own_model_though_another_has_it_for_a_name() -> None:
    """An ambiguous name is told to be replaced by one of these ids: that must lead somewhere."""
    models = {each.id: each for each in (_model("twin"), _model("sub/twin"), _model("a/b/twin"))}
    index = exact_index(models, State())

    assert index["twin"] == index["twin.gguf"] == index["twin:latest"] == ("twin",)
    assert index["sub/twin"] == index["sub/twin.gguf"] == ("sub/twin",)
