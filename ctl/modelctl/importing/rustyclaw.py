"""
RustyClaw: the section `llm` of its YAML, roles, cache and rules of routing.

The file that its repository has for Ollama on another machine is broken by two comments that
swallowed a key each; what they broke is told with its line, and the rest is taken.
"""

from modelctl.importing.gleaning import Gleaning, Imported, Place
from modelctl.importing.source import Document
from modelctl.importing.values import Unfit, log_level, one_of, text, whole

ROLES = ("primary", "code", "fast")
MISPLACED = ("type", "max_models", "eviction")
"""Of `llm.cache`; where the key `cache:` is missing they end up under `llm.models`."""
LEFT = (
    ("llm.provider", "modeld serves local models, whoever asks"),
    ("llm.base_url", "there RustyClaw asks: set it to http://127.0.0.1:8080/v1, modeld's gateway"),
    ("gateway channels sessions storage agents tools skills memory", "not about models"),
    ("logging.format", "modeld logs to the journal"),
)


def glean(document: Document, place: Place) -> Imported:
    """Return what a configuration comes to."""
    del place
    gleaning = Gleaning(document)
    for role in ROLES:
        gleaning.take(("llm", "models", role), f"routing.roles.{role}", text)
    for key in MISPLACED:
        gleaning.leave(("llm", "models", key), "misplaced: it belongs below llm.cache", wrong=True)
    gleaning.take_idle_time(("llm", "keep_alive"))
    _cache(gleaning)
    _routing(gleaning)
    gleaning.take(("logging", "level"), "log.level", log_level)
    gleaning.leave_all(LEFT)
    return gleaning.finish()


def _cache(gleaning: Gleaning) -> None:
    """Take how long models stay; a strategy of no known name unloads at once, as there."""
    above = ("llm", "cache")
    strategy = gleaning.value(*above, "type")
    if isinstance(strategy, str) and strategy.lower() not in {"ram", "ssd", "none"}:
        gleaning.put(
            (*above, "type"), "keep_alive.strategy", "none", f"'{strategy}' means none there"
        )
    else:
        gleaning.take((*above, "type"), "keep_alive.strategy", one_of("ram", "ssd", "none"))
    gleaning.take((*above, "max_models"), "models.max_concurrent_loaded", whole(1, 64))
    gleaning.take((*above, "eviction"), "models.eviction", one_of("lru", "immediate"))


def _routing(gleaning: Gleaning) -> None:
    above = ("llm", "routing")
    default = (*above, "default")
    primary = gleaning.value("llm", "models", "primary")
    if primary is not None:
        gleaning.leave(default, "what no rule takes goes to the role primary, in RustyClaw as here")
    else:
        gleaning.take(default, "models.default", text)
    rules = gleaning.value(*above, "rules")
    if not isinstance(rules, list):
        gleaning.leave((*above, "rules"), "expected a list of rules", wrong=True)
        return
    taken = [rule for at in range(len(rules)) if (rule := _rule(gleaning, (*above, "rules", at)))]
    if taken:
        path = (*above, "rules")
        gleaning.put(path, "routing.rules", taken)


def _rule(gleaning: Gleaning, path: tuple[str | int, ...]) -> dict[str, str] | None:
    """Return a rule that can be used, or None, and tell what is wrong with it."""
    number = int(path[-1]) + 1
    try:
        pattern = text(gleaning.value(*path, "pattern"))
        model = text(gleaning.value(*path, "model"))
    except Unfit:
        gleaning.leave(path, f"rule {number} needs a pattern and a model", wrong=True)
        return None
    problem = _problem(pattern)
    if problem:
        told = f"rule {number} is no regular expression: {problem}"
        gleaning.leave((*path, "pattern"), told, wrong=True)
        return None
    return {"pattern": pattern, "model": model}


def _problem(pattern: str) -> str:
    """Return why a pattern is none for modeld, whose syntax is Rust's too: RE2's."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        told = error.args[0]
        return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    return ""
