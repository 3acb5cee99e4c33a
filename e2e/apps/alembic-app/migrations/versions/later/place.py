"""One release more."""

import sqlalchemy as sa
from alembic import op

revision = "place"
down_revision = "no_amount"


def upgrade():
    op.add_column("orders", sa.Column("place", sa.Text))


def downgrade():
    op.drop_column("orders", "place")
