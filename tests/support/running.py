"""How asynchronous tests are run: `@asynchronous` above an `async def test_...`."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

P = ParamSpec("P")
LONGEST_SECONDS = 60.0


def asynchronous(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test in an event loop of its own, for a bounded time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LONGEST_SECONDS):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run
