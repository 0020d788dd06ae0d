"""What gateways count for drift, and their e-values, outlive them, add up, and never get in the way of a score."""

import asyncio
import json
import logging
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from plumbline_models.core.errors import StoreUnavailableError
from plumbline_serve.drift.kept import MAX_ROWS
from plumbline_serve.drift.live import NUM_SLICES
from plumbline_serve.drift.windows import whole
from plumbline_serve.store import CountRow
from plumbline_serve.store.database import Database
from plumbline_serve.store.drift_rows import MAX_PROCESSES, counts_of, put_counts
from plumbline_serve.store.store import LOOK_AGAIN_S
from plumbline_serve.store.tables import DRIFT_COUNTS
from tests.postgres_server import PostgresServer
from tests.serve.store.counting import BOUND, WINDOW_S, Watcher, reference

Tell: TypeAlias = Callable[[str], Awaitable[dict[str, float]]]


@asynccontextmanager
async def watchers(url: SecretStr, *names: str) -> AsyncIterator[list[Watcher]]:
    """Processes' parts, all in this one."""
    found = [Watcher(url, name) for name in names]
    try:
        yield found
    finally:
        for each in found:
            each.store.close()


@asynccontextmanager
async def another_process(url: SecretStr, name: str) -> AsyncIterator[tuple[Process, Tell]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.serve.store.counting", name,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    told, answers = process.stdin, process.stdout
    assert told is not None
    assert answers is not None
    told.write(f"{url.get_secret_value()}\n".encode())

    async def tell(line: str) -> dict[str, float]:
        told.write(f"{line}\n".encode())
        return dict(json.loads(await answers.readline()))

    try:
        yield process, tell
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said_by(watcher: Watcher) -> tuple[int, float]:
    entry = (await watcher.monitor.look())[BOUND.scorer]
    return entry.m, entry.e_value


async def test_a_gateway_that_is_killed_loses_what_it_had_not_flushed_and_nothing_else(url: SecretStr) -> None:
    async with AsyncExitStack() as stack:
        [ours] = await stack.enter_async_context(watchers(url, "ours"))
        await ours.store.put(reference())
        process, tell = await stack.enter_async_context(another_process(url, "theirs"))
        await tell("give 400 1.0")
        await tell("on")
        before = await tell("look")
        await tell("give 200 1.0")
        await tell("flush")
        await tell("give 50 1.0")
        assert (await tell("look"))["m"] == 650
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL

        ours.go_on()
        assert await said_by(ours) == (600, before["e_value"])  # without the 50, and the bet as it stood
        ours.give(100, 1.0)
        ours.go_on()
        m, e_value = await said_by(ours)
        assert m == 700
        assert e_value == pytest.approx(1.5**2, rel=1e-2)  # it goes on from 1.5, by the 300 of both


async def test_two_processes_count_as_one_and_bet_once(url: SecretStr) -> None:
    async with AsyncExitStack() as stack:
        [ours] = await stack.enter_async_context(watchers(url, "ours"))
        await ours.store.put(reference())
        _, tell = await stack.enter_async_context(another_process(url, "theirs"))
        for _ in range(3):
            ours.give(60, 1.0)
            await tell("give 60 1.0")  # neither has enough for a p-value alone
            await ours.monitor.flush()
            await tell("flush")
            ours.go_on()
            await tell("on")
            here, there = await asyncio.gather(said_by(ours), tell("look"))
            assert here == (there["m"], there["e_value"])
        assert here[0] == 360
        assert here[1] == pytest.approx(1.5**3, rel=1e-2)


async def test_a_new_reference_begins_a_new_bet_for_all(url: SecretStr) -> None:
    async with watchers(url, "a", "b") as (one, other):
        await one.store.put(reference())
        one.give(400, 1.0)
        one.go_on()
        other.go_on()
        assert (await said_by(one))[1] > 1.4
        await one.monitor.flush()
        assert (await said_by(other))[1] > 1.4
        await one.store.put(reference(mean=1.0))
        await asyncio.sleep(LOOK_AGAIN_S)
        e_values = [(await said_by(each))[1] for each in (one, other)]
        assert e_values[0] == e_values[1] < 1.4
        await one.store.delete("reference", BOUND.scorer)
        assert await one.monitor.look() == {}


async def test_what_another_binding_gave_does_not_count(url: SecretStr) -> None:
    async with watchers(url, "a", "b") as (one, other):
        await one.store.put(reference())
        one.give(200)
        await one.monitor.flush()
        assert (await said_by(other))[0] == 200
        await one.store.put(replace(reference(), bound_to=replace(BOUND, weights="cd34")))
        await asyncio.sleep(LOOK_AGAIN_S)
        assert (await said_by(other))[0] == 0


async def test_bins_come_back_as_they_were_and_no_score_is_kept(url: SecretStr) -> None:
    async with watchers(url, "a", "b") as (one, other):
        await one.store.put(reference())
        one.give(300)
        await one.monitor.flush()
        counted, read = one.windows.slices(), await other.monitor.slices()
        assert whole(read, BOUND.scorer) == whole(counted, BOUND.scorer)
        assert len(whole(read, BOUND.scorer).scores) < 300
        await one.monitor.flush()  # nothing new
        assert await other.monitor.slices() == read


async def test_without_a_reference_nothing_is_kept(sqlite_url: SecretStr) -> None:
    async with watchers(sqlite_url, "a") as (one,):
        one.give(300)
        await one.monitor.flush()
        assert await one.monitor.look() == {}
        assert not Path(sqlite_url.get_secret_value().removeprefix("sqlite:///")).parent.exists()


async def test_what_is_old_is_forgotten(url: SecretStr) -> None:
    async with watchers(url, "a", "b") as (one, other):
        await one.store.put(reference())
        one.give(200)
        await one.monitor.flush()
        one.now = other.now = one.now + WINDOW_S
        assert (await said_by(other))[0] == 0
        one.now += 2 * WINDOW_S
        one.give(1)
        await one.monitor.flush()
        with closing(Database(url)) as database, database.reading() as connection:
            assert connection is not None
            assert connection.execute(sa.select(sa.func.count()).select_from(DRIFT_COUNTS)).scalar_one() == 1


async def test_a_store_that_fails_loses_nothing_and_keeps_nobody_waiting(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = SecretStr(postgres.new_database())
    async with watchers(url, "a", "b") as (one, other):
        await one.store.put(reference())
        await one.monitor.flush()  # it knows of the reference
        with postgres.stopped(), caplog.at_level(logging.WARNING):
            one.give(200)
            for _ in range(2):
                await one.monitor.flush()
            with pytest.raises(StoreUnavailableError):
                await one.monitor.look()
        assert len([each for each in caplog.records if "cannot be" in each.message]) == 1  # once, not each time
        await asyncio.sleep(LOOK_AGAIN_S)
        await one.monitor.flush()
        assert (await said_by(other))[0] == 200


async def test_an_e_value_that_could_not_be_kept_goes_on_in_memory(postgres: PostgresServer) -> None:
    url = SecretStr(postgres.new_database())
    async with watchers(url, "a", "b") as (one, other):
        await one.store.put(reference())
        engine = sa.create_engine(sa.make_url(url.get_secret_value()).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE plumbline_drift_bets ADD CONSTRAINT full_disk CHECK (false)"))
        for _ in range(2):
            one.give(400, 1.0)
            one.go_on()
            other.go_on()
            assert (await said_by(one))[1] > 1.4
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE plumbline_drift_bets DROP CONSTRAINT full_disk"))
        engine.dispose()
        assert (await said_by(other))[1] == 1.0
        one.give(400, 1.0)
        one.go_on()
        m, e_value = await said_by(one)
        assert m == 1200
        assert e_value == pytest.approx(1.5**3, rel=1e-2)
        assert (await said_by(other))[1] == e_value


async def test_a_flush_goes_in_bounded_steps(sqlite_url: SecretStr) -> None:
    async with watchers(sqlite_url, "a", "b") as (one, other):
        for index in range(8):
            name = f"scorer{index}"
            await one.store.put(replace(reference(), name=name, bound_to=replace(BOUND, scorer=name)))
        for _ in range(NUM_SLICES):
            for index in range(8):
                one.windows.scored(f"scorer{index}", 0.5, None)
            one.go_on()
            other.go_on()
        one.now = other.now = one.now - 1.0
        assert len(one.windows.changed([f"scorer{index}" for index in range(8)], 100)) > MAX_ROWS
        one.windows.unkept((number, f"scorer{index}") for number in one.windows.slices() for index in range(8))
        await one.monitor.flush()
        assert await other.monitor.slices() == one.windows.slices()


def test_there_is_a_limit_to_whose_counts_are_kept(url: SecretStr) -> None:
    document = {"scores": [[0.5], [1]], "images": {}}
    row = CountRow(("ab", 600_000, 7), 1_000, document)
    with closing(Database(url)) as database:
        for index in range(MAX_PROCESSES + 1):
            put_counts(database, f"p{index}", [row], now_ms=0)
        put_counts(database, "p0", [row], now_ms=0)  # who is there may go on
        assert len(counts_of(database, ["ab"], 600_000, since=0, without=[])) == MAX_PROCESSES
        assert len(counts_of(database, ["ab"], 600_000, since=0, without=["p0"])) == MAX_PROCESSES - 1
        assert counts_of(database, ["ab"], 600_000, since=8, without=[]) == []
