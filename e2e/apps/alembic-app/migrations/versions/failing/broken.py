"""Fails half way."""

import sqlalchemy as sa
from alembic import op

revision = "broken"
down_revision = "note"


def upgrade():
    op.add_column("orders", sa.Column("half", sa.Text))
    op.execute("ALTER TABLE nowhere ADD COLUMN done text")


def downgrade():
    op.drop_column("orders", "half")
