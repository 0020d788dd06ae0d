"""Stores in both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from plumbline_serve.store import Artefact, Binding
from tests.postgres_server import PostgresServer, running_postgres

BOUND = Binding("clipscore", "ab12", {"scale": "2.5"})


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> SecretStr:
    return SecretStr(f"sqlite:///{tmp_path}/kept/store.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, sqlite_url: SecretStr) -> SecretStr:
    """The address of a store that nothing was written to."""
    if request.param == "sqlite":
        return sqlite_url
    return SecretStr(request.getfixturevalue("postgres").new_database())


def calibration(name: str, threshold: float = 0.5, bound_to: Binding = BOUND) -> Artefact:
    return Artefact("calibration", name, bound_to, {"threshold": threshold}, datetime(2026, 11, 28, 12, tzinfo=UTC))
