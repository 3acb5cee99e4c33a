"""The runner without a database: what it tells, and how it takes what a database says."""

import base64
import importlib.util
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
import zlib

import runner


class DatabaseError(Exception):
    def __init__(self, text, sqlstate=None):
        super().__init__(text)
        self.sqlstate = sqlstate


class OperationalError(DatabaseError):
    pass


class MysqlError(Exception):
    """As PyMySQL and mysqlclient tell: a number and a text."""


MysqlError.__name__ = "OperationalError"


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
        if sql == "SELECT pg_backend_pid()":
            return [(len([one for one in said if one == sql]),)]
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
            (MysqlError(2003, "Can't connect to MySQL server on 'db'"), True, "can't be reached"),
            (MysqlError(2013, "Lost connection to MySQL server during query"), True, "can't be reached"),
            (MysqlError(1205, "Lock wait timeout exceeded"), False, "Lock wait timeout"),
            (MysqlError(1050, "Table 'a' already exists"), False, "already exists"),
            (sqlite3.OperationalError("table a already exists"), False, "already exists"),
            (sqlite3.OperationalError("unable to open database file"), True, "can't be reached"),
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
            runner.with_locks(run, lambda: False, clock.sleep)
        self.assertEqual(tries, [0, 2, 7])
        self.assertEqual(runner.with_locks(lambda: 5, lambda: False, clock.sleep), 5)
        del tries[:]
        with self.assertRaises(DatabaseError) as once:
            runner.with_locks(run, lambda: True, clock.sleep)
        self.assertEqual(len(tries), 1, "a part of it may have stayed")
        self.assertNotIn("times", str(runner.told(once.exception)))
        for error in [DatabaseError("x", "42601"), runner.Failure("x")]:

            def fails():
                tries.append(error)
                raise error

            before = len(tries)
            with self.assertRaises(type(error)):
                runner.with_locks(fails, lambda: False, clock.sleep)
            self.assertEqual(len(tries), before + 1, "only locks are tried again")

    def test_a_session_is_bounded_and_has_the_services_lock(self):
        clock, said = Clock(), []
        runner.prepare(server([0], said), CONFIG, 100, clock.sleep, clock.now)
        self.assertIn("SET application_name = 'molt/shop/checkout/0a/2'", said)
        self.assertIn("SET lock_timeout = 500", said)
        self.assertIn("SET statement_timeout = 98000", said)
        self.assertIn("SELECT pg_try_advisory_lock(%d)" % runner.lock_key(), said)
        self.assertTrue(-(2**63) <= runner.lock_key() < 2**63)

    def test_a_session_that_a_try_before_has_left_does_not_keep_the_lock(self):
        clock, said, config = Clock(), [], dict(CONFIG)
        runner.prepare(server([0], said), config, 100, clock.sleep, clock.now)
        self.assertNotIn("pg_terminate_backend", " ".join(said))
        runner.prepare(server([0], said), config, 100, clock.sleep, clock.now)
        ended = [sql for sql in said if "pg_terminate_backend" in sql]
        self.assertEqual(len(ended), 1)
        self.assertIn("pid = 1 AND application_name = 'molt/shop/checkout/0a/2'", ended[0])

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


class Halted:
    """A tool that fails, and says what stayed of it."""

    landed_says = ([], None, False)

    def __init__(self, config, until):
        self.notes, self.version = [], "halted 1"

    def apply(self):
        raise DatabaseError("column exists", "42701")

    check = apply

    def left(self):
        return "m4", True

    def landed(self):
        if isinstance(self.landed_says, Exception):
            raise self.landed_says
        return self.landed_says


class Halves(unittest.TestCase):
    """What is told of a run that fails half-way."""

    def report(self, says, phase="Apply"):
        Halted.landed_says = says
        runner.TOOLS["halted"] = Halted
        try:
            return runner.run(dict(CONFIG, tool="halted", phase=phase))
        finally:
            del runner.TOOLS["halted"]

    def test_what_was_applied_and_where_it_failed_is_told(self):
        report = self.report((["m2", "m3"], "m4", False))
        self.assertIn("column exists", report["error"]["message"])
        self.assertEqual(
            {k: report[k] for k in ("applied", "at", "partly", "changed")},
            {"applied": ["m2", "m3"], "at": "m4", "partly": False, "changed": "yes"},
        )

    def test_whether_the_database_has_changed_is_told(self):
        self.assertEqual(self.report(([], "m2", False))["changed"], "no")
        self.assertEqual(self.report(([], "m2", True))["changed"], "unknown")
        self.assertEqual(self.report(ConnectionError("gone"))["changed"], "unknown")
        self.assertNotIn("changed", self.report(([], None, False), "Check"))

    def test_a_database_that_hangs_keeps_the_failure_from_nobody(self):
        class Hangs:
            def landed(self):
                time.sleep(30)

            def left(self):
                return "m2", True

        began = time.monotonic()
        stayed = runner.what_stayed(Hangs(), 0.05)
        self.assertEqual(stayed, {"changed": "unknown", "at": "m2", "partly": True})
        self.assertLess(time.monotonic() - began, 5)

    def test_a_failure_with_many_applied_still_fits(self):
        many = [base64.b64encode(os.urandom(60)).decode() for _ in range(100)]
        report = {"error": {"message": "m" * 1500, "transient": False}, "applied": many, "changed": "yes"}
        text = runner.encode(report)
        self.assertLessEqual(len(text), runner.LIMIT)
        told = json.loads(zlib.decompress(base64.b64decode(text[5:])) if text.startswith("zlib:") else text)
        self.assertEqual(told["error"]["message"], "m" * 1500)
        self.assertEqual(told["applied"], many[: len(told["applied"])])


ENV = """
from alembic import context
from sqlalchemy import create_engine
engine = create_engine("sqlite:///db.sqlite")
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=%s, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
    %s
"""
LOCKED = """
class Locked(Exception):
    sqlstate = "55P03"
def tried():
    with open("tries", "a") as file:
        file.write("x")
    raise Locked()
def upgrade():
%s
"""
STEP = """
revision = "%s"
down_revision = %r
from alembic import op
def upgrade():
    op.execute("%s")
def downgrade():
    op.execute("%s")
"""


class Project(unittest.TestCase):
    """A directory with a project, whose migrations are run by another process, as in a Job."""

    tool = None

    def setUp(self):
        self.here, self.directory = os.getcwd(), tempfile.TemporaryDirectory()
        os.chdir(self.directory.name)

    def tearDown(self):
        os.chdir(self.here)
        self.directory.cleanup()

    def run_phase(self, phase, **more):
        config = dict(CONFIG, tool=self.tool, phase=phase, timeout=100, **more)
        code = "import json,runner; print('REPORT', json.dumps(runner.run(json.loads(%r))))" % json.dumps(config)
        path = os.path.dirname(os.path.abspath(runner.__file__))
        said = subprocess.run(
            [sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True
        )
        # Django leaves a line unended when it fails.
        _, found, report = said.stdout.partition("REPORT ")
        self.assertTrue(found, said.stderr)
        return json.loads(report)


@unittest.skipUnless(importlib.util.find_spec("alembic"), "alembic is not installed")
class AlembicHalves(Project):
    tool = "alembic"

    def project(self, each, third="INSERT INTO nowhere VALUES (1)"):
        os.makedirs("migrations/versions")
        with open("alembic.ini", "w") as file:
            file.write("[alembic]\nscript_location = migrations\n")
        with open("migrations/env.py", "w") as file:
            file.write(ENV % (each, "connection.commit()" if each else ""))
        steps = [("m1", None, "CREATE TABLE a (x int)"), ("m2", "m1", "CREATE TABLE b (x int)"), ("m3", "m2", third)]
        for revision, down, sql in steps:
            with open("migrations/versions/%s.py" % revision, "w") as file:
                back = "DROP TABLE %s" % ("a" if revision == "m1" else "nowhere" if revision == "m2" else "c")
                file.write(STEP % (revision, down, sql, back))

    def test_migrations_that_commit_alone_stay(self):
        self.project(True)
        report = self.run_phase("Apply")
        self.assertIn("nowhere", report["error"]["message"])
        self.assertEqual((report["applied"], report["at"], report["changed"]), (["m1", "m2"], "m3", "yes"))

    def test_one_transaction_for_all_leaves_nothing(self):
        self.project(False)
        report = self.run_phase("Apply")
        self.assertIn("nowhere", report["error"]["message"])
        self.assertEqual((report["applied"], report["at"]), ([], "m3"))

    def test_what_has_left_its_transaction_is_not_run_twice(self):
        self.project(True, "SELECT 1")
        with open("migrations/versions/m3.py", "a") as file:
            file.write(LOCKED % "    with op.get_context().autocommit_block():\n        tried()\n")
        report = self.run_phase("Apply")
        self.assertEqual((report["applied"], report["at"], report["partly"]), (["m1", "m2"], "m3", True))
        self.assertEqual(pathlib.Path("tries").read_text(), "x")

    def test_what_is_undone_as_a_whole_is_run_again_for_a_lock(self):
        self.project(True, "SELECT 1")
        with open("migrations/versions/m3.py", "a") as file:
            file.write(LOCKED % "    tried()\n")
        report = self.run_phase("Apply")
        self.assertEqual((report["applied"], report["at"], report["partly"]), (["m1", "m2"], "m3", False))
        self.assertEqual(pathlib.Path("tries").read_text(), "xxx")

    def test_what_is_something_else_when_it_is_written_is_not_read_from_that(self):
        self.project(True, "SELECT 1")
        with open("migrations/versions/m2.py", "a") as file:
            file.write("from alembic import context\ndef upgrade():\n    if not context.is_offline_mode():\n        pass\n")
        pending = {entry["id"]: entry for entry in self.run_phase("Check")["pending"]}
        self.assertIn("is_offline_mode", pending["m2"]["opaque"])
        self.assertNotIn("opaque", pending["m3"])

    def test_the_tools_own_table_is_told(self):
        self.project(True, "SELECT 1")
        path = pathlib.Path("migrations/env.py")
        path.write_text(path.read_text().replace("transactional_ddl=True", "version_table='shop_version'"))
        self.assertEqual(self.run_phase("Check")["own"], "shop_version")

    def test_a_downgrade_that_fails_half_way_tells_what_it_took_back(self):
        self.project(True, "CREATE TABLE c (x int)")
        self.assertEqual(self.run_phase("Apply")["applied"], ["m1", "m2", "m3"])
        report = self.run_phase("Downgrade", target=["m1"])
        self.assertEqual((report["applied"], report["at"], report["changed"]), (["m3"], "m2", "yes"))


SETTINGS = """
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite"}}
"""
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    atomic = %s
    dependencies = %r
    operations = [migrations.RunSQL("%s", "%s")]
"""


@unittest.skipUnless(importlib.util.find_spec("django"), "django is not installed")
class DjangoHalves(Project):
    tool = "django"

    def project(self, atomic=True):
        os.makedirs("shop/migrations")
        for name in ["shop/__init__.py", "shop/migrations/__init__.py"]:
            open(name, "w").close()
        with open("settings.py", "w") as file:
            file.write(SETTINGS)
        with open("manage.py", "w") as file:
            file.write('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")\n')
        steps = [("0001_a", "CREATE TABLE a (x int)"), ("0002_b", "CREATE TABLE b (x int)"), ("0003_c", "NONSENSE")]
        before = []
        for name, sql in steps:
            with open("shop/migrations/%s.py" % name, "w") as file:
                back = "NONSENSE" if name == "0001_a" else "DROP TABLE b"
                file.write(MIGRATION % (atomic, before, sql, back))
            before = [("shop", name)]

    def test_each_migration_stays_that_was_applied_before_the_one_that_fails(self):
        self.project()
        report = self.run_phase("Apply")
        self.assertIn("NONSENSE", report["error"]["message"])
        self.assertEqual(
            (report["applied"], report["at"], report["partly"], report["changed"]),
            (["shop.0001_a", "shop.0002_b"], "shop.0003_c", False, "yes"),
        )
        again = self.run_phase("Apply")
        self.assertEqual((again["applied"], again["at"], again["changed"]), ([], "shop.0003_c", "no"))

    def test_of_one_without_a_transaction_a_part_may_stay(self):
        self.project(atomic=False)
        self.assertTrue(self.run_phase("Apply")["partly"])

    def test_for_a_lock_only_what_is_undone_as_a_whole_is_run_again(self):
        for atomic, tries in [(True, "xxx"), (False, "x")]:
            with self.subTest(atomic=atomic):
                self.tearDown()
                self.setUp()
                self.project()
                with open("shop/migrations/0003_c.py", "w") as file:
                    file.write(LOCKED % "    pass\n")
                    file.write("from django.db import migrations\nclass Migration(migrations.Migration):\n")
                    file.write("    atomic = %s\n    dependencies = [('shop', '0002_b')]\n" % atomic)
                    file.write("    operations = [migrations.RunPython(lambda apps, editor: tried())]\n")
                report = self.run_phase("Apply")
                self.assertEqual(
                    (report["applied"], report["at"], report["partly"]),
                    (["shop.0001_a", "shop.0002_b"], "shop.0003_c", not atomic),
                )
                self.assertEqual(pathlib.Path("tries").read_text(), tries)

    def test_what_the_database_has_and_the_files_have_not_is_told(self):
        self.project()
        self.run_phase("Apply", stopBefore="shop.0003_c")
        self.assertEqual(self.run_phase("Check")["unknown"], [])
        for name in ["0002_b", "0003_c"]:
            os.remove("shop/migrations/%s.py" % name)
        report = self.run_phase("Check")
        self.assertEqual((report["unknown"], report["pending"]), (["shop.0002_b"], []))
        with open("shop/migrations/0001_a.py", "a") as file:
            file.write("    replaces = [('shop', '0002_b')]\n")
        self.assertEqual(self.run_phase("Check")["unknown"], [])

    def test_a_downgrade_that_fails_half_way_tells_what_it_took_back(self):
        self.project()
        self.assertEqual(self.run_phase("Apply", stopBefore="shop.0003_c")["applied"], ["shop.0001_a", "shop.0002_b"])
        report = self.run_phase("Downgrade", target=["shop.zero"])
        self.assertEqual((report["applied"], report["changed"]), (["shop.0002_b"], "yes"))


if __name__ == "__main__":
    unittest.main()
