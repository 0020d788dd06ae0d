"""The store's tables over SQLAlchemy: blocking, for threads; every failure of the database is one error.

A file of SQLite is made with the first write and opened anew for each call; one that is only read may lie on a disk
that cannot be written.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from plumbline_models.core.errors import StoreUnavailableError, TooManyArtefactsError
from plumbline_serve.settings.store import store_file
from plumbline_serve.store.artefacts import Artefact, Binding, Kind
from plumbline_serve.store.tables import ARTEFACTS, REVISION, VERSION_TABLE

Key: TypeAlias = tuple[Kind, str]

LOCK_TIMEOUT_S: Final = 1.0
"""How long a call waits for another that changes the store."""
CONNECT_TIMEOUT_S: Final = 2  # whole seconds: libpq's
STATEMENT_TIMEOUT_MS: Final = 3000
RETRY_AFTER_S: Final = 1.0
_MIGRATIONS = "plumbline_serve.store:migrations"
_MIGRATION_LOCK = 0x706C756D62  # of PostgreSQL, for whoever migrates; any number that others do not use
_WRITES = "plumbline_writes"


class Database:
    """One store; safe to call from several threads.

    Args:
        url: As the setting has it.
    """

    def __init__(self, url: SecretStr) -> None:
        self._url = url
        self._opened: sa.Engine | None = None
        self._opening = threading.Lock()

    def index(self) -> tuple[int, Mapping[Key, int]]:
        """The store's revision, and that of each artefact; (0, {}) where nothing was ever written.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        with self.reading() as connection:
            if connection is None:
                return 0, {}
            revision = connection.execute(sa.select(REVISION.c.value)).scalar_one()
            rows = connection.execute(sa.select(ARTEFACTS.c.kind, ARTEFACTS.c.name, ARTEFACTS.c.revision))
            return revision, {(row.kind, row.name): row.revision for row in rows}

    def revision(self) -> int:
        """The store's revision alone; raises as `index` does."""
        with self.reading() as connection:
            return 0 if connection is None else connection.execute(sa.select(REVISION.c.value)).scalar_one()

    def load(self, keys: Sequence[Key]) -> list[tuple[int, Artefact, int]]:
        """Artefacts that are there, with their revisions and their documents' bytes; raises as `index` does.

        Args:
            keys: Which.
        """
        with self.reading() as connection:
            if connection is None:
                return []
            is_wanted = sa.tuple_(ARTEFACTS.c.kind, ARTEFACTS.c.name).in_(keys)
            rows = connection.execute(sa.select(ARTEFACTS).where(is_wanted))
            return [(row.revision, _artefact(row), len(row.document.encode())) for row in rows]

    def put(self, artefacts: Sequence[tuple[Artefact, bytes]], max_of_kind: int) -> None:
        """Keep artefacts, each in the place of one of its kind and name; all of them or none.

        Args:
            artefacts: What to keep, each with its document as JSON.
            max_of_kind: Artefacts of a kind that there may be.

        Raises:
            StoreUnavailableError: The store cannot be written.
            TooManyArtefactsError: There are as many.
        """
        with self.writing() as connection:
            revision = _grow(connection)
            for artefact, document in artefacts:
                connection.execute(sa.delete(ARTEFACTS).where(_is(artefact.kind, artefact.name)))
                others = sa.select(sa.func.count()).where(ARTEFACTS.c.kind == artefact.kind)
                if connection.execute(others).scalar_one() >= max_of_kind:
                    raise TooManyArtefactsError(
                        f"There are {max_of_kind} {artefact.kind}s, as many as are kept: delete one first."
                    )
                connection.execute(sa.insert(ARTEFACTS).values(_row(artefact, document, revision)))

    def delete(self, kinds: Sequence[Kind], name: str) -> bool:
        """Forget the artefacts of a name; raises as `put` does.

        Args:
            kinds: Of which kinds.
            name: Their name.

        Returns:
            Whether any was there.
        """
        if not name.isprintable():
            return False  # nothing is kept by such a name, and drivers refuse NUL and halves of surrogate pairs
        with self.writing() as connection:
            _grow(connection)
            is_meant = sa.and_(ARTEFACTS.c.kind.in_(kinds), ARTEFACTS.c.name == name)
            return connection.execute(sa.delete(ARTEFACTS).where(is_meant)).rowcount > 0

    def close(self) -> None:
        """Close what is open."""
        if self._opened is not None:
            self._opened.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection | None]:
        """A transaction on the newest schema; None where nothing was ever written; raises as `index` does."""
        with _failures("The store cannot be read now."):
            if not self._prepare(writes=False):
                yield None
                return
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction on the newest schema, in SQLite the only one that writes; raises as `put` does."""
        with _failures("The store cannot be written now."):
            self._prepare(writes=True)
            with self._engine.execution_options(**{_WRITES: True}).begin() as connection:
                yield connection

    def _prepare(self, *, writes: bool) -> bool:
        """Whether the schema is there; brought up to date where it is old, or new and about to be written."""
        path = self._path
        if path is not None and not path.exists():
            if not writes:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with self._engine.connect() as connection:
            found = _schema_of(connection)
        if found == self._newest:
            return True
        if found is None and not writes:
            return False
        with self._engine.execution_options(**{_WRITES: True}).begin() as connection:
            if path is None:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
        return True

    @property
    def _path(self) -> Path | None:
        path = store_file(self._url)
        return None if path is None else path.expanduser().absolute()

    @property
    def _engine(self) -> sa.Engine:
        with self._opening:
            if self._opened is None:
                path = self._path
                self._opened = _postgresql(self._url.get_secret_value()) if path is None else _sqlite(path)
            return self._opened

    @cached_property
    def _newest(self) -> str | None:
        return ScriptDirectory.from_config(_configuration()).get_current_head()


@contextmanager
def _failures(sentence: str) -> Iterator[None]:
    """Whatever fails of the database, or on the way to it, as one error."""
    try:
        yield
    except (SQLAlchemyError, CommandError, OSError, RuntimeError, ValueError) as error:
        raise StoreUnavailableError(sentence, retry_after_s=RETRY_AFTER_S, cause=_cause(error)) from error


def _sqlite(path: Path) -> sa.Engine:
    address = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(address, poolclass=sa.NullPool, connect_args={"timeout": LOCK_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        is_write = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _postgresql(url: str) -> sa.Engine:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=2,
        max_overflow=2,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "application_name": "plumbline",
            "prepare_threshold": None,  # poolers such as pgbouncer keep no prepared statements
        },
    )

    @event.listens_for(engine, "begin")
    def bound_the_time(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")

    return engine


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", _MIGRATIONS)
    configuration.set_main_option("path_separator", "os")
    return configuration


def _schema_of(connection: sa.Connection) -> str | None:
    """The version of the schema; None: there is none. Read here, for alembic writes a line into the log each time."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    versions = sa.table(VERSION_TABLE, sa.column("version_num"))
    found: str | None = connection.execute(sa.select(versions.c.version_num)).scalar_one_or_none()
    return found


def _grow(connection: sa.Connection) -> int:
    """The next revision; writers of other processes wait here for the end of this transaction."""
    connection.execute(sa.update(REVISION).values(value=REVISION.c.value + 1))
    revision: int = connection.execute(sa.select(REVISION.c.value)).scalar_one()
    return revision


def _is(kind: Kind, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(ARTEFACTS.c.kind == kind, ARTEFACTS.c.name == name)


def _row(artefact: Artefact, document: bytes, revision: int) -> dict[str, Any]:
    return {
        "kind": artefact.kind,
        "name": artefact.name,
        "revision": revision,
        "created_ms": artefact.created_ms,
        "bound_to": orjson.dumps(asdict(artefact.bound_to)).decode(),
        "document": document.decode(),
    }


def _artefact(row: Any) -> Artefact:
    return Artefact(
        kind=row.kind,
        name=row.name,
        bound_to=Binding(**orjson.loads(row.bound_to)),
        document=orjson.loads(row.document),
        created=datetime.fromtimestamp(row.created_ms / 1000, UTC),
    )


def _cause(error: Exception) -> str:
    """What the log may say: the words of a driver can hold addresses and values."""
    inner: Any = error.orig if isinstance(error, DBAPIError) else error
    names = (getattr(inner, name, None) for name in ("sqlite_errorname", "sqlstate"))
    return next((str(name) for name in names if name), type(inner).__name__)
