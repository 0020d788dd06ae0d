"""Fetches the images of requests by their URLs: side by side within bounds, each with its own error.

Nothing is tried twice, and nothing is kept by URL: what a URL leads to may change. Encodings are kept by content.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from weakref import WeakValueDictionary

import httpcore

from plumbline_models.core.errors import (
    CapacityError,
    PlumblineError,
    UrlSourceRefusedError,
    UrlTimeoutError,
    UrlUnreachableError,
)
from plumbline_serve.fetching.connection import Connector, Resolver, SystemResolver
from plumbline_serve.fetching.exchange import BROKEN, Redirect, ask
from plumbline_serve.fetching.image_url import ImageUrl, read_url
from plumbline_serve.memory.bytes_in_flight import BytesInFlight, Share
from plumbline_serve.messages import BrokenImage, EncodedImage, UrlImage
from plumbline_serve.scheduling.concurrency import release, together
from plumbline_serve.settings.urls import UrlSettings

log = logging.getLogger(__name__)

TOO_SLOW = "The image's URL was not answered in time."


class UrlFetcher:
    """Fetches images for all requests of a process; used on one event loop.

    Args:
        settings: Which URLs are fetched, and within what time.
        max_image_bytes: Of one image.
        bytes_in_flight: Those fetched and not yet scored are among them.
        resolve: Finds a name's addresses; None: the system does.

    Raises:
        ConfigError: The file of authorities cannot be used.
    """

    def __init__(
        self,
        settings: UrlSettings,
        *,
        max_image_bytes: int,
        bytes_in_flight: BytesInFlight,
        resolve: Resolver | None = None,
    ) -> None:
        self._settings = settings
        self._max_image_bytes = max_image_bytes
        self._bytes = bytes_in_flight
        self._connector = Connector(
            resolve or SystemResolver(settings.max_fetches),
            allow_networks=settings.allow_networks,
            ca_file=settings.ca_file,
            timeout_s=settings.idle_timeout_s,
        )
        self._turns = asyncio.Semaphore(settings.max_fetches)
        self._turns_of_hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def open(self, on_fetched: Callable[[float], None]) -> "RequestFetches":
        """One request's part; `on_fetched` hears of the seconds that each image took."""
        turns = asyncio.Semaphore(self._settings.max_fetches_per_request)
        return RequestFetches(self, self._bytes.share(), turns=turns, on_fetched=on_fetched)

    async def fetch(self, url: str, share: Share) -> bytes:
        """The bytes of one image.

        Args:
            url: As the caller sent it.
            share: Holds the bytes that are returned.

        Raises:
            UrlSourceRefusedError: Images are not fetched from there, or from where it leads.
            UrlUnreachableError: There is no image to be had.
            UrlTimeoutError: It takes too long.
            ImageTooLargeError: It has too many bytes.
            RequestTooLargeError: As `Share.take`.
            CapacityError: As `Share.take`.
        """
        left_s = self._settings.timeout_s
        asked = read_url(url, self._settings)
        for _ in range(self._settings.max_redirects + 1):
            async with self._turn(asked.host):
                started = time.monotonic()
                found = await self._ask(asked, share, timeout_s=left_s)
                left_s -= time.monotonic() - started
            if isinstance(found, bytes):
                return found
            asked = self._redirected(asked, found)
        raise UrlUnreachableError("The image's URL is redirected too often.", host=asked.host)

    async def _ask(self, url: ImageUrl, share: Share, *, timeout_s: float) -> bytes | Redirect:
        try:
            async with asyncio.timeout(timeout_s), self._connector.connect(url) as stream:
                return await ask(
                    url,
                    stream,
                    share=share,
                    max_bytes=self._max_image_bytes,
                    idle_timeout_s=self._settings.idle_timeout_s,
                )
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise UrlTimeoutError(TOO_SLOW, host=url.host, cause=repr(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            raise UrlUnreachableError(BROKEN, host=url.host, cause=repr(error)) from error

    def _redirected(self, url: ImageUrl, redirect: Redirect) -> ImageUrl:
        try:
            return read_url(url.redirected(redirect.location), self._settings)
        except UrlSourceRefusedError as error:
            raise UrlSourceRefusedError(f"After a redirect: {error.detail}", **error.facts) from error

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """The host's turn first, so that a slow one's callers do not stand in the way of others."""
        of_host = self._turns_of_hosts.setdefault(host, asyncio.Semaphore(self._settings.max_fetches_per_host))
        async with of_host, self._turns:
            yield


class RequestFetches:
    """The images of one request: what was fetched counts as bytes in flight until it is closed.

    Args:
        fetcher: Of the process.
        holding: The request's share of the bytes in flight.
        turns: As many as are fetched at a time.
        on_fetched: Hears of the seconds that each image took.
    """

    def __init__(
        self,
        fetcher: UrlFetcher,
        holding: AbstractContextManager[Share],
        *,
        turns: asyncio.Semaphore,
        on_fetched: Callable[[float], None],
    ) -> None:
        self._fetcher = fetcher
        self._stack = ExitStack()
        self._share = self._stack.enter_context(holding)
        self._turns = turns
        self._on_fetched = on_fetched

    def close(self) -> None:
        """Let go of the bytes."""
        self._stack.close()

    async def each(self, urls: Sequence[UrlImage]) -> list[EncodedImage | BrokenImage]:
        """The images in order, or what is wrong with them.

        Args:
            urls: Each is fetched once, also where it is given more often.

        Raises:
            CapacityError: All requests together would hold more bytes than they may.
        """
        once = list(dict.fromkeys(urls))
        fetched = dict(zip(once, await together(self._fetch(each.url) for each in once), strict=True))
        failed = [each.error for each in fetched.values() if isinstance(each, BrokenImage)]
        if failed:
            first = failed[0]
            log.info("%d of %d URLs not fetched; the first: %s %r", len(failed), len(once), first.code, first.facts)
        return [fetched[url] for url in urls]

    async def _fetch(self, url: str) -> EncodedImage | BrokenImage:
        async with self._turns:
            started = time.perf_counter()
            try:
                return EncodedImage(await self._fetcher.fetch(url, self._share))
            except CapacityError:
                raise
            except PlumblineError as error:
                release(error)
                return BrokenImage(error)
            except Exception as error:
                log.exception("fetching an image failed")
                release(error)
                return BrokenImage(PlumblineError("The service failed on this input.", cause=repr(error)))
            finally:
                self._on_fetched(time.perf_counter() - started)
