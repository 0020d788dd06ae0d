"""The tables of the store, as its newest migration leaves them."""

import sqlalchemy as sa

METADATA = sa.MetaData()
VERSION_TABLE = "plumbline_schema"
"""In which alembic notes the schema's version."""

ARTEFACTS = sa.Table(
    "plumbline_artefacts",
    METADATA,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("bound_to", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
"""JSON as text, so that every number reads back as the same double."""

REVISION = sa.Table(
    "plumbline_revision",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)
"""One row, which grows by one with each change: others see by it that there was one."""

DRIFT_COUNTS = sa.Table(
    "plumbline_drift_counts",
    METADATA,
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("window_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("process", sa.String(32), primary_key=True),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
"""One row for each slice of a window, scorer and process: all that the process counted in it, by bin."""

DRIFT_BETS = sa.Table(
    "plumbline_drift_bets",
    METADATA,
    sa.Column("scorer", sa.String(64), primary_key=True),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("e_value", sa.Double, nullable=False),
    sa.Column("until_s", sa.Double, nullable=False),
)
"""One row for each scorer: the e-value against the reference that was made then, and up to when scores are in it."""
