"""
For how long modeld's one loop stands still, with 2,000 models: requests and streams wait with it.

Asked for its version over and over by one client, while another has it do what concerns all
models: the longest that an answer took.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator

from modeld.wire.daemon import AskVersion, Reload
from modeld.wire.models import ListModels
from tests.bench.core import KNOWN_MODELS, wait_for_count, write_models
from tests.bench.figures import Figure, figure
from tests.support.daemon import Daemon, a_daemon
from tests.support.rpc_client import RpcClient
from tests.support.tiny_gguf import write_model

ROUNDS = 11
QUIET_SECONDS = 0.3
"""Before and after what is measured."""
BETWEEN_SECONDS = 0.0005


def holds() -> Iterator[Figure]:
    """
    Of a reload that changes how every model would be loaded, and of one new file.

    With the file an answer may have to wait for more than the loop: the disks are looked through in
    threads meanwhile, which have their turns too.
    """
    with a_daemon(start=False) as daemon:
        write_models(daemon.models)
        daemon.start()
        wait_for_count(daemon, KNOWN_MODELS)
        with daemon.rpc() as doing, daemon.rpc() as asking:
            rounds = range(ROUNDS)
            reloads = [
                _longest(asking, lambda one=one: _reload(daemon, doing, one)) for one in rounds
            ]
            files = [_longest(asking, lambda one=one: _add(daemon, doing, one)) for one in rounds]
    figures = (("core.reload_hold_ms", reloads, 20), ("core.new_file_hold_ms", files, 30))
    for name, found, bar in figures:
        detail = f"{KNOWN_MODELS} models, median of {ROUNDS}, worst {max(found):.1f}"
        yield figure(name, statistics.median(found), bar, "lower", detail)


def _longest(client: RpcClient, act: Callable[[], None]) -> float:
    """Return the longest that an answer took while something was done.  [ms]"""
    took: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            began = time.perf_counter()
            client.ask(AskVersion())
            took.append(time.perf_counter() - began)
            time.sleep(BETWEEN_SECONDS)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        time.sleep(QUIET_SECONDS)
        act()
        time.sleep(QUIET_SECONDS)
    finally:
        is_over.set()
        asking.join()
    return max(took) * 1000


def _reload(daemon: Daemon, client: RpcClient, number: int) -> None:
    daemon.configure(f"servers.context_tokens = {2048 + number}")
    answer = client.ask(Reload())
    assert answer["type"] == "reloaded", answer


def _add(daemon: Daemon, client: RpcClient, number: int) -> None:
    write_model(daemon.models / f"another-{number}.gguf")
    answer = client.ask(ListModels(patterns=(f"another-{number}",), refresh=True))
    assert answer["models"], answer


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "core.reload_hold_ms": holds,
}
