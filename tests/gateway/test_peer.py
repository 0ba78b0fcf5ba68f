"""Other users of the machine get nothing."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest

from modeld.gateway.peer import Peers, is_ours
from tests.support.gateway import House, run, running

NOBODY = 65534
ASK = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket()
s.connect(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"GET /health HTTP/1.1\\r\\nHost: 127.0.0.1:%b\\r\\n\\r\\n" % sys.argv[1].encode())
print(s.recv(65536).split()[1].decode())
"""
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")


async def ask_as_nobody(house: House) -> str:
    """Return the status that another user gets."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASK, str(house.port), stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().strip()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_our_own_connections_are_ours(host: str) -> None:
    """Everything we serve comes through here."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    peers = Peers()
    with socket.create_server((host, 0), family=family) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        accepted, _ = listening.accept()
        ends = (accepted.getpeername()[:2], accepted.getsockname()[:2])

        assert is_ours(peers.user_of(*ends))
        client.close()
        accepted.close()
        assert not is_ours(peers.user_of(*ends))
    peers.close()


def test_client_that_has_said_all_is_still_ours_until_it_closes() -> None:
    """`printf ... | nc -N` ends its side with its request, and waits for the answer."""
    peers = Peers()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        ends = (accepted.getpeername(), accepted.getsockname())
        client.shutdown(socket.SHUT_WR)

        assert peers.user_of(*ends) == os.getuid()
        client.close()
        assert peers.user_of(*ends) is None
        accepted.close()
    peers.close()


@needs_root
def test_another_user_is_refused() -> None:
    """Prompts and answers are private, and so is the memory that a load takes."""

    async def main() -> None:
        async with running() as house:
            assert await ask_as_nobody(house) == "403"
            assert (await house.get(b"/health")).status == 200

    run(main)


@needs_root
def test_another_user_is_served_when_that_is_configured() -> None:
    """A web server in front runs as its own user."""

    async def main() -> None:
        async with running(other_users=True) as house:
            assert await ask_as_nobody(house) == "200"

    run(main)


def test_nobody_is_refused_where_the_kernel_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A sandbox without netlink must not lock its own user out."""

    def refuse(*_: object) -> None:
        raise PermissionError("no AF_NETLINK here")

    monkeypatch.setattr("modeld.gateway.peer.socket.socket", refuse)
    peers = Peers()

    assert is_ours(peers.user_of(("127.0.0.1", 1), ("127.0.0.1", 2)))
    assert "cannot tell who connects" in caplog.text
    peers.close()
