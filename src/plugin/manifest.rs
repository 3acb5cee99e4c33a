//! A PythonService in a file, made into a plan by the operator's own validation, without a cluster.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use molt_core::plan::Plan;
use molt_readiness::schema::{Violation, unknown_fields};
use molt_sim::{Counter, Measure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use crate::api::crds;
use crate::controller::object::ServiceObject;
use crate::controller::revision;
use crate::controller::validate::{Defaults, Known, Validated, validate};
use crate::metric_sources::{PrometheusSource, SliQuery, SloQuery, presets};

/// A PythonService that can be rolled out.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// The plan.
    pub plan: Plan,
    /// How each objective is measured, in the plan's order.
    pub queries: Vec<SloQuery>,
    /// Where.
    pub source: Option<PrometheusSource>,
    /// What each objective counts as bad, in the plan's order.
    pub measures: Vec<Measure>,
    /// Who counts its requests, in the plan's order.
    pub counters: Vec<Counter>,
    /// The memory limit of the first container, in bytes.
    pub memory_limit: Option<f64>,
    /// Fields that mean nothing here.
    pub ignored: Vec<Violation>,
    /// It has thresholds, which are left out.
    pub without_conditions: bool,
}

/// Reads a file; `-` is the standard input.
pub(super) fn read_file(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Failure::Input(format!("{name}: can't be read: {error}")))
}

impl Manifest {
    /// Reads the one PythonService of a file, which may hold other objects beside it; if there are several,
    /// `service` names which. `prometheus` takes the place of the address that it names.
    pub fn read(path: &Path, service: Option<&str>, prometheus: Option<&str>) -> Result<Self, Failure> {
        let file = path.display();
        let manifest = Self::parse(&read_file(path)?, service, prometheus)
            .map_err(|why| Failure::Input(format!("{file}: {why}")))?;
        if manifest.without_conditions {
            eprintln!(
                "warning: {file}: spec.guards.conditions and databaseConnections are left out: their queries, URLs and Jobs have no answer here"
            );
        }
        misspelt(&manifest.ignored).map_err(|why| Failure::Input(format!("{file}: {why}")))?;
        Ok(manifest)
    }

    pub(super) fn parse(text: &str, service: Option<&str>, prometheus: Option<&str>) -> Result<Self, String> {
        let mut object = pick(documents(text)?, service)?;
        let ignored = ignored(&object);
        if let (Some(address), Some(spec)) = (prometheus, object["spec"].as_object_mut()) {
            let metrics = spec.entry("metrics").or_insert_with(|| json!({}));
            if let Some(metrics) = metrics.as_object_mut() {
                let prometheus = metrics.entry("prometheus").or_insert_with(|| json!({}));
                if prometheus.is_object() {
                    prometheus["address"] = json!(address);
                }
            }
        }
        let object = ServiceObject::deserialize(object)
            .map_err(|error| format!("metadata: can't be read: {error}"))?;
        let defaults = Defaults {
            // Nothing is asked of it.
            no_secrets: false,
            prometheus_address: Some("http://prometheus".to_owned()),
            ..Defaults::default()
        };
        let validated = validate(&object, &defaults, Known::default());
        if !validated.errors.is_empty() {
            // What is misspelt is missed in its right place: why, is what helps.
            misspelt(&ignored)?;
            return Err(list(&validated));
        }
        let mut plan = validated.plan;
        if let Some(workload) = &object.workload {
            // What is tried is a rollout after the takeover: which template it is of makes no difference.
            plan.revision = Some(revision::of_parts(
                &json!(workload.name),
                &workload.parts[0],
                &workload.parts[1],
            ));
            plan.workload = None;
        }
        // Whatever numbers their queries give, nothing here could compute them.
        let without_conditions = !plan.conditions.is_empty() || plan.room.connections.is_some();
        plan.conditions.clear();
        plan.room.connections = None;
        Ok(Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            memory_limit: memory_limit(&object),
            namespace: object.metadata.namespace.clone(),
            measures: validated.queries.iter().map(|q| measure(&q.sli)).collect(),
            counters: validated.queries.iter().map(|q| counter(&q.sli)).collect(),
            queries: validated.queries,
            source: validated.source,
            plan,
            without_conditions,
            ignored,
        })
    }
}

/// Fields of no version that this one knows: what they were to say would not be said.
pub(super) fn misspelt(fields: &[Violation]) -> Result<(), String> {
    if fields.is_empty() {
        return Ok(());
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|violation| {
            let Violation { field, says, fix } = violation;
            let fix = fix.as_deref().filter(|fix| fix.ends_with('?'));
            let fix = fix.unwrap_or("correct its spelling, or take it out");
            format!("{field}: {says}: {fix}")
        })
        .collect();
    Err(fields.join("\n  "))
}

/// Fields that were written and that no API server would keep.
pub(super) fn ignored(written: &Value) -> Vec<Violation> {
    crds::schema("PythonService").map_or_else(Vec::new, |schema| unknown_fields(&schema, written))
}

/// The documents of a manifest, those within a List as well.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("is no YAML: {error}"))?;
    Ok(documents
        .into_iter()
        .flat_map(|mut document| {
            let is_list = document["kind"] == "List";
            let items = document.get_mut("items").filter(|_| is_list);
            match items.map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => vec![document],
            }
        })
        .collect())
}

fn pick(documents: Vec<Value>, service: Option<&str>) -> Result<Value, String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut services: Vec<Value> = documents
        .into_iter()
        .filter(|object| object["kind"] == "PythonService")
        .collect();
    let names: Vec<String> = services.iter().map(name).collect();
    if let Some(wanted) = service {
        services.retain(|object| name(object) == wanted);
    }
    match (services.pop(), service) {
        (Some(found), _) if services.is_empty() => {
            let version = found["apiVersion"].as_str().unwrap_or_default();
            if version == "molt.dev/v1alpha1" {
                Ok(found)
            } else {
                Err(format!(
                    "apiVersion: {version:?} is unknown here: write molt.dev/v1alpha1"
                ))
            }
        }
        (None, None) => Err("has no PythonService: name a manifest of kind PythonService".to_owned()),
        (None, Some(wanted)) => Err(format!(
            "has no PythonService {wanted:?}: it has {}",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        )),
        (Some(_), _) => Err(format!(
            "has several PythonServices: choose one by --service, of {}",
            names.join(", ")
        )),
    }
}

/// Every field that is wrong, one a line if there are several.
fn list(validated: &Validated) -> String {
    match validated.errors.as_slice() {
        [one] => one.to_string(),
        several => several.iter().fold("is invalid:".to_owned(), |mut text, error| {
            // Writing to a String does not fail.
            let _ = write!(text, "\n  {error}");
            text
        }),
    }
}

fn measure(sli: &SliQuery) -> Measure {
    match sli {
        SliQuery::Availability(_) | SliQuery::Tasks(_) | SliQuery::Counters { .. } => Measure::Errors,
        SliQuery::Latency(_, threshold) => Measure::SlowerThan(*threshold),
    }
}

fn counter(sli: &SliQuery) -> Counter {
    if sli.at_route().is_none() {
        return Counter::Pods;
    }
    let sent = match sli {
        SliQuery::Availability(preset) => presets::sent(*preset).is_some(),
        SliQuery::Latency(timed, _) => presets::sent(timed.preset).is_some(),
        SliQuery::Tasks(_) | SliQuery::Counters { .. } => false,
    };
    Counter::Route { sent }
}

fn memory_limit(object: &ServiceObject) -> Option<f64> {
    let template = object.spec.as_ref().ok()?.template.as_ref()?.spec.as_ref()?;
    let limits = template.containers.first()?.resources.as_ref()?.limits.as_ref()?;
    molt_sim::scenario::bytes(&limits.get("memory")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const SMALLEST: &str = include_str!("fixtures/checkout.yaml");

    fn fields(manifest: &Manifest) -> Vec<&str> {
        manifest
            .ignored
            .iter()
            .map(|violation| violation.field.as_str())
            .collect()
    }

    fn error(text: &str, service: Option<&str>) -> String {
        Manifest::parse(text, service, None).unwrap_err()
    }

    #[test]
    fn the_plan_is_the_operators_without_any_cluster() {
        let text = format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: other}}\n---\n{SMALLEST}");
        let manifest = Manifest::parse(&text, None, None).unwrap();
        assert_eq!(manifest.name, "checkout");
        assert_eq!(manifest.plan.steps.len(), 8);
        assert!(manifest.plan.revision.is_some());
        assert_eq!(
            manifest.measures,
            [
                Measure::Errors,
                Measure::SlowerThan(SignedDuration::from_millis(250))
            ]
        );
        assert_eq!(manifest.counters, [Counter::Pods, Counter::Pods]);
        let at_route = |preset: &str| {
            let text = SMALLEST.replace("preset: fastapi-instrumentator", &format!("preset: {preset}"));
            Manifest::parse(&text, None, None).unwrap().counters[0]
        };
        assert_eq!(at_route("envoy-gateway"), Counter::Route { sent: true });
        assert_eq!(at_route("istio-gateway"), Counter::Route { sent: false });
        assert_eq!(manifest.memory_limit, Some(256.0 * 1024.0 * 1024.0));
        assert!(manifest.ignored.is_empty(), "{:?}", manifest.ignored);
    }

    #[test]
    fn a_misspelt_field_is_told_and_one_without_meaning_is_not() {
        let text = SMALLEST.replace(
            "port: 8000",
            "port: 8000\n  replica: 3\n  anaylsis: {}\n  strategy: {canary: {backe: 1s, steps: [{setWeight: 5, wait: 1}]}}\n  revisionHistoryLimit: null",
        );
        let text = text.replace("name: app,", "name: app, readinesProbe: {},");
        let manifest = Manifest::parse(&text, None, None).unwrap();
        let mut fields = fields(&manifest);
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "spec.anaylsis",
                "spec.replica",
                "spec.strategy.canary.backe",
                "spec.strategy.canary.steps[0].wait",
                "spec.template.spec.containers[0].readinesProbe"
            ]
        );
    }

    #[test]
    fn a_misspelt_field_is_refused_and_an_unreadable_one_has_its_path() {
        let text = SMALLEST.replace("port: 8000", "port: 8000\n  anaylsis: {}\n  xyz: 1");
        let refused = misspelt(&Manifest::parse(&text, None, None).unwrap().ignored).unwrap_err();
        for line in [
            "spec.anaylsis: is no field of this version: did you mean analysis?",
            "spec.xyz: is no field of this version: correct its spelling, or take it out",
        ] {
            assert!(refused.lines().any(|said| said.trim() == line), "{refused}");
        }
        assert_eq!(misspelt(&[]), Ok(()));
        let number = error(&SMALLEST.replace("objective: \"99\"", "objective: 99"), None);
        assert!(
            number.starts_with("spec: can't be read: slos[1].objective: invalid type: integer `99`"),
            "{number}"
        );
        let preset = error(
            &SMALLEST.replace("preset: fastapi-instrumentator", "preset: fastapi"),
            None,
        );
        assert!(
            preset.contains("slos[0].sli.preset: unknown variant `fastapi`"),
            "{preset}"
        );
    }

    #[test]
    fn a_misspelt_field_is_told_before_what_is_missing_for_it() {
        let refused = error(&SMALLEST.replace("  slos:", "  slso:"), None);
        assert_eq!(
            refused,
            "spec.slso: is no field of this version: did you mean slos?"
        );
    }

    #[test]
    fn conditions_are_left_out_and_what_is_misspelt_in_them_is_told() {
        let text = SMALLEST.replace(
            "port: 8000",
            "port: 8000\n  guards: {conditions: [{name: a, job: {timeOut: 1m, template: {spec: {containers: [{name: a, newField: 1}]}}}}]}",
        );
        let manifest = Manifest::parse(&text, None, None).unwrap();
        assert!(manifest.without_conditions && manifest.plan.conditions.is_empty());
        let mut fields = fields(&manifest);
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "spec.guards.conditions[0].job.template.spec.containers[0].newField",
                "spec.guards.conditions[0].job.timeOut"
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        assert_eq!(
            error(&SMALLEST.replace("port: 8000", "port: 0"), None),
            "spec.port: 0 is out of range: write 1 to 65535"
        );
        let two = SMALLEST
            .replace("port: 8000", "port: 0")
            .replace("\"99\"", "\"100\"");
        let two = error(&two, None);
        assert!(
            two.starts_with("is invalid:\n  spec.port: ") && two.contains("\n  spec.slos[1]."),
            "{two}"
        );
        assert_eq!(
            error("kind: ConfigMap", None),
            "has no PythonService: name a manifest of kind PythonService"
        );
        assert_eq!(
            error(&format!("{SMALLEST}---\n{SMALLEST}"), None),
            "has several PythonServices: choose one by --service, of checkout, checkout"
        );
        assert_eq!(
            error(SMALLEST, Some("cart")),
            "has no PythonService \"cart\": it has checkout"
        );
        assert_eq!(
            error(&SMALLEST.replace("v1alpha1", "v9"), None),
            "apiVersion: \"molt.dev/v9\" is unknown here: write molt.dev/v1alpha1"
        );
        assert!(error("a: [", None).starts_with("is no YAML: "));
    }
}
