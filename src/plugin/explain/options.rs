//! What a person could do now: the operator's decision is asked, action by action, and its answer told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use molt_core::adoption::{Sight, WorkloadView};
use molt_core::decision::Effect;
use molt_core::observed::{Action, ActionView, Observed, RevisionView};
use molt_core::plan::{Plan, Revision, RouteMode};
use molt_core::rollout::decide;
use molt_core::state::State;
use serde::Serialize;

use super::Seen;
use crate::controller::facts::ReplicaSetFacts;
use crate::controller::validate::{Defaults, Known, validate};

/// The name by which the question is known in the answer.
const QUESTION: &str = "explain";

/// What can be asked for: the action, its words on the command line, and what it is for.
const ACTIONS: [(Action, &str, &str); 10] = [
    (
        Action::Promote,
        "promote",
        "past the current pause or wait, and no further",
    ),
    (
        Action::PromoteFull,
        "promote --full",
        "past all pauses and waits that are left, to full traffic and its bake",
    ),
    (
        Action::Pause,
        "pause",
        "no further for now; harm still takes the canary back",
    ),
    (Action::Resume, "resume", "on from the pause"),
    (
        Action::Override,
        "override",
        "on in spite of a spent error budget, an incident of both revisions, or services of its group that are not as far",
    ),
    (
        Action::Abort,
        "abort",
        "all users back to stable, now; the revision stays refused",
    ),
    (
        Action::Retry,
        "retry",
        "once more at the revision that was taken back, as a new attempt",
    ),
    (
        Action::Undo,
        "undo",
        "to the revision that was stable before, until the template changes",
    ),
    (
        Action::Restart,
        "restart",
        "new pods for the stable revision, one after the other",
    ),
    (
        Action::Release,
        "release",
        "the Deployment that was taken over gets its place back, if its template is still stable's",
    ),
];

/// The same of workers, which nobody calls, where it is another.
fn meaning_of_workers(action: Action) -> Option<&'static str> {
    match action {
        Action::PromoteFull => Some("past all pauses and waits that are left, to all the work and its bake"),
        Action::Abort => Some("all tasks back to stable, now; the revision stays refused"),
        _ => None,
    }
}

/// The same of what runs by a schedule, where it is another.
fn meaning_of_job(action: Action) -> Option<&'static str> {
    match action {
        Action::Promote | Action::PromoteFull => {
            Some("the new revision is stable, whatever its runs have shown so far")
        }
        Action::Pause => Some("the next runs are stable's until somebody resumes"),
        Action::Resume => Some("the next runs are the new revision's again"),
        Action::Abort => Some("the next runs are stable's again; the revision stays refused"),
        _ => None,
    }
}

/// Something that a person could do now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Possible {
    /// The command line.
    pub command: String,
    /// What it is for.
    pub meaning: &'static str,
    /// What the operator would answer now.
    pub effect: String,
}

/// Something that would not be accepted now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Refused {
    /// The verb.
    pub verb: &'static str,
    /// What the operator would answer.
    pub why: String,
}

/// Asks for each action what would become of it, by what the status says.
pub(super) fn ask(seen: &Seen, state: &State, now: Timestamp) -> (Vec<Possible>, Vec<Refused>) {
    let (mut commands, mut refused) = (Vec::new(), Vec::new());
    if seen.object.state.is_err() || seen.service.status.is_none() {
        return (commands, refused);
    }
    let plan = plan(seen, state);
    let name = seen.service.name_any();
    let namespace = seen
        .service
        .namespace()
        .map_or_else(String::new, |n| format!(" -n {n}"));
    for (action, verb, meaning) in ACTIONS {
        if action == Action::Release && state.adoption.is_none() {
            continue;
        }
        let of_its_kind = match plan.route {
            RouteMode::Runs => meaning_of_job(action),
            RouteMode::Workers | RouteMode::Singleton => meaning_of_workers(action),
            RouteMode::Owned | RouteMode::Adopted | RouteMode::Shares => None,
        };
        let meaning = of_its_kind.unwrap_or(meaning);
        if matches!(action, Action::Undo | Action::Restart) && seen.sets.is_none() {
            let why = "whether it is possible is not known: you may not list ReplicaSets";
            refused.push(Refused {
                verb,
                why: why.to_owned(),
            });
            continue;
        }
        match answer(
            &plan,
            state,
            seen.sets.as_deref().unwrap_or_default(),
            action,
            now,
        ) {
            Some((true, effect)) if action == Action::Pause && is_paused_by_a_person(state) => {
                refused.push(Refused { verb, why: effect });
            }
            Some((true, effect)) => {
                let (word, flag) = verb.split_once(' ').unwrap_or((verb, ""));
                let command = format!("kubectl molt {word} {name}{namespace} {flag}");
                commands.push(Possible {
                    command: command.trim_end().to_owned(),
                    meaning,
                    effect,
                });
            }
            Some((false, why)) => refused.push(Refused { verb, why }),
            None => {}
        }
    }
    (commands, refused)
}

/// Another pause would change nothing.
fn is_paused_by_a_person(state: &State) -> bool {
    let pause = state.attempt.as_ref().and_then(|attempt| attempt.paused.as_ref());
    pause.is_some_and(|pause| pause.person.is_some())
}

/// What the operator makes of the spec.
fn plan(seen: &Seen, state: &State) -> Plan {
    let defaults = Defaults {
        // The operator's own is not known here, and nothing is asked of it.
        prometheus_address: Some("http://prometheus".to_owned()),
        ..Defaults::default()
    };
    let mut plan = validate(&seen.object, &defaults, Known::default()).plan;
    if seen.object.workload.is_some() {
        // The template is the Deployment's, which is not read here: what is asked for is taken to be what is there.
        plan.revision = molt_core::config::hold(state).revision;
    }
    if let Some(hold) = state.attempt.as_ref().and_then(|attempt| attempt.hold.as_ref()) {
        // Whether what held it was corrected depends on that address; the operator sees it at once.
        plan.basis.clone_from(&hold.basis);
    }
    plan
}

/// Whether the action would be applied, and what would be said of it.
fn answer(
    plan: &Plan,
    state: &State,
    sets: &[ReplicaSetFacts],
    action: Action,
    now: Timestamp,
) -> Option<(bool, String)> {
    let view = |set: &ReplicaSetFacts| RevisionView {
        wanted: set.wanted,
        altered: set
            .first_template
            .as_ref()
            .is_some_and(|first| *first != set.template),
        ..RevisionView::default()
    };
    let revisions: BTreeMap<Revision, RevisionView> =
        sets.iter().map(|set| (set.revision.clone(), view(set))).collect();
    let asked = ActionView {
        uid: QUESTION.to_owned(),
        name: QUESTION.to_owned(),
        action,
        revision: None,
        attempt: None,
        step: None,
        to_revision: None,
        gate: None,
        reason: String::new(),
        requested_by: QUESTION.to_owned(),
        created_at: Some(now),
    };
    // The Deployment is not read here: it is taken to be as it was taken over.
    let workload = state.adoption.as_ref().filter(|_| action == Action::Release);
    let workload = workload.map(|adoption| WorkloadView {
        name: adoption.workload.clone(),
        uid: adoption.uid.clone(),
        is_stable: true,
        ..WorkloadView::default()
    });
    let seen = Observed {
        workload: workload.map_or(Sight::Absent, Sight::Seen),
        revisions,
        actions: vec![asked],
        ..Observed::default()
    };
    decide(plan, state, &seen, now)
        .effects
        .into_iter()
        .find_map(|effect| match effect {
            Effect::EndAction {
                name,
                applied,
                message,
                ..
            } if name == QUESTION => Some((applied, message)),
            _ => None,
        })
}
