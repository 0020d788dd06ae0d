"""A connection to a host, and to no other: resolved once, every address checked, and one of these connected to.

Nobody resolves the name again on the way, so that a second answer of DNS changes nothing. The certificate is that of
the name, or the connection is not used.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias, cast

import httpcore

from plumbline_models.core.errors import ConfigError, UrlSourceRefusedError, UrlUnreachableError
from plumbline_serve.fetching.addresses import Network, may_fetch_from
from plumbline_serve.fetching.image_url import ImageUrl
from plumbline_serve.scheduling.concurrency import named_threads

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, to be connected to at a port; OSError where there are none."""

MAX_RESOLVER_THREADS = 16
MAX_ADDRESSES_TRIED = 4
MAX_HEAD_BYTES = 2**17
"""Of a reply before its headers are complete: two pieces as long as httpcore reads."""
UNREACHABLE = "The host of the image's URL cannot be reached."
"""One sentence for a name that is not known and for one that leads to a private address: it says nothing of the
network that the service is in."""


class SystemResolver:
    """Asks the system on threads of its own, since it may take its time and cannot be interrupted.

    Args:
        num_threads: Names that are asked for at a time.
    """

    def __init__(self, num_threads: int) -> None:
        self._threads = named_threads(min(num_threads, MAX_RESOLVER_THREADS), "resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """As `Resolver` says."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(address[0]) for *_, address in found]


class Connector:
    """Connects to hosts whose every address images may be fetched from.

    Args:
        resolve: Finds a name's addresses.
        allow_networks: May be connected to although they are not public.
        ca_file: Of the authorities that vouch for hosts; None: the system's and certifi's.
        timeout_s: In which one address must be connected to.

    Raises:
        ConfigError: The file cannot be used.
    """

    def __init__(
        self, resolve: Resolver, *, allow_networks: Iterable[Network], ca_file: Path | None, timeout_s: float
    ) -> None:
        self._resolve = resolve
        self._allow_networks = tuple(allow_networks)
        self._context = tls_context(ca_file)
        self._timeout_s = timeout_s
        self._network = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    @asynccontextmanager
    async def connect(self, url: ImageUrl) -> AsyncIterator["HeadBounded"]:
        """A connection over TLS to the URL's host, closed afterwards in whatever way that ends.

        Raises:
            UrlSourceRefusedError: The URL names an address that images are not fetched from.
            UrlUnreachableError: The host has no address, or one that images are not fetched from, or it cannot be
                connected to, or is another one than it should be.
        """
        stream = await self._connect(await self._addresses(url), url)
        try:
            try:
                stream = await stream.start_tls(self._context, url.host, self._timeout_s)
            except (httpcore.ConnectError, ssl.SSLError) as error:
                sentence = "The host of the image's URL does not prove by its certificate that it is this host."
                raise UrlUnreachableError(sentence, host=url.host, cause=repr(error)) from error
            yield HeadBounded(stream)
        finally:
            await stream.aclose()

    async def _addresses(self, url: ImageUrl) -> Sequence[str]:
        """The checked addresses of the URL's host."""
        try:
            is_allowed = may_fetch_from(ip_address(url.host), self._allow_networks)
        except ValueError:
            return await self._resolved(url)
        if not is_allowed:
            raise UrlSourceRefusedError("Images are not fetched from this URL: its address is not public.")
        return [url.host]

    async def _resolved(self, url: ImageUrl) -> Sequence[str]:
        try:
            addresses = list(dict.fromkeys(await self._resolve(url.host, url.port)))
        except (OSError, UnicodeError) as error:
            raise UrlUnreachableError(UNREACHABLE, host=url.host, cause=repr(error)) from error
        for address in addresses:
            if not may_fetch_from(ip_address(address), self._allow_networks):
                raise UrlUnreachableError(UNREACHABLE, host=url.host, cause=f"{address} is not public")
        return addresses[:MAX_ADDRESSES_TRIED]

    async def _connect(self, addresses: Sequence[str], url: ImageUrl) -> httpcore.AsyncNetworkStream:
        causes: list[str] = []
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, url.port, timeout=self._timeout_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                causes.append(f"{address}: {error!r}")
        raise UrlUnreachableError(UNREACHABLE, host=url.host, causes=causes)


class HeadBounded(httpcore.AsyncNetworkStream):
    """A stream that is given up where headers, or replies that announce another, do not end."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._num_bytes = 0
        self.is_head_read = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's interface
        """Some bytes; raises as the stream within does, and `httpcore.RemoteProtocolError` at the bound."""
        piece = await self._stream.read(max_bytes, timeout)
        self._num_bytes += len(piece)
        if self._num_bytes > MAX_HEAD_BYTES and not self.is_head_read:
            raise httpcore.RemoteProtocolError("The head of the reply does not end.")
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """Send bytes."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the stream within."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """What the stream within says."""
        return self._stream.get_extra_info(info)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """What certificates of hosts are held against.

    Args:
        ca_file: Of the authorities that vouch for hosts; None: the system's and certifi's.

    Raises:
        ConfigError: The file cannot be used.
    """
    if ca_file is None:
        return httpcore.default_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # of ssl as well
        raise ConfigError(f"The file of authorities {ca_file} cannot be used: {error}.", path=str(ca_file)) from error
