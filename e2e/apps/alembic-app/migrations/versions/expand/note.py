"""A column and an index that older releases need not know, and a column that later ones may leave out."""

import sqlalchemy as sa
from alembic import op

revision = "note"
down_revision = "orders"


def upgrade():
    op.add_column("orders", sa.Column("note", sa.Text))
    op.alter_column("orders", "amount", nullable=True)
    with op.get_context().autocommit_block():
        op.create_index("orders_customer", "orders", ["customer"], postgresql_concurrently=True)


def downgrade():
    op.drop_index("orders_customer", table_name="orders")
    op.drop_column("orders", "note")
