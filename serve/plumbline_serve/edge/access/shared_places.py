"""How many requests of a key are under way in all gateways together, in the Redis that they share.

Each request has a place that ends by itself, and that its gateway holds on to for as long as the request lasts. So the
places of a gateway that died are free after `LEASE_S`, and no clock but that of Redis counts. Used on one event loop.
"""

import asyncio
import uuid
from collections import defaultdict
from contextlib import suppress
from typing import Any

from limits.aio.storage import RedisStorage

LEASE_S = 30.0
"""How long a place lasts that nobody holds on to."""
_PREFIX = "plumbline:under-way"
_NOW = "local time = redis.call('TIME'); local now = tonumber(time[1]) + tonumber(time[2]) / 1e6;"
_TAKE = f"""
{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local taken = redis.call('ZCARD', KEYS[1])
if taken >= tonumber(ARGV[1]) then return {{0, taken}} end
redis.call('ZADD', KEYS[1], string.format('%.6f', now + tonumber(ARGV[2])), ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * tonumber(ARGV[2])))
return {{1, taken + 1}}
"""
_HOLD = f"""
{_NOW}
local ends = string.format('%.6f', now + tonumber(ARGV[1]))
for index = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[index]) end
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * tonumber(ARGV[1])))
"""


class SharedPlaces:
    """Places of keys by their names.

    Args:
        store: Where they are counted.
        lease_s: How long a place lasts that nobody holds on to.
    """

    def __init__(self, store: RedisStorage, *, lease_s: float = LEASE_S) -> None:
        self._client: Any = store.bridge.get_connection()  # type: ignore[attr-defined]  # that of the library `redis`
        self._take, self._hold = self._client.register_script(_TAKE), self._client.register_script(_HOLD)
        base = store.base_exceptions
        self._failures: tuple[type[Exception], ...] = (OSError, *(base if isinstance(base, tuple) else (base,)))
        self._lease_s = lease_s
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._holding: asyncio.Task[None] | None = None
        self._dropping: set[asyncio.Task[None]] = set()

    async def take(self, name: str, most: int) -> tuple[str | None, int]:
        """Take a place of a key, if it has one left; raises what the library does.

        Args:
            name: Of the key.
            most: Requests that may be under way.

        Returns:
            What to give back, None where all are taken; and how many are taken now.
        """
        place = uuid.uuid4().hex
        try:
            is_taken, num_taken = await self._take(keys=[_key(name)], args=[most, self._lease_s, place])
        except BaseException:  # nobody waits any more, and it may be taken all the same
            dropping = asyncio.create_task(self._drop(name, place))
            self._dropping.add(dropping)
            dropping.add_done_callback(self._dropping.discard)
            raise
        if not is_taken:
            return None, num_taken
        self._held[name].add(place)
        if self._holding is None or self._holding.done():
            self._holding = asyncio.create_task(self._hold_on())
        return place, num_taken

    def let_go(self, name: str, place: str) -> None:
        """Hold on to a place no longer: it ends by itself, whether or not it can be given back now.

        Args:
            name: Of the key.
            place: What `take` returned.
        """
        self._held[name].discard(place)
        if not self._held[name]:
            del self._held[name]
        if not self._held and self._holding is not None:
            self._holding.cancel()
            self._holding = None

    async def give_back(self, name: str, place: str) -> None:
        """Let another request have a place that was let go of; the same arguments."""
        await self._client.zrem(_key(name), place)

    async def _drop(self, name: str, place: str) -> None:
        with suppress(*self._failures):
            await self._client.zrem(_key(name), place)

    async def _hold_on(self) -> None:
        """Move the ends of all places that are held, as long as any is."""
        while self._held:
            await asyncio.sleep(self._lease_s / 3)
            for name, places in [*self._held.items()]:
                with suppress(*self._failures):
                    await self._hold(keys=[_key(name)], args=[self._lease_s, *places])


def _key(name: str) -> str:
    return f"{_PREFIX}:{name}"
