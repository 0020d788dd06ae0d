"""What is kept comes back as it was, is seen by every process, and is refused where it does not belong."""

import asyncio
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pydantic import SecretStr

from plumbline_models.core.errors import (
    BoundToOtherError,
    RequestTooLargeError,
    StoreUnavailableError,
    TooManyArtefactsError,
    UnknownArtefactError,
)
from plumbline_serve.settings.store import store_file
from plumbline_serve.store import Artefact, Binding, Store
from plumbline_serve.store.database import Database
from plumbline_serve.store.store import LOOK_AGAIN_S, MAX_DOCUMENT_BYTES
from plumbline_serve.store.tables import ARTEFACTS, METADATA, VERSION_TABLE
from tests.serve.store.conftest import BOUND, calibration

T = TypeVar("T")
OTHER_PROCESS = """
import asyncio, sys
from pydantic import SecretStr
from plumbline_serve.store import Store

async def main():
    store = Store(SecretStr(sys.stdin.readline().strip()))
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.startswith("delete"):
            await store.delete("calibration", line.split()[1])
            print("deleted", flush=True)
        else:
            found = await store.all_of("calibration")
            print({each.name: each.document["threshold"] for each in found}, flush=True)

asyncio.run(main())
"""


def put(database: Database, *artefacts: Artefact, most: int = 100) -> None:
    database.put([(each, orjson.dumps(each.document)) for each in artefacts], most)


def engine_of(url: SecretStr) -> sa.Engine:
    if (path := store_file(url)) is not None:
        return sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    address = sa.make_url(url.get_secret_value()).set(drivername="postgresql+psycopg")
    return sa.create_engine(address, poolclass=sa.NullPool)


async def test_what_is_put_comes_back_the_same_bit_for_bit(url: SecretStr) -> None:
    document = {"numbers": [0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308], "words": "Straße \x00 🎨", "none": None}
    kept = Artefact("reference", "a.b-c_1", BOUND, document, datetime(2026, 11, 28, 1, 2, 3, 456000, UTC))
    store = Store(url)
    await store.put(kept)
    for each in (store, Store(url)):  # one knows it, the other reads it
        found = await each.get("reference", "a.b-c_1")
        assert found == kept
        assert math.copysign(1.0, found.document["numbers"][2]) == -1.0
        each.close()


async def test_kinds_do_not_meet_and_come_by_name(url: SecretStr) -> None:
    store = Store(url)
    for name in ("b", "a", "c"):
        await store.put(calibration(name))
    await store.put(replace(calibration("a", 0.7), kind="reference"))
    assert [each.name for each in await store.all_of("calibration")] == ["a", "b", "c"]
    assert (await store.get("reference", "a")).document == {"threshold": 0.7}
    assert await store.all_of("classifier") == []
    store.close()


async def test_a_name_is_taken_over_and_given_up(url: SecretStr) -> None:
    store = Store(url)
    await store.put(calibration("launch", 0.1))
    assert (await store.get("calibration", "launch")).document == {"threshold": 0.1}
    await store.put(calibration("launch", 0.2))
    assert (await store.get("calibration", "launch")).document == {"threshold": 0.2}
    await store.delete("calibration", "launch")
    with pytest.raises(UnknownArtefactError, match="no calibration 'launch'"):
        await store.get("calibration", "launch")
    with pytest.raises(UnknownArtefactError):
        await store.delete("calibration", "launch")
    store.close()


@pytest.mark.parametrize("name", ["", "\x00", "a\x00", "launch\n", "\ud800", "ünï", "x" * 5000, "%", "_"])
async def test_a_name_that_nothing_is_kept_by_is_not_there(url: SecretStr, name: str) -> None:
    store = Store(url)
    await store.put(calibration("launch"))
    with pytest.raises(UnknownArtefactError):
        await store.get("calibration", name)
    with pytest.raises(UnknownArtefactError):
        await store.delete("calibration", name)
    assert [each.name for each in await store.all_of("calibration")] == ["launch"]
    store.close()


class StoreWithASlowLook(Store):
    """What its first look found comes back when it is let."""

    def __init__(self, url: SecretStr) -> None:
        super().__init__(url)
        self.has_looked, self.may_return = asyncio.Event(), asyncio.Event()

    async def run(self, function: Callable[[Database], T]) -> T:
        found = await super().run(function)
        if not self.has_looked.is_set():
            self.has_looked.set()
            await self.may_return.wait()
        return found


async def test_who_makes_a_change_sees_it_though_a_look_from_before_is_under_way(url: SecretStr) -> None:
    store = StoreWithASlowLook(url)
    early = asyncio.create_task(store.all_of("calibration"))
    await store.has_looked.wait()
    await store.put(calibration("launch"))
    late = asyncio.create_task(store.get("calibration", "launch"))
    await asyncio.sleep(0)  # it waits for the look that began before
    store.may_return.set()
    assert (await late).name == "launch"
    await early
    store.close()


async def test_another_process_sees_a_change_within_two_seconds(url: SecretStr) -> None:
    """After `LOOK_AGAIN_S` the next look at what is kept must show it: here and there."""
    assert LOOK_AGAIN_S <= 1.0
    store = Store(url)
    await store.put(calibration("launch", 0.1))
    await store.all_of("calibration")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER_PROCESS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    told, answers = process.stdin, process.stdout
    assert told is not None
    assert answers is not None

    async def tell(line: str) -> str:
        told.write(f"{line}\n".encode())
        return (await answers.readline()).decode().strip()

    told.write(f"{url.get_secret_value()}\n".encode())
    assert await tell("list") == "{'launch': 0.1}"
    await store.put(calibration("launch", 0.2))
    await asyncio.sleep(LOOK_AGAIN_S)
    assert await tell("list") == "{'launch': 0.2}"
    assert await tell("delete launch") == "deleted"
    await asyncio.sleep(LOOK_AGAIN_S)
    assert await store.all_of("calibration") == []
    told.close()
    assert await process.wait() == 0
    store.close()


async def test_those_who_begin_at_once_all_get_in(url: SecretStr) -> None:
    """The schema is made once, and each change is counted."""
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        databases = [stack.enter_context(closing(Database(url))) for _ in range(8)]
        done = [threads.submit(put, each, calibration(f"c{i}")) for i, each in enumerate(databases)]
        assert [each.result() for each in done] == [None] * 8
        assert databases[0].revision() == 8
        assert len(databases[0].index()[1]) == 8


async def test_reading_makes_no_store(sqlite_url: SecretStr) -> None:
    store = Store(sqlite_url)
    assert await store.all_of("calibration") == []
    with pytest.raises(UnknownArtefactError):
        await store.get("calibration", "launch")
    path = store_file(sqlite_url)
    assert path is not None
    assert not path.parent.exists()
    await store.put(calibration("launch"))
    assert path.stat().st_mode & 0o077 == 0  # nobody else's to read
    store.close()


async def test_migrations_lead_to_the_tables(url: SecretStr) -> None:
    store = Store(url)
    await store.put(calibration("launch"))
    with engine_of(url).connect() as connection:
        options: dict[str, Any] = {"version_table": VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
    store.close()


async def test_a_store_of_an_older_release_is_brought_up_to_date(url: SecretStr) -> None:
    if (path := store_file(url)) is not None:
        path.parent.mkdir()
    with engine_of(url).begin() as connection:
        configuration = Config()
        configuration.set_main_option("script_location", "plumbline_serve.store:migrations")
        configuration.set_main_option("path_separator", "os")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
        row = {"kind": "calibration", "name": "launch", "revision": 1, "created_ms": 0, "document": "{}"}
        bound_to = '{"scorer": "clipscore", "weights": "ab12", "conventions": {}}'
        connection.execute(sa.insert(ARTEFACTS).values(**row, bound_to=bound_to))
    store = Store(url)
    assert [each.name for each in await store.all_of("calibration")] == ["launch"]
    with engine_of(url).connect() as connection:
        options: dict[str, Any] = {"version_table": VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
    store.close()


async def test_a_store_of_a_newer_release_is_left_alone(url: SecretStr) -> None:
    store = Store(url)
    await store.put(calibration("launch"))
    with engine_of(url).begin() as connection:
        versions = sa.table(VERSION_TABLE, sa.column("version_num"))
        connection.execute(sa.update(versions).values(version_num="9999"))
    newcomer = Store(url)
    with pytest.raises(StoreUnavailableError):
        await newcomer.all_of("calibration")
    with pytest.raises(StoreUnavailableError):
        await newcomer.put(calibration("other"))
    with engine_of(url).connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM plumbline_artefacts")).scalar_one() == 1
    store.close()
    newcomer.close()


async def test_there_is_a_limit_to_how_many_and_how_large(sqlite_url: SecretStr) -> None:
    database = Database(sqlite_url)
    for name in ("a", "b"):
        put(database, calibration(name), most=2)
    with pytest.raises(TooManyArtefactsError, match="There are 2 calibrations"):
        put(database, calibration("c"), most=2)
    put(database, calibration("b", 0.9), most=2)  # in the place of one
    assert [artefact.name for _, artefact, _ in database.load([("calibration", "b"), ("calibration", "c")])] == ["b"]
    with pytest.raises(TooManyArtefactsError):  # and nothing of what is put together
        put(database, replace(calibration("d"), kind="guard"), calibration("d"), most=2)
    assert database.load([("guard", "d"), ("calibration", "d")]) == []
    store = Store(sqlite_url)
    with pytest.raises(RequestTooLargeError):
        await store.put(replace(calibration("large"), document={"text": "x" * MAX_DOCUMENT_BYTES}))
    assert len(await store.all_of("calibration")) == 2
    store.close()


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (replace(BOUND, scorer="vqascore"), "was made with clipscore and not with vqascore"),
        (replace(BOUND, weights="cd34"), "was made with other weights of clipscore than those that are loaded"),
        (
            replace(BOUND, conventions={"scale": "1", "x": "y"}),
            r"was made with another setting of clipscore \(scale: 2.5 then, 1 now; x: none then, y now\); make it",
        ),
        (replace(BOUND, conventions={}), r"was made with another setting of clipscore \(scale: 2.5 then, none now\)"),
    ],
)
def test_an_artefact_is_refused_by_name_where_it_does_not_belong(now: Binding, sentence: str) -> None:
    artefact = calibration("launch")
    artefact.check_bound_to(BOUND)
    with pytest.raises(BoundToOtherError, match=f"The calibration launch {sentence}"):
        artefact.check_bound_to(now)
