//! Which tables and columns are known to be those that the migration has made.

use super::*;

#[test]
fn a_table_is_made_by_its_full_name_only() {
    are_judged(
        "postgresql",
        &[
            (
                "CREATE TABLE orders (id int); ALTER TABLE archive.orders DROP COLUMN amount",
                Mixed,
            ),
            (
                "CREATE TABLE archive.orders (id int); CREATE UNIQUE INDEX i ON orders (id)",
                Mixed,
            ),
            (
                "ALTER TABLE archive.orders ADD COLUMN amount int; UPDATE orders SET amount = 0",
                Unknown,
            ),
            (
                "ALTER TABLE archive.orders ADD COLUMN amount int; ALTER TABLE orders DROP COLUMN amount",
                Mixed,
            ),
            // A dot in quotes parts nothing.
            (
                "CREATE TABLE \"a.orders\" (id int); ALTER TABLE a.orders DROP COLUMN id",
                Mixed,
            ),
            (
                "ALTER TABLE t ADD COLUMN \"Amount\" int; UPDATE t SET amount = 0",
                Unknown,
            ),
            (
                "ALTER TABLE t ADD COLUMN \"Amount\" int; ALTER TABLE t DROP COLUMN Amount",
                Mixed,
            ),
            // A field of a column that was there.
            ("ALTER TABLE t ADD COLUMN c int; UPDATE t SET d.c = 1", Unknown),
            (
                "CREATE TABLE public.orders (id int); ALTER TABLE Public.\"orders\" DROP COLUMN id",
                Expand,
            ),
            (
                "CREATE TABLE Orders (id int); ALTER TABLE /* mine */ oRDERS -- so\nDROP COLUMN id",
                Expand,
            ),
            (
                "CREATE TABLE \"Order Lines\" (id int); INSERT INTO \"Order Lines\" VALUES (1)",
                Expand,
            ),
            (
                "ALTER TABLE t ADD COLUMN \"Amount\" int; UPDATE t SET \"Amount\" = 0",
                Expand,
            ),
            (
                "CREATE TABLE t AS SELECT 1 AS id; INSERT INTO t VALUES (2)",
                Expand,
            ),
            ("CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1)", Expand),
        ],
    );
    // Names that differ in their case may be those of two tables there.
    are_judged(
        "mysql",
        &[
            ("CREATE TABLE T (id int); ALTER TABLE t DROP COLUMN id", Mixed),
            ("CREATE TABLE T (id int); ALTER TABLE `T` DROP COLUMN id", Expand),
        ],
    );
}

#[test]
fn what_may_have_been_there_or_goes_again_is_not_made() {
    are_judged(
        "postgresql",
        &[
            (
                "CREATE TABLE IF NOT EXISTS orders AS SELECT 1 AS id; INSERT INTO orders VALUES (1)",
                Unknown,
            ),
            (
                "BEGIN; CREATE TEMP TABLE orders (id int) ON COMMIT DROP; COMMIT; ALTER TABLE orders DROP COLUMN amount",
                Mixed,
            ),
            (
                "CREATE TABLE orders (id int); DROP TABLE public.orders; ALTER TABLE orders DROP COLUMN amount",
                Mixed,
            ),
            ("CREATE OR REPLACE TABLE orders (id int)", Mixed),
            ("CREATE TABLE t (id int); DROP TABLE t", Expand),
            ("CREATE TABLE t (id int); DROP TABLE t, orders", Mixed),
            (
                "CREATE TABLE t (id int); DROP TABLE t; ALTER TABLE t DROP COLUMN id",
                Mixed,
            ),
        ],
    );
}

#[test]
fn a_made_table_is_made_under_its_new_name() {
    are_judged(
        "postgresql",
        &[
            (
                "CREATE TABLE t (id int); ALTER TABLE t RENAME TO u; ALTER TABLE u DROP COLUMN id",
                Expand,
            ),
            (
                "CREATE TABLE a.t (id int); ALTER TABLE a.t RENAME TO \"U\"; INSERT INTO a.\"U\" VALUES (1)",
                Expand,
            ),
            (
                "CREATE TABLE t (id int); ALTER TABLE t RENAME TO u; ALTER TABLE t DROP COLUMN c",
                Mixed,
            ),
            (
                "CREATE TABLE a.t (id int); ALTER TABLE a.t RENAME TO u; ALTER TABLE u DROP COLUMN c",
                Mixed,
            ),
            (
                "CREATE TABLE IF NOT EXISTS t (id int); ALTER TABLE t RENAME TO u",
                Mixed,
            ),
            (
                "ALTER TABLE t ADD COLUMN c int; ALTER TABLE t RENAME COLUMN c TO d; UPDATE t SET d = 1",
                Expand,
            ),
            (
                "ALTER TABLE t ADD COLUMN c int; ALTER TABLE t RENAME COLUMN d TO e",
                Mixed,
            ),
        ],
    );
    are_judged(
        "mysql",
        &[
            (
                "CREATE TABLE t (id int); RENAME TABLE t TO u; INSERT INTO u VALUES (1)",
                Expand,
            ),
            (
                "CREATE TABLE t (id int); RENAME TABLE t TO u; INSERT INTO t VALUES (1)",
                Unknown,
            ),
            ("CREATE TABLE t (id int); RENAME TABLE t TO u, v TO w", Mixed),
            // It goes to the database of the connection.
            (
                "CREATE TABLE a.t (id int); ALTER TABLE a.t RENAME TO u; ALTER TABLE a.u DROP COLUMN id",
                Mixed,
            ),
            (
                "CREATE TABLE a.t (id int); RENAME TABLE a.t TO u; ALTER TABLE a.u DROP COLUMN id",
                Mixed,
            ),
        ],
    );
}

#[test]
fn a_part_of_a_table_that_is_live_is_not_made() {
    are_judged(
        "postgresql",
        &[
            (
                "CREATE TABLE p PARTITION OF live FOR VALUES FROM (1) TO (2)",
                Expand,
            ),
            (
                "CREATE TABLE p PARTITION OF live FOR VALUES FROM (1) TO (2); ALTER TABLE p ADD CHECK (c > 0)",
                Mixed,
            ),
            (
                "CREATE TABLE p PARTITION OF live FOR VALUES FROM (1) TO (2); INSERT INTO p VALUES (1)",
                Unknown,
            ),
            (
                "CREATE TABLE p PARTITION OF live FOR VALUES FROM (1) TO (2); DROP TABLE p",
                Mixed,
            ),
            (
                "CREATE TABLE p PARTITION OF live (CONSTRAINT k CHECK (c > 0)) FOR VALUES FROM (1) TO (2)",
                Contract,
            ),
            (
                "CREATE TABLE p (x int) INHERITS (live); INSERT INTO p VALUES (1)",
                Unknown,
            ),
            (
                "CREATE TABLE t (id int) PARTITION BY RANGE (id); CREATE TABLE p PARTITION OF t (CONSTRAINT k CHECK (id > 0)) FOR VALUES FROM (1) TO (2); INSERT INTO p VALUES (1); DROP TABLE p",
                Expand,
            ),
            (
                "CREATE TABLE archive.live (id int) PARTITION BY RANGE (id); CREATE TABLE p PARTITION OF live FOR VALUES FROM (1) TO (2); ALTER TABLE p ADD CHECK (id > 0)",
                Mixed,
            ),
        ],
    );
    let class = classify("CREATE TABLE p PARTITION OF live DEFAULT", "postgresql", None);
    assert_eq!(
        (class.kind, class.notes.len()),
        (Expand, 1),
        "it locks all of the table"
    );
}

#[test]
fn only_the_tools_own_table_itself_is_its_bookkeeping() {
    are_judged(
        "postgresql",
        &[
            ("DELETE FROM alembic_version", Expand),
            (
                "DELETE FROM \"public\".\"django_migrations\" WHERE app = 'shop'",
                Expand,
            ),
            (
                "delete from Public.ALEMBIC_VERSION where version_num = 'a'",
                Expand,
            ),
            ("UPDATE app.alembic_version SET version_num = 'b'", Expand),
            // Others that merely name it.
            ("DELETE FROM orders WHERE note = 'alembic_version'", Unknown),
            (
                "DELETE FROM orders WHERE id IN (SELECT 1 FROM alembic_version)",
                Unknown,
            ),
            ("DELETE FROM orders USING alembic_version", Unknown),
            ("DELETE FROM orders /* alembic_version */", Unknown),
            ("DELETE FROM alembic_version_old", Unknown),
            ("DELETE FROM old_django_migrations", Unknown),
            ("DELETE FROM \"Alembic_Version\"", Unknown),
            ("DELETE FROM alembic_version.orders", Unknown),
            ("DELETE FROM \"x.alembic_version\"", Unknown),
            ("UPDATE orders SET note = 'django_migrations'", Unknown),
            (
                "UPDATE orders SET note = 1 FROM django_migrations WHERE true",
                Unknown,
            ),
            ("INSERT INTO orders SELECT * FROM alembic_version", Unknown),
            ("INSERT INTO \"x.alembic_version\" VALUES ('a')", Unknown),
            ("DROP TABLE alembic_version, orders", Contract),
        ],
    );
    are_judged(
        "mysql",
        &[
            ("DELETE FROM `shop`.`alembic_version`", Expand),
            ("DELETE orders FROM alembic_version JOIN orders ON true", Unknown),
            (
                "UPDATE alembic_version JOIN orders ON true SET orders.id = 1",
                Unknown,
            ),
        ],
    );
}

#[test]
fn a_statement_that_changes_another_table_on_its_way_is_not_judged_by_its_target() {
    are_judged(
        "postgresql",
        &[
            (
                "CREATE TABLE t (id int); INSERT INTO t WITH x AS (DELETE FROM live RETURNING id) SELECT id FROM x",
                Unknown,
            ),
            (
                "CREATE TABLE t AS WITH x AS MATERIALIZED (/* so */ delete FROM live RETURNING id) SELECT id FROM x",
                Unknown,
            ),
            (
                "WITH x AS (DELETE FROM live RETURNING id) DELETE FROM alembic_version",
                Unknown,
            ),
            (
                "CREATE TABLE t (id int); INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
                Expand,
            ),
            (
                "CREATE TABLE t (id int REFERENCES u (id) ON DELETE CASCADE ON UPDATE CASCADE)",
                Expand,
            ),
            (
                "CREATE TABLE t (id int); INSERT INTO t SELECT id FROM live FOR UPDATE",
                Expand,
            ),
        ],
    );
}
