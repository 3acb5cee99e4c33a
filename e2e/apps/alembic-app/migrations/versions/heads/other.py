"""Two people branched from one migration."""

import sqlalchemy as sa
from alembic import op

revision = "other"
down_revision = "orders"


def upgrade():
    op.add_column("orders", sa.Column("other", sa.Text))


def downgrade():
    op.drop_column("orders", "other")
