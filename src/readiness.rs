//! Readiness for production as this version judges it: the rules that its own schema can follow.

use std::sync::LazyLock;

use molt_readiness::{Catalogue, Engine, Facts, IGNORE};
use serde_json::{Value, json};

use crate::api::v1alpha1::{PythonServiceSpec, ReadinessStatus};

/// Of the fields that rules require, those that this version has.
const FIELDS: &[&str] = &["spec.gates.migrations"];

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::of_fields(FIELDS));

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&CATALOGUE).expect("the rules are CEL, as their tests say"));

/// The rules.
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

/// The rules, compiled once, when they are asked first.
pub fn engine() -> &'static Engine {
    &ENGINE
}

/// What the operator says of a spec whose template is known: by the object alone, so that nothing else has to be watched.
/// `replicas` counts where the spec leaves them out.
pub fn of_spec(spec: &PythonServiceSpec, replicas: u32, ignore: Option<&str>) -> ReadinessStatus {
    let mut annotations = Value::Null;
    if let Some(ignore) = ignore {
        annotations = json!({IGNORE: ignore});
    }
    let mut object = json!({"metadata": {"annotations": annotations}, "spec": spec});
    if spec.replicas.is_none() {
        object["spec"]["replicas"] = json!(replicas);
    }
    let review = engine().review(&object, Facts::default());
    let mut ignored: Vec<String> = review.ignored.iter().map(|f| f.rule.id.clone()).collect();
    ignored.dedup();
    ReadinessStatus {
        grade: review.grade,
        score: i32::from(review.score),
        failed: review.failed().into_iter().map(str::to_owned).collect(),
        ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::crds;

    #[test]
    fn a_rule_is_followed_as_soon_as_its_field_is_there() {
        let schema = crds::schema("PythonService").unwrap();
        let has = |path: &str| {
            path.split('.')
                .try_fold(&schema, |at, name| at.get("properties")?.get(name))
                .is_some()
        };
        for rule in &Catalogue::all().rules {
            let Some(field) = rule.requires.as_deref() else {
                continue;
            };
            assert_eq!(has(field), FIELDS.contains(&field), "{field}: correct FIELDS");
        }
    }
}
