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
