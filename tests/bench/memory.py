"""The figures of memory: the formula beside the engine's own words, what is learned, the plan."""

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from modeld.core.demand import read_demand
from modeld.core.entities import LaunchRecord, Server, ServerState
from modeld.core.fit import Budget, compute_bytes
from modeld.core.gguf import read_header
from modeld.core.kv import kv_bytes
from modeld.core.plan import Want, plan_load
from tests.bench.figures import Figure, figure
from tests.support.daemon import Daemon, a_daemon
from tests.support.engine_memory import MIB, engine_memory
from tests.support.engines import Engine, bench_engines
from tests.support.model_kinds import KINDS, Size, write_kind

GIB = 1024**3
CONTEXT_TOKENS = 32_768
TOLERANCE = 0.05
TOLERANCE_BYTES = 128 * MIB
PLAN_ROUNDS = 200
SETTLE_SECONDS = 8.0
VARIANTS: dict[str, tuple[str, ...]] = {
    "f16": (),
    "q8_0": ("-ctk", "q8_0", "-ctv", "q8_0"),
    "2 slots": ("-np", "2"),
    "no fa": ("-fa", "off", "-c", "8192"),
}


class Row(NamedTuple):
    """One comparison: what the formula says, what the engine allocates."""

    name: str
    formula: int
    engine: int
    cache_off: int

    @property
    def share(self) -> float:
        """How far off it is, of what the engine says."""
        return (self.formula - self.engine) / self.engine


def formula() -> Iterator[Figure]:
    """The header formula to the engine's own breakdown, for each kind of attention."""
    for engine in bench_engines():
        rows = list(_compare(engine))
        over = max(rows, key=lambda row: (row.formula - row.engine) / _allowed(row.engine))
        under = min(rows, key=lambda row: row.share)
        exact = [row for row in rows if row.cache_off <= MIB // 10]
        ratio = (over.formula - over.engine) / _allowed(over.engine)
        detail = (
            f"{over.name}: {over.formula / MIB:.0f} to {over.engine / MIB:.0f} MiB "
            f"({100 * over.share:+.1f} %), of {len(rows)}"
        )
        name = f"memory.formula_worst_over.{engine.name}"
        yield figure(name, ratio, 1.0, "lower", detail)
        detail = f"{under.name}: {100 * under.share:+.2f} %; 2 % are allowed"
        name = f"memory.formula_worst_under.{engine.name}"
        yield figure(name, max(0.0, -100 * under.share), 2.0, "lower", detail)
        detail = f"{len(exact)} of {len(rows)} caches to a tenth of a MiB"
        name = f"memory.cache_exact.{engine.name}"
        yield figure(name, len(exact) / len(rows), 1.0, "higher", detail)


def _allowed(engine_bytes: int) -> float:
    return max(TOLERANCE * engine_bytes, TOLERANCE_BYTES)


def _compare(engine: Engine) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for kind in KINDS:
            path = Path(folder) / "m.gguf"
            write_kind(path, kind)
            with path.open("rb") as file:
                header = read_header(file.read(1 << 20), path.stat().st_size)
            for variant, arguments in VARIANTS.items():
                tokens = 8192 if "-c" in arguments else CONTEXT_TOKENS
                said = engine_memory(engine.argv, path, "-c", str(CONTEXT_TOKENS), *arguments)
                demand = read_demand(arguments, None, tokens)
                cache = kv_bytes(header, demand.cache)
                ours = header.tensor_bytes + cache + compute_bytes(header, demand)
                yield Row(f"{kind}, {variant}", ours, said.total, abs(cache - said.cache))


# --- what is learned ----------------------------------------------------------------------------


def learned() -> Iterator[Figure]:
    """What was learned from the first load, to what the process of the second one has."""
    size = Size(layers=8, embedding=1024, feed_forward=4096)
    for engine in bench_engines():
        settings = "servers.context_tokens = 16384"
        with a_daemon(engine=engine.binary, settings=settings, start=False) as daemon:
            write_kind(daemon.models / "wide.gguf", "grouped", size)
            daemon.start()
            first = daemon.json("show", "wide")
            _use(daemon)
            daemon.modelctl("unload", "wide")
            need = daemon.json("show", "wide")
            resident = _use(daemon)
        assert need["need_source"] == "measured", need
        off = 100 * abs(need["need_bytes"] - resident) / resident
        detail = (
            f"{need['need_bytes'] / MIB:.0f} learned, {resident / MIB:.0f} MiB resident; "
            f"the {first['need_source']} said {first['need_bytes'] / MIB:.0f}"
        )
        yield figure(f"memory.learned.{engine.name}", off, 2.0, "lower", detail)


def _use(daemon: Daemon) -> int:
    """Load the model, ask it something, wait until it is measured; return what it has by then."""
    daemon.modelctl("load", "wide")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    body = {"model": "wide", "prompt": "word " * 40, "max_tokens": 4}
    connection.request(
        "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    assert connection.getresponse().status == 200
    connection.close()
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:  # two measurements, five seconds apart
        time.sleep(0.5)
    (server,) = daemon.servers()
    return int(psutil.Process(server["pid"]).memory_info().rss)


# --- the plan -----------------------------------------------------------------------------------


def plan_50() -> Iterator[Figure]:
    """A plan that evicts 49 of 50 servers, one by one, with two GPUs."""
    servers = [_server(index) for index in range(50)]
    want = Want(
        model_id="new", name="new", need_bytes=49 * GIB, need_gpu_bytes=(24 * GIB, GIB), force=True
    )
    budget = Budget(memory_bytes=50 * GIB, max_loaded=64, gpu_bytes=(25 * GIB, 25 * GIB))
    times = []
    for _ in range(PLAN_ROUNDS):
        began = time.perf_counter()
        plan = plan_load(want, servers, (), budget)
        times.append(time.perf_counter() - began)
    milliseconds = 1000 * statistics.median(times)
    detail = f"ms, median of {PLAN_ROUNDS}; {len(plan.victims)} victims"
    yield figure("memory.plan_50", milliseconds, 1.0, "lower", detail)


def _server(index: int) -> Server:
    record = LaunchRecord(
        server_id=f"{index:016d}", model_id=f"m{index}", model_name=f"m{index}",
        model_path="/m.gguf", tier="ssd", argv=("llama-server",), environment={},
        socket_path="", stdin_path="", stdout_path="", log_path="", need_bytes=GIB,
        need_gpu_bytes=(GIB // 2, 0), created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return Server(record=record, state=ServerState.READY, last_used_at=index * 37 % 50)


BENCHES = {
    "memory.formula_worst_over": formula,
    "memory.learned": learned,
    "memory.plan_50": plan_50,
}
