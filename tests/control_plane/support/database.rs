//! What a run of migrations would say, without a database. The image chooses: `…:expand` brings a column, `…:contract`
//! takes one as well, `…:renames` does both in one, `…:heads` has two heads, `…:breaks` fails half way, `…:hangs` never
//! ends, `…:later` finds what `…:contract` held back; any other finds nothing pending.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

/// How a run goes.
pub enum Run {
    /// It is none of migrations.
    None,
    /// It never ends.
    Hangs,
    /// Its exit code and its termination message.
    Ends(i32, String),
}

/// How a pod's run goes.
pub fn run(pod: &Pod) -> Run {
    asked(pod).map_or(Run::None, |(tag, what)| answer(&tag, &what))
}

/// The tag of the image, and what is asked for, of a run of migrations.
fn asked(pod: &Pod) -> Option<(String, Value)> {
    let condition = pod.labels().get("molt.dev/condition")?;
    condition.strip_prefix("migration.")?;
    let container = pod.spec.as_ref()?.containers.first()?;
    let env = container.env.iter().flatten();
    let what = env.clone().find(|e| e.name == "MOLT_MIGRATION")?.value.clone()?;
    let what: Value = serde_json::from_str(&what).expect("it is JSON");
    let image = container.image.clone().unwrap_or_default();
    let tag = image.rsplit(':').next().unwrap_or_default();
    Some((tag.to_owned(), what))
}

fn answer(tag: &str, what: &Value) -> Run {
    let add = json!({"id": "m2", "sql": "ALTER TABLE orders ADD COLUMN note TEXT"});
    let take = json!({"id": "m3", "sql": "ALTER TABLE orders DROP COLUMN amount"});
    let pending = match tag {
        "expand" | "breaks" | "hangs" => vec![add],
        "contract" => vec![add, take],
        "renames" => vec![json!({"id": "m2", "sql": "ALTER TABLE orders RENAME customer TO buyer"})],
        "later" => vec![take, json!({"id": "m4", "sql": "CREATE TABLE places (id int)"})],
        _ => Vec::new(),
    };
    let error = |message: &str| {
        Run::Ends(
            1,
            json!({"error": {"message": message, "transient": false}}).to_string(),
        )
    };
    let phase = what["phase"].as_str().unwrap_or_default();
    match (tag, phase) {
        ("heads", _) => error("the migrations have 2 heads, and one is wanted: a, b"),
        ("breaks", "Apply") => {
            error("relation \"nowhere\" does not exist at postgresql://shop:hunter2@db/shop")
        }
        ("hangs", "Apply") => Run::Hangs,
        (_, "Check") => {
            let report = json!({
                "tool": "alembic 1", "dialect": "postgresql", "current": ["m1"], "heads": ["m9"], "pending": pending,
            });
            Run::Ends(0, report.to_string())
        }
        _ => {
            let ids = pending.iter().map(|m| m["id"].clone());
            let done: Vec<Value> = ids.take_while(|id| *id != what["stopBefore"]).collect();
            Run::Ends(0, json!({"tool": "alembic 1", "applied": done}).to_string())
        }
    }
}
