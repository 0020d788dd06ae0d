"""Run by alembic: brings the schema up to date within the transaction of the connection that it is given."""

from alembic import context

from plumbline_serve.store.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
