"""The figure of routing: what a decision costs with 200 models and 50 rules."""

import statistics
import time
from collections.abc import Callable, Iterator

from modeld.config.schema import Config, Roles, Routing, Rule
from modeld.core.routing import Ask
from modeld.supervisor.guide import Guide, Prospect, guide, outlook
from tests.bench.figures import Figure, figure
from tests.support.routing import model

MODELS = 200
RULES = 50
ROUNDS = 2000
BUILDS = 20
SENTENCE = "Tell me about the long river that runs from the hills to the sea, and who lives there. "
NAMES = ("Llama-3.1-8B", "mistral-7b-v0.3", "Qwen2.5-14B", "phi-4", "gemma-2-9b", "my-own-7b")


def _guide() -> Guide:
    """Return what routing goes by, for many models and many rules of which none fits."""
    rules = tuple(
        Rule(pattern=f"(?i)(translate|render) .* (in)?to (language|tongue) {number}$", model="a")
        for number in range(RULES)
    )
    models = [
        model(
            f"{NAMES[number % len(NAMES)]}-{number}-Q4_K_M",
            architecture="llama",
            context_tokens=32_768,
        )
        for number in range(MODELS)
    ]
    names = {each.id: (each.id,) for each in models}
    routing = Routing(rules=rules, roles=Roles(code=models[0].id))
    return guide(Config(routing=routing), [outlook(each, Prospect()) for each in models], names)


def _microseconds(work: Callable[[], object], rounds: int) -> list[float]:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e6)
    return took


def decision() -> Iterator[Figure]:
    """A request of some 50 words that no rule fits: every rule is tried, then a profile decides."""
    text = SENTENCE * 3
    router = _guide().router
    assert router.decide(Ask(name="auto", text=lambda: text)).route == "profile:general"
    took = _microseconds(lambda: router.decide(Ask(name="auto", text=lambda: text)), ROUNDS)
    built = _microseconds(_guide, BUILDS)
    detail = (
        f"p50 of {ROUNDS}, {MODELS} models, {RULES} rules that don't fit; p99 "
        f"{statistics.quantiles(took, n=100)[98]:.0f}; made anew on a change in "
        f"{statistics.median(built) / 1000:.1f} ms"
    )
    yield figure("routing.decision_us", statistics.median(took), 200, "lower", detail)


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {"routing.decision_us": decision}
