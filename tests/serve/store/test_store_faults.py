"""A disk that is full, a file that is locked, a server that is away: one error for callers, and all is well after."""

import asyncio
import logging
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import ConfigError, StoreUnavailableError
from plumbline_serve.settings import load_settings
from plumbline_serve.settings.store import store_file
from plumbline_serve.store import Store
from plumbline_serve.store.store import LOOK_AGAIN_S, NUM_THREADS
from tests.postgres_server import PASSWORD, PostgresServer
from tests.serve.store.conftest import calibration


def path_of(url: SecretStr) -> Path:
    path = store_file(url)
    assert path is not None
    return path


@contextmanager
def locked(url: SecretStr) -> Iterator[None]:
    """A while in which another program has the file for itself."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def no_file_may_grow_beyond(num_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_locked_file_is_no_store_until_it_is_free(sqlite_url: SecretStr) -> None:
    store = Store(sqlite_url)
    await store.put(calibration("launch"))
    with locked(sqlite_url):
        with pytest.raises(StoreUnavailableError) as refused:
            await store.all_of("calibration")
        assert refused.value.facts["cause"] == "SQLITE_BUSY"
        assert refused.value.retry_after_s == 1.0
        with pytest.raises(StoreUnavailableError):
            await store.put(calibration("other"))
    await asyncio.sleep(LOOK_AGAIN_S)
    assert [each.name for each in await store.all_of("calibration")] == ["launch"]
    store.close()


async def test_many_who_ask_of_a_locked_file_wait_for_one_look(sqlite_url: SecretStr) -> None:
    store = Store(sqlite_url)
    await store.put(calibration("launch"))
    with locked(sqlite_url):
        asked = [store.get("calibration", "launch") for _ in range(50 * NUM_THREADS)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in found} == {StoreUnavailableError}
    store.close()


@pytest.mark.parametrize("was_there", [False, True])
async def test_a_full_disk_loses_nothing_of_what_is_kept(sqlite_url: SecretStr, was_there: bool) -> None:
    store = Store(sqlite_url)
    if was_there:
        await store.put(calibration("launch"))
    with no_file_may_grow_beyond(4096), pytest.raises(StoreUnavailableError):
        await store.put(calibration("other"))
    assert [each.name for each in await store.all_of("calibration")] == ["launch"] * was_there
    await store.put(calibration("other"))
    assert [each.name for each in await store.all_of("calibration")] == ["launch"] * was_there + ["other"]
    store.close()


async def test_what_is_no_database_is_left_alone(sqlite_url: SecretStr, caplog: pytest.LogCaptureFixture) -> None:
    path = path_of(sqlite_url)
    path.parent.mkdir()
    path.write_bytes(b"somebody's letters" * 100)
    store = Store(sqlite_url)
    with caplog.at_level(logging.WARNING), pytest.raises(StoreUnavailableError):
        await store.put(calibration("launch"))
    assert path.read_bytes() == b"somebody's letters" * 100
    assert "the store cannot be written: SQLITE_NOTADB" in caplog.text
    store.close()


async def test_a_file_where_the_folder_should_be_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file", encoding="utf-8")
    store = Store(SecretStr(f"sqlite:///{tmp_path}/kept/store.db"))
    with pytest.raises(StoreUnavailableError):
        await store.put(calibration("launch"))
    store.close()


async def test_a_server_that_goes_away_is_found_again(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(SecretStr(postgres.new_database()))
    await store.put(calibration("launch"))
    assert (await store.get("calibration", "launch")).name == "launch"
    await asyncio.sleep(LOOK_AGAIN_S)
    with caplog.at_level(logging.DEBUG), postgres.stopped():
        with pytest.raises(StoreUnavailableError) as refused:
            await store.get("calibration", "launch")
        with pytest.raises(StoreUnavailableError):
            await store.put(calibration("other"))
    assert PASSWORD not in f"{refused.value.detail} {refused.value.facts} {caplog.text}"
    await asyncio.sleep(LOOK_AGAIN_S)
    assert [each.name for each in await store.all_of("calibration")] == ["launch"]
    await store.put(calibration("other"))
    store.close()


async def test_a_server_that_hangs_holds_nobody_up(postgres: PostgresServer) -> None:
    store = Store(SecretStr(postgres.new_database()))
    await store.put(calibration("launch"))
    with postgres.frozen():
        asked = [store.get("calibration", "launch"), store.put(calibration("other"))]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [StoreUnavailableError] * 2
    await asyncio.sleep(LOOK_AGAIN_S)
    assert (await store.get("calibration", "launch")).name == "launch"
    store.close()


@pytest.mark.parametrize(
    "address",
    ["mysql://host/x", "sqlite://", "sqlite:///", "sqlite:///:memory:", "store.db", "postgresql://a:canary/@host/x"],
)
def test_the_setting_names_a_store(address: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"store: {address}", encoding="utf-8")
    with pytest.raises(ConfigError, match="store") as refused:
        load_settings(file)
    assert "canary" not in refused.value.detail


async def test_what_others_have_spoiled_is_no_store(sqlite_url: SecretStr) -> None:
    store = Store(sqlite_url)
    await store.put(calibration("launch"))
    with closing(sqlite3.connect(path_of(sqlite_url))) as other, other:
        other.execute("UPDATE plumbline_artefacts SET document = '{'")
    with pytest.raises(StoreUnavailableError):
        await Store(sqlite_url).all_of("calibration")
    store.close()


def test_a_relative_path_is_seen_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("store: sqlite:///kept.db", encoding="utf-8")
    assert load_settings(file).store.get_secret_value() == f"sqlite:///{tmp_path}/kept.db"
    file.write_text(f"store: postgresql://plumbline:{PASSWORD}@host/x", encoding="utf-8")
    assert PASSWORD not in repr(load_settings(file))
