//! A PythonService as text, for a person who was just woken.

#[cfg(test)]
pub(crate) mod fixtures;
pub(super) mod guards;
pub(crate) mod objectives;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use molt_core::plan::{RunsPlan, Step};
use molt_core::state::{Attempt, Ended, Outcome, Stage, State, Transition};
use serde::Serialize;

use super::text::{Style, columns, span};
use crate::api::v1alpha1::{
    CountsStatus, PythonService, PythonServiceStatus, RevisionStatus, ServiceKind, SloStatus,
};

/// Width of a bar that stands for all traffic.
const BAR: i32 = 20;
/// Transitions that are shown.
const TRANSITIONS: usize = 6;

/// Where the service is, and why, as of `now`.
pub fn render(service: &PythonService, now: Timestamp, style: Style) -> String {
    let status = service.status.clone().unwrap_or_default();
    let state = status.state.clone().unwrap_or_default();
    let mut text = head(service, &status, style);
    for section in [
        revisions(service, &status, style),
        steps(service, &state, now, style),
        objectives::table(service, &status, &state, style),
        guards::table(&status, &state, style),
        faults(&status, now, style),
        story(service, &state, now, style),
    ] {
        if !section.is_empty() {
            text.push('\n');
            text.push_str(&section);
        }
    }
    text
}

/// One line that says all that changes, for a log.
pub fn line(service: &PythonService) -> String {
    let Some(status) = service.status.clone().filter(|status| status.phase.is_some()) else {
        return "Unknown | no operator has taken it up yet".to_owned();
    };
    let phase = status
        .phase
        .map_or_else(|| "Unknown".to_owned(), |phase| format!("{phase:?}"));
    let side = |name: &str, side: &Option<RevisionStatus>| {
        side.as_ref()
            .map_or_else(String::new, |s| format!(" {name} {} {}%", s.revision, s.weight))
    };
    let (stable, canary) = (side("stable", &status.stable), side("canary", &status.canary));
    let slo = |slo: &SloStatus| {
        let CountsStatus { total, bad } = slo.canary;
        format!(
            " | {} {bad} of {total} bad, {} of the budget spent",
            slo.name, slo.spent_by_rollout
        )
    };
    let slos = status.slos.iter().flatten().map(slo).collect::<Vec<_>>().concat();
    format!(
        "{phase}{stable}{canary}{slos} | {}",
        status.message.unwrap_or_default()
    )
}

/// Who is called for a service, and where it is written what to do; empty if neither is said.
pub(super) fn contact(service: &PythonService, style: Style) -> String {
    let owner = service.spec.owner.as_ref().map(|owner| format!("owner {owner}"));
    let runbook = service.spec.runbook.as_ref().map(|url| format!("runbook {url}"));
    let said: Vec<String> = owner.into_iter().chain(runbook).collect();
    if said.is_empty() {
        return String::new();
    }
    format!("{}\n", style.dim(&said.join(", ")))
}

fn head(service: &PythonService, status: &PythonServiceStatus, style: Style) -> String {
    let name = format!(
        "{}/{}",
        service.namespace().unwrap_or_default(),
        service.name_any()
    );
    let Some(phase) = status.phase else {
        return format!(
            "{}  {}\nno operator has taken it up yet: is one running? (kubectl get pods -A -l app.kubernetes.io/name=molt)\n",
            style.bold(&name),
            style.busy("Unknown")
        );
    };
    let mut text = format!("{}  {}\n", style.bold(&name), style.phase(phase));
    if let Some(message) = &status.message {
        text.push_str(message);
        text.push('\n');
    }
    text.push_str(&contact(service, style));
    let (seen, wanted) = (
        status.observed_generation.unwrap_or(0),
        service.metadata.generation.unwrap_or(0),
    );
    if seen < wanted {
        let late = format!("the operator has not seen the latest spec yet (generation {seen} of {wanted})");
        text.push_str(&style.busy(&late));
        text.push('\n');
    }
    text
}

fn revisions(service: &PythonService, status: &PythonServiceStatus, style: Style) -> String {
    let sides = [("stable", &status.stable), ("canary", &status.canary)];
    let sides = sides
        .iter()
        .filter_map(|(role, side)| side.as_ref().map(|side| (*role, side)));
    if runs_wanted(service).is_some() {
        let row = |(role, side): (&str, &RevisionStatus)| {
            let canary = status.canary.as_ref().is_some_and(|canary| canary.weight == 100);
            let next = if canary == (role == "canary") {
                "has the next run"
            } else {
                ""
            };
            vec![role.to_owned(), style.bold(&side.revision), next.to_owned()]
        };
        return columns(&sides.map(row).collect::<Vec<_>>(), "  ");
    }
    let row = |role: &str, side: &RevisionStatus| {
        let filled = (side.weight.clamp(0, 100) * BAR + 50) / 100;
        // A small share is a share: it is seen.
        let filled = if side.weight > 0 { filled.max(1) } else { 0 };
        let bar = "█".repeat(filled as usize);
        let rest = "░".repeat((BAR - filled) as usize);
        let bar = if role == "canary" {
            style.busy(&bar)
        } else {
            style.good(&bar)
        };
        let pods = format!("{} of {} pods ready", side.ready, side.replicas);
        vec![
            role.to_owned(),
            style.bold(&side.revision),
            format!("{bar}{}", style.dim(&rest)),
            format!("{:>3}%", side.weight),
            if side.ready < side.replicas {
                style.bad(&pods)
            } else {
                pods
            },
            side.attempt
                .map_or_else(String::new, |attempt| format!("attempt {attempt}")),
        ]
    };
    let rows: Vec<_> = sides.map(|(role, side)| row(role, side)).collect();
    columns(&rows, "  ")
}

/// The way of the attempt, with the place where it is.
pub(super) fn steps(service: &PythonService, state: &State, now: Timestamp, style: Style) -> String {
    let Some(attempt) = &state.attempt else {
        return String::new();
    };
    let runs = runs_wanted(service);
    let running = format!(
        "{}; runs for {}",
        at(attempt, runs, now),
        span(now.duration_since(attempt.started_at))
    );
    if attempt.stage == Stage::Deploying && runs.is_none() {
        return format!("  {running}\n");
    }
    let places = way(attempt, runs);
    let way: Vec<String> = places
        .iter()
        .map(|p| place(&p.word, p.here, p.done, style))
        .collect();
    format!("  {running}\n  {}\n", way.join(&style.dim(" → ")))
}

/// One place on the way of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// What it is: `25%`, `1m`, `pause`, `bake`.
    pub word: String,
    /// The attempt is here.
    pub here: bool,
    /// The attempt has been here.
    pub done: bool,
}

/// How many runs have to succeed; `None` of what does not run by a schedule.
pub(crate) fn runs_wanted(service: &PythonService) -> Option<u32> {
    if service.spec.kind != Some(ServiceKind::Job) {
        return None;
    }
    let exposure = service.spec.exposure.as_ref();
    let count = exposure.and_then(|exposure| exposure.runs.as_ref()?.count);
    Some(
        count
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(RunsPlan::default().count),
    )
}

/// Every place on the way of an attempt, up to the bake; of what is tried by `runs` up to the last of them.
pub(crate) fn way(attempt: &Attempt, runs: Option<u32>) -> Vec<Place> {
    if let Some(runs) = runs {
        let judged = matches!(attempt.stage, Stage::Deploying | Stage::Stepping) && attempt.paused.is_none();
        let succeeded = shown(attempt);
        let run = |nth: u32| Place {
            word: format!("run {}", nth + 1),
            here: judged && nth == succeeded,
            done: nth < succeeded,
        };
        return (0..runs).map(run).collect();
    }
    let here = attempt.step as usize;
    let stepping = attempt.stage == Stage::Stepping;
    let step = |(index, step): (usize, &Step)| Place {
        word: match step {
            Step::SetWeight(weight) => format!("{weight}%"),
            Step::Dwell(seconds) => span(SignedDuration::from_secs(i64::from(*seconds))),
            Step::Pause {} => "pause".to_owned(),
            other => other.to_string(),
        },
        here: stepping && index == here,
        done: index < here,
    };
    let mut way: Vec<Place> = attempt.steps.iter().enumerate().map(step).collect();
    let baking = matches!(attempt.stage, Stage::Baking { .. });
    way.push(Place {
        word: "100%".to_owned(),
        here: attempt.stage == Stage::Promoting,
        done: baking,
    });
    way.push(Place {
        word: "bake".to_owned(),
        here: baking,
        done: false,
    });
    way
}

/// Runs of the attempt that have succeeded.
fn shown(attempt: &Attempt) -> u32 {
    let trial = attempt.trial.as_ref();
    trial.map_or(0, |trial| u32::try_from(trial.seconds.len()).unwrap_or(u32::MAX))
}

/// Where an attempt is, in words; `runs` as [`way`] has it.
pub(crate) fn at(attempt: &Attempt, runs: Option<u32>, now: Timestamp) -> String {
    if let Some(runs) = runs {
        let so_far = format!("{} of {runs} runs succeeded", shown(attempt));
        match &attempt.stage {
            Stage::Held => {
                return format!("{so_far}; held: the next runs are stable's, and decide whether it goes on");
            }
            Stage::Deploying | Stage::Stepping => return so_far,
            _ => {}
        }
    }
    let here = attempt.step as usize;
    let total = attempt.steps.len();
    match &attempt.stage {
        Stage::Stepping => format!("step {} of {total}{}", here + 1, left(attempt, now)),
        Stage::Baking { until } if *until <= now => {
            format!("the bake was to end {} ago", span(now.duration_since(*until)))
        }
        Stage::Baking { until } => format!("bakes, {} left", span(until.duration_since(now))),
        Stage::Promoting => "steps done, promoting".to_owned(),
        Stage::Migrating => "its migrations come first".to_owned(),
        Stage::Deploying => "first deployment, no steps".to_owned(),
        Stage::Settling => "the route's names return to their places".to_owned(),
        Stage::Held => {
            let correct = if attempt.hold.is_some() {
                ", or correct what the message names"
            } else {
                ""
            };
            format!(
                "held at step {} of {total}, without traffic: promote or abort{correct}",
                here + 1
            )
        }
        Stage::Withdrawing { .. } => "going back to stable".to_owned(),
    }
}

fn place(word: &str, here: bool, done: bool, style: Style) -> String {
    match (here, done) {
        (true, _) => style.bold(&format!("[{word}]")),
        (false, true) => style.good(word),
        (false, false) => style.dim(word),
    }
}

/// What is left of the dwell, or until the wait is given up.
fn left(attempt: &Attempt, now: Timestamp) -> String {
    if let Some(Step::Dwell(seconds)) = attempt.steps.get(attempt.step as usize) {
        let dwell = SignedDuration::from_secs(i64::from(*seconds));
        let left = dwell.saturating_sub(now.duration_since(attempt.step_since));
        return if left.is_positive() {
            format!(": dwells, {} left", span(left))
        } else {
            ": dwelt".to_owned()
        };
    }
    match attempt.deadline {
        Some(deadline) => format!(": deadline in {}", span(deadline.duration_since(now))),
        None => String::new(),
    }
}

/// Those that are wrong. `Ready` and `Reconciling` say no more than the phase does.
pub(crate) fn wrong(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    conditions
        .iter()
        .filter(|condition| match condition.type_.as_str() {
            "Ready" | "Reconciling" => false,
            // The phase says these two in the headline; their reason is told nowhere else.
            "Stalled" | "Paused" => condition.status == "True",
            _ => condition.status != "True",
        })
}

/// Conditions that are wrong.
fn faults(status: &PythonServiceStatus, now: Timestamp, style: Style) -> String {
    let rows: Vec<_> = wrong(status.conditions.as_deref().unwrap_or_default())
        .map(|condition| {
            vec![
                style.bad(&format!("{}={}", condition.type_, condition.status)),
                condition.reason.clone(),
                format!(
                    "for {}",
                    span(now.duration_since(condition.last_transition_time.0))
                ),
                // The headline has it already.
                Some(&condition.message)
                    .filter(|message| status.message.as_ref() != Some(message))
                    .cloned()
                    .unwrap_or_default(),
            ]
        })
        .collect();
    if rows.is_empty() {
        String::new()
    } else {
        format!("wrong\n{}", columns(&rows, "  "))
    }
}

/// The last transitions of the attempt under way, or of the last one.
fn story(service: &PythonService, state: &State, now: Timestamp, style: Style) -> String {
    let (title, transitions) = match (&state.attempt, &state.last) {
        (Some(attempt), _) => (
            format!("attempt {} at {}", attempt.number, attempt.revision),
            &attempt.transitions,
        ),
        (None, Some(last)) => (outcome(service, last, now, style), &last.transitions),
        (None, None) => return String::new(),
    };
    let skip = transitions.len().saturating_sub(TRANSITIONS);
    let row = |t: &Transition| {
        let reason = match t.reason.as_str() {
            "Promoted" | "ShownSafe" => style.good(&t.reason),
            _ => t.reason.clone(),
        };
        vec![
            style.dim(&t.at.strftime("%H:%M:%SZ").to_string()),
            format!("{:>3}%", t.weight),
            reason,
            t.message.clone(),
        ]
    };
    let rows: Vec<_> = transitions.iter().skip(skip).map(row).collect();
    format!("{title}\n{}", columns(&rows, "  "))
}

pub(super) fn outcome(service: &PythonService, last: &Ended, now: Timestamp, style: Style) -> String {
    let had = had(last.max_weight, runs_wanted(service).is_some());
    let word = format!("{:?}", last.outcome);
    let word = match last.outcome {
        Outcome::Promoted => style.good(&word),
        Outcome::RolledBack => style.bad(&word),
        _ => style.busy(&word),
    };
    format!(
        "attempt {} at {} ended {word} ({}) {} ago, after {}{had}",
        last.number,
        last.revision,
        last.reason,
        span(now.duration_since(last.ended_at)),
        span(last.ended_at.duration_since(last.started_at)),
    )
}

/// How many users an attempt had; what runs by a schedule has none.
pub(super) fn had(max_weight: impl Display, by_runs: bool) -> String {
    if by_runs {
        String::new()
    } else {
        format!("; it had up to {max_weight}% of the traffic")
    }
}
