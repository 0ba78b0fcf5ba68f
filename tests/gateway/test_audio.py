"""Speech to text: the one route that takes a form."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest

from tests.support.fake_door import FakeDoor
from tests.support.gateway import House, opened, run, running, short_directory
from tests.support.upstream import Answering, Asked, ScriptedServer

PATH = b"POST /v1/audio/transcriptions"
TYPE = b"Content-Type: multipart/form-data; boundary=cut\r\n"
BODY = (
    b'--cut\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\nRIFF\x00\xff\r\n--cut--\r\n"
)
REFUSAL = (
    b'{"error":{"code":501,"message":"The current model does not support audio input.",'
    b'"type":"not_supported_error"}}'
)


@asynccontextmanager
async def ready(**settings: object) -> AsyncIterator[tuple[House, ScriptedServer]]:
    """Run a gateway with a model whose server is ready."""
    with short_directory() as directory:
        door = FakeDoor()
        door.add("tiny")
        path = f"{directory}/s.sock"
        door.serve("tiny", path)
        async with ScriptedServer(path) as server, running(door, **settings) as house:
            yield house, server


def form(house: House, body: bytes = BODY, headers: bytes = b"", kind: bytes = TYPE) -> bytes:
    """Return a request with a form."""
    length = b"Content-Length: %d\r\n" % len(body)
    return b"%b HTTP/1.1\r\n%b%b%b%b\r\n%b" % (PATH, house.host, kind, headers, length, body)


async def status(house: House, data: bytes) -> int:
    """Return the status of the answer."""
    async with opened(house, data) as raw:
        return (await raw.reply()).status


def test_form_reaches_the_server_byte_for_byte() -> None:
    """A sound that was taken apart and put together again might be another one."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.json(b'{"text":"hello"}')

        async with ready() as (house, server):
            server.script = script
            async with opened(house, form(house, headers=b"Cookie: a=b\r\n")) as raw:
                reply = await raw.reply()

            assert (reply.status, reply.body) == (200, b'{"text":"hello"}')
            assert reply.headers["x-modeld-model"] == "tiny"
            (asked,) = server.asked
            assert asked.body == BODY
            assert asked.head == (
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: multipart/form-data; boundary=cut\r\n"
                b"Content-Length: %d\r\n\r\n" % len(BODY)
            )

    run(main)


def test_openais_client_gets_its_text() -> None:
    """The call that programs make, with the client that they make it with."""

    async def main() -> None:
        async def script(asked: Asked, answering: Answering) -> None:
            assert b"RIFF" in asked.body
            await answering.json(b'{"text":"hello"}')

        async with ready() as (house, server):
            server.script = script
            async with openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{house.port}/v1", api_key="x"
            ) as client:
                found = await client.audio.transcriptions.create(
                    model="tiny", file=("a b.wav", b"RIFF", "audio/wav"), language="en"
                )

        assert found.text == "hello"

    run(main)


def test_openais_client_gets_its_text_as_a_stream() -> None:
    """Its events pass as they come."""

    async def main() -> None:
        async def script(asked: Asked, answering: Answering) -> None:
            await answering.stream_head()
            await answering.event(b'{"type":"transcript.text.delta","delta":"hel"}')
            await answering.event(b'{"type":"transcript.text.delta","delta":"lo"}')
            await answering.event(b'{"type":"transcript.text.done","text":"hello"}')
            await answering.end()

        async with ready() as (house, server):
            server.script = script
            async with openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{house.port}/v1", api_key="x"
            ) as client:
                stream = await client.audio.transcriptions.create(
                    model="tiny", file=("a.wav", b"RIFF"), stream=True
                )
                texts = [getattr(event, "delta", "") async for event in stream]

        assert "".join(texts) == "hello"

    run(main)


def test_a_model_that_hears_nothing_says_so_itself() -> None:
    """llama-server's own words are the best there are (b11669)."""

    async def main() -> None:
        async def script(_: Asked, answering: Answering) -> None:
            await answering.json(REFUSAL, b"501 Not Implemented")

        async with ready() as (house, server):
            server.script = script
            async with opened(house, form(house)) as raw:
                reply = await raw.reply()

            assert (reply.status, reply.body) == (501, REFUSAL)

    run(main)


@pytest.mark.parametrize(
    "headers",
    [
        b"Origin: https://evil.example\r\n",
        b"Origin: null\r\n",
        b"Sec-Fetch-Site: cross-site\r\n",
        b"Sec-Fetch-Site: same-site\r\n",
        b"User-Agent: Mozilla/5.0\r\n",
    ],
)
def test_no_page_can_send_a_form(headers: bytes) -> None:
    """A page needs nobody's leave to send one, so it must be refused on what its browser adds."""

    async def main() -> None:
        async with ready() as (house, server):
            assert await status(house, form(house, headers=headers)) in {403, 415}
            assert server.asked == []

    run(main)


def test_a_page_that_is_listed_can() -> None:
    """A person's own page may transcribe."""

    async def main() -> None:
        page = b"Origin: https://mine.example\r\nSec-Fetch-Site: cross-site\r\n"
        async with ready(allowed_origins=("https://mine.example",)) as (house, _):
            assert await status(house, form(house, headers=page)) == 200

    run(main)


@pytest.mark.parametrize(
    "path", [b"/v1/chat/completions", b"/v1/audio/transcriptionsx", b"/api/chat", b"/models/load"]
)
def test_no_other_route_takes_a_form(path: bytes) -> None:
    """What is opened for one route must stay shut for the others."""

    async def main() -> None:
        async with ready() as (house, server):
            data = form(house).replace(b"/v1/audio/transcriptions", path)
            assert await status(house, data) in {404, 415}
            assert server.asked == []

    run(main)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (BODY.replace(b"tiny", b"nobody"), 404),
        (BODY.replace(b'name="model"', b'name="n_predict"'), 400),
        (BODY.replace(b'name="file"', b'name="other"'), 400),
        (BODY.replace(b'; filename="a.wav"', b""), 400),
        (BODY[:-4], 400),
    ],
)
def test_what_is_no_transcription_is_refused(body: bytes, expected: int) -> None:
    """A field that llama-server would make a parameter of gets no further."""

    async def main() -> None:
        async with ready() as (house, server):
            assert await status(house, form(house, body)) == expected
            assert server.asked == []

    run(main)


def test_json_is_refused_with_what_is_expected() -> None:
    """Who sends JSON there reads what it should be."""

    async def main() -> None:
        async with ready() as (house, _):
            async with opened(house, house.request(PATH, b'{"model":"tiny"}')) as raw:
                reply = await raw.reply()

            assert reply.status == 415
            assert b"multipart/form-data" in reply.body

    run(main)
