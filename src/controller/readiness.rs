//! `status.readiness`: judged when a spec has changed, and by the object alone.

use molt_core::plan::Revision;
use molt_readiness::IGNORE;

use super::memory::Memories;
use super::object::ServiceObject;
use crate::api::v1alpha1::ReadinessStatus;
use crate::k8s::Key;
use crate::readiness;

/// What the rules said, and of what.
#[derive(Clone, Debug)]
pub struct Judged {
    basis: Basis,
    said: ReadinessStatus,
}

/// What it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Basis {
    generation: Option<i64>,
    /// A Deployment's template changes without the object.
    revision: Option<Revision>,
    ignore: Option<String>,
    /// What counts while the spec leaves them out.
    replicas: u32,
}

/// How ready the spec is, its template being that of the Deployment where it names one. What was said before stands
/// while that, or the spec, can't be read.
pub(super) fn judge(
    object: &ServiceObject,
    replicas: u32,
    memories: &Memories,
    key: &Key,
) -> Option<ReadinessStatus> {
    let known = object.spec.as_ref().ok().filter(|spec| spec.template.is_some());
    let Some(spec) = known else {
        return object.status.as_ref().ok().and_then(|old| old.readiness.clone());
    };
    let annotations = object.metadata.annotations.as_ref();
    let basis = Basis {
        generation: object.metadata.generation,
        revision: object.revision.clone(),
        ignore: annotations.and_then(|all| all.get(IGNORE)).cloned(),
        replicas,
    };
    let before = memories.of(key).readiness.filter(|judged| judged.basis == basis);
    let judged = before.unwrap_or_else(|| Judged {
        said: readiness::of_spec(spec, replicas, basis.ignore.as_deref()),
        basis,
    });
    memories.update(key, |memory| memory.readiness = Some(judged.clone()));
    Some(judged.said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::object::tests::changed;
    use serde_json::json;

    fn said(object: &ServiceObject, memories: &Memories) -> ReadinessStatus {
        judge(object, 1, memories, &object.key()).unwrap()
    }

    #[test]
    fn it_follows_the_spec_and_the_annotation() {
        let memories = Memories::default();
        let one = changed(|o| {
            o["metadata"]["generation"] = json!(1);
            o["spec"]["replicas"] = json!(1);
        });
        let before = said(&one, &memories);
        assert!(before.failed.contains(&"replicas".to_owned()), "{before:?}");
        let two = changed(|o| {
            o["metadata"]["generation"] = json!(2);
            o["spec"]["replicas"] = json!(3);
        });
        let after = said(&two, &memories);
        assert!(!after.failed.contains(&"replicas".to_owned()), "{after:?}");
        assert!(after.score >= before.score);
        let ignoring = changed(|o| {
            o["metadata"]["generation"] = json!(1);
            o["spec"]["replicas"] = json!(1);
            o["metadata"]["annotations"] = json!({IGNORE: "replicas"});
        });
        assert_eq!(said(&ignoring, &memories).ignored, ["replicas"]);
    }

    #[test]
    fn replicas_that_are_left_out_are_those_that_count() {
        let memories = Memories::default();
        let object = changed(|o| {
            o["spec"].as_object_mut().unwrap().remove("replicas");
        });
        let fails = |replicas| {
            let said = judge(&object, replicas, &memories, &object.key()).unwrap();
            said.failed.contains(&"replicas".to_owned())
        };
        assert_eq!((fails(1), fails(2), fails(1)), (true, false, true));
    }

    #[test]
    fn what_can_not_be_judged_keeps_what_was_said() {
        let memories = Memories::default();
        let old = json!({"grade": "B", "score": 80, "failed": ["replicas"]});
        let object = changed(|o| {
            o["spec"]["template"] = json!(null);
            o["spec"]["workloadRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
            o["status"] = json!({"readiness": old});
        });
        assert_eq!(json!(said(&object, &memories)), old);
    }
}
