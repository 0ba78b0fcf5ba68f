"""Variables of other programs mean what they say, weaker than ours, and never nothing."""

import pytest

from modeld.config.aliases import KEYS, UNUSED
from modeld.config.load import Loaded, load
from modeld.errors import ConfigInvalid


def _load(**environment: str) -> Loaded:
    return load([], environment, ())


def test_model_is_the_default_model() -> None:
    """S1-25."""
    loaded = _load(OLLM_MODEL="llama3.2:3b")

    assert loaded.config.models.default == "llama3.2:3b"
    assert loaded.origins == {"models.default": "$OLLM_MODEL"}


@pytest.mark.parametrize(
    ("name", "word", "key", "value"),
    [
        ("OLLM_TEMPERATURE", "0.7", "temperature", 0.7),
        ("OLLM_MAX_TOKENS", "4096", "max_tokens", 4096),
        ("OLLM_CONTEXT_SIZE", "8192", "num_ctx", 8192),
    ],
)
def test_options_are_those_of_every_profile(name: str, word: str, key: str, value: float) -> None:
    """There they set a default for every request; here for every one that modeld routes."""
    options = _load(**{name: word}).config.routing.options

    assert set(options) == {"fast", "general", "code", "creative"}
    assert all(getattr(one, key) == value for one in options.values())


def test_variables_of_ours_win() -> None:
    """S1-25: aliases, weaker than what they are aliases of."""
    loaded = _load(
        OLLM_MODEL="a",
        MODELD_MODELS__DEFAULT="b",
        OLLM_TEMPERATURE="1",
        MODELD_ROUTING__OPTIONS__FAST__TEMPERATURE="0",
    )

    assert loaded.config.models.default == "b"
    assert loaded.config.routing.options["fast"].temperature == 0
    assert loaded.config.routing.options["code"].temperature == 1


def test_mistake_in_one_is_told_once() -> None:
    """S1-27: an invalid one ends the start with a sentence, and with one sentence."""
    with pytest.raises(ConfigInvalid) as caught:
        _load(OLLM_TEMPERATURE="2.5", OLLM_MAX_TOKENS="-3")

    assert caught.value.message.splitlines() == [
        "$OLLM_TEMPERATURE: routing.options.fast.temperature: "
        "Invalid temperature value: 2.5. Temperature must be between 0.0 and 2.0.",
        "$OLLM_MAX_TOKENS: routing.options.fast.max_tokens: "
        "Invalid max_tokens value: -3. max_tokens must be between 1 and 10000000.",
    ]


def test_what_has_no_meaning_here_is_told() -> None:
    """Whoever sets a variable learns that it does nothing, and what does."""
    loaded = _load(OLLM_HOST="http://localhost:11434", OLLM_PROVIDER="ollama")

    assert loaded.origins == {}
    assert [note.split()[0] for note in loaded.notes] == ["$OLLM_HOST", "$OLLM_PROVIDER"]
    assert "gateway.listen" in loaded.notes[0]


@pytest.mark.parametrize("name", [*KEYS, *UNUSED])
def test_empty_one_says_nothing(name: str) -> None:
    """An empty variable is how a unit file unsets one."""
    loaded = _load(**{name: ""})

    assert (loaded.origins, loaded.notes) == ({}, ())


def test_variables_of_llama_cpp_are_not_read() -> None:
    """S2-20: LLAMA_SECTION_KEY can't be told from llama.cpp's own."""
    assert _load(LLAMA_SERVER_HOST="0.0.0.0", LLAMA_GATEWAY_LISTEN="x").origins == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MODELD_LOAD_REPLACE", "MODELD_LOAD__REPLACE"),
        ("MODELD_KEEP_ALIVE_ENABLED", "MODELD_KEEP_ALIVE__ENABLED"),
        ("MODELD_ROUTING_ROLES_FAST", "MODELD_ROUTING__ROLES_FAST"),
    ],
)
def test_variable_with_one_underscore_too_few_is_told(name: str, meant: str) -> None:
    """Else it sets nothing, and nobody learns why."""
    loaded = _load(**{name: "false"})

    assert loaded.origins == {}
    assert loaded.notes == (
        f"${name} is not used: two underscores stand for each dot, as in {meant}",
    )


@pytest.mark.parametrize("name", ["MODELD_SOCKET", "MODELD_CONFIG", "MODELD_LOADS_REPLACE"])
def test_other_variables_of_ours_are_left_in_peace(name: str) -> None:
    """They are no keys."""
    assert _load(**{name: "x"}).notes == ()
