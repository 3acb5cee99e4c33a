"""Fills a column by a connection, which nobody can read as SQL."""

import sqlalchemy as sa
from alembic import op

revision = "filled"
down_revision = "note"


def upgrade():
    connection = op.get_bind()
    connection.execute(sa.text("UPDATE orders SET note = customer WHERE note IS NULL"))


def downgrade():
    pass
