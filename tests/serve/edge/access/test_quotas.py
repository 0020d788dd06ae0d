"""What keys may use: windows that slide, in this process and in a Redis, and requests under way."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from plumbline_models.core.errors import ConfigError, RateLimitedError
from plumbline_serve.edge.access.keys_file import KeyEntry
from plumbline_serve.edge.access.quotas import Quotas, Window, answers, shared_store
from plumbline_serve.edge.access.shared_places import SharedPlaces
from plumbline_serve.edge.observe import Unobserved
from plumbline_serve.machine.ports import free_port
from tests.redis_server import RedisServer, running_redis

WAIT_S = 30.0


class Counting(Unobserved):
    num_failures = 0

    def limits_failed(self) -> None:
        self.num_failures += 1


def entry(name: str = "a", **changes) -> KeyEntry:
    return KeyEntry(name=name, hash=f"sha256:{'0' * 64}", scopes=("score",), **changes)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory):
    with running_redis(tmp_path_factory.mktemp("redis"), password="canary-password") as server:
        yield server


async def let_go(*quotas: Quotas) -> None:
    """Close what they hold open."""
    for each in quotas:
        if each._shared is not None:
            await each._shared.storage.bridge.storage.aclose()  # type: ignore[attr-defined]  # of its Redis


@pytest.fixture(params=["memory", "redis"])
async def quotas(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Quotas]:
    """Quotas over each store, with nothing used; a machine may be slow, and they do not count here because of that."""
    monkeypatch.setattr("plumbline_serve.edge.access.quotas.STORE_TIMEOUT_S", WAIT_S)
    if request.param == "memory":
        yield Quotas(None, Unobserved())
        return
    server: RedisServer = request.getfixturevalue("redis")
    server.clear()
    over_redis = Quotas(shared_store(SecretStr(server.url)), Unobserved())
    yield over_redis
    await let_go(over_redis)


async def test_a_window_holds_so_many_items_and_no_more(quotas: Quotas) -> None:
    spend = [await quotas.spend(entry(), 30, amount=100, length_s=3600) for _ in range(4)]
    assert [is_counted for is_counted, _ in spend] == [True, True, True, False]
    assert [window.remaining(100) for _, window in spend] == [70, 40, 10, 10]
    is_counted, window = await quotas.spend(entry(), 10, amount=100, length_s=3600)
    assert (is_counted, window.remaining(100)) == (True, 0)
    assert 0 < window.seconds_until(1, 100) <= 2 * 3600


async def test_keys_do_not_use_what_is_another_s(quotas: Quotas) -> None:
    for name in ("a", "b"):
        is_counted, _ = await quotas.spend(entry(name), 100, amount=100, length_s=3600)
        assert is_counted


async def test_calls_at_the_same_time_use_no_more_than_there_is(quotas: Quotas) -> None:
    spent = await asyncio.gather(*(quotas.spend(entry(), 7, amount=100, length_s=3600) for _ in range(40)))
    assert sum(is_counted for is_counted, _ in spent) == 100 // 7


async def test_after_the_time_that_a_refusal_names_the_items_are_there(quotas: Quotas) -> None:
    while (await quotas.spend(entry(), 1, amount=5, length_s=1))[0]:
        pass
    is_counted, window = await quotas.spend(entry(), 3, amount=5, length_s=1)
    assert not is_counted
    await asyncio.sleep(window.seconds_until(3, 5) + 0.01)
    is_counted, _ = await quotas.spend(entry(), 3, amount=5, length_s=1)
    assert is_counted


@given(
    amount=st.integers(1, 1000),
    counts=st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
    left=st.floats(0, 60),
    wanted=st.integers(1, 1000),
)
def test_a_wait_is_as_long_as_it_must_be_and_no_longer(amount: int, counts, left: float, wanted: int) -> None:
    """The window `later` is what the store has after a wait in which nobody used anything."""
    wanted, previous, current = min(wanted, amount), min(counts[0], amount), min(counts[1], amount)
    window = Window(60, previous, left, current, left)
    wait_s = window.seconds_until(wanted, amount)
    assert 0 <= wait_s <= 120

    def later(seconds: float) -> Window:
        if seconds < left:
            return Window(60, previous, left - seconds, current, left - seconds)
        return Window(60, current, max(0.0, 60 - (seconds - left)), 0, max(0.0, 60 - (seconds - left)))

    assert later(wait_s + 1e-3).remaining(amount) >= wanted
    if wait_s > 1e-3:
        assert later(wait_s - 1e-3).remaining(amount) < wanted


async def test_two_gateways_share_what_a_key_may_use(redis: RedisServer) -> None:
    redis.clear()
    gateways = [Quotas(shared_store(SecretStr(redis.url)), Unobserved()) for _ in range(2)]
    spent = [await gateways[number % 2].spend(entry(), 1, amount=5, length_s=3600) for number in range(8)]
    assert [is_counted for is_counted, _ in spent] == [True] * 5 + [False] * 3
    remaining = [window.remaining(5) for _, window in spent]
    assert all(earlier >= then for earlier, then in pairwise(remaining))
    await let_go(*gateways)


@pytest.mark.parametrize("away", ["nobody listens", "the password is wrong", "it hangs"])
async def test_while_redis_is_away_each_gateway_counts_by_itself(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, away: str
) -> None:
    url = {
        "nobody listens": f"redis://:canary-password@127.0.0.1:{free_port()}/0",
        "the password is wrong": redis.url.replace("canary-password", "canary-other"),
        "it hangs": redis.url,
    }[away]
    observer = Counting()
    quotas = Quotas(shared_store(SecretStr(url)), observer)
    with caplog.at_level(logging.DEBUG), redis.stopped(is_needed=away == "it hangs"):
        spent = [await quotas.spend(entry(), 1, amount=3, length_s=3600) for _ in range(5)]
    assert [is_counted for is_counted, _ in spent] == [True, True, True, False, False]
    assert observer.num_failures == 1
    assert "auth.limits_url cannot be used" in caplog.text
    assert "canary" not in caplog.text
    await let_go(quotas)


async def test_redis_is_asked_again_once_it_is_back(redis: RedisServer) -> None:
    redis.clear()
    quotas, other = (Quotas(shared_store(SecretStr(redis.url)), Counting()) for _ in range(2))
    with redis.stopped():
        await quotas.spend(entry(), 1, amount=5, length_s=3600)
    quotas._resumes_at = 0.0  # as when the pause is over
    for _ in range(5):
        assert (await other.spend(entry(), 1, amount=5, length_s=3600))[0]
    is_counted, _ = await quotas.spend(entry(), 1, amount=5, length_s=3600)
    assert not is_counted
    await let_go(quotas, other)


async def test_it_can_be_seen_whether_redis_answers(redis: RedisServer) -> None:
    assert await answers(SecretStr(redis.url))
    for url in (f"redis://127.0.0.1:{free_port()}/0", redis.url.replace("canary-password", "canary-other")):
        assert not await answers(SecretStr(url))


def test_an_address_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        shared_store(SecretStr("redis://:canary@host:port/x"))
    assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_so_many_requests_are_under_way_and_no_more(quotas: Quotas) -> None:
    key = entry(concurrency=2)
    async with quotas.under_way(key):
        assert quotas.free(key) == 1
        async with quotas.under_way(key):
            with pytest.raises(RateLimitedError, match="as it may: 2"):
                await begin(quotas, key)
        async with quotas.under_way(entry("b", concurrency=1)):
            pass
    assert quotas.free(key) == 2
    assert not quotas._under_way


async def begin(quotas: Quotas, key: KeyEntry) -> None:
    """A request that is answered at once."""
    async with quotas.under_way(key):
        pass


async def test_two_gateways_share_the_requests_that_a_key_has_under_way(redis: RedisServer) -> None:
    redis.clear()
    first, second = gateways = [Quotas(shared_store(SecretStr(redis.url)), Unobserved()) for _ in range(2)]
    key = entry(concurrency=2)
    async with first.under_way(key):
        async with second.under_way(key):
            for gateway in gateways:
                with pytest.raises(RateLimitedError, match="as it may: 2"):
                    await begin(gateway, key)
                assert gateway.free(key) == 0
        await begin(second, key)
    await let_go(*gateways)


async def test_a_request_that_was_cancelled_leaves_no_place_taken(redis: RedisServer) -> None:
    redis.clear()
    quotas, key = Quotas(shared_store(SecretStr(redis.url)), Unobserved()), entry(concurrency=1)
    is_begun = asyncio.Event()

    async def hang() -> None:
        async with quotas.under_way(key):
            is_begun.set()
            await asyncio.Event().wait()

    with redis.stopped():
        asking = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    hanging = asyncio.ensure_future(hang())
    await is_begun.wait()
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    await begin(quotas, key)
    await let_go(quotas)


async def test_a_place_that_could_not_be_given_back_ends_by_itself_and_nothing_is_left_running(
    redis: RedisServer,
) -> None:
    redis.clear()
    quotas, other = (Quotas(shared_store(SecretStr(redis.url)), Counting()) for _ in range(2))
    key = entry(concurrency=1)
    assert quotas._places is not None
    quotas._places._lease_s = 1.5
    before = asyncio.all_tasks()
    async with quotas.under_way(key):
        quotas._resumes_at = math.inf  # as after Redis could not be asked
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    until = asyncio.get_running_loop().time() + WAIT_S
    while asyncio.get_running_loop().time() < until:
        with suppress(RateLimitedError):
            await begin(other, key)
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the place is held for ever")
    await let_go(quotas, other)


async def test_while_redis_is_away_each_gateway_counts_requests_under_way_by_itself(redis: RedisServer) -> None:
    url = f"redis://:canary-password@127.0.0.1:{free_port()}/0"
    gateways = [Quotas(shared_store(SecretStr(url)), Unobserved()) for _ in range(2)]
    key = entry(concurrency=1)
    async with gateways[0].under_way(key), gateways[1].under_way(key):
        for gateway in gateways:
            with pytest.raises(RateLimitedError):
                await begin(gateway, key)
    await let_go(*gateways)


async def test_the_places_of_a_gateway_that_died_are_free_again_and_others_are_held(redis: RedisServer) -> None:
    redis.clear()
    stores = [shared_store(SecretStr(redis.url)) for _ in range(3)]
    died, lives, asks = (SharedPlaces(store, lease_s=1.5) for store in stores)
    assert (await died.take("a", 2), await lives.take("a", 2))[1][1] == 2
    assert died._holding is not None
    died._holding.cancel()
    until = asyncio.get_running_loop().time() + WAIT_S
    while (taken := await asks.take("a", 2))[0] is None:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)
    assert taken[1] == 2  # the one that lives has its own for all that time
    assert lives._holding is not None
    lives._holding.cancel()
    assert asks._holding is not None
    asks._holding.cancel()
    for store in stores:
        await store.bridge.storage.aclose()  # type: ignore[attr-defined]  # of its Redis
