"""Servers for the load tests to ask."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def routed() -> AsyncIterator[Callable[[str, Handler], Awaitable[str]]]:
    """Starts a server on a socket that answers POSTs to one path; gives its address, without the path."""
    async with AsyncExitStack() as stack:

        async def start(path: str, handler: Handler) -> str:
            application = web.Application()
            application.router.add_post(path, handler)
            runner = web.AppRunner(application)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            return f"http://{host}:{port}"

        yield start


@pytest.fixture
def serve(routed) -> Callable[[Handler], Awaitable[str]]:
    """The same for the root."""
    return lambda handler: routed("/", handler)
