"""A column that a release takes back with it."""

import sqlalchemy as sa
from alembic import op

revision = "extra"
down_revision = "note"


def upgrade():
    op.add_column("orders", sa.Column("extra", sa.Text))


def downgrade():
    op.drop_column("orders", "extra")
