"""Gives a column another name, which no older release knows."""

import sqlalchemy as sa
from alembic import op

revision = "renamed"
down_revision = "note"


def upgrade():
    op.alter_column("orders", "customer", new_column_name="buyer")


def downgrade():
    op.alter_column("orders", "buyer", new_column_name="customer")
