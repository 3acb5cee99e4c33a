//! What a person does: the same action objects that `kubectl molt` makes, in the person's own name and by their own rights.

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::identity::Viewer;
use super::refusal::Refusal;
use crate::api::v1alpha1::{ActionKind, ActionState, PythonService, RolloutAction};
use crate::plugin::act::{PATIENCE, Wanted, answer, awaited, meant};

/// Characters of a reason, as the schema has it.
const MOST_OF_REASON: usize = 1_024;

/// What a person can do.
const ALL: [ActionKind; 12] = {
    use ActionKind::{
        Abort, Approve, Override, Pause, Promote, PromoteFull, Reject, Release, Restart, Resume, Retry, Undo,
    };
    [
        Promote,
        PromoteFull,
        Abort,
        Retry,
        Pause,
        Resume,
        Override,
        Undo,
        Restart,
        Release,
        Approve,
        Reject,
    ]
};

/// What is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    action: ActionKind,
    /// The revision to go back to, or the gate that is answered.
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    reason: String,
    /// What the person saw when they decided: what the page was told that this action means.
    seen: Meant,
}

/// A revision, an attempt, and of a promotion the step whose wait it ends: what an action is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Meant {
    revision: String,
    #[serde(default)]
    attempt: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<i32>,
}

impl Meant {
    /// What each action would be about now, as far as it would be about anything.
    pub fn all(service: &PythonService) -> BTreeMap<String, Self> {
        let of = |action: ActionKind| {
            let (revision, attempt) = meant(action, service)?;
            let step = awaited(action, service);
            let meant = Self {
                revision,
                attempt,
                step,
            };
            Some((format!("{action:?}"), meant))
        };
        ALL.into_iter().filter_map(of).collect()
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Became {
    /// The action object.
    name: String,
    /// `Applied` or `Expired`; absent if nobody has said so yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<ActionState>,
    message: String,
}

/// `POST /api/ns/NAMESPACE/services/NAME/actions`.
pub async fn act(
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Json<Became>, Refusal> {
    if !viewer.may_act() {
        return Err(Refusal::SignIn(
            "sign in to change anything: nothing is done in the server's own name".to_owned(),
        ));
    }
    let Json(asked) = asked.map_err(|refused| Refusal::Invalid(refused.body_text()))?;
    if asked.reason.chars().count() > MOST_OF_REASON {
        return Err(Refusal::Invalid(format!(
            "reason: at most {MOST_OF_REASON} characters"
        )));
    }
    let client = viewer.client();
    let services: Api<PythonService> = Api::namespaced(client.clone(), &namespace);
    let service = services.get(&name).await?;
    let user = viewer.access().user(client).await?;
    let wanted = Wanted {
        action: asked.action,
        object: asked.object,
        reason: asked.reason,
    };
    let wish = wanted.on(&service, user.name.clone())?;
    if let Some(changed) = changed(&asked.seen, &wish) {
        return Err(Refusal::Conflict(changed));
    }
    let actions: Api<RolloutAction> = Api::namespaced(client.clone(), &namespace);
    let made = actions.create(&PostParams::default(), &wish).await?;
    let id = made.name_any();
    tracing::info!(%namespace, service = name, action = ?made.spec.action, user = user.name, id, "a person acts");
    // It is made, whatever can be seen of it afterwards.
    let became = match answer(actions, &id).await {
        Ok(Some(status)) => Became {
            name: id,
            state: status.state,
            message: status.message.unwrap_or_default(),
        },
        Ok(None) => Became {
            message: format!(
                "nobody acknowledged {id} within {} s: is the operator running? The action stays; an operator that comes back heeds it first. To take the traffic away without it: kubectl molt abort {name} -n {namespace} --direct",
                PATIENCE.as_secs()
            ),
            name: id,
            state: None,
        },
        Err(why) => Became {
            message: format!("{id} was made; what became of it can't be seen: {why}"),
            name: id,
            state: None,
        },
    };
    Ok(Json(became))
}

/// How what is meant now differs from what the person saw. Evidence may have decided meanwhile.
fn changed(seen: &Meant, wish: &RolloutAction) -> Option<String> {
    let now = Meant {
        revision: wish.spec.revision.clone().unwrap_or_default(),
        attempt: wish.spec.attempt,
        step: wish.spec.step,
    };
    let same =
        now.revision == seen.revision && agree(now.attempt, seen.attempt) && agree(now.step, seen.step);
    let of = |meant: &Meant| {
        let attempt = meant.attempt.map(|number| format!("attempt {number} at "));
        let step = meant.step.map(|index| format!(", step {}", i64::from(index) + 1));
        let (attempt, step) = (attempt.unwrap_or_default(), step.unwrap_or_default());
        format!("{attempt}{}{step}", meant.revision)
    };
    (!same).then(|| {
        let (seen, now) = (of(seen), of(&now));
        format!("nothing was changed: you saw {seen}, and by now it is {now}; look again")
    })
}

/// They say the same, as far as both say anything.
fn agree(now: Option<i32>, seen: Option<i32>) -> bool {
    now.is_none() || seen.is_none() || now == seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::{progressing, rolled_back};

    fn wish(action: ActionKind) -> RolloutAction {
        let wanted = Wanted {
            action,
            object: None,
            reason: "INC-12".to_owned(),
        };
        wanted.on(&progressing(), "ada".to_owned()).unwrap()
    }

    #[test]
    fn an_action_is_the_one_that_the_command_makes_in_the_persons_name() {
        let abort = wish(ActionKind::Abort);
        assert_eq!(abort.metadata.generate_name.as_deref(), Some("checkout-"));
        let spec = abort.spec;
        assert_eq!(
            (spec.service.as_str(), spec.requested_by.as_str()),
            ("checkout", "ada")
        );
        assert_eq!(
            (spec.revision.as_deref(), spec.attempt),
            (Some("7d9f8c0000"), Some(1))
        );
        assert_eq!(
            wish(ActionKind::Restart).spec.revision.as_deref(),
            Some("5b6c7d0000")
        );
    }

    #[test]
    fn what_has_moved_on_since_it_was_seen_is_not_acted_on() {
        let meant = |revision: &str, attempt| Meant {
            revision: revision.to_owned(),
            attempt,
            step: None,
        };
        let abort = wish(ActionKind::Abort);
        assert_eq!(changed(&meant("7d9f8c0000", Some(1)), &abort), None);
        assert_eq!(changed(&meant("7d9f8c0000", None), &abort), None);
        let moved = changed(&meant("1111111111", Some(1)), &abort).unwrap();
        assert!(
            moved.contains("you saw attempt 1 at 1111111111") && moved.contains("7d9f8c0000"),
            "{moved}"
        );
        assert!(changed(&meant("7d9f8c0000", Some(2)), &abort).is_some());
    }

    #[test]
    fn a_promotion_names_the_step_whose_wait_was_seen() {
        let mut before = progressing();
        let mut at = |index: i32| {
            let step = serde_json::json!({"index": index, "total": 4, "awaited": index, "startedAt": "2026-03-01T02:03:00Z"});
            before.status.as_mut().unwrap().step = serde_json::from_value(step).unwrap();
            before.clone()
        };
        let (seen, later) = (at(1), at(3));
        let promote = |service: &PythonService| {
            let wanted = Wanted {
                action: ActionKind::Promote,
                object: None,
                reason: String::new(),
            };
            wanted.on(service, "ada".to_owned()).unwrap()
        };
        let all = Meant::all(&seen);
        assert_eq!(promote(&seen).spec.step, Some(1));
        assert_eq!((all["Promote"].step, all["Abort"].step), (Some(1), None));
        assert_eq!(changed(&all["Promote"], &promote(&seen)), None);
        let moved = changed(&all["Promote"], &promote(&later)).unwrap();
        assert!(
            moved.contains("step 2, and by now") && moved.contains("step 4"),
            "{moved}"
        );
    }

    #[test]
    fn every_action_is_held_to_what_the_page_said_it_means() {
        let before = rolled_back();
        let seen = Meant::all(&before)["Retry"].clone();
        let mut after = before.clone();
        let last = after
            .status
            .as_mut()
            .unwrap()
            .state
            .as_mut()
            .unwrap()
            .last
            .as_mut()
            .unwrap();
        last.revision.0 = "0ac4a5f932".to_owned();
        last.number += 1;
        let again = |service: &PythonService| {
            let wanted = Wanted {
                action: ActionKind::Retry,
                object: None,
                reason: String::new(),
            };
            wanted.on(service, "ada".to_owned()).unwrap()
        };
        assert_eq!(changed(&seen, &again(&before)), None);
        let moved = changed(&seen, &again(&after)).unwrap();
        assert!(
            moved.contains("by now it is") && moved.contains("0ac4a5f932"),
            "{moved}"
        );
    }

    #[test]
    fn unknown_actions_and_fields_are_refused() {
        for text in [
            r#"{"action":"Explode"}"#,
            r#"{"action":"Abort","as":"root"}"#,
            r#"{"reason":""}"#,
            r#"{"action":"Abort"}"#,
        ] {
            assert!(serde_json::from_str::<Asked>(text).is_err(), "{text}");
        }
    }
}
