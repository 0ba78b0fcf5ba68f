"""
KAREN's own requests: a prompt for the model in use, figures, and what its extension is to know.

Also every path of its clients once more below `/api/v1`, where some of them look.  The parameters
that KAREN counts on are put in here and nowhere else, and only where neither the request nor the
configuration says anything.  A prompt is changed only where `gateway.karen_prompt_template` says
so; what it is about is judged without the template.
"""

from typing import Final

import msgspec
from msgspec import Struct

from modeld.config.schema import Parameters, Rewrite
from modeld.core.entities import Model
from modeld.core.events import UsageAsked
from modeld.core.routing import Decision
from modeld.core.usage import Tally
from modeld.errors import ModeldError, UnknownModel
from modeld.gateway import destination, fields, karen_health, management
from modeld.gateway.http import Answer, Problem
from modeld.gateway.karen_answers import Teller, Words, error_body, stream_error
from modeld.gateway.openai import shown_name, sign_of_life
from modeld.gateway.rewriting import rewritten
from modeld.gateway.table import Answering, Call, Dialect, Local, Relayed, Row, Wanted, next_id
from modeld.supervisor.counting import Measures
from modeld.supervisor.door import Routes

PREFIX: Final = "/api/v1"
CHAT_PATH: Final = "/v1/chat/completions"
RAW_PATH: Final = "/v1/completions"
DEFAULTS: Final = Parameters(temperature=0.7, max_tokens=2048, top_p=0.9)
"""What KAREN's plan of its server has (S2-36)."""
_DEFAULTS = Rewrite(default=DEFAULTS)
_BEFORE_PROMPT: Final = (
    "KAREN System Prompt: You are the local model of KAREN, an assistant. Answer from what the "
    "query says and from what you know; where both leave something open, say so.\n\n"
    "User Query: "
)
_AFTER_PROMPT: Final = (
    "\n\nPlease provide a helpful, correct and short answer, in the language of the query."
)
_encoder = msgspec.json.Encoder()


KAREN = Dialect(
    error_body=error_body,
    stream_type=b"text/event-stream",
    stream_error=stream_error,
    sign_of_life=sign_of_life,
)


# --- a prompt ---------------------------------------------------------------------------------


class _Sampling(fields.Checked, kw_only=True):
    """How to generate, in llama-server's names; those not listed are ignored."""

    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    """KAREN's word for the one before."""
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class _Ask(_Sampling, kw_only=True):
    """`/inference`; its parameters may stand beside the prompt as well."""

    prompt: str
    parameters: _Sampling | None = None
    model_id: str | None = None


_SAMPLING: Final = (
    "temperature", "max_tokens", "n_predict", "top_p", "top_k", "min_p", "typical_p", "stop",
    "seed", "repeat_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip
_decoder = msgspec.json.Decoder(_Ask)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def inference(call: Call) -> Wanted:
    """Prepare an answer to a prompt: a chat of one turn where the model has a template for it."""
    ask = fields.read(_decoder, call.body)
    name, model, decision = _choose(call, ask)
    routes = call.door.routes
    is_chat = model.header.has_chat_template
    path = CHAT_PATH if is_chat else RAW_PATH
    changes = _changes(routes, name, model, decision)
    # the configuration's defaults come before KAREN's, and what it takes out stays out
    prompt = ask.prompt
    if call.config.karen_prompt_template:
        prompt = f"{_BEFORE_PROMPT}{prompt}{_AFTER_PROMPT}"
    body = rewritten(_body(ask, prompt, is_chat=is_chat), path, (*changes, _DEFAULTS, *changes))
    told = {key: raw for key, raw in _fields_decoder.decode(body).items() if key in _SAMPLING}
    teller = Teller(shown_name(routes, model), told, call.clock)
    return Wanted(
        model=name,
        decision=decision,
        is_stream=bool(ask.stream),
        path=path,
        body=body,
        translator=lambda: Words(teller),
        keep_alive_seconds=fields.keep_alive_seconds(ask),
    )


def _choose(call: Call, ask: _Ask) -> tuple[str, Model, Decision | None]:
    """
    Return what the model is called, the model, and how it was chosen if it is not named.

    Raises:
        Problem: 400, there is none.
    """
    routes = call.door.routes
    name = ask.model or ask.model_id or ""
    if not name and destination.PROFILE_HEADER not in call.head.headers:
        model = management.current_model(call) or _coming(routes)
        if model is not None:
            return shown_name(routes, model), model, None
        if not routes.default_model:
            raise Problem(400, "No model loaded", code="no_model_loaded")
        name = routes.default_model
    try:
        model, decision = destination.find(routes, call, name, lambda: ask.prompt)
    except UnknownModel as error:
        raise Problem(400, error.message, code=str(error.code)) from None
    return name, model, decision


def _coming(routes: Routes) -> Model | None:
    """Return the model that loads; the last one where there are several."""
    coming = [each for each in routes.servers if routes.ready(each) is None]
    return next((routes.models[each] for each in reversed(coming) if each in routes.models), None)


def _changes(
    routes: Routes, name: str, model: Model, decision: Decision | None
) -> tuple[Rewrite, ...]:
    """Return what the configuration has requests for this model changed to, in its order."""
    chosen = decision.name if decision is not None else name
    own = tuple(routes.rewrites.get(chosen) or routes.rewrites.get(model.id) or ())
    if decision is None:
        return own
    return (*routes.guide.defaults(decision.model_id, decision.profile), *own)


def _body(ask: _Ask, prompt: str, *, is_chat: bool) -> bytes:
    nested = ask.parameters or _Sampling()
    body: dict[str, object] = {}
    for key in _SAMPLING:
        value = getattr(nested, key)
        value = getattr(ask, key) if value is None else value
        if value is not None:
            body[key] = value
    repetition = nested.repetition_penalty or ask.repetition_penalty
    if repetition is not None:
        body.setdefault("repeat_penalty", repetition)
    if ask.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if is_chat:
        return _encoder.encode(body | {"messages": [{"role": "user", "content": prompt}]})
    return _encoder.encode(body | {"prompt": prompt})


# --- figures ----------------------------------------------------------------------------------


class _Requests(Struct, frozen=True, kw_only=True):
    total: int
    failed: int
    in_flight: int
    hit_rate: float | None
    """Of those whose model was loaded; null without any."""


class _Tokens(Struct, frozen=True, kw_only=True):
    prompt: int
    cached: int
    generated: int
    per_second: float | None


class _Times(Struct, frozen=True, kw_only=True):
    count: int
    mean_ms: float | None


class _Loads(_Times, frozen=True, kw_only=True):
    failed: int


class _Performance(Struct, frozen=True, kw_only=True):
    """What was measured since modeld started; null is what nobody knows yet."""

    uptime_seconds: float
    queue_depth: int
    """Requests that wait for a model."""
    requests: _Requests
    tokens: _Tokens
    inference_times: _Times
    """Of whole requests, without what they waited for loads."""
    model_load_times: _Loads
    """Of loads that requests asked for; `failed` counts all."""
    loaded_models: list[str]
    memory_mb: float
    """What is counted for the servers together."""
    memory_budget_mb: float
    memory_by_model_mb: dict[str, float]


async def performance(call: Call) -> Answer:
    """Answer with what requests and loads cost."""
    measures = await call.door.ask(UsageAsked(request_id=next_id(), measures=True))
    assert isinstance(measures, Measures)
    return Answer(body=_encoder.encode(_performance(measures)))


def _performance(measures: Measures) -> _Performance:
    tallies = measures.tallies.values()

    def total(key: str) -> float:
        return sum(_value(tally, key) for tally in tallies)

    requests, swaps = int(total("requests")), int(total("swaps"))
    served_seconds = total("seconds") - total("waited_seconds")
    memory = {model: _mb(size) for model, size in measures.memory_bytes.items()}
    return _Performance(
        uptime_seconds=round(measures.up_seconds, 3),
        queue_depth=measures.waiting,
        requests=_Requests(
            total=requests,
            failed=int(total("failed")),
            in_flight=sum(measures.in_flight.values()),
            hit_rate=_ratio(total("hits"), requests, 4),
        ),
        tokens=_Tokens(
            prompt=int(total("prompt_tokens")),
            cached=int(total("cached_tokens")),
            generated=int(total("generated_tokens")),
            per_second=_ratio(total("timed_tokens"), total("generation_seconds"), 2),
        ),
        inference_times=_Times(
            count=requests, mean_ms=_ratio(max(0.0, served_seconds) * 1000, requests, 3)
        ),
        model_load_times=_Loads(
            count=swaps,
            mean_ms=_ratio(total("swap_seconds") * 1000, swaps, 3),
            failed=int(total("failed_loads")),
        ),
        loaded_models=sorted(model for model, count in measures.ready.items() if count),
        memory_mb=_mb(sum(measures.memory_bytes.values())),
        memory_budget_mb=_mb(measures.memory_budget_bytes),
        memory_by_model_mb=memory,
    )


def _value(tally: Tally, key: str) -> float:
    value: float = getattr(tally, key)
    return value


def _ratio(part: float, whole: float, digits: int) -> float | None:
    return round(part / whole, digits) if whole else None


def _mb(size_bytes: int) -> float:
    return round(size_bytes / (1 << 20), 1)


# --- what its extension is to know ------------------------------------------------------------


class _Config(Struct, frozen=True, kw_only=True):
    """In the names of the extension's own settings, and of the plan's parameters."""

    server_url: str
    default_model: str | None
    enable_local_fallback: bool = True
    """That there is something here to fall back on."""
    context_window: int | None
    """Of the default model, or of the one in use where there is no default.  [tokens]"""
    temperature: float | None = DEFAULTS.temperature
    max_tokens: int | None = DEFAULTS.max_tokens
    top_p: float | None = DEFAULTS.top_p
    karen_prompt_template: bool
    """Whether prompts are put into KAREN's template here: then nobody else should."""


def configuration(call: Call) -> Answer:
    """Answer with what the extension needs in order to use this."""
    routes = call.door.routes
    host = call.head.headers.get(b"host", b"").decode("ascii", "replace")
    model = _default(routes) or management.current_model(call)
    found = _Config(
        server_url=f"http://{host}" if host else f"http://{call.config.listen[0]}",
        default_model=shown_name(routes, model) if model is not None else None,
        context_window=_context(routes, model) if model is not None else None,
        karen_prompt_template=call.config.karen_prompt_template,
    )
    return Answer(body=_encoder.encode(found))


def _default(routes: Routes) -> Model | None:
    """Return the model of `models.default`; None where that is not one model."""
    try:
        return routes.find(routes.default_model) if routes.default_model else None
    except ModeldError:
        return None


def _context(routes: Routes, model: Model) -> int | None:
    route = routes.servers.get(model.id)
    running = route.context_tokens if route is not None else 0
    return running or routes.guide.contexts.get(model.id) or None


def _local(method: str, path: str, answer: Answering) -> Row:
    return Row(method=method, path=path, dialect=KAREN, action=Local(answer))


_INFERENCE = Relayed(inference)
# fmt: off
ROWS = (
    Row(method="POST", path="/inference", dialect=KAREN, action=_INFERENCE),
    _local("GET",  "/performance",                performance),
    _local("GET",  "/karen/config",               configuration),
    Row(method="POST", path=f"{PREFIX}/inference", dialect=KAREN, action=_INFERENCE),
    _local("GET",  f"{PREFIX}/performance",       performance),
    _local("GET",  f"{PREFIX}/karen/config",      configuration),
    _local("GET",  f"{PREFIX}/health",            karen_health.health),
    _local("GET",  f"{PREFIX}/models",            management.list_models),
    _local("POST", f"{PREFIX}/models/load",       management.load),
    _local("POST", f"{PREFIX}/models/unload",     management.unload),
    _local("POST", f"{PREFIX}/models/unload/*",   management.unload),
)
# fmt: on
