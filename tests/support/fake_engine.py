"""
A llama-server that misbehaves to order: `fake_engine.py HABIT SOCKET [anything else]`.

    healthy    answers /health, and nothing else; ends at SIGTERM
    loading    says how far it is, and never gets further
    slow       says nothing on stdout, and is healthy after a third of a second
    stubborn   answers /health, and ends neither at SIGTERM nor at the exit line
    family     stubborn, with a child process of its own
    parent     leaves a child process behind when it ends
    crash      complains on stderr and ends with status 3
    abort      ends by SIGABRT
    junk       healthy, between much that is no state line; its lines come in pieces
    mute       accepts connections, and never answers
    stall      begins to answer what is posted, and never goes on

Started by the tests with the interpreter that runs them, so it needs the standard library only.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

STATE = "cmd_child_to_router:state:"
LOADING = STATE + '{"state":"loading","payload":{"stages":["text_model"],"current":"text_model",'
READY = STATE + '{"state":"ready","payload":{"id":"fake","meta":{"n_ctx":4096}}}\n'


def say(text: str | bytes) -> None:
    """Write to stdout at once, all of it, however long nobody reads."""
    rest = text.encode() if isinstance(text, str) else text
    while rest:
        try:
            rest = rest[os.write(1, rest) :]
        except BlockingIOError:
            time.sleep(0.005)


def serve(path: str, answers: list[bytes]) -> None:
    """Give every connection to the socket the last answer, for ever; a POST the first of two."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()

    def accept() -> None:
        held = []
        while True:
            connection, _ = listener.accept()
            if not answers[-1]:
                held.append(connection)
                continue
            if connection.recv(65536).startswith(b"POST") and len(answers) > 1:
                connection.sendall(answers[0])
                held.append(connection)
                continue
            connection.sendall(answers[-1])
            connection.close()

    threading.Thread(target=accept, daemon=True).start()


def response(status: str, body: str) -> bytes:
    """Return one whole HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


HEALTHY = response("200 OK", '{"status":"ok"}')
BEGUN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'0f\r\ndata: {"a":1}\n\n\r\n'
)
BUSY = response("503 Service Unavailable", '{"error":{"message":"Loading model"}}')


def junk(answers: list[bytes]) -> None:
    """Say that it is ready, among much else."""
    say("hello\n" + "x" * 200_000 + "\n")
    say(b"\xff\xfe\x00 not text \n" + STATE.encode() + b"{broken\n" + STATE.encode() + b"[1]\n")
    say(LOADING + '"value":0.5}}\n')
    for piece in (READY[:11], READY[11:40], READY[40:]):
        time.sleep(0.02)
        say(piece)
    time.sleep(0.1)
    answers.append(HEALTHY)


def fail(habit: str) -> None:
    """End as the habit wants, if it does."""
    if habit == "abort":
        os.abort()
    if habit == "crash":
        for number in range(30):
            print(f"complaint {number}", file=sys.stderr)
        sys.exit(3)


def answer(habit: str, path: str) -> None:
    """Listen, and say on stdout what the habit wants."""
    time.sleep(0.3 if habit == "slow" else 0)
    answers = [{"loading": BUSY, "junk": BUSY, "mute": b""}.get(habit, HEALTHY)]
    if habit == "stall":
        answers.insert(0, BEGUN)
    serve(path, answers)
    if habit == "junk":
        junk(answers)
    elif habit == "loading":
        say(LOADING + '"value":0.25}}\n')
    elif habit not in {"slow", "mute"}:
        say(READY)


def main() -> None:
    """Behave as the first argument says."""
    habit, path = sys.argv[1], sys.argv[2]
    print(f"fake engine: {habit}", file=sys.stderr, flush=True)
    fail(habit)
    if habit in {"stubborn", "family"}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if habit in {"family", "parent"}:
        subprocess.Popen(["sleep", "1000"])
    answer(habit, path)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
