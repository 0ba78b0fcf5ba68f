"""A real modeld, asked as the handler of KAREN's plan asks: health, models, load, inference."""

import json
import time
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model
from tests.system.test_management import PATIENCE_SECONDS, SENTENCES, ask, wait_until_ready


@pytest.mark.engine
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_extension_gets_its_model_s_answer(daemon: Daemon, prefix: str) -> None:
    """It loads one model, asks without a name, and whatever else runs must not answer."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    daemon.start()
    wait_until_ready(daemon)

    assert ask(daemon, "GET", f"{prefix}/health").json["status"] == "ok"
    before = health(daemon)
    assert before["components"].pop("karen_integration")["status"] == "degraded"
    assert set(map(str, before["components"].values())) == {"{'status': 'healthy'}"}
    assert ask(daemon, "GET", f"{prefix}/models").json["current"] == {"id": None}
    hello = {"prompt": "hello", "parameters": {"temperature": 0.7, "max_tokens": 2048}}
    assert ask(daemon, "POST", f"{prefix}/inference", hello).status == 400

    for name in ("alpha", "beta", "alpha"):
        loaded = ask(daemon, "POST", f"{prefix}/models/load", {"model_id": name})
        assert loaded.json["model_id"] == name
        assert ask(daemon, "GET", f"{prefix}/models").json["current"] == {"id": name}
        answer = ask(daemon, "POST", f"{prefix}/inference", hello).json
        assert str(answer["response"]).strip() == SENTENCES[name]
        assert answer["model_id"] == name

    assert health(daemon)["overall"] == "healthy"
    told = counted(daemon, f"{prefix}/performance", 3)
    assert told["loaded_models"] == ["alpha", "beta"]
    assert told["inference_times"]["mean_ms"] > 0
    assert told["model_load_times"]["count"] == 2
    assert ask(daemon, "POST", f"{prefix}/models/unload/alpha").status == 200
    config = ask(daemon, "GET", f"{prefix}/karen/config").json
    assert (config["server_url"], config["default_model"]) == (daemon_url(daemon), "beta")


def health(daemon: Daemon) -> dict[str, Any]:
    """Return how each part of modeld is."""
    told: dict[str, Any] = json.loads(ask(daemon, "GET", "/api/v1/health").body)
    return told


def counted(daemon: Daemon, path: str, requests: int) -> dict[str, Any]:
    """Return the figures once they have so many requests: the last is counted in a moment."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        told: dict[str, Any] = json.loads(ask(daemon, "GET", path).body)
        if told["requests"]["total"] == requests:
            return told
        assert time.monotonic() < end, told
        time.sleep(0.02)


def daemon_url(daemon: Daemon) -> str:
    """Return where it was reached."""
    return f"http://127.0.0.1:{daemon.port}"
