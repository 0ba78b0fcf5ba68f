"""
The llama.cpp server for KAREN: its JSON, as its template has it and as its installer writes it.

What its inference defaults are is said of requests that modeld routes itself; what it would open
to the network stays on loopback, and whatever is secret stays where it is.
"""

from posixpath import normpath

from modelctl.importing.gleaning import Gleaning, Imported, Place
from modelctl.importing.source import Document
from modelctl.importing.values import (
    ALREADY,
    Unfit,
    boolean,
    folder,
    log_level,
    model,
    number,
    one_of,
    text,
    texts,
    whole,
)

MIB_IN_GIB = 1024
TOKENS = whole(1, 10_000_000)
RATES = whole(0, 1_000_000)
RULES = (
    ("models.max_loaded_models", "models.max_concurrent_loaded", whole(1, 64)),
    ("models.default_model", "models.default", model),
    ("models.scan_interval", "storage.scan_interval_seconds", whole(1, 10_000_000)),
    ("performance.context_window", "servers.context_tokens", TOKENS),
    (
        "performance.optimize_for",
        "servers.optimize_for",
        one_of("balanced", "memory", "speed", "loading"),
    ),
    ("performance.temperature", "routing.options.*.temperature", number(0, 2)),
    ("performance.top_p", "routing.options.*.top_p", number(0, 1)),
    ("performance.repetition_penalty", "routing.options.*.repeat_penalty", number(0, 2)),
    ("performance.max_tokens", "routing.options.*.max_tokens", TOKENS),
    ("inference.max_concurrent_requests", "gateway.max_requests_per_model", whole(1, 16_384)),
    ("karen.karen_prompt_template", "gateway.karen_prompt_template", boolean),
    ("logging.level", "log.level", log_level),
)
LEFT = (
    ("server.api_prefix", "modeld's paths are fixed"),
    ("models.model_cache_size models.max_cache_gb", "the SSD holds what is used most (cache.*)"),
    ("models.supported_formats", "modeld serves GGUF"),
    ("performance.low_vram", "llama-server has no such option any more"),
    (
        "inference",
        "modeld streams what asks for it, keeps no answers, and waits while a model works",
    ),
    ("karen", "the extension in KAREN is configured there"),
    ("api.enable_cors", "gateway.allowed_origins names the web pages that may call"),
    ("api.authentication.enabled", "put keys into a file of mode 0600: gateway.key_file"),
    ("monitoring", "modeld always serves /health and /metrics"),
    ("logging", "modeld logs to the journal"),
    ("observability", "modeld always serves /metrics"),
    ("backend", "modeld runs llama-server, on this machine"),
    ("security", "modeld has no accounts"),
    ("installation", "modeld is installed otherwise"),
)


def glean(document: Document, place: Place) -> Imported:
    """Return what a configuration comes to."""
    gleaning = Gleaning(document)
    _server(gleaning)
    gleaning.take(("models", "directory"), "storage.hdd_paths", lambda v: [_folder(v, place)])
    gleaning.take(("performance", "max_memory_mb"), "memory.limit_gb", _gigabytes)
    gleaning.take_all(RULES)
    if gleaning.value("logging", "level") is None:
        gleaning.take(("server", "log_level"), "log.level", log_level)
    gleaning.leave(("server", "log_level"), "logging.level says it")
    _preload(gleaning)
    _limits_of_rate(gleaning)
    _arguments(gleaning)
    gleaning.leave_all(LEFT)
    return gleaning.finish()


def _folder(value: object, place: Place) -> str:
    """Return a folder; one that is not absolute is meant from where the file lies."""
    path = text(value)
    if path.startswith(("/", "~")):
        return folder(path)
    return folder(normpath(f"{place.directory}/{path}"))


def _gigabytes(value: object) -> float:
    megabytes = whole(1, 10**9)(value)
    assert isinstance(megabytes, int)
    return megabytes / MIB_IN_GIB


def _server(gleaning: Gleaning) -> None:
    """Take the port and the origins; all that is for other machines needs keys, and is left."""
    host, port = gleaning.value("server", "host"), gleaning.value("server", "port")
    if host is None or host in ["127.0.0.1", "localhost", "::1"]:
        gleaning.leave(("server", "host"), ALREADY)
    else:
        gleaning.leave(
            ("server", "host"),
            "modeld serves other machines only with keys: gateway.listen and gateway.key_file",
        )
    gleaning.take(
        ("server", "port"),
        "gateway.listen",
        lambda _: [f"127.0.0.1:{whole(1, 65535)(port)}"],
        "on this machine alone",
    )
    for key in ("cors_origins", "cors_allow_origins"):
        origins = gleaning.value("server", key)
        if origins == "*" or (isinstance(origins, list) and "*" in origins):
            gleaning.leave(
                ("server", key), "not every web page may call; gateway.allowed_origins names some"
            )
        else:
            gleaning.take(("server", key), "gateway.allowed_origins", texts)


def _preload(gleaning: Gleaning) -> None:
    """Have the default model loaded at the start, where that is wished for."""
    path = ("models", "auto_load_default")
    default = gleaning.value("models", "default_model")
    if gleaning.value(*path) is True and isinstance(default, str):
        gleaning.take(path, "models.preload", lambda _: [model(default)])
    elif gleaning.value(*path) is False:
        gleaning.leave(path, "modeld loads nothing at the start unless it is told to")
    else:
        gleaning.leave(path, "there is no models.default_model to load")


def _limits_of_rate(gleaning: Gleaning) -> None:
    above = ("api", "rate_limit")
    if gleaning.value(*above, "enabled") is False:
        gleaning.leave(above, "it is not enabled")
        return
    rate = "gateway.rate_limit_per_minute"
    gleaning.take((*above, "requests_per_minute"), rate, RATES)
    gleaning.take((*above, "burst_limit"), "gateway.rate_burst", whole(1, 1_000_000))
    gleaning.leave((*above, "enabled"), ALREADY)
    if gleaning.value(*above, "requests_per_minute") is None:
        gleaning.take(("server", "rate_limit_per_min"), rate, RATES)
    gleaning.leave(("server", "rate_limit_per_min"), "api.rate_limit says it")


def _arguments(gleaning: Gleaning) -> None:
    """Collect what becomes an argument of llama-server."""
    words: list[str] = []
    sources: list[tuple[str, ...]] = []
    enabled = ("performance", "enable_gpu")
    if gleaning.value(*enabled) is False:
        words += ["--n-gpu-layers", "0"]
        sources.append(enabled)
        gleaning.leave(("performance", "gpu_layers"), "the GPU is not enabled")
    for key, flag in (
        ("gpu_layers", "--n-gpu-layers"),
        ("num_threads", "--threads"),
        ("batch_size", "--batch-size"),
    ):
        value = gleaning.value("performance", key)
        if value is None or (key == "gpu_layers" and words):
            continue
        try:
            count = whole(0 if key == "gpu_layers" else 1, 1_000_000)(value)
        except Unfit as error:
            gleaning.leave(("performance", key), str(error), wrong=True)
            continue
        words += [flag, str(count)]
        sources.append(("performance", key))
    for source in sources:
        gleaning.put(source, "servers.arguments", words, "for every model")
    if enabled not in sources:
        gleaning.leave(enabled, "llama-server uses the GPU that it finds")
