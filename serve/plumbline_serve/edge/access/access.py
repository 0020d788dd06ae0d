"""Who may call: one check for both wires, from the caller's `authorization` to what it may still use."""

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Self

from plumbline_models.core.errors import (
    MissingScopeError,
    RateLimitedError,
    TooManyItemsError,
    UnauthenticatedError,
)
from plumbline_serve.edge.access.key_ring import KeyRing
from plumbline_serve.edge.access.keys_file import KeyEntry, Scope
from plumbline_serve.edge.access.quotas import CONCURRENCY, ITEMS, Quotas, Window, shared_store
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.messages import ClassifierRequest, EmbedRequest, Item, RankRequest, SelectRequest
from plumbline_serve.messages.decisions import CalibrationRequest
from plumbline_serve.messages.drift import ReferenceRequest
from plumbline_serve.messages.sets import AnyRequest, ReferenceSetRequest, SetRequest
from plumbline_serve.scheduling.request_context import ANYONE
from plumbline_serve.settings.access import AuthSettings

_SCHEME = "bearer"


class Grant:
    """What one caller was let in with.

    Args:
        entry: Its key; None: no key is asked for.
        quotas: What keys use.
    """

    def __init__(self, entry: KeyEntry | None = None, quotas: Quotas | None = None) -> None:
        self.caller = ANYONE if entry is None else entry.caller
        self._entry = entry
        self._quotas = quotas
        self._window: Window | None = None

    @property
    def concurrency(self) -> int | None:
        """Requests that may be under way; None: any number."""
        return None if self._entry is None else self._entry.concurrency

    def entered(self, *, is_stream: bool = False) -> AbstractAsyncContextManager[None]:
        """One request while it is under way, counted as one item.

        Args:
            is_stream: Whether it is a run of requests, each of which is `under_way` by itself.

        Raises:
            RateLimitedError: The key has used what it may.
        """
        is_counted = self._entry is not None and self._quotas is not None
        return self._entered(is_stream=is_stream) if is_counted else nullcontext()

    async def spend_on(self, request: AnyRequest, *, num_counted: int = 1) -> None:
        """Count a request's items.

        Args:
            request: What the caller asks for.
            num_counted: Items that it was counted as when it came.

        Raises:
            RateLimitedError: They are more than the key may use now.
            TooManyItemsError: They are more than it may ever use at once.
        """
        num_items = num_items_of(request)
        await self._spend(num_items - num_counted, num_items)

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Count one request while it is under way; see `Quotas.under_way`."""
        if self._entry is None or self._quotas is None:
            yield
            return
        async with self._quotas.under_way(self._entry):
            yield

    @asynccontextmanager
    async def _entered(self, *, is_stream: bool) -> AsyncIterator[None]:
        async with nullcontext() if is_stream else self.under_way():
            await self._spend(1, 1)
            yield

    async def _spend(self, num_items: int, num_in_all: int) -> None:
        """Count items, where a request needs so many in all: it will need those when it is sent again."""
        if self._entry is None or self._quotas is None or self._entry.quota is None or not num_items:
            return
        amount, length_s = self._entry.quota
        name, rate = self._entry.name, self._entry.rate
        if num_in_all > amount:
            raise TooManyItemsError(f"The request counts as {num_in_all} items; the key {name} may use {rate}.")
        is_counted, self._window = await self._quotas.spend(self._entry, num_items, amount=amount, length_s=length_s)
        if not is_counted:
            retry_after_s = self._window.seconds_until(num_in_all, amount)
            raise RateLimitedError(f"The key {name} may use {rate} items, and has.", retry_after_s=retry_after_s)

    def headers(self) -> list[tuple[str, str]]:
        """`RateLimit` and `RateLimit-Policy` as draft-ietf-httpapi-ratelimit-headers has them, names in lower case."""
        if self._entry is None or self._quotas is None:
            return []
        policies, states = [], []
        if self._entry.quota is not None:
            amount, length_s = self._entry.quota
            policies.append(f'"{ITEMS}";q={amount};w={length_s}')
            if self._window is not None:
                remaining = self._window.remaining(amount)
                more_in_s = self._window.seconds_until(min(amount, remaining + 1), amount)
                states.append(f'"{ITEMS}";r={remaining};t={math.ceil(more_in_s)}')
        if self._entry.concurrency is not None:
            policies.append(f'"{CONCURRENCY}";q={self._entry.concurrency};qu="concurrent-requests"')
            states.append(f'"{CONCURRENCY}";r={self._quotas.free(self._entry)}')
        fields = {"ratelimit-policy": policies, "ratelimit": states}
        return [(name, ", ".join(values)) for name, values in fields.items() if values]


NO_KEY = Grant()
"""Of whoever calls what needs no key."""


class Access:
    """Lets callers in, for both edges of one process.

    Args:
        keys: Whose keys are let in; None: everyone is.
        quotas: What keys use.
    """

    def __init__(self, keys: KeyRing | None, quotas: Quotas) -> None:
        self._keys = keys
        self._quotas = quotas

    @classmethod
    def open(cls, settings: AuthSettings, observer: EdgeObserver) -> Self:
        """Read the file of keys, and look at it from now on.

        Args:
            settings: Where it is, and where usage is counted.
            observer: Hears of the shared counts.

        Raises:
            ConfigError: The file cannot be used, or the address of the shared counts.
        """
        keys = None if settings.keys_file is None else KeyRing(settings.keys_file)
        shared = None if settings.limits_url is None else shared_store(settings.limits_url)
        access = cls(keys, Quotas(shared, observer))
        if keys is not None:
            keys.watch()
        return access

    def close(self) -> None:
        """Stop looking at the file."""
        if self._keys is not None:
            self._keys.close()

    def check(self, authorization: str | None, scope: Scope | None) -> Grant:
        """Let a caller in, nothing counted yet.

        Args:
            authorization: The header or metadata of that name: `Bearer KEY`.
            scope: What the call needs; None: any key.

        Raises:
            UnauthenticatedError: There is no key in it, or one that is not known or has expired.
            MissingScopeError: The key is not for this.
        """
        if self._keys is None:
            return NO_KEY
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != _SCHEME or not key.strip():
            raise UnauthenticatedError("The call needs an API key: send 'authorization: Bearer KEY'.")
        entry = self._keys.find(key.strip())
        if entry is None:
            raise UnauthenticatedError("The API key is not known.")
        if entry.has_expired:
            raise UnauthenticatedError("The API key has expired.")
        if scope is not None and scope not in entry.scopes:
            raise MissingScopeError(f"The key {entry.name} is not for this: it has no scope {scope}.")
        return Grant(entry, self._quotas)


def num_items_of(request: AnyRequest) -> int:
    """What a request counts as: an item, or an image or a text to rank or embed, however many scorers look at it.

    An item with questions counts as one for each of them, one with frames for each frame, and what it is compared with
    counts as well: a reference, a phrase or an image each as one. A set counts as all its members, and as its texts. A
    request that scores nothing counts as one.
    """
    return max(1, _num_inputs(request))


def _num_inputs(request: AnyRequest) -> int:
    if isinstance(request, SetRequest | ReferenceSetRequest):
        return request.num_items
    match request:
        case CalibrationRequest() | ReferenceRequest():
            found = 1
        case ClassifierRequest(classes=classes):
            found = sum(map(len, classes.values()))
        case SelectRequest(images=images):
            found = len(images)
        case RankRequest(images=images, texts=texts):
            found = len(images) * len(texts)
        case EmbedRequest(images=images, texts=texts):
            found = len(images) + len(texts)
        case _:
            found = sum(map(_counted, request.items))
    return found


def _counted(item: Item) -> int:
    num_beside = len(item.references) + len(item.phrases) + (item.reference_image is not None)
    return max(1, len(item.questions)) * max(1, len(item.frames)) + num_beside
