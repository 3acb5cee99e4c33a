"""The sample with a database: /orders writes and reads a row, by the columns that WRITES names."""

import os
import sys
import threading

sys.path.insert(0, "/app")

import app as sample  # noqa: E402
import psycopg  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402

URL = os.environ["DATABASE_URL"].replace("postgresql+psycopg://", "postgresql://")
COLUMNS = os.environ.get("WRITES", "customer,amount").split(",")
INSERT = "INSERT INTO orders (%s) VALUES (%s) RETURNING %s" % (
    ", ".join(COLUMNS),
    ", ".join(["%s"] * len(COLUMNS)),
    ", ".join(COLUMNS),
)
VALUES = {"customer": "ada", "amount": 1, "note": "n"}
local = threading.local()


def connection():
    if getattr(local, "connection", None) is None or local.connection.closed:
        local.connection = psycopg.connect(URL, autocommit=True, application_name="checkout")
    return local.connection


@sample.app.get("/orders")
def orders() -> JSONResponse:
    headers = {"x-app-version": sample.VERSION}
    try:
        connection().execute(INSERT, [VALUES.get(column) for column in COLUMNS])
    except psycopg.Error as error:
        print("order failed:", error, file=sys.stderr, flush=True)
        return JSONResponse({"error": str(error)}, 500, headers)
    if sample.server.draining:
        headers["connection"] = "close"
    return JSONResponse({"version": sample.VERSION}, 200, headers)


def hold_lock() -> None:
    """As a report that forgets to commit: reads the table, and stays in its transaction."""
    held = psycopg.connect(URL, application_name="forgetful-report")
    held.execute("SELECT count(*) FROM orders")
    threading.Event().wait()


if os.environ.get("HOLD_LOCK") == "1":
    threading.Thread(target=hold_lock, daemon=True).start()

if __name__ == "__main__":
    print(f"orders by {', '.join(COLUMNS)}", flush=True)
    sample.server.run()
