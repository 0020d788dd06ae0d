"""One service for all pages: the embedded networks on torch in float32, behind the REST application, no sockets."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.edge import create_app
from plumbline_serve.settings import Settings


@dataclass(frozen=True)
class Served:
    """A loaded service, and a client of its REST application."""

    assembly: Assembly
    request: Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Loads in seconds: torch compiles nothing, and float32 gives the same numbers on every machine."""
    settings = Settings(backend="torch", precision="fp32", cache_dir=tmp_path_factory.mktemp("cache"))
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        assembly = runner.run(stack.enter_async_context(assembled(settings)))
        transport = httpx.ASGITransport(create_app(assembly.service, settings, assembly.instruments))
        client = runner.run(stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://test")))

        def request(method: str, path: str, **kwargs: Any) -> httpx.Response:
            return runner.run(client.request(method, path, **kwargs))

        yield Served(assembly, request)
        runner.run(stack.aclose())
