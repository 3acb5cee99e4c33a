//! `spec.serviceMetadata`: what users write on the Services that Molt makes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::revision::digest;
use super::validate::FieldError;
use crate::api::v1alpha1::{ObjectMarks, ServiceMetadata};
use crate::k8s::{labels, syntax};

/// Annotations of one object may have so many bytes, names and values together, as of the API server.
const MOST_ANNOTATIONS: usize = 262_144 / 2;

/// Why an entry can't be written.
fn refusal(key: &str, label: Option<&str>) -> Option<String> {
    if [labels::APP_NAME, labels::MANAGED_BY].contains(&key) || key.starts_with("molt.dev/") {
        return Some("is set by Molt, which finds its Services by it: leave it out".to_owned());
    }
    match label {
        Some(value) => syntax::check_label(key, value),
        None => syntax::check_annotation(key),
    }
    .err()
}

fn entries(set: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&String, &String)> {
    set.into_iter().flatten()
}

/// What the API server would refuse, or Molt has to write itself.
pub fn check(written: &ServiceMetadata, errors: &mut Vec<FieldError>) {
    for (name, marks) in [("inCluster", &written.in_cluster), ("routed", &written.routed)] {
        let Some(marks) = marks else { continue };
        let path = format!("spec.serviceMetadata.{name}");
        for (key, value) in entries(marks.labels.as_ref()) {
            let wrong = refusal(key, Some(value));
            errors.extend(wrong.map(|why| FieldError::new(format!("{path}.labels[{key}]"), why)));
        }
        let mut size = 0;
        for (key, value) in entries(marks.annotations.as_ref()) {
            let wrong = refusal(key, None);
            errors.extend(wrong.map(|why| FieldError::new(format!("{path}.annotations[{key}]"), why)));
            size += key.len() + value.len();
        }
        if size > MOST_ANNOTATIONS {
            let why = format!("have {size} bytes, and at most {MOST_ANNOTATIONS} are possible: shorten them");
            errors.push(FieldError::new(format!("{path}.annotations"), why));
        }
    }
}

/// Puts the user's marks beside Molt's own. What [`check`] refuses is left out, so that one wrong entry keeps no Service
/// from being written. A digest of them is an annotation, by which it is seen that one was taken away.
pub fn put(metadata: &mut Value, marks: Option<&ObjectMarks>) {
    let Some(marks) = marks else { return };
    let usable = |set: Option<&BTreeMap<String, String>>, is_label: bool| -> BTreeMap<String, String> {
        let fits = |key: &str, value: &str| refusal(key, is_label.then_some(value)).is_none();
        entries(set)
            .filter(|(key, value)| fits(key, value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let (ours, notes) = (
        usable(marks.labels.as_ref(), true),
        usable(marks.annotations.as_ref(), false),
    );
    if ours.is_empty() && notes.is_empty() {
        return;
    }
    metadata["annotations"][labels::MARKS] = json!(digest(&json!([ours, notes])));
    for (key, value) in ours {
        metadata["labels"][key] = json!(value);
    }
    for (key, value) in notes {
        metadata["annotations"][key] = json!(value);
    }
}

/// A live Service carries marks that are no longer asked for.
pub fn has_others(wanted: &Value, live: &Value) -> bool {
    let of = |object: &Value| object["metadata"]["annotations"].get(labels::MARKS).cloned();
    of(wanted) != of(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(written: &Value) -> ServiceMetadata {
        serde_json::from_value(written.clone()).unwrap()
    }

    #[test]
    fn what_the_api_server_or_molt_would_not_bear_is_named() {
        let written = metadata(&json!({
            "inCluster": {"labels": {"team": "a b", "molt.dev/service": "x", "fine": "yes"}},
            "routed": {"annotations": {"a/b/c": "1", "app.kubernetes.io/managed-by": "me", "example.com/ok": "anything at all"}},
        }));
        let mut errors = Vec::new();
        check(&written, &mut errors);
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:#?}");
        for (line, part) in told.iter().zip([
            "spec.serviceMetadata.inCluster.labels[molt.dev/service]: is set by Molt",
            "spec.serviceMetadata.inCluster.labels[team]: \"a b\" is no value of a label",
            "spec.serviceMetadata.routed.annotations[a/b/c]: \"a/b/c\" is no name of an annotation",
            "spec.serviceMetadata.routed.annotations[app.kubernetes.io/managed-by]: is set by Molt",
        ]) {
            assert!(line.starts_with(part), "{line}");
        }
        let mut fits = json!({"labels": {"molt.dev/service": "checkout"}});
        put(&mut fits, written.in_cluster.as_ref());
        assert_eq!(
            fits["labels"],
            json!({"molt.dev/service": "checkout", "fine": "yes"})
        );
    }

    #[test]
    fn a_mark_that_is_taken_away_is_seen() {
        let of = |written: &Value| {
            let mut object = json!({"metadata": {"labels": {}}});
            put(
                &mut object["metadata"],
                metadata(&json!({"routed": written})).routed.as_ref(),
            );
            object
        };
        let (both, one) = (
            of(&json!({"annotations": {"a": "1", "b": "2"}})),
            of(&json!({"annotations": {"a": "1"}})),
        );
        let none = of(&json!({}));
        assert!(has_others(&one, &both) && has_others(&none, &one) && has_others(&one, &none));
        assert!(
            !has_others(&one, &one.clone())
                && !has_others(&none, &json!({"metadata": {"annotations": {"c": "3"}}}))
        );
    }
}
