"""Never ends in time."""

import sqlalchemy as sa
from alembic import op

revision = "asleep"
down_revision = "note"


def upgrade():
    op.execute("SELECT pg_sleep(600)")  # molt: expand


def downgrade():
    pass
