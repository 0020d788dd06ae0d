"""What is counted for drift, and its e-values, as the store's tables have them: blocking, for the store's threads.

A process writes all that it counted in a slice, in the place of what it wrote before: who writes twice counts once.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa

from plumbline_serve.store.database import Database
from plumbline_serve.store.drift_records import Bet, CountRow, SliceKey
from plumbline_serve.store.tables import ARTEFACTS, DRIFT_BETS, DRIFT_COUNTS, REVISION

MAX_PROCESSES: Final = 256
"""Whose counts of one scorer are kept in one slice: those of more stay in their memory."""
_KEY: Final = (DRIFT_COUNTS.c.source, DRIFT_COUNTS.c.window_ms, DRIFT_COUNTS.c.number)


def put_counts(database: Database, process: str, rows: Sequence[CountRow], *, now_ms: float) -> None:
    """Keep what a process has counted, and forget what has expired.

    Args:
        database: Where.
        process: That counted.
        rows: In the place of those with their keys.
        now_ms: Since the epoch.

    Raises:
        StoreUnavailableError: The store cannot be written.
    """
    keys = [row.key for row in rows]
    with database.writing() as connection:
        connection.execute(sa.delete(DRIFT_COUNTS).where(DRIFT_COUNTS.c.expires_ms < now_ms))
        of_these = sa.tuple_(*_KEY).in_(keys)
        connection.execute(sa.delete(DRIFT_COUNTS).where(of_these, DRIFT_COUNTS.c.process == process))
        num_others = sa.select(*_KEY, sa.func.count()).where(of_these).group_by(*_KEY)
        full = {tuple(key) for *key, num in connection.execute(num_others) if num >= MAX_PROCESSES}
        if values := [_row(process, row) for row in rows if row.key not in full]:
            connection.execute(sa.insert(DRIFT_COUNTS), values)


def counts_of(
    database: Database, sources: Collection[str], window_ms: int, *, since: int, without: Collection[str]
) -> list[tuple[SliceKey, Mapping[str, Any]]]:
    """What processes have counted.

    Args:
        database: Where it is kept.
        sources: Of which scores.
        window_ms: Length of windows.
        since: The first slice.
        without: Processes that are left out.

    Raises:
        StoreUnavailableError: The store cannot be read.
    """
    with database.reading() as connection:
        if connection is None:
            return []
        wanted = sa.select(*_KEY, DRIFT_COUNTS.c.document).where(
            DRIFT_COUNTS.c.source.in_(sources),
            DRIFT_COUNTS.c.window_ms == window_ms,
            DRIFT_COUNTS.c.number >= since,
            DRIFT_COUNTS.c.process.not_in(without),
        )
        return [
            ((row.source, row.window_ms, row.number), orjson.loads(row.document))
            for row in connection.execute(wanted.order_by(*_KEY, DRIFT_COUNTS.c.process))
        ]


def bets_of(database: Database, made_ms: Mapping[str, int]) -> dict[str, Bet]:
    """The e-values against references; raises as `counts_of` does.

    Args:
        database: Where they are kept.
        made_ms: When the reference of each scorer was made, in milliseconds since the epoch.
    """
    with database.reading() as connection:
        return {} if connection is None else _bets(connection, made_ms)


def put_bets(database: Database, made_ms: Mapping[str, int], bets: Mapping[str, Bet]) -> dict[str, Bet]:
    """Keep e-values, unless others have bet on as much already, or the reference is another by now.

    Args:
        database: Where.
        made_ms: As for `bets_of`.
        bets: By scorer.

    Returns:
        What stands now, by scorer.

    Raises:
        StoreUnavailableError: The store cannot be written.
    """
    with database.writing() as connection:
        connection.execute(sa.select(REVISION.c.value).with_for_update())  # who bets, or makes a reference, waits here
        is_reference = ARTEFACTS.c.kind == "reference"
        known = sa.select(ARTEFACTS.c.name, ARTEFACTS.c.created_ms).where(is_reference, ARTEFACTS.c.name.in_(bets))
        now = {row.name: row.created_ms for row in connection.execute(known)}
        stand = _bets(connection, made_ms)
        for scorer, bet in bets.items():
            if now.get(scorer) != made_ms[scorer] or (scorer in stand and stand[scorer].until_s >= bet.until_s):
                continue
            connection.execute(sa.delete(DRIFT_BETS).where(DRIFT_BETS.c.scorer == scorer))
            values = {"made_ms": made_ms[scorer], "e_value": bet.e_value, "until_s": bet.until_s}
            connection.execute(sa.insert(DRIFT_BETS).values(scorer=scorer, **values))
            stand[scorer] = bet
        return stand


def _bets(connection: sa.Connection, made_ms: Mapping[str, int]) -> dict[str, Bet]:
    rows = connection.execute(sa.select(DRIFT_BETS).where(DRIFT_BETS.c.scorer.in_(made_ms)))
    return {row.scorer: Bet(row.e_value, row.until_s) for row in rows if row.made_ms == made_ms[row.scorer]}


def _row(process: str, row: CountRow) -> dict[str, Any]:
    source, window_ms, number = row.key
    return {
        "source": source,
        "window_ms": window_ms,
        "number": number,
        "process": process,
        "expires_ms": row.expires_ms,
        "document": orjson.dumps(row.document).decode(),
    }
