"""Tokens, swaps and rates on real engines: what modeld counts is what the answers say."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

MESSAGES = [{"role": "user", "content": "hi"}]
PATIENCE_SECONDS = 10.0


class Cost(NamedTuple):
    """What an answer says that it cost."""

    prompt: int
    cached: int
    generated: int


@pytest.fixture
def running(daemon: Daemon) -> Daemon:
    """Run a modeld with two models."""
    for name in ("alpha", "beta"):
        write_model(daemon.models / f"{name}.gguf", sentence=f"I am {name} .", name=name)
    return daemon.start()


def post(daemon: Daemon, path: str, **fields: Any) -> bytes:  # noqa: ANN401
    """Return the body of an answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{daemon.port}{path}",
        json.dumps(fields).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        body: bytes = reply.read()
    return body


def get(daemon: Daemon, path: str) -> bytes:
    """Return the body of an answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=60) as reply:
        body: bytes = reply.read()
    return body


def events(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if b"data: {" in line]
    return [json.loads(line) for line in lines]


def counted(daemon: Daemon, requests: int, model: str = "alpha") -> dict[str, Any]:
    """Return the sums of a model, once they have this many requests; bounded."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        row: dict[str, Any] = daemon.json("stats", model)["models"][0]
        if row["requests"] >= requests:
            assert row["requests"] == requests
            return row
        assert time.monotonic() < end, f"never {requests} requests: {row}"
        time.sleep(0.02)


def saved_requests(state: Path, model: str) -> int:
    """Return how many requests the disk knows of."""
    usage: dict[str, dict[str, int]] = json.loads(state.read_text()).get("usage", {})
    return usage.get(model, {}).get("requests", 0)


def openai_cost(usage: dict[str, Any]) -> Cost:
    """Return what OpenAI's words say."""
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens", 0)
    return Cost(usage["prompt_tokens"], cached, usage["completion_tokens"])


def anthropic_cost(start: dict[str, Any], end: dict[str, Any]) -> Cost:
    """Return what Anthropic's words say."""
    cached = start["cache_read_input_tokens"]
    return Cost(start["input_tokens"] + cached, cached, end["output_tokens"])


def responses_cost(usage: dict[str, Any]) -> Cost:
    """Return what the words of OpenAI's newer API say."""
    cached = usage["input_tokens_details"]["cached_tokens"]
    return Cost(usage["input_tokens"], cached, usage["output_tokens"])


def ask_in_every_way(daemon: Daemon) -> list[Cost]:
    """Return what each answer says that it cost."""
    chat: dict[str, Any] = {"model": "alpha", "messages": MESSAGES, "max_tokens": 4}
    whole = json.loads(post(daemon, "/v1/chat/completions", **chat))
    options = {"include_usage": True}
    stream = events(
        post(daemon, "/v1/chat/completions", **chat, stream=True, stream_options=options)
    )
    plain = events(post(daemon, "/v1/chat/completions", **chat, stream=True))[-1]["timings"]
    text = json.loads(post(daemon, "/v1/completions", model="alpha", prompt="hi", max_tokens=3))
    message = json.loads(post(daemon, "/v1/messages", **chat))
    parts = events(post(daemon, "/v1/messages", **chat, stream=True))
    response = json.loads(
        post(daemon, "/v1/responses", model="alpha", input="hi", max_output_tokens=4)
    )
    last = events(
        post(daemon, "/v1/responses", model="alpha", input="hi", max_output_tokens=4, stream=True)
    )[-1]["response"]
    native = json.loads(post(daemon, "/completion", model="alpha", prompt="hi", n_predict=2))
    return [
        openai_cost(whole["usage"]),
        openai_cost(stream[-1]["usage"]),
        Cost(plain["prompt_n"] + plain["cache_n"], plain["cache_n"], plain["predicted_n"]),
        openai_cost(text["usage"]),
        anthropic_cost(message["usage"], message["usage"]),
        anthropic_cost(
            next(part["message"]["usage"] for part in parts if part["type"] == "message_start"),
            next(part["usage"] for part in parts if part["type"] == "message_delta"),
        ),
        responses_cost(response["usage"]),
        responses_cost(last["usage"]),
        Cost(
            native["timings"]["prompt_n"] + native["timings"]["cache_n"],
            native["timings"]["cache_n"],
            native["timings"]["predicted_n"],
        ),
    ]


@pytest.mark.engine
def test_counted_tokens_are_those_of_the_answers(running: Daemon) -> None:
    """S3-23, for each dialect, streamed and not."""
    costs = ask_in_every_way(running)
    row = counted(running, len(costs))

    assert row["generated_tokens"] == sum(cost.generated for cost in costs) > 0
    assert row["prompt_tokens"] == sum(cost.prompt for cost in costs) > 0
    assert row["cached_tokens"] == sum(cost.cached for cost in costs)
    assert (row["failed"], row["hits"], row["swaps"]) == (0, len(costs) - 1, 1)
    assert row["tokens_per_s"] > 0
    assert 0 < row["first_token_p50_s"] <= row["first_token_p95_s"]
    assert row["mean_swap_s"] > 0


@pytest.mark.engine
def test_tokens_of_ollama_are_those_that_its_answers_name(running: Daemon) -> None:
    """Its answers are translated, and counted before that."""
    whole = json.loads(post(running, "/api/chat", model="alpha", messages=MESSAGES, stream=False))
    lines = post(running, "/api/generate", model="alpha", prompt="hi").splitlines()
    answers = [whole, json.loads(lines[-1])]
    row = counted(running, 2)

    assert row["generated_tokens"] == sum(answer["eval_count"] for answer in answers) > 0
    assert row["prompt_tokens"] == sum(answer["prompt_eval_count"] for answer in answers) > 0


@pytest.mark.engine
def test_tokens_of_embeddings_are_counted(daemon: Daemon) -> None:
    """They report at their beginning."""
    write_model(daemon.models / "alpha.gguf", sentence="I am alpha .", name="alpha")
    daemon.configure('servers.arguments = ["--embeddings", "--pooling", "mean"]')
    daemon.start()
    answer = json.loads(post(daemon, "/v1/embeddings", model="alpha", input=["hi there"] * 40))
    row = counted(daemon, 1)

    assert row["prompt_tokens"] == answer["usage"]["prompt_tokens"] > 0
    assert row["generated_tokens"] == 0


def test_swaps_and_hits_are_told_and_outlive_a_kill(embedded_daemon: Daemon) -> None:
    """Sums that are on the disk stay; watching adds nothing to them."""
    for name in ("alpha", "beta"):
        write_model(embedded_daemon.models / f"{name}.gguf", sentence="I am .", name=name)
    embedded_daemon.configure("models.max_concurrent_loaded = 1")
    embedded_daemon.start()
    assert json.loads(get(embedded_daemon, "/api/llm/stats"))["cache_hit_rate"] is None
    for name in ("alpha", "alpha", "beta", "alpha"):
        embedded_daemon.chat(name)
    counted(embedded_daemon, 3)
    stats = json.loads(get(embedded_daemon, "/api/llm/stats"))

    assert stats["cache_strategy"] == "ram"
    assert stats["loaded_models"] == ["alpha"]
    assert stats["cache_hit_rate"] == 0.25
    assert stats["model_usage"] == {"alpha": 3, "beta": 1}
    assert stats["swaps"] == {"alpha": 2, "beta": 1}
    assert stats["avg_swap_time_ms"] > 0

    samples = {
        (sample.name, sample.labels.get("model", "")): sample.value
        for family in text_string_to_metric_families(get(embedded_daemon, "/metrics").decode())
        for sample in family.samples
    }
    assert samples["modeld_requests_total", "alpha"] == 3
    assert samples["modeld_models_loaded", ""] == 1
    assert samples["modeld_swap_seconds_count", ""] == 3

    embedded_daemon.modelctl("unload", "--all")  # what ends is saved, and the sums with it
    state = embedded_daemon.home / "state" / "modeld" / "stats.json"
    end = time.monotonic() + PATIENCE_SECONDS
    while not state.exists() or saved_requests(state, "alpha") != 3:
        assert time.monotonic() < end, "never saved"
        time.sleep(0.05)
    embedded_daemon.kill()
    embedded_daemon.start()
    again = json.loads(get(embedded_daemon, "/api/llm/stats"))

    assert again["model_usage"] == stats["model_usage"]
    assert again["cache_hit_rate"] == 0.25
    assert again["loaded_models"] == []
