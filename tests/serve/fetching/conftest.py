"""Opens hosts, and fetches that may reach them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from plumbline_serve.fetching import RequestFetches
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.settings import Limits
from tests.serve.fetching.hosts import LOOPBACK, NAME, Answer, Host, Names, make_fetcher, saying


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
async def open_host(authority: trustme.CA) -> AsyncIterator[Callable[..., Awaitable[Host]]]:
    """Opens hosts, by default one whose certificate is that of `images.test`."""
    opened: list[tuple[Host, asyncio.Server]] = []

    async def opener(answer: Answer | bytes, *, certificate: trustme.LeafCert | None = None, **where: Any) -> Host:
        host = Host(saying(answer) if isinstance(answer, bytes) else answer)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        (certificate or authority.issue_cert(NAME, "*.images.test", LOOPBACK)).configure_cert(context)
        tls: dict[str, Any] = {"ssl": context, "ssl_shutdown_timeout": 1.0}
        server = await asyncio.start_server(host.serve, where.get("address", LOOPBACK), where.get("port", 0), **tls)
        host.port = server.sockets[0].getsockname()[1]
        opened.append((host, server))
        return host

    yield opener
    for host, server in opened:
        server.close()
        await host.close()


@pytest.fixture
def open_fetches(names: Names, ca_file: Path) -> Iterator[Callable[..., RequestFetches]]:
    """Opens a request's fetches; each call is another request to the same service, unless settings are given."""
    with ExitStack() as stack:

        def opener(
            *hosts: Host, limits: Limits | None = None, seconds: list[float] | None = None, **settings: Any
        ) -> RequestFetches:
            in_flight = BytesInFlight(limits or Limits())
            fetcher = make_fetcher(names, ca_file, hosts, in_flight, **settings)
            fetches = fetcher.open((seconds if seconds is not None else []).append)
            stack.callback(fetches.close)
            return fetches

        yield opener
