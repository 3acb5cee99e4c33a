"""Checks, applies or takes back the migrations of a Python project, in the project's own image.

Molt runs it as `python3 -c` in a Job; all it needs beside the tool is the standard library of Python 3.8. What to do
is JSON in MOLT_MIGRATION; what came of it is JSON in the container's termination message, which has 4 KiB.

On PostgreSQL a run holds an advisory lock on the connection that it migrates with, for as long as that lasts: so no two
runs change one database at once, and the tool's own table says, under the lock, what one before has applied.
"""

import base64
import hashlib
import inspect
import io
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import zlib

# The kubelet keeps 4096 bytes.
LIMIT = 4000
# A statement that waits for a lock keeps all that come after it waiting, so it is not tried for ever.
LOCK_TRIES = 3
LOCK_PAUSES = (2, 5)
# How long a database that has just failed is asked what stayed of the run, in seconds.
LOOK_SECONDS = 10
# Migrations of the database that a report names and the project does not have.
MOST_FOREIGN = 30
# Too many connections, no connection, and one that was lost, as MySQL counts them; a lock that is not had is none of these.
AWAY_OF_MYSQL = (1040, 1203, 2002, 2003, 2005, 2006, 2013)
MARK = re.compile(r"\bmolt:\s*(expand|contract)\b")
SECRET_NAME = re.compile(r"PASS|PWD|SECRET|TOKEN|CREDENTIAL|_KEY$|^KEY$|DSN", re.IGNORECASE)
URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]+@")
# What no later try makes good, though the database could not be reached.
FOR_A_PERSON = re.compile(
    r"password authentication failed|no pg_hba|does not exist|Access denied|Unknown database|no password supplied",
    re.IGNORECASE,
)


class Failure(Exception):
    """What the report says of a run that failed."""

    def __init__(self, message, transient=False):
        super().__init__(message)
        self.transient = transient


class Changed(Exception):
    """Somebody else has migrated between the look and the lock."""


# --- what is told ---------------------------------------------------------------------------------------------------


def redact(text, environment=None):
    """Takes passwords out of what is told: those in URLs, and the values of variables that sound like secrets."""
    environment = os.environ if environment is None else environment
    text = URL_PASSWORD.sub(r"\1:***@", str(text))
    for name, value in environment.items():
        if len(value) >= 4 and SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text


def encode(report):
    """The report as it fits into a termination message: what is too long of it is said to be so."""
    report = dict(report)
    report["pending"] = [dict(migration) for migration in report.get("pending", [])]
    while True:
        text = json.dumps(report, separators=(",", ":"))
        if len(text.encode()) <= LIMIT:
            return text
        packed = "zlib:" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
        if len(packed) <= LIMIT:
            return packed
        longest = max(report["pending"], key=lambda m: len(m.get("sql") or ""), default=None)
        if longest is not None and longest.get("sql"):
            size = len(longest["sql"])
            longest["sql"] = ""
            longest["opaque"] = "its SQL of %d characters is too long to be read" % size
        elif len(report["pending"]) > 1:
            report["pending"] = report["pending"][: len(report["pending"]) // 2]
            report["more"] = True
        elif len(report.get("applied") or []) > 1:
            report["applied"] = report["applied"][: len(report["applied"]) // 2]
        else:
            return json.dumps({"error": {"message": "the report is too long", "transient": False}})


def tell(report, path):
    text = encode(report)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print("molt: the report can't be written:", error, file=sys.stderr)
    print("molt:", json.dumps({k: v for k, v in report.items() if k != "pending"}))


def one_line(error):
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r" \(Background on this error at: \S+\)", "", text)
    return "%s: %s" % (type(error).__name__, text)


# --- what databases say -----------------------------------------------------------------------------------------------


def chain(error):
    """An error and all that it came of."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return seen


def sqlstate(error):
    for link in chain(error):
        for name in ("sqlstate", "pgcode"):
            state = getattr(link, name, None)
            if isinstance(state, str):
                return state
    return None


def is_away(error):
    """The database could not be reached, or has gone away."""
    state = sqlstate(error)
    if state is not None:
        return state[:2] == "08" or state in ("57P01", "57P02", "57P03", "53300")
    if FOR_A_PERSON.search(str(error)):
        return False
    for link in chain(error):
        # Drivers without states call most of what fails an OperationalError, a table that there is included.
        if type(link).__module__.startswith("sqlite3"):
            return any(words in str(link) for words in ("unable to open", "database is locked"))
        if type(link).__name__.endswith("Error") and link.args and type(link.args[0]) is int and len(link.args) > 1:
            if not isinstance(link, OSError):
                return link.args[0] in AWAY_OF_MYSQL
    names = {type(link).__name__ for link in chain(error)}
    return any(isinstance(link, (ConnectionError, TimeoutError)) for link in chain(error)) or bool(
        names & {"OperationalError", "InterfaceError", "gaierror"}
    )


def lock_key():
    """The advisory lock of all that migrates a database: 64 bits with a sign. PostgreSQL keeps them by database, and
    several services may share one."""
    digest = hashlib.sha256(b"molt.dev/migrations").digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def holders(execute):
    """Other sessions of this database with a transaction, the longest first: who may hold a lock."""
    rows = execute(
        "SELECT pid, coalesce(nullif(application_name, ''), 'unnamed'), coalesce(state, '?'),"
        " extract(epoch FROM now() - xact_start)::int FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        " ORDER BY xact_start LIMIT 3"
    )
    return "; ".join("pid %s (%s): %s, its transaction open for %s s" % tuple(row) for row in rows)


def prepare(execute, config, until, sleep=time.sleep, now=time.monotonic):
    """Takes the database's lock, and bounds what this session may wait for."""
    name = "molt/%s/%s/%s" % (config["service"], config["revision"], config["attempt"])
    name = name[:63].replace("'", "")
    execute("SET application_name = '%s'" % name)
    # A try before may have left its session to a pool, with the lock.
    ours = config.setdefault("sessions", [])
    pid = execute("SELECT pg_backend_pid()")[0][0]
    for other in ours:
        if other != pid:
            execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %d AND application_name = '%s'"
                % (other, name)
            )
    config["sessions"] = [pid]
    execute("SET lock_timeout = %d" % int(config["lockTimeout"] * 1000))
    # The server has to know as well when it is over: it does not see a client go.
    left = max(1, until - now() - 2)
    execute("SET statement_timeout = %d" % int(left * 1000))
    execute(
        "DO $molt$ BEGIN PERFORM set_config('client_connection_check_interval', '2000', false);"
        " EXCEPTION WHEN OTHERS THEN NULL; END $molt$"
    )
    key = lock_key()
    patience = now() + min(60, left / 2)
    while not execute("SELECT pg_try_advisory_lock(%d)" % key)[0][0]:
        if now() >= patience:
            raise Failure("another run migrates this database: %s" % (holders(execute) or "it holds the lock"), True)
        sleep(1)


def told(error, where=""):
    """The failure that an error of a database is."""
    if isinstance(error, Failure):
        return error
    state, text = sqlstate(error), one_line(error)
    if state == "55P03":
        times = getattr(error, "molt_tries", 1)
        often = ", %d times" % times if times > 1 else ""
        return Failure("a lock was not to be had within lockTimeout%s%s: %s" % (often, where, text))
    if state == "57014":
        return Failure("a statement ran into the timeout, and was undone: %s" % text)
    if is_away(error):
        return Failure("the database can't be reached: %s" % text, True)
    return Failure(text)


def with_locks(run, left_a_part, sleep=time.sleep):
    """Runs what may wait for locks in vain, a few times, unless a part of what it did may have stayed."""
    for number in range(LOCK_TRIES):
        try:
            return run()
        except Failure:
            raise
        except Exception as error:
            if sqlstate(error) != "55P03":
                raise
            error.molt_tries = number + 1
            if number + 1 == LOCK_TRIES or left_a_part():
                raise
            print("molt: %s; again in %d s" % (one_line(error), LOCK_PAUSES[number]), file=sys.stderr)
        sleep(LOCK_PAUSES[number])
    return None


def source(path):
    """The text of a migration; nothing, if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (OSError, TypeError):
        return ""


def mark(path, doc=None):
    """What the author of a migration says that it does to older revisions."""
    found = MARK.search((doc or "") + source(path))
    return found.group(1) if found else None


NO_LOCK = "%s has no advisory lock that Molt uses: nothing but the tool's own table keeps two runs apart"


# --- Alembic ----------------------------------------------------------------------------------------------------------


class Alembic:
    """A project with an alembic.ini, or its settings in pyproject.toml."""

    def __init__(self, config, until):
        self.config, self.until = config, until
        self.notes = []
        self.before, self.done, self.at = None, [], None
        # Migrations that have committed something before they were through.
        self.outside = set()
        try:
            import alembic
            from alembic.config import Config
            from alembic.script import ScriptDirectory
        except ImportError as error:
            raise Failure("alembic can't be imported by %s: %s" % (sys.executable, error))
        self.version = "alembic " + getattr(alembic, "__version__", "?")
        path = os.environ.get("ALEMBIC_CONFIG") or "alembic.ini"
        toml = "pyproject.toml"
        if not os.path.exists(path) and not (os.path.exists(toml) and "tool.alembic" in open(toml).read()):
            raise Failure("there is no %s in %s: set gates.migrations.workingDir" % (path, os.getcwd()))
        try:
            self.cfg = Config(path, toml_file=toml)
        except TypeError:
            self.cfg = Config(path)
        self.script = ScriptDirectory.from_config(self.cfg)

    def run(self, function, **options):
        from alembic.runtime.environment import EnvironmentContext

        with EnvironmentContext(self.cfg, self.script, fn=function, **options):
            self.script.run_env()

    def known(self, revision):
        try:
            return self.script.get_revision(revision) is not None
        except Exception:
            return False

    def head(self):
        heads = list(self.script.get_heads())
        if len(heads) > 1:
            raise Failure(
                "the migrations have %d heads, and one is wanted: %s; join them by `alembic merge heads`"
                % (len(heads), ", ".join(sorted(heads)))
            )
        return heads

    def look(self):
        """Where the database is; nothing is changed."""
        seen = {"current": [], "dialect": "?", "own": None}

        def fn(rev, context):
            seen["dialect"] = context.dialect.name
            seen["own"] = getattr(context, "version_table", None)
            for revision in context.get_current_heads():
                if revision not in seen["current"]:
                    seen["current"].append(revision)
            return []

        self.run(fn, dont_mutate=True)
        return seen

    def steps(self, current, heads):
        return list(self.script._upgrade_revs(heads[0], tuple(current))) if heads else []

    def render(self, step):
        """The SQL of one migration, or why there is none."""
        asks = re.search(r"\b(is_offline_mode|as_sql)\b", source(getattr(step.revision, "path", None)))
        if asks:
            return "", "it does something else when it is only written as SQL (%s)" % asks.group(1)
        buffer = io.StringIO()
        revision = step.revision
        down = revision.down_revision
        start = list(down) if isinstance(down, (tuple, list)) else [down] if down else None
        self.cfg.output_buffer = buffer
        try:
            self.run(
                lambda rev, context: [step],
                as_sql=True,
                starting_rev=start if start is None or len(start) > 1 else start[0],
                destination_rev=revision.revision,
            )
        except (Exception, SystemExit) as error:
            return "", "it can't be written as SQL: %s" % one_line(error)[:160]
        finally:
            self.cfg.output_buffer = sys.stdout
        return buffer.getvalue(), None

    def check(self):
        heads = self.head()
        seen = self.look()
        unknown = [revision for revision in seen["current"] if not self.known(revision)]
        pending = []
        if not unknown:
            for step in self.steps(seen["current"], heads):
                sql, opaque = self.render(step)
                revision = step.revision
                entry = {"id": revision.revision, "sql": sql}
                if opaque:
                    entry["opaque"] = opaque
                said = mark(getattr(revision, "path", None), revision.module.__doc__)
                if said:
                    entry["mark"] = said
                pending.append(entry)
        if seen["dialect"] != "postgresql":
            self.notes.append(NO_LOCK % seen["dialect"])
        return {
            "dialect": seen["dialect"],
            "own": seen["own"],
            "current": seen["current"],
            "heads": heads,
            "unknown": unknown,
            "pending": pending,
        }

    def guard(self, context):
        """The lock and the bounds, on the connection that migrates."""
        if context.dialect.name != "postgresql":
            return

        def execute(sql):
            result = context.connection.exec_driver_sql(sql)
            return result.fetchall() if result.returns_rows else []

        self.execute = execute
        prepare(execute, self.config, self.until)

    def change(self, choose):
        """Runs what is chosen of the migrations under the lock; which those were."""

        def fn(rev, context):
            self.guard(context)
            if set(context.get_current_heads()) != set(rev or ()):
                raise Changed()
            if self.before is None:
                self.before = list(rev or ())
            self.watch(context)
            for step in choose(rev):
                print("molt: %s" % step, flush=True)
                self.at = step.revision.revision
                if not context.impl.transactional_ddl:
                    self.outside.add(self.at)
                yield step
                # What a try before has committed is not done again, so it stays in the list.
                if self.at not in self.done:
                    self.done.append(self.at)
                self.at = None

        def again():
            for _ in range(5):
                try:
                    return self.run(fn)
                except Changed:
                    continue
            raise Failure("the database is migrated by somebody else at the same time", True)

        with_locks(again, self.left_a_part)
        return {"applied": self.done}

    def watch(self, context):
        """Notes what is done outside of the transaction: of a migration that fails then a part may stay."""
        outside = getattr(context, "autocommit_block", None)
        if outside is None:
            return

        def noticed():
            # It commits what the transaction had as well, whoever's that was.
            self.outside.add(self.at)
            return outside()

        context.autocommit_block = noticed

    def landed(self):
        """What stayed of a run that failed. Whether all of it is one transaction is the project's choice, so that the
        database has to say it."""
        if self.before is None:
            return [], None, False
        current = self.look()["current"]
        if set(current) == set(self.before):
            done = []
        elif self.config["phase"] == "Downgrade":
            done = [revision for revision in self.done if revision not in current]
        else:
            ends = [index for index, revision in enumerate(self.done) if revision in current]
            done = self.done[: ends[-1] + 1] if ends else self.done
        return done, self.at, bool(self.outside - set(done))

    def left_a_part(self):
        """What has failed can't be run again from its beginning."""
        try:
            return bool(self.outside) and self.landed()[2]
        except Exception:
            return True

    def left(self):
        """Where it failed, and whether a part may have stayed, as far as that is known without the database."""
        return self.at, bool(self.outside)

    def apply(self):
        heads = self.head()
        stop = self.config.get("stopBefore")

        def choose(rev):
            for step in self.steps(rev, heads):
                if step.revision.revision == stop:
                    return
                yield step

        return self.change(choose)

    def downgrade(self):
        target = self.config.get("target") or ["base"]

        def choose(rev):
            return list(self.script._downgrade_revs(target[0], tuple(rev))) if set(rev) != set(target) else []

        return self.change(choose)


# --- Django -----------------------------------------------------------------------------------------------------------


def unwritable(operations):
    """The first operation that is Python alone."""
    for operation in operations:
        if not getattr(operation, "reduces_to_sql", True):
            return operation
        inner = unwritable(getattr(operation, "database_operations", None) or [])
        if inner is not None:
            return inner
    return None


class Django:
    """A project with a manage.py, or with DJANGO_SETTINGS_MODULE set; its database `default`."""

    def __init__(self, config, until):
        self.config, self.until = config, until
        self.notes = []
        self.before, self.planned = None, []
        self.at, self.outside = None, False
        sys.path.insert(0, os.getcwd())
        if not os.environ.get("DJANGO_SETTINGS_MODULE"):
            os.environ["DJANGO_SETTINGS_MODULE"] = self.settings()
        try:
            import django
        except ImportError as error:
            raise Failure("django can't be imported by %s: %s" % (sys.executable, error))
        self.version = "django " + django.get_version()
        django.setup()
        from django.db import connection

        self.connection = connection
        self.watch()

    def watch(self):
        """Notes which migration is under way."""
        from django.db.migrations.executor import MigrationExecutor

        def noted(method):
            def run(executor, state, migration, *rest, **options):
                self.at, self.outside = self.name(migration), not self.whole(migration)
                result = method(executor, state, migration, *rest, **options)
                self.at, self.outside = None, False
                return result

            return run

        for method in ("apply_migration", "unapply_migration"):
            setattr(MigrationExecutor, method, noted(getattr(MigrationExecutor, method)))

    @staticmethod
    def settings():
        try:
            with open("manage.py", encoding="utf-8") as file:
                found = re.search(r"DJANGO_SETTINGS_MODULE[\"']\s*,\s*[\"']([\w.]+)[\"']", file.read())
        except OSError:
            found = None
        if not found:
            raise Failure(
                "neither DJANGO_SETTINGS_MODULE nor a manage.py in %s says where the settings are: set"
                " gates.migrations.workingDir" % os.getcwd()
            )
        return found.group(1)

    def executor(self):
        from django.db.migrations.executor import MigrationExecutor

        self.connection.ensure_connection()
        executor = MigrationExecutor(self.connection)
        executor.loader.check_consistent_history(self.connection)
        conflicts = executor.loader.detect_conflicts()
        if conflicts:
            text = "; ".join("%s: %s" % (app, ", ".join(sorted(names))) for app, names in sorted(conflicts.items()))
            raise Failure("the migrations have several heads (%s): join them by `makemigrations --merge`" % text)
        return executor

    def pending(self, executor):
        leaves = executor.loader.graph.leaf_nodes()
        return [migration for migration, _ in executor.migration_plan(leaves)]

    @staticmethod
    def name(migration):
        return "%s.%s" % (migration.app_label, migration.name)

    def render(self, executor, migration):
        # Within another operation it would even be run to be rendered.
        unwritten = unwritable(migration.operations)
        if unwritten is not None:
            return "", "%s can't be written as SQL" % type(unwritten).__name__
        try:
            return "\n".join(executor.loader.collect_sql([(migration, False)])), None
        except Exception as error:
            return "", "it can't be written as SQL: %s" % one_line(error)[:160]

    def check(self):
        executor = self.executor()
        loader = executor.loader
        pending = []
        for migration in self.pending(executor):
            sql, opaque = self.render(executor, migration)
            entry = {"id": self.name(migration), "sql": sql}
            if opaque:
                entry["opaque"] = opaque
            said = mark(inspect.getfile(type(migration)))
            if said:
                entry["mark"] = said
            pending.append(entry)
        touched = {entry["id"].split(".")[0] for entry in pending}
        current = []
        for app in sorted(touched):
            applied = [key for key in loader.applied_migrations if key[0] == app and key in loader.graph.nodes]
            ends = [
                key
                for key in applied
                if not any(child.key in applied for child in loader.graph.node_map[key].children if child.key[0] == app)
            ]
            current.append("%s.%s" % (app, sorted(ends)[-1][1] if ends else "zero"))
        if self.connection.vendor != "postgresql":
            self.notes.append(NO_LOCK % self.connection.vendor)
        return {
            "dialect": self.connection.vendor,
            "current": current,
            "heads": [],
            "unknown": self.foreign(loader),
            "pending": pending,
        }

    def foreign(self, loader):
        """What is applied and these files do not have, the last first. Django itself does not mind."""
        squashed = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
        applied = loader.applied_migrations
        foreign = [key for key in applied if key[0] in loader.migrated_apps and key not in loader.disk_migrations]
        foreign = [key for key in foreign if key not in squashed]
        foreign.sort(key=lambda key: applied[key].applied, reverse=True)
        return [self.name_of(key) for key in foreign[:MOST_FOREIGN]]

    def guard(self):
        self.connection.ensure_connection()
        if self.connection.vendor != "postgresql":
            return

        def execute(sql):
            with self.connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []

        self.execute = execute
        prepare(execute, self.config, self.until)

    def apply(self):
        from django.core.management import call_command

        stop = self.config.get("stopBefore")

        def run():
            self.guard()
            executor = self.executor()
            names = [self.name(migration) for migration in self.pending(executor)]
            stops = stop in names
            if stops:
                names = names[: names.index(stop)]
            # What a try before has committed is not pending any more, so it stays in the list.
            self.planned.extend(name for name in names if name not in self.planned)
            if self.before is None:
                self.before = self.applied(executor)
            if stops:
                for name in names:
                    call_command("migrate", *name.split(".", 1), interactive=False)
            else:
                call_command("migrate", interactive=False)

        with_locks(run, lambda: self.outside)
        return {"applied": self.planned}

    def applied(self, executor):
        return {self.name_of(key) for key in executor.loader.applied_migrations}

    def landed(self):
        """What stayed of a run that failed: each migration is committed by itself."""
        if self.before is None:
            return [], None, False
        now = self.applied(self.executor())
        if self.config["phase"] == "Downgrade":
            return sorted(self.before - now), self.at, self.outside
        return [name for name in self.planned if name in now], self.at, self.outside

    def left(self):
        return self.at, self.outside

    def whole(self, migration):
        """Nothing stays of a migration that fails."""
        return self.connection.features.can_rollback_ddl and getattr(migration, "atomic", True)

    def downgrade(self):
        from django.core.management import call_command

        back = []

        def run():
            self.guard()
            if self.before is None:
                self.before = self.applied(self.executor())
            for name in self.config.get("target") or []:
                call_command("migrate", *name.split(".", 1), interactive=False)
            back.extend(sorted(self.before - self.applied(self.executor())))

        with_locks(run, lambda: self.outside)
        return {"applied": back}

    @staticmethod
    def name_of(key):
        return "%s.%s" % key


TOOLS = {"alembic": Alembic, "django": Django}


def run(config):
    """The report of one run."""
    until = time.monotonic() + config["timeout"]
    tool = None
    try:
        tool = TOOLS[config["tool"]](config, until)
        phase = config["phase"]
        result = tool.check() if phase == "Check" else tool.downgrade() if phase == "Downgrade" else tool.apply()
        return dict(result, tool=tool.version, notes=tool.notes)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        where = ""
        if sqlstate(error) == "55P03" and hasattr(tool, "execute"):
            try:
                where = blockers(tool)
            except Exception as other:
                print("molt: who holds the lock is not known:", other, file=sys.stderr)
        failure = told(error, where)
        message = redact(str(failure))
        report = {"error": {"message": message[:1500], "transient": failure.transient}}
        if config["phase"] != "Check" and tool is not None:
            report.update(what_stayed(tool))
        return report


def what_stayed(tool, seconds=LOOK_SECONDS):
    """What a run that failed has applied, or taken back, and where it failed, as the database has it.

    The answer is waited for only so long: why the run failed must be told whatever the database does now."""
    found = []

    def look():
        try:
            found.append(tool.landed())
        except BaseException as error:
            print("molt: what stayed of the run is not known:", error, file=sys.stderr)

    # By a thread, for a driver that waits can't be interrupted; and its connection is another one.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        applied, at, partly = found[0]
        report = {"applied": applied, "changed": "yes" if applied else "unknown" if partly else "no"}
    else:
        at, partly = tool.left()
        report = {"changed": "unknown"}
    report["partly"] = partly
    if at:
        report["at"] = at
    return report


def blockers(tool):
    """Who may hold the lock, asked by a new connection: that of the failure is gone."""
    text = []
    if isinstance(tool, Alembic):

        def fn(rev, context):
            text.append(holders(lambda sql: context.connection.exec_driver_sql(sql).fetchall()))
            return []

        tool.run(fn, dont_mutate=True)
    else:
        text.append(holders(tool.execute))
    return " (%s)" % text[0] if text and text[0] else ""


def main():
    # As the first process of a container it has to say itself that it ends.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    config = json.loads(os.environ["MOLT_MIGRATION"])
    report = run(config)
    tell(report, os.environ.get("MOLT_REPORT", "/dev/termination-log"))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the application must not keep the container.
    os._exit(1 if "error" in report else 0)


if __name__ == "__main__":
    main()
