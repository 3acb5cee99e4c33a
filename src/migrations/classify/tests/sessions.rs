//! Statements of a session and its transactions: harmless, but names may mean others from there on.

use super::*;

#[test]
fn whatever_moves_the_search_path_makes_names_mean_others() {
    for moves in [
        "SET search_path TO archive",
        "SET search_path=archive",
        "SET LOCAL search_path = archive",
        "set /* local */ session\n\"search_path\" to archive",
        "SET SCHEMA 'archive'",
        "SET ROLE archivist",
        "SET LOCAL ROLE archivist",
        "SET SESSION AUTHORIZATION archivist",
        "RESET search_path",
        "RESET ROLE",
        "RESET SESSION AUTHORIZATION",
        "RESET ALL",
    ] {
        are_judged(
            "postgresql",
            &[
                (
                    &format!("CREATE TABLE orders (id int); {moves}; ALTER TABLE orders DROP COLUMN amount"),
                    Mixed,
                ),
                (
                    &format!("CREATE TABLE orders (id int); {moves}; INSERT INTO orders VALUES (1)"),
                    Unknown,
                ),
                (
                    &format!("ALTER TABLE orders ADD COLUMN c int; {moves}; UPDATE orders SET c = 0"),
                    Unknown,
                ),
                // A name with its schema stays, and so do those that are made afterwards.
                (
                    &format!("CREATE TABLE a.t (id int); {moves}; ALTER TABLE a.t DROP COLUMN id"),
                    Expand,
                ),
                (
                    &format!("{moves}; CREATE TABLE t (id int); ALTER TABLE t DROP COLUMN id"),
                    Expand,
                ),
                // It may have been moved for one transaction only.
                (
                    &format!("BEGIN; {moves}; CREATE TABLE t (id int); COMMIT; ALTER TABLE t DROP COLUMN id"),
                    Mixed,
                ),
            ],
        );
    }
    for stays in [
        "SET lock_timeout = '1s'",
        "SET LOCAL statement_timeout TO 0",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "RESET lock_timeout",
        "COMMENT ON TABLE orders IS 'SET search_path'",
        "COMMIT; BEGIN",
    ] {
        let sql = format!("CREATE TABLE orders (id int); {stays}; ALTER TABLE orders DROP COLUMN id");
        are_judged("postgresql", &[(&sql, Expand)]);
    }
}

#[test]
fn what_is_rolled_back_is_not_made() {
    for back in [
        "ROLLBACK",
        "rollback work",
        "ROLLBACK TO SAVEPOINT s",
        "ROLLBACK /* to */ TO s",
        "ROLLBACK TRANSACTION TO s",
        "ROLLBACK AND CHAIN",
    ] {
        are_judged(
            "postgresql",
            &[
                (
                    &format!(
                        "BEGIN; SAVEPOINT s; CREATE TABLE orders (id int); {back}; ALTER TABLE orders DROP COLUMN amount"
                    ),
                    Mixed,
                ),
                (
                    &format!(
                        "BEGIN; SAVEPOINT s; ALTER TABLE orders ADD COLUMN c int; {back}; UPDATE orders SET c = 1"
                    ),
                    Unknown,
                ),
                (
                    &format!(
                        "BEGIN; SAVEPOINT s; CREATE TABLE a.orders (id int); {back}; INSERT INTO a.orders VALUES (1)"
                    ),
                    Unknown,
                ),
                // Nor is a name that it was given.
                (
                    &format!(
                        "CREATE TABLE t (id int); BEGIN; SAVEPOINT s; ALTER TABLE t RENAME TO orders; {back}; ALTER TABLE orders DROP COLUMN amount"
                    ),
                    Mixed,
                ),
                (
                    &format!(
                        "BEGIN; SAVEPOINT s; {back}; CREATE TABLE t (id int); ALTER TABLE t DROP COLUMN id"
                    ),
                    Expand,
                ),
            ],
        );
    }
    are_judged(
        "postgresql",
        &[
            (
                "BEGIN; SAVEPOINT s; CREATE TABLE t (id int); RELEASE SAVEPOINT s; COMMIT; INSERT INTO t VALUES (1)",
                Expand,
            ),
            (
                "BEGIN; CREATE TABLE t (id int); PREPARE TRANSACTION 'x'; ALTER TABLE t DROP COLUMN id",
                Unknown,
            ),
        ],
    );
}

#[test]
fn a_harmless_word_in_front_does_not_make_a_statement_harmless() {
    are_judged(
        "postgresql",
        &[
            (
                "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE, NOT DEFERRABLE",
                Expand,
            ),
            ("START TRANSACTION READ ONLY; END WORK", Expand),
            ("COMMIT AND NO CHAIN", Expand),
            ("ANALYZE VERBOSE t", Expand),
            ("EXPLAIN ANALYZE DELETE FROM t", Unknown),
        ],
    );
    are_judged(
        "mysql",
        &[
            ("START TRANSACTION WITH CONSISTENT SNAPSHOT", Expand),
            ("BEGIN NOT ATOMIC DROP TABLE t; END", Unknown),
            ("ANALYZE TABLE t", Expand),
            ("ANALYZE DELETE FROM t", Unknown),
            ("SET GLOBAL read_only = 1", Unknown),
            ("SET PERSIST sql_mode = 'ANSI'", Unknown),
            ("SET @@GLOBAL.read_only = 1", Unknown),
            ("SET PASSWORD = 'x'", Unknown),
            ("SET @x = 1", Expand),
            ("/*!50001 DROP TABLE t */", Contract),
        ],
    );
    are_judged(
        "oracle",
        &[
            ("CREATE SEQUENCE s DROP TABLE t", Unknown),
            ("BEGIN EXECUTE IMMEDIATE 'DROP TABLE t'; END;", Unknown),
        ],
    );
    are_judged("sqlite", &[("BEGIN IMMEDIATE; COMMIT TRANSACTION", Expand)]);
}

#[test]
fn what_is_read_in_part_is_not_understood() {
    are_judged(
        "postgresql",
        &[
            ("CREATE TABLE t (id int) DROP TABLE u", Unknown),
            ("ALTER TABLE t ADD COLUMN c int DROP COLUMN d", Unknown),
            ("CREATE SCHEMA s CREATE TABLE t (id int)", Unknown),
            (
                "CREATE INDEX i ON t (c) INCLUDE (d) WITH (fillfactor = 70) WHERE c > 0",
                Expand,
            ),
            ("CREATE INDEX i ON t USING gin (c jsonb_path_ops)", Expand),
            (
                "CREATE INDEX i ON t (c varchar_pattern_ops, d DESC NULLS LAST)",
                Expand,
            ),
            (
                "CREATE TABLE t (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)",
                Expand,
            ),
            ("CREATE TABLE t (id int) WITH (fillfactor = 70)", Expand),
            (
                "CREATE TABLE t (id bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, c varchar(10) COLLATE \"C\", n numeric(10, 2) NULL)",
                Expand,
            ),
            ("CREATE UNLOGGED TABLE t (id int)", Expand),
            ("CREATE MATERIALIZED VIEW v AS SELECT 1", Expand),
            (
                "CREATE SEQUENCE s START WITH 1 INCREMENT BY 1 OWNED BY t.id",
                Expand,
            ),
            ("GRANT SELECT ON t TO u", Expand),
            (
                "CREATE FUNCTION f() RETURNS int AS $$ SELECT 1 $$ LANGUAGE sql IMMUTABLE",
                Expand,
            ),
            ("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'c' AFTER 'b'", Expand),
        ],
    );
    let class = classify("DROP INDEX /* so */ concurrently IF EXISTS i", "postgresql", None);
    assert_eq!((class.kind, class.why.as_str()), (Contract, "drops index i"));
    are_judged(
        "mysql",
        &[
            (
                "CREATE TABLE `t` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY, `c` longtext NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
                Expand,
            ),
            ("CREATE INDEX `i` ON `t` (`c`)", Expand),
            (
                "ALTER TABLE t ADD COLUMN c int NULL AFTER b, ALGORITHM=INPLACE, LOCK=NONE",
                Expand,
            ),
        ],
    );
}
