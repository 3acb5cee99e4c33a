"""The runner without a database: what it tells, and how it takes what a database says."""

import base64
import json
import os
import tempfile
import unittest
import zlib

import runner


class DatabaseError(Exception):
    def __init__(self, text, sqlstate=None):
        super().__init__(text)
        self.sqlstate = sqlstate


class OperationalError(DatabaseError):
    pass


class Clock:
    def __init__(self):
        self.at = 0

    def sleep(self, seconds):
        self.at += seconds

    def now(self):
        return self.at


def server(locks, said):
    """A session that gets the advisory lock after so many tries."""

    def execute(sql):
        said.append(sql)
        if "pg_try_advisory_lock" in sql:
            locks[0] -= 1
            return [(locks[0] < 0,)]
        return [(7, "psql", "idle", 90)] if "pg_stat_activity" in sql else []

    return execute


CONFIG = {"service": "shop/checkout", "revision": "0a", "attempt": 2, "timeout": 100, "lockTimeout": 0.5}


class Telling(unittest.TestCase):
    def test_passwords_are_taken_out(self):
        environment = {"DB_PASSWORD": "hunter2", "HOME": "/root", "TOKEN": "abc", "SECRET_KEY": "sesame!"}
        text = runner.redact("postgresql+asyncpg://u:p:w@db/x hunter2 /root abc sesame!", environment)
        self.assertEqual(text, "postgresql+asyncpg://u:***@db/x *** /root abc ***")

    def test_a_report_that_fits_is_plain_and_another_is_packed(self):
        plain = {"tool": "t", "pending": [{"id": "a", "sql": "SELECT 1"}]}
        self.assertEqual(json.loads(runner.encode(plain)), plain)
        long = {"tool": "t", "pending": [{"id": str(n), "sql": "ALTER TABLE t ADD c%d int;" % n} for n in range(150)]}
        text = runner.encode(long)
        self.assertTrue(text.startswith("zlib:") and len(text) <= runner.LIMIT)
        self.assertEqual(json.loads(zlib.decompress(base64.b64decode(text[5:]))), long)

    def test_sql_that_fits_in_no_form_is_said_to_be_unread(self):
        noise = base64.b64encode(os.urandom(6000)).decode()
        report = {"tool": "t", "pending": [{"id": "a", "sql": noise}, {"id": "b", "sql": "DROP TABLE t"}]}
        told = json.loads(runner.encode(report))
        self.assertEqual(told["pending"][0]["sql"], "")
        self.assertIn("too long", told["pending"][0]["opaque"])
        self.assertEqual(told["pending"][1], {"id": "b", "sql": "DROP TABLE t"})
        self.assertEqual(report["pending"][0]["sql"], noise)

    def test_more_migrations_than_fit_are_said_to_be_more(self):
        many = [{"id": base64.b64encode(os.urandom(60)).decode(), "sql": ""} for _ in range(200)]
        text = runner.encode({"tool": "t", "pending": many})
        self.assertLessEqual(len(text), runner.LIMIT)
        told = json.loads(zlib.decompress(base64.b64decode(text[5:])) if text.startswith("zlib:") else text)
        self.assertTrue(told["more"])


class Databases(unittest.TestCase):
    def test_what_passes_by_itself_is_transient(self):
        for error, transient, part in [
            (OperationalError("connection refused"), True, "can't be reached"),
            (OperationalError("the database system is starting up", "57P03"), True, "can't be reached"),
            (ConnectionRefusedError("refused"), True, "can't be reached"),
            (OperationalError('password authentication failed for user "x"'), False, "password authentication"),
            (OperationalError("no", "28P01"), False, "no"),
            (DatabaseError("syntax error", "42601"), False, "syntax error"),
            (DatabaseError("lock timeout", "55P03"), False, "a lock was not to be had"),
            (DatabaseError("statement timeout", "57014"), False, "ran into the timeout"),
            (ValueError("\n two  lines\n"), False, "ValueError: two lines"),
            (runner.Failure("two heads"), False, "two heads"),
        ]:
            failure = runner.told(error)
            self.assertEqual(failure.transient, transient, error)
            self.assertIn(part, str(failure))

    def test_the_state_of_a_wrapped_error_is_found(self):
        outer = ValueError("outer")
        outer.__cause__ = DatabaseError("inner", "55P03")
        self.assertEqual(runner.sqlstate(outer), "55P03")
        again = DatabaseError("itself")
        again.__cause__ = again
        self.assertIsNone(runner.sqlstate(again))

    def test_a_lock_that_is_not_given_is_tried_three_times(self):
        clock, tries = Clock(), []

        def run():
            tries.append(clock.at)
            raise DatabaseError("x", "55P03")

        with self.assertRaises(DatabaseError):
            runner.with_locks(run, clock.sleep)
        self.assertEqual(tries, [0, 2, 7])
        self.assertEqual(runner.with_locks(lambda: 5, clock.sleep), 5)
        for error in [DatabaseError("x", "42601"), runner.Failure("x")]:

            def fails():
                tries.append(error)
                raise error

            before = len(tries)
            with self.assertRaises(type(error)):
                runner.with_locks(fails, clock.sleep)
            self.assertEqual(len(tries), before + 1, "only locks are tried again")

    def test_a_session_is_bounded_and_has_the_services_lock(self):
        clock, said = Clock(), []
        runner.prepare(server([0], said), CONFIG, 100, clock.sleep, clock.now)
        self.assertIn("SET application_name = 'molt/shop/checkout/0a/2'", said)
        self.assertIn("SET lock_timeout = 500", said)
        self.assertIn("SET statement_timeout = 98000", said)
        self.assertIn("SELECT pg_try_advisory_lock(%d)" % runner.lock_key("shop/checkout"), said)
        self.assertTrue(-(2**63) <= runner.lock_key("shop/checkout") < 2**63)
        self.assertNotEqual(runner.lock_key("shop/a"), runner.lock_key("shop/b"))

    def test_another_run_is_waited_for_and_named(self):
        clock, said = Clock(), []
        runner.prepare(server([3], said), CONFIG, 100, clock.sleep, clock.now)
        self.assertEqual(clock.at, 3)
        with self.assertRaises(runner.Failure) as failed:
            runner.prepare(server([999], said), CONFIG, clock.at + 20, clock.sleep, clock.now)
        self.assertTrue(failed.exception.transient)
        self.assertIn("pid 7 (psql): idle, its transaction open for 90 s", str(failed.exception))


class Files(unittest.TestCase):
    def test_an_authors_word_is_read(self):
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write("def upgrade():\n    # molt: expand\n    pass\n")
            file.flush()
            self.assertEqual(runner.mark(file.name), "expand")
        self.assertEqual(runner.mark(None, "molt:contract"), "contract")
        self.assertIsNone(runner.mark("/nowhere", "smolt: expanded"))

    def test_python_among_operations_is_found_however_deep(self):
        class Sql:
            reduces_to_sql = True

        class Python:
            reduces_to_sql = False

        class Separate(Sql):
            def __init__(self, *operations):
                self.database_operations = operations

        self.assertIsNone(runner.unwritable([Sql(), Separate(Sql())]))
        python = Python()
        self.assertIs(runner.unwritable([Sql(), Separate(Separate(python))]), python)

    def test_settings_are_found_in_manage_py(self):
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as directory:
            os.chdir(directory)
            try:
                with self.assertRaises(runner.Failure):
                    runner.Django.settings()
                with open("manage.py", "w") as file:
                    file.write('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n')
                self.assertEqual(runner.Django.settings(), "shop.settings")
            finally:
                os.chdir(here)

    def test_a_tool_that_is_not_there_is_a_clear_failure(self):
        class Missing:
            def __init__(self, config, until):
                raise runner.Failure("alembic can't be imported")

        runner.TOOLS["missing"] = Missing
        try:
            report = runner.run(dict(CONFIG, tool="missing", phase="Check"))
        finally:
            del runner.TOOLS["missing"]
        self.assertEqual(report, {"error": {"message": "alembic can't be imported", "transient": False}})


if __name__ == "__main__":
    unittest.main()
