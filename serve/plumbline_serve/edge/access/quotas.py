"""How much each key may use: items per window, by the library `limits`, and requests under way.

The window slides: what was used in the window before counts for the part of it that the last `w` seconds still touch.
Both are counted in this process, or in a Redis that all gateways share. While that Redis cannot be reached each
gateway counts by itself: callers are neither refused for it nor let through without any limit.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from limits import RateLimitItemPerSecond
from limits.aio.storage import (
    MemoryStorage,
    RedisClusterStorage,
    RedisSentinelStorage,
    RedisStorage,
    SlidingWindowCounterSupport,
)
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import SecretStr

from plumbline_models.core.errors import ConfigError, RateLimitedError
from plumbline_serve.edge.access.keys_file import KeyEntry
from plumbline_serve.edge.access.shared_places import SharedPlaces
from plumbline_serve.edge.observe import EdgeObserver

T = TypeVar("T")
log = logging.getLogger(__name__)

ITEMS, CONCURRENCY = "items", "concurrency"
"""Names of the two policies in `RateLimit` and `RateLimit-Policy`."""
BUSY_RETRY_AFTER_S = 1.0
LINGER_S = 0.02
"""A place is given back a moment after the reply was sent, so what would be refused is tried once more."""
STORE_TIMEOUT_S = 0.5
STORE_PAUSE_S = 5.0
"""After a failure the shared counts are left alone for so long, so that no caller waits for them meanwhile."""
_KINDS: dict[str, type[RedisStorage]] = {
    "redis+cluster": RedisClusterStorage,
    "redis+sentinel": RedisSentinelStorage,
}


@dataclass(frozen=True, slots=True)
class Window:
    """What a key has used, as both stores have it: counts of two windows of `length_s`, and how long they last."""

    length_s: int
    previous: int
    previous_left_s: float
    """Until nothing of the window before touches the last `length_s`."""
    current: int
    current_left_s: float
    """Until the next one begins."""

    def remaining(self, amount: int) -> int:
        """Items of `amount` that may still be used now."""
        return max(0, amount - math.floor(self.previous * self.previous_left_s / self.length_s) - self.current)

    def seconds_until(self, num_items: int, amount: int) -> float:
        """How long until so many items may be used, if nobody uses any meanwhile.

        Args:
            num_items: At most `amount`.
            amount: What the window holds in all.
        """
        if self.remaining(amount) >= num_items:
            return 0.0
        room = amount - num_items
        if self.current <= room:
            return max(0.0, self.previous_left_s - (room + 1 - self.current) * self.length_s / self.previous)
        return self.current_left_s + max(0.0, self.length_s * (1 - (room + 1) / self.current))


class Quotas:
    """What keys have used and hold."""

    def __init__(self, shared: RedisStorage | None, observer: EdgeObserver) -> None:
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = None if shared is None else SlidingWindowCounterRateLimiter(shared)
        self._places = None if shared is None else SharedPlaces(shared)
        self._failures: tuple[type[Exception], ...] = (OSError, TimeoutError)
        if shared is not None:
            base = shared.base_exceptions
            self._failures += base if isinstance(base, tuple) else (base,)
        self._observer = observer
        self._resumes_at = -math.inf
        self._under_way: Counter[str] = Counter()
        self._elsewhere: Counter[str] = Counter()
        """Those of other gateways, when a request of the key last began here."""

    @asynccontextmanager
    async def under_way(self, entry: KeyEntry) -> AsyncIterator[None]:
        """Count a request of a key while it is under way.

        Raises:
            RateLimitedError: As many as it may have are.
        """
        if entry.concurrency is not None and self._under_way[entry.name] >= entry.concurrency:
            raise _busy(entry)
        self._under_way[entry.name] += 1
        try:
            place = await self._take_place(entry)
            try:
                yield
            finally:
                if place is not None:
                    await asyncio.shield(self._give_back(entry.name, place))
        finally:
            self._under_way[entry.name] -= 1
            if not self._under_way[entry.name]:
                del self._under_way[entry.name]

    def free(self, entry: KeyEntry) -> int:
        """Requests that a key with a limit may still begin, as far as is known here."""
        return max(0, (entry.concurrency or 0) - self._under_way[entry.name] - self._elsewhere[entry.name])

    async def spend(self, entry: KeyEntry, num_items: int, *, amount: int, length_s: int) -> tuple[bool, Window]:
        """Count items that a key uses, if it may use them all now.

        Args:
            entry: The key.
            num_items: How many.
            amount: Items of its quota.
            length_s: Seconds that the quota is for.

        Returns:
            Whether they were counted, and what the key has used.
        """
        item = RateLimitItemPerSecond(amount, length_s, "plumbline")
        if (shared := self._shared) is not None:
            counted = await self._ask(lambda: _hit(shared, item, entry.name, num_items))
            if counted is not None:
                return counted
        return await _hit(self._own, item, entry.name, num_items)

    async def _take_place(self, entry: KeyEntry) -> str | None:
        """A place among those that all gateways share; None where they are not counted, or cannot be at the moment."""
        if (places := self._places) is None or (most := entry.concurrency) is None:
            return None
        for pause_s in (LINGER_S, None):
            taken = await self._ask(lambda: places.take(entry.name, most))
            if taken is None:
                return None
            place, num_taken = taken
            num_own = self._under_way[entry.name] - (place is None)  # this one has none
            self._elsewhere[entry.name] = max(0, num_taken - num_own)
            if place is not None:
                return place
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise _busy(entry)

    async def _give_back(self, name: str, place: str) -> None:
        if (places := self._places) is not None:
            places.let_go(name, place)
            await self._ask(lambda: places.give_back(name, place))

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What the shared counts answer; None where they cannot be asked at the moment."""
        if time.monotonic() < self._resumes_at:
            return None
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await ask()
        except self._failures as error:
            self._resumes_at = time.monotonic() + STORE_PAUSE_S
            self._observer.limits_failed()
            # Its words may show the address, and so a password.
            log.warning("auth.limits_url cannot be used (%s): keys are counted here", type(error).__name__)
            return None


def _busy(entry: KeyEntry) -> RateLimitedError:
    return RateLimitedError(
        f"The key {entry.name} has as many requests under way as it may: {entry.concurrency}.",
        retry_after_s=BUSY_RETRY_AFTER_S,
    )


def shared_store(url: SecretStr) -> RedisStorage:
    """The counts that all gateways share; connects with the first use.

    Args:
        url: As the settings have it.

    Raises:
        ConfigError: It is no address of such a store.
    """
    address = url.get_secret_value()
    kind = _KINDS.get(address.partition("://")[0], RedisStorage)
    try:
        return kind(
            f"async+{address}",
            implementation="redispy",
            socket_timeout=STORE_TIMEOUT_S,
            socket_connect_timeout=STORE_TIMEOUT_S,
        )
    except Exception:  # noqa: BLE001 - whatever the library makes of it, its words show the address
        raise ConfigError("auth.limits_url is not the address of a Redis.") from None


async def answers(url: SecretStr) -> bool:
    """Whether the counts that all gateways share can be asked for at this moment.

    Raises:
        ConfigError: It is no address of such a store.
    """
    store = shared_store(url)
    try:
        return await store.check()
    finally:
        client: Any = store.bridge  # of the library `redis`
        await client.storage.aclose()


async def _hit(
    limiter: SlidingWindowCounterRateLimiter, item: RateLimitItemPerSecond, name: str, num_items: int
) -> tuple[bool, Window]:
    is_within = await limiter.hit(item, name, cost=num_items)
    length_s = item.get_expiry()
    store = cast("SlidingWindowCounterSupport", limiter.storage)
    previous, previous_left_s, current, lasts_s = await store.get_sliding_window(item.key_for(name), length_s)
    return is_within, Window(length_s, previous, previous_left_s, current, max(0.0, lasts_s - length_s))
