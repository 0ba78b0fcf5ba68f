"""`/metrics` and `/api/llm/stats`: what programs that watch are told."""

import json
import subprocess
import sys
import threading

import pytest
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from modeld.core import usage
from modeld.core.events import Event, UsageAsked
from modeld.core.usage import Figures, Histogram
from modeld.gateway import measures as measures_module
from modeld.gateway.measures import METRICS, exposition
from modeld.supervisor.counting import Measures
from modeld.supervisor.door import OnProgress
from modeld.wire.usage import UsageReport, UsageRow
from tests.support.fake_door import FakeDoor
from tests.support.gateway import run, running

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def measured(*models: str) -> Measures:
    """Return what some requests to each of these models came to."""
    tallies = {}
    for model in models:
        tally = tallies[model] = usage.tally()
        for seconds in (0.03, 0.1, 0.3, 99.0):
            tally.count(Figures(first_token_seconds=seconds, generated_tokens=3, seconds=1.0))
        tally.count(Figures(failure="server", was_ready=False))
        tally.count_load(2.0, is_swap=True)
        tally.count_load(1.0, is_swap=False)
    swaps = Histogram(usage.SWAP_SECONDS)
    swaps.add(2.0)
    return Measures(
        version="1.2.3",
        up_seconds=12.5,
        connections=3,
        waiting=2,
        models=40,
        memory_budget_bytes=1 << 36,
        ssd_free_bytes=1 << 40,
        copies=1,
        copied_bytes=7,
        tallies=tallies,
        in_flight=dict.fromkeys(models, 1),
        memory_bytes=dict.fromkeys(models, 100),
        ready=dict.fromkeys(models, 1),
        swap_seconds=swaps,
    )


def parsed(text: bytes) -> Samples:
    """Return every sample, by name and labels, as Prometheus reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class Door(FakeDoor):
    """One that knows what requests cost."""

    def __init__(self, reply: Struct) -> None:
        super().__init__()
        self.reply = reply

    async def ask(self, event: Event, on_progress: OnProgress | None = None) -> Struct:
        """Answer, and accept nothing else."""
        assert isinstance(event, UsageAsked)
        assert event.measures == isinstance(self.reply, Measures)
        return self.reply


def test_metrics_are_what_prometheus_reads() -> None:
    """The parser is Prometheus' own client's."""
    found = parsed(exposition(measured("coder")))
    coder = (("model", "coder"),)

    assert found["modeld_build_info", (("version", "1.2.3"),)] == 1
    assert found["modeld_uptime_seconds", ()] == 12.5
    assert found["modeld_requests_total", coder] == 5
    assert found["modeld_request_hits_total", coder] == 4
    assert found["modeld_request_failures_total", (("class", "server"), *coder)] == 1
    assert found["modeld_generated_tokens_total", coder] == 12
    assert found["modeld_loads_total", (*coder, ("origin", "gateway"))] == 1
    assert found["modeld_loads_total", (*coder, ("origin", "operator"))] == 1
    assert found["modeld_models_loaded", ()] == 1
    assert found["modeld_memory_booked_bytes", coder] == 100


def test_histograms_count_each_class_with_all_below_it() -> None:
    """Quantiles in Grafana are made of these."""
    found = parsed(exposition(measured("coder")))

    def bucket(bound: str) -> float:
        return found["modeld_first_token_seconds_bucket", (("le", bound), ("model", "coder"))]

    assert [bucket(bound) for bound in ("0.05", "0.1", "0.25", "0.5", "10", "+Inf")] == [
        1, 2, 2, 3, 3, 4,
    ]  # fmt: skip
    assert found["modeld_first_token_seconds_count", (("model", "coder"),)] == 4
    assert found["modeld_first_token_seconds_sum", (("model", "coder"),)] == 99.43
    assert found["modeld_swap_seconds_count", ()] == 1


def test_metrics_have_their_kinds_names_and_units() -> None:
    """Prometheus' conventions: base units, `_total` for what only grows."""
    families = text_string_to_metric_families(exposition(measured("coder")).decode())
    kinds = {family.name: family.type for family in families}

    assert kinds == {each.name.removesuffix("_total"): each.kind for each in METRICS}
    for each in METRICS:
        assert each.name.startswith("modeld_")
        assert each.name.endswith("_total") == (each.kind == "counter")
        assert set(each.labels) <= {"model", "class", "origin", "version"}


def test_metrics_have_no_sample_for_what_nobody_knows() -> None:
    """A free SSD of 0 bytes would call somebody at night."""
    without = Measures(**{**_fields(measured()), "ssd_free_bytes": None})

    assert ("modeld_ssd_free_bytes", ()) not in parsed(exposition(without))


def _fields(measures: Measures) -> dict[str, object]:
    return {name: getattr(measures, name) for name in Measures.__struct_fields__}


def test_model_names_are_told_whatever_is_in_them() -> None:
    """People give files names of all kinds."""
    name = 'a "quoted"\\ näme\nof two lines'

    assert parsed(exposition(measured(name)))["modeld_requests_total", (("model", name),)] == 5


def test_metrics_are_served_and_do_not_touch_models() -> None:
    """Other gateways load a model for a scrape."""

    async def main() -> None:
        door = Door(measured("coder"))
        door.add("coder")
        async with running(door) as house:
            reply = await house.get(b"/metrics")
            assert reply.status == 200
            assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert parsed(reply.body)["modeld_connections", ()] == 3
        assert not door.events
        assert not door.asked

    run(main)


def test_metrics_are_written_down_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape of many models takes longer than anybody's next token should wait."""
    writers: list[str] = []

    def write(measures: Measures) -> bytes:
        writers.append(threading.current_thread().name)
        return exposition(measures)

    monkeypatch.setattr(measures_module, "exposition", write)

    async def main() -> None:
        async with running(Door(measured(*(f"model-{number}" for number in range(200))))) as house:
            assert len(parsed((await house.get(b"/metrics")).body)) > 4000
        assert writers
        assert threading.current_thread().name not in writers

    run(main)


def test_library_for_metrics_is_loaded_only_when_somebody_watches() -> None:
    """It costs memory and time, which most daemons would pay for nothing."""
    code = "import sys, modeld.__main__; sys.exit('prometheus_client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stats_have_the_words_of_rustyclaw() -> None:
    """S3-27."""
    row = UsageRow(name="coder", id="x/coder", requests=20, hits=17, hit_rate=0.85, swaps=3)
    total = UsageRow(requests=20, hits=17, hit_rate=0.85, swaps=3, mean_swap_s=1.2)
    report = UsageReport(models=(row,), total=total, cache_strategy="ram", loaded_models=("coder",))

    async def main() -> None:
        async with running(Door(report)) as house:
            reply = await house.get(b"/api/llm/stats")
        assert json.loads(reply.body) == {
            "cache_strategy": "ram",
            "loaded_models": ["coder"],
            "cache_hit_rate": 0.85,
            "avg_swap_time_ms": 1200.0,
            "model_usage": {"coder": 20},
            "swaps": {"coder": 3},
        }

    run(main)


def test_stats_without_requests_have_no_rate() -> None:
    """0 would say that every request waited."""
    report = UsageReport(models=(), total=UsageRow(), cache_strategy="ssd", loaded_models=())

    async def main() -> None:
        async with running(Door(report)) as house:
            reply = await house.get(b"/api/llm/stats")
        found = json.loads(reply.body)
        assert found["cache_hit_rate"] is None
        assert found["avg_swap_time_ms"] == 0
        assert found["cache_strategy"] == "ssd"

    run(main)
