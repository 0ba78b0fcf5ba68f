"""
Sentences: how a server ended, why a load failed and what may help, how everything is.

Facts in, words out.  Nothing here decides or changes anything.
"""

from modeld.core.entities import Exit, Server, ServerState
from modeld.core.events import ServerExited
from modeld.errors import ModeldError, ServerFailed
from modeld.supervisor.world import World


def describe(ended: Exit) -> str:
    """Return in one sentence how a server ended."""
    match ended.how:
        case "exited":
            return f"llama-server exited with status {ended.code}"
        case "signalled":
            return f"llama-server was ended by signal {ended.code} ({signal_name(ended.code)})"
        case "oom-kill":
            return "the kernel killed llama-server for want of memory"
        case "not-started":
            return f"llama-server could not be started: {ended.detail}"
        case _:
            return "llama-server ended while modeld did not watch"


# From signal(7); the module `signal` would be the machine's, and these numbers travel in records.
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL",
            11: "SEGV", 13: "PIPE", 15: "TERM", 24: "XCPU", 31: "SYS"}  # fmt: skip


def signal_name(number: int) -> str:
    """Return `SIGSEGV` for 11; the number itself where it has no name here."""
    return f"SIG{_SIGNALS[number]}" if number in _SIGNALS else f"signal {number}"


def start_error(server: Server, event: ServerExited) -> ModeldError:
    """Return the error for whoever waits for a server that ended before it was ready."""
    lines = event.exit.lines
    cause = server.stopping_because or describe(event.exit)
    last = "".join(f"\n  {line}" for line in lines[-5:])
    return ServerFailed(
        f"{server.record.model_name} did not start: {cause}{last}",
        hint=start_hint(server, event),
        how=event.exit.how,
        code=event.exit.code,
    )


def stuck_error(server: Server) -> ModeldError:
    """Return the error for whoever waits for the end, or the start, of what nothing ends."""
    pid = server.process.pid if server.process else 0
    return ServerFailed(
        f"{server.record.model_name} (pid {pid}) survives SIGKILL",
        hint=f"the kernel holds it, probably at {server.record.model_path}; "
        "its memory stays booked until it ends",
        pid=pid,
    )


def start_hint(server: Server, event: ServerExited) -> str:
    """Return what may help, read off the engine's last words."""
    text = "\n".join(event.exit.lines).lower()
    name = server.record.model_name
    if event.exit.how == "not-started":
        return "modelctl status names the llama-server; once it is right again: modelctl reload"
    for words, hint in (
        ("out of memory", f"not enough memory: modelctl load {name} -- -c 4096, or fewer layers"),
        ("failed to allocate", "not enough memory: try a smaller context (-- -c 4096)"),
        ("no such file", "the file is gone: modelctl list --refresh"),
        ("failed to open", "the file can't be read: modelctl list --refresh"),
        ("invalid argument", "an argument is not for this build: modelctl show " + name),
        ("unknown model architecture", "this llama-server is too old for the model: update it"),
        ("address already in use", f"port {server.record.port} is in use by another program"),
        ("couldn't bind", f"port {server.record.port} is in use by another program"),
    ):
        if words in text:
            return hint
    return f"modelctl logs {name} shows all it said"


def status_line(world: World, copying: tuple[str, ...] = ()) -> str:
    """Return the line for `systemctl status`."""
    ready = [each for each in world.servers.values() if each.state is ServerState.READY]
    parts = [
        f"{len(ready)} ready"
        + (f" ({', '.join(e.record.model_name for e in ready)})" if ready else "")
    ]
    for server in world.servers.values():
        if server.state is not ServerState.READY:
            percent = f" {server.fraction:.0%}" if server.state is ServerState.LOADING else ""
            parts.append(f"{server.record.model_name} {server.state}{percent}")
    parts += copying
    parts.append(f"{len(world.models)} models on disk")
    return ", ".join(parts)
