"""
A server whose streams say when each of their chunks was sent: `ticker.py SOCKET`.

The body of a request says what is wanted: `{"every_seconds": 0.02, "chunks": 500, "bytes": 250}`.
0 seconds for as fast as the socket takes them, 0 chunks for no end.  Written for the figures: it
has to cost less than what it measures.
"""

import asyncio
import json
import sys
import time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of a connection with a stream."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            wanted = json.loads(await reader.readexactly(length) or b"{}")
            if not head.startswith(b"post"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                continue
            await stream(writer, wanted)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


async def stream(writer: asyncio.StreamWriter, wanted: dict[str, float]) -> None:
    """Send what was asked for."""
    writer.write(HEAD)
    filler = "x" * int(wanted.get("bytes", 250))
    every, chunks = wanted.get("every_seconds", 0.0), int(wanted.get("chunks", 0))
    loop = asyncio.get_running_loop()
    due, number = loop.time(), 0
    while not chunks or number < chunks:
        number += 1
        due += every
        if every:
            await asyncio.sleep(due - loop.time())
        event = b'data: {"sent_ns":%d,"filler":"%s"}\n\n' % (time.monotonic_ns(), filler.encode())
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
    writer.write(END)


async def main() -> None:
    """Listen until killed."""
    server = await asyncio.start_unix_server(serve, sys.argv[1], backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
