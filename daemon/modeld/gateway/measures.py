"""
What programs that watch modeld are told: `/metrics` for Prometheus, `/api/llm/stats` in short.

Neither loads a model nor keeps one loaded.  The loop gives a copy of its sums; the text is made of
it in a thread, since the library for it takes a while to load and to write, and nobody's answer
should wait for that.  Models that watchers hear of by name are bounded in number.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from msgspec import Struct

from modeld.core.events import UsageAsked
from modeld.core.usage import Histogram, Tally
from modeld.gateway.http import Answer
from modeld.gateway.openai import OPENAI
from modeld.gateway.table import ALWAYS, Call, Local, Row, next_id
from modeld.supervisor.counting import Measures
from modeld.wire.usage import UsageReport

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_encoder = msgspec.json.Encoder()


# --- in short ---------------------------------------------------------------------------------


class _Stats(Struct, frozen=True, kw_only=True):
    """What RustyClaw's own gateway tells (S3-27)."""

    cache_strategy: str
    loaded_models: tuple[str, ...]
    cache_hit_rate: float | None
    """Requests whose model was loaded, of all; null without any."""
    avg_swap_time_ms: float
    """0 without any."""
    model_usage: dict[str, int]
    """Requests."""
    swaps: dict[str, int]


async def stats(call: Call) -> Answer:
    """Answer with hits, swaps and requests."""
    report = await call.door.ask(UsageAsked(request_id=next_id()))
    assert isinstance(report, UsageReport)
    mean_s = report.total.mean_swap_s
    found = _Stats(
        cache_strategy=report.cache_strategy,
        loaded_models=report.loaded_models,
        cache_hit_rate=report.total.hit_rate,
        avg_swap_time_ms=0.0 if mean_s is None else round(mean_s * 1000, 1),
        model_usage={row.name: row.requests for row in report.models},
        swaps={row.name: row.swaps for row in report.models},
    )
    return Answer(body=_encoder.encode(found))


# --- in full ----------------------------------------------------------------------------------

Value = float | Histogram
Sample = tuple[tuple[str, ...], Value]


class Metric(NamedTuple):
    """One of those that `/metrics` has."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Measures], Iterable[Sample]]
    labels: tuple[str, ...] = ()


def _plain(read: Callable[[Measures], float | None]) -> Callable[[Measures], Iterator[Sample]]:
    """Return what reads one value; there is no sample where nobody knows it."""

    def samples(measures: Measures) -> Iterator[Sample]:
        value = read(measures)
        if value is not None:
            yield (), value

    return samples


def _by_model(
    read: Callable[[Tally], Value],
) -> Callable[[Measures], Iterator[Sample]]:
    """Return what reads a value of each model that had requests or loads."""

    def samples(measures: Measures) -> Iterator[Sample]:
        for model, tally in measures.tallies.items():
            yield (model,), read(tally)

    return samples


def _by_server(
    read: Callable[[Measures], dict[str, int]],
) -> Callable[[Measures], Iterator[Sample]]:
    """Return what reads a value of each model that has a server."""
    return lambda measures: (((model,), value) for model, value in read(measures).items())


def _failures(measures: Measures) -> Iterator[Sample]:
    for model, tally in measures.tallies.items():
        for kind, count in tally.failures.items():
            yield (model, kind), count


def _loads(measures: Measures) -> Iterator[Sample]:
    for model, tally in measures.tallies.items():
        yield (model, "gateway"), tally.swaps
        yield (model, "operator"), tally.loads - tally.swaps


_MODEL = ("model",)
# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric("modeld_build_info", "gauge", "Always 1; its label tells the version.",
           lambda m: [((m.version,), 1)], ("version",)),
    Metric("modeld_uptime_seconds", "gauge", "Since modeld started.",
           _plain(lambda m: m.up_seconds)),
    Metric("modeld_connections", "gauge", "Clients that are connected to the gateway.",
           _plain(lambda m: m.connections)),
    Metric("modeld_requests_waiting", "gauge", "Requests that wait for a model to load.",
           _plain(lambda m: m.waiting)),
    Metric("modeld_models", "gauge", "Models on the disks.",
           _plain(lambda m: m.models)),
    Metric("modeld_models_loaded", "gauge", "Servers that are ready.",
           _plain(lambda m: sum(m.ready.values()))),
    Metric("modeld_memory_budget_bytes", "gauge", "What models may take of the memory.",
           _plain(lambda m: m.memory_budget_bytes)),
    Metric("modeld_memory_booked_bytes", "gauge", "What is counted for a model's server.",
           _by_server(lambda m: m.memory_bytes), _MODEL),
    Metric("modeld_requests_in_flight", "gauge", "Requests that a model's server has.",
           _by_server(lambda m: m.in_flight), _MODEL),
    Metric("modeld_ssd_free_bytes", "gauge", "Free on the SSD.",
           _plain(lambda m: m.ssd_free_bytes)),
    Metric("modeld_copies", "gauge", "Copies to the SSD that are under way.",
           _plain(lambda m: m.copies)),
    Metric("modeld_copied_bytes_total", "counter", "Written to the SSD since modeld counts.",
           _plain(lambda m: m.copied_bytes)),
    Metric("modeld_requests_total", "counter", "Requests to a model.",
           _by_model(lambda t: t.requests), _MODEL),
    Metric("modeld_request_hits_total", "counter", "Requests whose model was loaded.",
           _by_model(lambda t: t.hits), _MODEL),
    Metric("modeld_request_failures_total", "counter", "Requests that failed, by class.",
           _failures, ("model", "class")),
    Metric("modeld_request_seconds_total", "counter", "From requests' coming to their end.",
           _by_model(lambda t: t.seconds), _MODEL),
    Metric("modeld_request_wait_seconds_total", "counter", "What requests waited for loads.",
           _by_model(lambda t: t.waited_seconds), _MODEL),
    Metric("modeld_prompt_tokens_total", "counter", "Tokens of prompts, cached ones included.",
           _by_model(lambda t: t.prompt_tokens), _MODEL),
    Metric("modeld_cached_prompt_tokens_total", "counter", "Tokens of prompts that were cached.",
           _by_model(lambda t: t.cached_tokens), _MODEL),
    Metric("modeld_generated_tokens_total", "counter", "Generated tokens.",
           _by_model(lambda t: t.generated_tokens), _MODEL),
    Metric("modeld_timed_tokens_total", "counter", "Generated tokens whose time is known.",
           _by_model(lambda t: t.timed_tokens), _MODEL),
    Metric("modeld_generation_seconds_total", "counter", "What the timed tokens took.",
           _by_model(lambda t: t.generation_seconds), _MODEL),
    Metric("modeld_first_token_seconds", "histogram", "From the sending to the first token.",
           _by_model(lambda t: t.first_token), _MODEL),
    Metric("modeld_loads_total", "counter", "Loads that made a model ready, by who asked.",
           _loads, ("model", "origin")),
    Metric("modeld_load_failures_total", "counter", "Loads that were refused or failed.",
           _by_model(lambda t: t.failed_loads), _MODEL),
    Metric("modeld_swap_seconds", "histogram", "Loads by the gateway, from asking to ready.",
           lambda m: [((), m.swap_seconds)]),
)
# fmt: on


async def metrics(call: Call) -> Answer:
    """Answer with everything that is measured, as Prometheus reads it."""
    measures = await call.door.ask(UsageAsked(request_id=next_id(), measures=True))
    assert isinstance(measures, Measures)
    return Answer(body=await asyncio.to_thread(exposition, measures), content_type=METRICS_TYPE)


def exposition(measures: Measures) -> bytes:
    """Return the text of all metrics."""
    # 2 MB and 20 ms, which only those pay whom somebody watches
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Snapshot(Collector):
        def collect(self) -> Iterator["Family"]:
            return (_family(metric, measures) for metric in METRICS)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def _family(metric: Metric, measures: Measures) -> "Family":
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if metric.kind == "histogram":
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in metric.read(measures):
            assert isinstance(value, Histogram)
            histograms.add_metric(labels, _buckets(value), value.total)
        return histograms
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.read(measures):
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the classes as Prometheus counts them: each with all below it."""
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))


_METRICS, _STATS = Local(metrics), Local(stats)

# fmt: off
ROWS = (
    Row(method="GET", path="/metrics",       dialect=OPENAI, action=_METRICS, families=ALWAYS),
    Row(method="GET", path="/api/llm/stats", dialect=OPENAI, action=_STATS,   families=ALWAYS),
)
# fmt: on
