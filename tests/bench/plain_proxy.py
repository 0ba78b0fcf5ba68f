"""The proxy that anybody would write with aiohttp: `plain_proxy.py SOCKET PORT`."""

import sys

from aiohttp import ClientSession, UnixConnector, web


async def pass_on(request: web.Request) -> web.StreamResponse:
    """Ask the server the same, and pass its answer on as it comes."""
    session = request.app[SESSION]
    url = f"http://localhost{request.path_qs}"
    headers = {"Content-Type": request.content_type}
    body = await request.read()
    async with session.request(request.method, url, data=body, headers=headers) as answer:
        passed = web.StreamResponse(status=answer.status)
        passed.content_type = answer.content_type
        passed.content_length = answer.content_length
        await passed.prepare(request)
        async for piece in answer.content.iter_any():
            await passed.write(piece)
        await passed.write_eof()
        return passed


async def with_session(app: web.Application):  # noqa: ANN201 - aiohttp's own shape
    """Keep connections to the server."""
    async with ClientSession(connector=UnixConnector(sys.argv[1], limit=0)) as session:
        app[SESSION] = session
        yield


SESSION = web.AppKey("session", ClientSession)

if __name__ == "__main__":
    application = web.Application()
    application.cleanup_ctx.append(with_session)
    application.router.add_route("*", "/{path:.*}", pass_on)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[2]), access_log=None, print=None)
