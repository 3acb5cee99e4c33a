//! What a run of migrations wrote down at its end. It comes from a user's container: nothing of it is trusted. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use molt_core::migration::{
    Changed, MAX_MIGRATIONS, MAX_TEXT, MigrationFailure, MigrationKind, MigrationReport, PendingMigration,
};
use serde::Deserialize;

use super::classify::classify;
use super::redact::redact;

/// Bytes that a report may have once it is unpacked.
const MOST_BYTES: usize = 1 << 20;
/// Characters of an identity that are kept.
const MOST_OF_ID: usize = 128;
/// Characters of a failure that are kept.
pub const MOST_OF_FAILURE: usize = 900;
/// Notes that are kept.
const MOST_NOTES: usize = 6;

/// As the runner writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    error: Option<WrittenError>,
    tool: String,
    dialect: String,
    own: Option<String>,
    current: Vec<String>,
    heads: Vec<String>,
    unknown: Vec<String>,
    pending: Vec<WrittenMigration>,
    more: bool,
    applied: Vec<String>,
    notes: Vec<String>,
    at: Option<String>,
    partly: bool,
    changed: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenError {
    message: String,
    transient: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenMigration {
    id: String,
    sql: String,
    opaque: Option<String>,
    mark: Option<String>,
}

/// The report in a termination message; `None` if that is none.
pub fn read(said: &str) -> Option<MigrationReport> {
    let said = said.trim();
    let text = match said.strip_prefix("zlib:") {
        Some(packed) => {
            let packed = STANDARD.decode(packed).ok()?;
            let bytes = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, MOST_BYTES).ok()?;
            String::from_utf8(bytes).ok()?
        }
        None => said.to_owned(),
    };
    let written: Written = serde_json::from_str(&text)
        .ok()
        .filter(|_| text.starts_with('{'))?;
    // What is cut off, or somebody else's, must not look like a database where nothing is pending.
    if written.error.is_none() && written.tool.is_empty() {
        return None;
    }
    let mut notes: Vec<String> = written.notes.iter().map(|note| told(note, MAX_TEXT)).collect();
    let mut pending = Vec::new();
    for migration in &written.pending {
        let (judged, more) = judge(migration, &written.dialect, written.own.as_deref());
        pending.push(judged);
        notes.extend(more);
    }
    if written.more {
        // One more than can be judged: whoever has an older revision live is told so.
        let unread = PendingMigration {
            id: "…".to_owned(),
            kind: MigrationKind::Unknown,
            why: "there are more than a report can hold".to_owned(),
        };
        pending.resize(pending.len().max(MAX_MIGRATIONS) + 1, unread);
    }
    pending.truncate(MAX_MIGRATIONS + 1);
    notes.truncate(MOST_NOTES);
    Some(MigrationReport {
        failure: written.error.map(|error| MigrationFailure {
            transient: error.transient,
            message: told(&error.message, MOST_OF_FAILURE),
            at: written.at.as_deref().map(id),
            partly: written.partly,
            changed: written.changed.as_deref().map(|changed| match changed {
                "no" => Changed::No,
                "yes" => Changed::Yes,
                _ => Changed::Unknown,
            }),
        }),
        current: ids(&written.current),
        heads: ids(&written.heads),
        unknown: ids(&written.unknown),
        pending,
        applied: ids(&written.applied),
        notes,
    })
}

fn judge(migration: &WrittenMigration, dialect: &str, own: Option<&str>) -> (PendingMigration, Vec<String>) {
    let class = classify(&migration.sql, dialect, own);
    let (kind, why) = match (migration.mark.as_deref(), &migration.opaque) {
        (Some("expand"), _) => (MigrationKind::Expand, "as its author says".to_owned()),
        (Some("contract"), _) => (MigrationKind::Contract, "as its author says".to_owned()),
        (_, Some(opaque)) => (MigrationKind::Unknown, opaque.clone()),
        _ => (class.kind, class.why),
    };
    let judged = PendingMigration {
        id: id(&migration.id),
        kind,
        why: told(&why, MAX_TEXT),
    };
    (judged, class.notes)
}

fn ids(all: &[String]) -> Vec<String> {
    all.iter().take(MAX_MIGRATIONS).map(|name| id(name)).collect()
}

fn id(name: &str) -> String {
    let plain = name.chars().filter(|c| !c.is_control());
    plain.take(MOST_OF_ID).collect()
}

/// A text for people: on one line, bounded, without passwords.
pub fn told(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    redact(&line).chars().take(most).collect()
}

/// The end of a log, for people: what failed is told last.
pub fn tail(text: &str) -> String {
    let line = redact(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    let skip = line.chars().count().saturating_sub(MOST_OF_FAILURE);
    line.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_plain_and_packed() {
        let plain = r#"{"dialect":"postgresql","current":["a"],"heads":["c"],"pending":[{"id":"b","sql":"ALTER TABLE t ADD COLUMN c text"},{"id":"c","sql":"","opaque":"too long"},{"id":"d","sql":"DROP TABLE t","mark":"expand"}],"notes":["n"],"tool":"alembic"}"#;
        let report = read(plain).unwrap();
        let kinds: Vec<MigrationKind> = report.pending.iter().map(|m| m.kind).collect();
        assert_eq!(
            kinds,
            [
                MigrationKind::Expand,
                MigrationKind::Unknown,
                MigrationKind::Expand
            ]
        );
        assert_eq!(
            (report.current, report.notes),
            (vec!["a".to_owned()], vec!["n".to_owned()])
        );
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(plain.as_bytes(), 9);
        let packed = format!("zlib:{}", STANDARD.encode(packed));
        assert_eq!(read(&packed).unwrap().pending.len(), 3);
    }

    #[test]
    fn what_is_no_report_is_none_and_what_is_hostile_is_bounded() {
        for text in [
            "",
            "Traceback (most recent call last):",
            "zlib:?",
            "zlib:AAAA",
            "[]",
            "{}",
            "{\"pending\":3}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b' '; 4 << 20], 9);
        assert_eq!(read(&format!("zlib:{}", STANDARD.encode(bomb))), None);
        let many = format!(
            r#"{{"tool":"t","pending":[{}{{}}],"more":true}}"#,
            "{\"id\":\"a\\u0007\"},".repeat(500)
        );
        let report = read(&many).unwrap();
        assert_eq!(
            (report.pending.len(), report.pending[0].id.as_str()),
            (MAX_MIGRATIONS + 1, "a")
        );
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(9000));
        assert_eq!(
            read(&long).unwrap().failure.unwrap().message.len(),
            MOST_OF_FAILURE
        );
    }

    #[test]
    fn a_failure_has_no_password() {
        let said = r#"{"error":{"message":"can't connect to postgresql://shop:hunter2@db/shop\n  twice","transient":true}}"#;
        let failure = read(said).unwrap().failure.unwrap();
        assert_eq!((failure.at, failure.changed), (None, None));
        assert_eq!(
            failure.message,
            "can't connect to postgresql://shop:***@db/shop twice"
        );
        assert!(failure.transient);
        let half = r#"{"error":{"message":"x"},"applied":["m2"],"at":"m3","partly":true,"changed":"yes"}"#;
        let half = read(half).unwrap();
        assert_eq!(half.applied, ["m2"]);
        let failure = half.failure.unwrap();
        assert_eq!(
            (failure.at.as_deref(), failure.partly, failure.changed),
            (Some("m3"), true, Some(Changed::Yes))
        );
        assert_eq!(tail(&format!("{} end", "x ".repeat(2000))).len(), MOST_OF_FAILURE);
    }
}
