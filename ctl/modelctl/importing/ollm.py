"""
OLLM CLI: its settings, a project's `project.yaml`, or its `user_models.json`.

Settings go by the names of all its generations: `model.*` and `models.*`, `provider.*` and
`providers.*`, `llm.*` of `settings.json`.  Of a project only what is about models is taken, and
then for all requests.  The table of models becomes rows of modeld's own.
"""

import re
from collections.abc import Iterator

from modelctl.importing.gleaning import Gleaning, Imported, Left, Place
from modelctl.importing.source import Document, dotted
from modelctl.importing.values import (
    NO_DOWNLOADS,
    PROFILES,
    Reader,
    Unfit,
    boolean,
    number,
    one_of,
    text,
    texts,
    whole,
)

TOKENS = whole(1, 10_000_000)
ALL = "routing.options.*."
OPTIONS: tuple[tuple[str, str, Reader], ...] = (
    ("temperature", f"{ALL}temperature", number(0, 2)),
    ("topP", f"{ALL}top_p", number(0, 1)),
    ("top_p", f"{ALL}top_p", number(0, 1)),
    ("topK", f"{ALL}top_k", whole(0, 100_000)),
    ("top_k", f"{ALL}top_k", whole(0, 100_000)),
    ("minP", f"{ALL}min_p", number(0, 1)),
    ("maxTokens", f"{ALL}max_tokens", TOKENS),
    ("max_tokens", f"{ALL}max_tokens", TOKENS),
    ("num_predict", f"{ALL}max_tokens", TOKENS),
    ("numCtx", f"{ALL}num_ctx", TOKENS),
    ("num_ctx", f"{ALL}num_ctx", TOKENS),
    ("contextSize", f"{ALL}num_ctx", TOKENS),
    ("repeatPenalty", f"{ALL}repeat_penalty", number(0, 2)),
    ("repeat_penalty", f"{ALL}repeat_penalty", number(0, 2)),
    ("presencePenalty", f"{ALL}presence_penalty", number(-2, 2)),
    ("frequencyPenalty", f"{ALL}frequency_penalty", number(-2, 2)),
    ("seed", f"{ALL}seed", whole(-1, 4_294_967_295)),
    ("stop", f"{ALL}stop", texts),
)
"""What OLLM says of how to generate, wherever it stands."""
PROVIDERS = "OLLM asks there: its provider's host becomes modeld's gateway, http://127.0.0.1:8080"
LEFT = (
    ("provider providers", PROVIDERS),
    (
        "models.cache_ttl model.cacheTTL model.cacheTtl",
        "modeld sees changes of its folders at once",
    ),
    ("models.auto_pull model.autoPull models.autoPull", NO_DOWNLOADS),
    ("memory model.memory", "modeld keeps no memories of conversations"),
    ("templates model.templates", "modeld has no prompt templates"),
    ("project model.project profile name type version description", "projects are OLLM's"),
    ("systemPrompt system_prompt prompt", "modeld does not change prompts"),
    ("tools toolsByMode hooks mcp", "modeld passes tools on as they come"),
    ("ui status review session log_level", "OLLM's own"),
    ("context", "OLLM's own"),
    ("hardware llm.forceNumGpu", "llama-server uses the GPU that it finds"),
    ("llm", "OLLM's own"),
)
FAMILIES = "the families and fallbacks of the profiles are built in"


def glean(document: Document, place: Place) -> Imported:
    """Return what a file of OLLM's comes to."""
    del place
    values = document.values
    tables = [values]
    if isinstance(values, dict):
        tables += [values.get("user_models"), values.get("models")]
    for rows in tables:
        if isinstance(rows, list):
            return _table(document, rows)
    return _settings(Gleaning(document))


# --- settings --------------------------------------------------------------------------------


def _settings(gleaning: Gleaning) -> Imported:
    if isinstance(gleaning.value("model"), str):
        gleaning.take(("model",), "models.default", text)
    gleaning.take(("model", "default"), "models.default", text)
    gleaning.take(("llm", "model"), "models.default", text)
    for above in (("options",), ("model", "options"), ("model",), ("llm",)):
        gleaning.take_all(OPTIONS, above)
    gleaning.take(("temperature",), f"{ALL}temperature", number(0, 2))
    gleaning.take(("context", "targetSize"), "servers.context_tokens", TOKENS)
    for above in (("routing",), ("model", "routing")):
        _routing(gleaning, above)
    for above in (("keepAlive",), ("model", "keepAlive")):
        gleaning.take((*above, "enabled"), "keep_alive.enabled", boolean)
        gleaning.take((*above, "models"), "keep_alive.models", texts)
        gleaning.take_idle_time((*above, "timeout"))
    gleaning.take_idle_time(("models", "keep_alive"))
    gleaning.take_idle_time(("models", "keepAlive"))
    gleaning.leave_all(LEFT)
    return gleaning.finish()


def _routing(gleaning: Gleaning, above: tuple[str, ...]) -> None:
    gleaning.take((*above, "enabled"), "routing.enabled", boolean)
    for key in ("defaultProfile", "default_profile", "profile"):
        gleaning.take((*above, key), "routing.default_profile", one_of(*PROFILES))
    for profile in gleaning.table(*above, "overrides"):
        path = (*above, "overrides", profile)
        if profile in PROFILES:
            gleaning.take(path, ("routing", "overrides", profile), text)
        else:
            known = ", ".join(PROFILES)
            gleaning.leave(path, f"there is no profile '{profile}' (there are {known})", wrong=True)
    keys = "preferred_families preferredFamilies fallback_profile fallbackProfile"
    gleaning.leave_all(((keys, FAMILIES),), above)


# --- the table of models -----------------------------------------------------------------------


def _table(document: Document, entries: list[object]) -> Imported:
    """Return the rows that a table of models comes to."""
    left = [
        Left(dotted(trouble.path), trouble.reason, trouble.line, wrong=True)
        for trouble in document.troubles
    ]
    rows: list[dict[str, object]] = []
    for position, entry in enumerate(entries):
        try:
            rows.append(dict(_row(entry)))
        except Unfit as error:
            left.append(Left(f"[{position}]", str(error), wrong=True))
    if rows:
        told = "sizes, descriptions, links and contexts by VRAM: modeld measures for itself"
        left.append(Left("*", told))
    return Imported(config={}, left=tuple(left), limits=tuple(rows))


def _family(value: object) -> str:
    """Return the name of a family as modeld writes it."""
    word = text(value).lower()
    if not re.fullmatch(r"[a-z0-9.-]{1,64}", word):
        raise Unfit("expected a family such as llama or qwen2.5")
    return word


def _row(entry: object) -> Iterator[tuple[str, object]]:
    """
    Yield what a table says of one model, in modeld's words.

    Raises:
        Unfit: It is no entry, or something in it is not what it must be.
    """
    if not isinstance(entry, dict):
        raise Unfit("expected a table: what is known of a model")
    can = entry.get("capabilities")
    can = can if isinstance(can, dict) else {}
    abilities = entry.get("abilities")
    words = " ".join(map(str, abilities)).lower() if isinstance(abilities, list) else ""
    yield "pattern", text(entry.get("pattern") or entry.get("id") or entry.get("name"))
    if entry.get("family"):
        yield "family", _family(entry["family"])
    context = entry.get("context_window", entry.get("contextWindow"))
    if context is not None:
        yield "context_tokens", TOKENS(context)
    if entry.get("maxOutputTokens") is not None:
        yield "max_output_tokens", TOKENS(entry["maxOutputTokens"])
    yield "tools", bool(can.get("toolCalling", entry.get("tool_support", False)))
    yield "vision", bool(can.get("vision", "visual" in words or "vision" in words))
    yield "reasoning", bool(can.get("reasoning", entry.get("reasoning_buffer")))
    profiles = entry.get("profiles")
    if not isinstance(profiles, list):
        profiles = ["general", "code"] if "coding" in words else ["general"]
    yield "profiles", [one_of(*PROFILES)(profile) for profile in profiles]
