"""Takes a column away that older releases read."""

import sqlalchemy as sa
from alembic import op

revision = "no_amount"
down_revision = "note"


def upgrade():
    op.drop_column("orders", "amount")


def downgrade():
    raise NotImplementedError("what was dropped is gone")
