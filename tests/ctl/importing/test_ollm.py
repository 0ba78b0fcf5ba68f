"""OLLM's settings, projects and table of models: S1-14, S1-22, S1-25..29, S1-51, S1-58."""

from tests.ctl.importing.support import fixture, reasons, sources, wrong


def options(**each: object) -> dict[str, object]:
    """Return the same options for every profile."""
    return dict.fromkeys(("fast", "general", "code", "creative"), each)


def test_settings_are_taken() -> None:
    """Model, options, routing, keep-alive."""
    imported = fixture("ollm", "ollm-config.yaml")

    assert imported.config == {
        "models": {"default": "llama3.1:8b", "idle_timeout_seconds": 600.0},
        "routing": {
            "enabled": True,
            "default_profile": "code",
            "overrides": {"code": "deepseek-coder:6.7b", "fast": "phi3:mini"},
            "options": options(top_p=0.95, num_ctx=16384, temperature=0.4, max_tokens=2048),
        },
        "keep_alive": {"enabled": True, "models": ["llama3.1:8b", "phi3:mini"]},
        "servers": {"context_tokens": 12288},
    }


def test_settings_leave_the_rest_with_reasons() -> None:
    """Where OLLM asks, what it remembers and how it looks are its own; secrets stay there."""
    imported = fixture("ollm", "ollm-config.yaml")
    left = reasons(imported)

    assert "modeld's gateway" in left["provider"]
    assert left["provider.vllm.apiKey"] == "a secret; none is ever taken"
    assert {"model.cacheTTL", "context", "memory", "ui"} <= set(left)
    assert wrong(imported) == {"model.routing.overrides.music": 22}
    assert "do-not-show-me" not in str(imported)


def test_settings_as_the_documentation_has_them_are_taken() -> None:
    """The names changed from one generation to the next; both are in use."""
    imported = fixture("ollm", "ollm-documented.yaml")

    assert imported.config["models"] == {"default": "mistral:7b", "auto_unload_idle": False}
    assert imported.config["routing"] == {
        "default_profile": "general",
        "options": options(top_k=40, repeat_penalty=1.1),
    }
    assert wrong(imported) == {"options.temperature": 11}


def test_settings_of_the_newest_generation_are_taken() -> None:
    """`settings.json`: everything about models is below `llm`."""
    imported = fixture("ollm", "ollm-settings.json")

    assert imported.config == {
        "models": {"default": "llama3.2:3b"},
        "routing": {"options": options(temperature=0.2, num_ctx=8192)},
    }
    assert {"ui", "llm.forceNumGpu", "hardware", "tools", "toolsByMode"} <= sources(imported)


def test_project_is_taken_as_far_as_it_is_about_models() -> None:
    """S1-58: prompts and tools stay the client's."""
    imported = fixture("ollm", "ollm-project.yaml")

    assert imported.config == {
        "models": {"default": "deepseek-coder:6.7b"},
        "routing": {
            "default_profile": "code",
            "options": options(temperature=0.3, max_tokens=4096),
        },
    }
    assert {"profile", "systemPrompt", "tools"} == set(reasons(imported))


def test_table_of_models_becomes_rows_of_limits() -> None:
    """S1-19 and S1-22: both shapes that it has had."""
    imported = fixture("ollm", "ollm-user_models.json")

    assert imported.limits == (
        {
            "pattern": "my-coder:13b",
            "context_tokens": 65536,
            "tools": True,
            "vision": True,
            "reasoning": False,
            "profiles": ["general", "code"],
        },
        {
            "pattern": "lab-*",
            "family": "llama",
            "context_tokens": 8192,
            "max_output_tokens": 2048,
            "tools": False,
            "vision": False,
            "reasoning": True,
            "profiles": ["general", "creative"],
        },
    )
    assert set(wrong(imported)) == {"[2]", "[3]"}
