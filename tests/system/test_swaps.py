"""
Many clients, three models, two places: nobody is stuck, nobody gets another model's answer.

`MODELD_TEST_ROUNDS` says how often; `make soak` makes it a thousand.
"""

import http.client
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil

from modeld.wire.common import Selector
from modeld.wire.load import Load, Unload
from tests.support.daemon import Daemon
from tests.support.tiny_gguf import write_model

ROUNDS = int(os.environ.get("MODELD_TEST_ROUNDS", "3"))
SENTENCES = {"alpha": "I am alpha .", "beta": "This is beta .", "gamma": "Here speaks gamma ."}
TOGETHER = 20
ROUND_SECONDS = 60.0
PATIENCE_SECONDS = 10.0
CLIENTS = 16
REFUSALS = {429, 503}


def with_models(daemon: Daemon) -> Daemon:
    """Put three models on the disk, leave two places, and start the daemon."""
    for name, sentence in SENTENCES.items():
        write_model(daemon.models / f"{name}.gguf", sentence=sentence, name=name)
    return daemon.start()


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so; bounded."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def post(daemon: Daemon, model: str, **fields: object) -> http.client.HTTPConnection:
    """Ask for a chat answer, and leave the reading to the caller."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=ROUND_SECONDS)
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def test_parallel_requests_are_each_answered_by_the_model_they_named(daemon: Daemon) -> None:
    """Promise 3: a model that answers is never taken away, and waiting for room has an end."""
    with_models(daemon)
    names = list(SENTENCES) * TOGETHER
    with ThreadPoolExecutor(TOGETHER) as pool:
        for number in range(ROUNDS):
            asked = names[number : number + TOGETHER]
            said = list(pool.map(daemon.chat, asked, timeout=ROUND_SECONDS))

            assert said == [SENTENCES[name] for name in asked]
            assert len(daemon.engines()) <= 2
    assert all(row["in_flight"] == 0 for row in daemon.servers())
    assert "server-failed" not in daemon.log.read_text()


def test_sixteen_clients_over_three_models_in_two_places_are_answered_right_or_refused_in_order(
    daemon: Daemon,
) -> None:
    """
    Each answer is the sentence of the model that was named, or a status that the manual has.

    160 requests here, 10,000 in `make soak`.
    """
    with_models(daemon)

    def client(number: int) -> Counter[str]:
        draw = random.Random(number)
        found: Counter[str] = Counter()
        for _ in range(max(10, ROUNDS * 10 // CLIENTS)):
            name = draw.choice(list(SENTENCES))
            connection = post(daemon, name)
            response = connection.getresponse()
            answer = json.loads(response.read())
            connection.close()
            if response.status == 200:
                text = answer["choices"][0]["message"]["content"].strip()
                found["right" if text == SENTENCES[name] else f"{name} said {text!r}"] += 1
            else:
                assert response.status in REFUSALS, answer
                found["refused"] += 1
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = sum(pool.map(client, range(CLIENTS)), Counter[str]())

    assert set(found) <= {"right", "refused"}, found
    assert found["right"] >= 0.9 * found.total(), found
    assert all(row["in_flight"] == 0 for row in daemon.servers())
    assert len(daemon.engines()) <= 2


def test_clients_that_leave_while_they_wait_for_room_hold_nobody_up(
    embedded_daemon: Daemon,
) -> None:
    """Half of all clients hang up at once: the others are answered, and nothing stays in flight."""
    daemon = with_models(embedded_daemon)
    names = list(SENTENCES) * TOGETHER
    with ThreadPoolExecutor(TOGETHER) as pool:
        for number in range(ROUNDS):
            asked = names[number : number + TOGETHER]
            leavers = [post(daemon, name, stream=stream) for name in asked for stream in (0, 1)]
            answers = [pool.submit(daemon.chat, name) for name in asked]
            for leaver in leavers:
                leaver.close()
            said = [answer.result(ROUND_SECONDS) for answer in answers]

            assert said == [SENTENCES[name] for name in asked]
    wait_for(lambda: all(row["in_flight"] == 0 for row in daemon.servers()))


def test_loading_and_unloading_leaves_nothing_behind(embedded_daemon: Daemon) -> None:
    """A daemon runs for months: no descriptor, thread or file may be left by a load."""
    daemon = with_models(embedded_daemon)
    assert daemon.process is not None
    modeld = psutil.Process(daemon.process.pid)

    def cycle() -> None:
        with daemon.rpc() as client:
            for name in SENTENCES:
                loaded = client.ask(Load(selector=Selector(pattern=name)))
                assert loaded.get("model") == name, loaded
            assert client.ask(Unload(everything=True))["models"]

    cycle()  # whatever is made once is made now
    before, resident_before = (modeld.num_fds(), modeld.num_threads()), modeld.memory_info().rss
    for _ in range(ROUNDS):
        cycle()

    wait_for(lambda: modeld.num_fds() <= before[0])
    assert modeld.num_threads() <= before[1] + 1
    assert modeld.memory_info().rss - resident_before < (8 << 20) + ROUNDS * (16 << 10)
    assert not daemon.engines()
    assert daemon.leftovers() == []
