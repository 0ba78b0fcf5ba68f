"""
Airganizer: the limits of its ModelManager, and what it may load.

Keys of an online provider, and which model is for which kind of file, are no business of a
supervisor of local models.
"""

from modelctl.importing.gleaning import Gleaning, Imported, Place
from modelctl.importing.source import Document
from modelctl.importing.values import ALREADY, NO_DOWNLOADS, Unfit, boolean, number, text, whole

RULES = (
    ("models.max_concurrent_loaded", "models.max_concurrent_loaded", whole(1, 64)),
    ("models.auto_unload_idle", "models.auto_unload_idle", boolean),
    ("models.idle_timeout_seconds", "models.idle_timeout_seconds", number(0, 10_000_000)),
    ("ai.local.default_model", "models.default", text),
)
ASK = "a program names the model that it asks; modeld has no table of file types"
ONLINE = "modeld serves local models"
LEFT = (
    ("models.auto_download models.ollama.auto_download_models", NO_DOWNLOADS),
    ("models.explicit_mapping models.file_type_mappings models.mapping_model", ASK),
    ("models.recommendations_cache models.preferred_models", ASK),
    ("models.model_dir", "modeld's folders are storage.ssd_path and storage.hdd_paths"),
    ("models.openai models.anthropic models.config_models models.model_mode", ONLINE),
    ("models.discovery_method models.ollama", "modeld sees what is in its folders"),
    ("system.require_gpu", "llama-server uses the GPU that it finds"),
    ("ai.local.ollama_host", "Airganizer asks there: modeld's gateway is http://127.0.0.1:8080"),
    ("ai", "Airganizer sends it with each request"),
    ("general stage1 stage2 cache scan propose analyze", "not about models"),
)


def glean(document: Document, place: Place) -> Imported:
    """Return what a configuration comes to."""
    del place
    gleaning = Gleaning(document)
    gleaning.take_all(RULES)
    _memory(gleaning)
    for name in gleaning.table("models", "available_models"):
        _model(gleaning, name)
    gleaning.leave_all(LEFT)
    return gleaning.finish()


def _memory(gleaning: Gleaning) -> None:
    """Take the limit, unless limits are not respected there."""
    limit = ("system", "max_ram_usage_gb")
    if gleaning.value("system", "respect_resource_limits") is False:
        gleaning.leave(limit, "it is not respected there")
        gleaning.leave(("system", "respect_resource_limits"), "modeld always holds its limits")
        return
    gleaning.take(limit, "memory.limit_gb", number(0.001, 1e6))
    gleaning.leave(("system", "respect_resource_limits"), ALREADY)


def _model(gleaning: Gleaning, name: str) -> None:
    """Take what one model may need; whether it may be used at all is not modeld's to say."""
    above = ("models", "available_models", name)
    try:
        text(name)
    except Unfit as error:
        gleaning.leave(above, f"a model's name: {error}", wrong=True)
        return
    gleaning.take(
        (*above, "max_ram_gb"),
        ("models", "entries", name, "memory_gb"),
        number(0.001, 1e6),
        "counted as its need, until that is measured",
    )
    gleaning.leave((*above, "allow_online"), ONLINE)
    if gleaning.value(*above, "enabled") is False:
        told = "modeld forbids no model; move its file out of its folders"
        gleaning.leave((*above, "enabled"), told)
    else:
        gleaning.leave((*above, "enabled"), ALREADY)
