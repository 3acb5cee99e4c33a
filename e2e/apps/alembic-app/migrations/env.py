"""How Alembic finds the database: by DATABASE_URL, on line and off line, as most projects do."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

URL = os.environ["DATABASE_URL"]

if context.is_offline_mode():
    context.configure(url=URL, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(URL, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
