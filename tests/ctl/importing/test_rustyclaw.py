"""RustyClaw's `llm` section: S3-01, S3-02, S3-03, S3-10, S3-14, S3-17."""

import pytest

from tests.ctl.importing.support import fixture, gleaned, reasons, wrong


def test_configuration_is_taken() -> None:
    """Roles, keep-alive, cache, and the rules in their order."""
    imported = fixture("rustyclaw", "rustyclaw-config.yaml")

    assert imported.config == {
        "routing": {
            "roles": {
                "primary": "qwen2.5:32b",
                "code": "deepseek-coder-v2:16b",
                "fast": "qwen2.5:7b",
            },
            "rules": [
                {"pattern": "translate.*to.*language", "model": "fast"},
                {"pattern": "^.{0,100}$", "model": "qwen2.5:7b"},
            ],
        },
        "models": {
            "idle_timeout_seconds": 600.0,
            "max_concurrent_loaded": 4,
            "eviction": "immediate",
        },
        "keep_alive": {"strategy": "ssd"},
        "log": {"level": "warning"},
    }


def test_bad_expression_is_told_by_its_rule_and_line() -> None:
    """S3-03; the others are used."""
    imported = fixture("rustyclaw", "rustyclaw-config.yaml")

    assert wrong(imported) == {"llm.routing.rules[1].pattern": 22}
    assert "rule 2 is no regular expression" in reasons(imported)["llm.routing.rules[1].pattern"]


def test_broken_file_is_told_line_by_line_and_the_rest_is_taken() -> None:
    """S3-02: `cache:` and `- pattern:` swallowed by the comments before them."""
    imported = fixture("rustyclaw", "rustyclaw-broken.yaml")

    assert wrong(imported) == {
        "llm.models.type": 11,
        "llm.models.max_models": 12,
        "llm.models.eviction": 13,
        "llm.routing.rules[0]": 16,
        "llm.routing.rules[0].model": 19,
    }
    assert "misplaced" in reasons(imported)["llm.models.type"]
    assert "on line 17 and on line 19" in reasons(imported)["llm.routing.rules[0].model"]
    assert imported.config == {
        "routing": {"roles": {"primary": "qwen2.5:32b", "fast": "qwen2.5:7b"}}
    }


def test_channels_and_their_secrets_are_left() -> None:
    """They are nobody's business here."""
    left = reasons(fixture("rustyclaw", "rustyclaw-config.yaml"))

    assert left["channels"] == "not about models"
    assert left["channels.telegram.token"] == "a secret; none is ever taken"


@pytest.mark.parametrize(
    ("kept", "models"),
    [
        ("-1", {"auto_unload_idle": False}),
        ('"0"', {"idle_timeout_seconds": 0.0}),
        ("90", {"idle_timeout_seconds": 90.0}),
    ],
)
def test_keep_alive_means_what_it_means_there(kept: str, models: dict[str, object]) -> None:
    """S3-15: durations, seconds, at once, for ever."""
    assert gleaned("rustyclaw", f"llm:\n  keep_alive: {kept}\n").config == {"models": models}


def test_unknown_strategy_is_none_and_says_so() -> None:
    """S3-14: what RustyClaw does with it, it does here too."""
    (taken,) = gleaned("rustyclaw", "llm: {cache: {type: tape}}").taken

    assert (taken.key, taken.value) == ("keep_alive.strategy", "none")
    assert "tape" in taken.note


def test_default_is_taken_where_no_role_answers() -> None:
    """S3-10: else the role primary answers, there and here."""
    text = "llm: {routing: {default: qwen}}"

    assert gleaned("rustyclaw", text).config == {"models": {"default": "qwen"}}


@pytest.mark.parametrize("text", ["llm: 3", "llm: {models: [], routing: {rules: x}}", "[1, 2]"])
def test_file_of_another_shape_harms_nobody(text: str) -> None:
    """It may be any file."""
    assert not gleaned("rustyclaw", text).config
