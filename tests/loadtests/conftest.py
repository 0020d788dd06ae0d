"""The load tests are programs side by side, not a package: their folders go on the path, as Python puts them there."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

LOADTESTS = Path(__file__).parents[2] / "loadtests"
sys.path += [str(folder) for folder in (LOADTESTS, LOADTESTS / "road", LOADTESTS / "heads")]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Starts a server on a socket, that answers POSTs; gives its address."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            application = web.Application()
            application.router.add_post("/", handler)
            runner = web.AppRunner(application)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            return f"http://{host}:{port}/"

        yield start
