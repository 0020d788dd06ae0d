"""What is counted of scores that have a reference, and the e-values that came of it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "plumbline_drift_counts",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("window_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("process", sa.String(32), primary_key=True),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "plumbline_drift_bets",
        sa.Column("scorer", sa.String(64), primary_key=True),
        sa.Column("made_ms", sa.BigInteger, nullable=False),
        sa.Column("e_value", sa.Double, nullable=False),
        sa.Column("until_s", sa.Double, nullable=False),
    )
