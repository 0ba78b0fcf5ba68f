"""The embedded engine on a UNIX socket, for tests of the gateway that need a real llama.cpp."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, run, running, short_directory
from tests.support.tiny_gguf import write_model


class Engine(NamedTuple):
    """A real llama.cpp on a UNIX socket."""

    socket_path: str

    async def get(self, path: str) -> object:
        """Ask it for something, past the gateway."""
        reader, writer = await asyncio.open_unix_connection(self.socket_path)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return json.loads(body) if b" 200 " in head[:16] else None


@contextmanager
def engine_running(*arguments: str) -> Iterator[Engine]:
    """Run the embedded engine with a model that says its sentence."""
    with short_directory() as directory:
        model = Path(directory) / "tiny.gguf"
        write_model(model)
        command = [sys.executable, "-m", "modeld.embedded", "-m", str(model), "-c", "4096"]
        engine = Engine(f"{directory}/e.sock")
        process = subprocess.Popen(
            [*command, "--host", engine.socket_path, "--slots", "-t", "1", *arguments],
            cwd=Path(__file__).parents[2] / "daemon",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:

            async def wait() -> None:
                while process.poll() is None:
                    try:
                        if await engine.get("/health"):
                            return
                    except OSError:
                        await asyncio.sleep(0.02)
                raise AssertionError("the engine ended")

            run(wait)
            yield engine
        finally:
            process.terminate()
            process.wait(10)


@asynccontextmanager
async def serving(engine: Engine, **settings: object) -> AsyncIterator[House]:
    """Run a gateway in front of the engine, whose model is `tiny` and `nick`."""
    door = FakeDoor()
    door.add("tiny", "nick")
    door.serve("tiny", engine.socket_path)
    async with running(door, **settings) as house:
        yield house
