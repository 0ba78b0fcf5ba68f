"""Airganizer's limits: S4-10, S4-22."""

from tests.ctl.importing.support import fixture, gleaned, reasons, wrong


def test_limits_are_taken() -> None:
    """How many, when idle ones go, how much memory in all and for one."""
    imported = fixture("airganizer", "airganizer-config.json")

    assert imported.config == {
        "models": {
            "max_concurrent_loaded": 3,
            "auto_unload_idle": True,
            "idle_timeout_seconds": 120.0,
            "default": "llama3.2",
            "entries": {"llama3.2": {"memory_gb": 6.0}},
        },
        "memory": {"limit_gb": 12.0},
    }
    assert not wrong(imported)


def test_the_rest_is_left_with_reasons() -> None:
    """Mappings by file type and permissions are not a supervisor's."""
    left = reasons(fixture("airganizer", "airganizer-config.json"))

    assert "table of file types" in left["models.explicit_mapping"]
    assert "forbids no model" in left["models.available_models.llama3.2-vision.enabled"]
    assert {"models.auto_download", "models.model_dir", "system.require_gpu", "ai", "scan"} <= set(
        left
    )


def test_limit_that_is_not_respected_is_not_taken() -> None:
    """What did not bind there must not bind here."""
    text = '{"system": {"max_ram_usage_gb": 8, "respect_resource_limits": false}}'
    imported = gleaned("airganizer", text, "c.json")

    assert imported.config == {}
    assert "not respected" in reasons(imported)["system.max_ram_usage_gb"]


def test_older_configuration_in_yaml_is_read() -> None:
    """Another generation; its keys of online providers stay there."""
    imported = fixture("airganizer", "airganizer-config.yaml")

    assert reasons(imported)["models.openai.api_key"] == "a secret; none is ever taken"
    assert wrong(imported) == {"models.idle_timeout_seconds": 11}
    assert "never-show-this" not in str(imported)
