"""Run the migrations on the connection that `echodiff.study.database` gives."""

from alembic import context

from echodiff.study.models import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
