"""What the first release needs."""

import sqlalchemy as sa
from alembic import op

revision = "orders"
down_revision = None


def upgrade():
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("amount", sa.Numeric, nullable=False),
    )


def downgrade():
    op.drop_table("orders")
