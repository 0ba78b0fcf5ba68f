"""
Where the socket is: one rule for the daemon and for every client.

The environment comes as an argument; nothing here reads it or touches the file system.
"""

from collections.abc import Mapping

SOCKET_NAME = "rpc.sock"
MAX_PATH_BYTES = 107
"""`sun_path` of Linux, less its NUL."""


def runtime_directory(environment: Mapping[str, str], uid: int) -> str:
    """
    Return the directory of sockets, launch records and the lock.

    Without `XDG_RUNTIME_DIR` it is below /tmp; whoever creates it there must check its owner.
    """
    base = environment.get("XDG_RUNTIME_DIR")
    return f"{base}/modeld" if base else f"/tmp/modeld-{uid}"  # noqa: S108 (0700, owner checked)


def socket_path(environment: Mapping[str, str], uid: int) -> str:
    """Return the path of the RPC socket: `MODELD_SOCKET`, or the usual place."""
    explicit = environment.get("MODELD_SOCKET")
    return explicit or f"{runtime_directory(environment, uid)}/{SOCKET_NAME}"
