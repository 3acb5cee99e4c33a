//! What is wrong with objects: by the schema, by the operator's own validation, by the rules of readiness.

use std::collections::BTreeMap;

use molt_readiness::review::Finding;
use molt_readiness::schema::{self, Violation};
use molt_readiness::{IGNORE, Severity};
use serde::Deserialize;
use serde_json::Value;

use super::source::Object;
use super::{Added, Report, Scored, Told, related};
use crate::api::crds;
use crate::api::v1alpha1::NotificationPolicySpec;
use crate::controller::object::ServiceObject;
use crate::controller::server_presets;
use crate::controller::validate::{Defaults, FieldError, Known, validate};
use crate::controller::workers;
use crate::notifications::policy::Plan;
use crate::readiness;

const GROUP: &str = "molt.dev";

/// Looks at everything that is of Molt; other objects count beside it. An error if there is nothing of it.
pub(super) fn check(objects: &[Object]) -> Result<Report, String> {
    let mut report = Report::default();
    let mut schemas: BTreeMap<&str, Option<Value>> = BTreeMap::new();
    let mut looked_at = false;
    for object in objects {
        let version = object.value["apiVersion"].as_str().unwrap_or_default();
        if version.split('/').next() != Some(GROUP) {
            continue;
        }
        looked_at = true;
        let kind = object.kind();
        let schema = schemas.entry(kind).or_insert_with(|| crds::schema(kind)).as_ref();
        let Some(schema) = schema.filter(|_| version == "molt.dev/v1alpha1") else {
            let known = crds::KINDS.join(", ");
            let message = format!("{version} {kind} is unknown here: molt.dev/v1alpha1 has {known}");
            report
                .findings
                .push(told(object, "apiVersion", "schema", message));
            continue;
        };
        let violations = schema::check(schema, &object.value);
        if kind == "PythonService" {
            service(object, objects, violations, &mut report);
        } else {
            let all = violations
                .into_iter()
                .map(|violation| of_schema(object, violation));
            report.findings.extend(all);
            if kind == "NotificationPolicy" {
                policy(object, &mut report);
            }
        }
    }
    if !looked_at {
        return Err("there is no PythonService in these files".to_owned());
    }
    let files: Vec<&str> = objects.iter().map(|object| object.file.as_str()).collect();
    for list in [&mut report.findings, &mut report.ignored] {
        let rank = |told: &Told| files.iter().position(|file| *file == told.file);
        list.sort_by_key(|told| (rank(told), told.line, told.column));
    }
    Ok(report)
}

fn service(object: &Object, objects: &[Object], violations: Vec<Violation>, report: &mut Report) {
    let errors = of_operator(object);
    // What the operator says has a fix; the same of the schema would be said twice.
    let is_said = |violation: &Violation| {
        errors
            .iter()
            .any(|error| !violation.field.is_empty() && is_within(&error.field, &violation.field))
    };
    let of_schema: Vec<Told> = violations
        .into_iter()
        .filter(|violation| !is_said(violation))
        .map(|violation| of_schema(object, violation))
        .collect();
    // That a spec can't be read follows from its schema, which says where.
    let errors = errors
        .iter()
        .filter(|error| error.field != "spec" || of_schema.is_empty());
    let errors: Vec<Told> = errors
        .map(|error| told(object, &error.field, "spec", error.message.clone()))
        .collect();
    report.findings.extend(of_schema.into_iter().chain(errors));
    tell_of_grace(object, report);
    readiness_of(object, objects, report);
    report.added.extend(added(object));
}

/// What the operator would say to a NotificationPolicy that the schema lets through.
fn policy(object: &Object, report: &mut Report) {
    let Ok(spec) = NotificationPolicySpec::deserialize(&object.value["spec"]) else {
        return;
    };
    let errors = Plan::parse(&spec).err().unwrap_or_default();
    let errors = errors
        .iter()
        .map(|error| told(object, &error.field, "spec", error.message.clone()));
    report.findings.extend(errors);
}

/// What its pods get beyond its template; `None` where that is nothing.
fn added(object: &Object) -> Option<Added> {
    let spec = ServiceObject::deserialize(&object.value).ok()?.spec.ok()?;
    let additions = server_presets::complete(&mut spec.template.clone()?, &spec);
    (!additions.is_empty()).then(|| Added {
        file: object.file.clone(),
        object: object.title(),
        additions,
    })
}

/// What Molt adds to a template of workers that says nothing.
fn tell_of_grace(object: &Object, report: &mut Report) {
    let spec = ServiceObject::deserialize(&object.value)
        .ok()
        .and_then(|read| read.spec.ok());
    if spec.is_some_and(|spec| workers::grace_is_left_out(&spec)) {
        report.notes.push(format!(
            "{}: {}: spec.template.spec.terminationGracePeriodSeconds is left out, and Molt writes {} for workers, so that they can finish what they have begun: write your longest task plus a margin",
            object.file,
            object.title(),
            workers::GRACE
        ));
    }
}

/// One field is the other, or within it.
fn is_within(field: &str, whole: &str) -> bool {
    field
        .strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What the operator's own validation says.
fn of_operator(object: &Object) -> Vec<FieldError> {
    let defaults = Defaults {
        // Nothing is asked of it, and rights are not known here.
        prometheus_address: Some("http://prometheus".to_owned()),
        ..Defaults::default()
    };
    match ServiceObject::deserialize(&object.value) {
        Ok(read) => validate(&read, &defaults, Known::default()).errors,
        Err(error) => vec![FieldError {
            field: "metadata".to_owned(),
            message: format!("can't be read: {error}"),
            reason: None,
        }],
    }
}

/// What the rules say. The pods may be those of a Deployment in the same files.
fn readiness_of(object: &Object, objects: &[Object], report: &mut Report) {
    let mut value = object.value.clone();
    let workload = related::workload(object, objects);
    if let (Some(workload), Some(spec)) = (workload, value["spec"].as_object_mut()) {
        for field in ["template", "replicas"] {
            spec.entry(field)
                .or_insert_with(|| workload.value["spec"][field].clone());
        }
    } else if let Some(name) = value["spec"]["workloadRef"]["name"].as_str() {
        report.notes.push(format!(
            "{}: {}: its pods are those of Deployment/{name}, which is not in these files: no rule about pods was asked",
            object.file,
            object.title()
        ));
    }
    let mut facts = related::facts(object, &value, objects);
    if !value["spec"]["template"].is_object() {
        // The labels of its pods are not known.
        facts.related = None;
    }
    let review = readiness::engine().review(&value, facts);
    let tell = |finding: &Finding<'_>| {
        let is_written = |object: &Object| {
            let top = finding.field.split('.').nth(1).unwrap_or_default();
            !object.value["spec"][top].is_null()
        };
        // The Deployment's, where it is not the service itself that says it.
        let at = workload.filter(|workload| !is_written(object) && is_written(workload));
        Told {
            why: Some(finding.rule.why.clone()),
            fix: Some(finding.rule.fix.clone()),
            severity: finding.rule.severity,
            // Whatever file has it, it is said of the service.
            object: object.title(),
            ..told(
                at.unwrap_or(object),
                &finding.field,
                &finding.rule.id,
                finding.rule.says.clone(),
            )
        }
    };
    report.findings.extend(review.findings.iter().map(tell));
    report.ignored.extend(review.ignored.iter().map(tell));
    for id in &review.unknown {
        let field = format!("metadata.annotations[{IGNORE}]");
        report.findings.push(Told {
            severity: Severity::Warning,
            fix: Some("`kubectl molt lint --explain` lists the rules".to_owned()),
            ..told(object, &field, "lint-ignore", format!("{id:?} is no rule"))
        });
    }
    report.services.push(Scored {
        file: object.file.clone(),
        object: object.title(),
        grade: review.grade,
        score: review.score,
    });
}

fn of_schema(object: &Object, violation: Violation) -> Told {
    Told {
        fix: violation.fix,
        ..told(object, &violation.field, "schema", violation.says)
    }
}

/// An error at a field.
fn told(object: &Object, field: &str, rule: &str, message: String) -> Told {
    let place = object.place(field);
    Told {
        file: object.file.clone(),
        line: place.line,
        column: place.column,
        object: object.title(),
        rule: rule.to_owned(),
        severity: Severity::Error,
        field: field.to_owned(),
        message,
        why: None,
        fix: None,
    }
}
