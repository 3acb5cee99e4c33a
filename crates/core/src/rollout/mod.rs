//! The rollout state machine: plan, state and observation in; decision out.
//!
//! ```text
//!                 first revision                          a later revision
//!   (no stable) ─► Deploying ──────────► Promoted   ┌──► Stepping ─► Promoting ─► Baking ─► (Settling) ─► Promoted
//!                                                   │       │  ▲          │          │
//!                                        (stable) ──┘       ▼  │ Promote  ▼          ▼   harm, hard gate, abort,
//!                                                          Held        Withdrawing ◄──── another spec, deadline
//!                                                           └──────────────┘   └─► RolledBack, Aborted, Superseded …
//! ```
//!
//! Where migrations are a gate, Migrating comes before Deploying and Stepping.
//!
//! A hold also ends by itself once what stood in the way is corrected; then the steps go on. A bake that makes the
//! canary suspect goes back to Promoting, where both are compared again.
//!
//! One turn takes in new evidence, heeds people, follows the spec, moves the attempt as far as it can go at
//! this moment, and derives from the new state how the world should look. Effects are the difference between
//! that and what was observed, so a crash between any two writes changes nothing.

mod acts;
mod adoption;
mod allowed;
mod at_once;
mod attempt;
mod back;
mod bake;
mod conditions;
mod connections;
mod database;
mod deadlines;
mod doubt;
mod due;
mod effects;
mod endpoints;
mod evidence;
mod gates;
mod groups;
mod guards;
mod hand;
mod incident;
mod jobs;
mod lost;
mod migration_runs;
mod migrations;
mod objectives;
mod pauses;
mod people;
mod preview;
mod report;
mod restart;
mod resume;
mod rival;
mod room;
mod runs;
mod scaler;
mod share;
mod shares;
mod singleton;
mod stages;
mod standing;
mod waits;
mod watch;
mod weights;
mod workers;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use crate::decision::{Decision, Effect, Verdict};
use crate::guard::GuardState;
use crate::observed::Observed;
use crate::plan::Plan;
use crate::state::{Act, Attempt, Ended, MAX_TRANSITIONS, State, Transition};

pub use due::{Due, measurement_due};
pub use jobs::runs_under_way;

/// A canary that crashed this often before it had traffic is rolled back; fewer may be a slow dependency.
pub const CRASHES_BEFORE_TRAFFIC: u32 = 3;
/// A canary of which one container crashed this often since it has had users is rolled back, and one of which so
/// many containers did, if that is half of its pods.
pub const CRASHES_UNDER_TRAFFIC: usize = 2;

/// Decides what to do now.
///
/// Pure and idempotent: with the same arguments it returns the same decision, and once its effects are
/// observed and nothing else has changed, it asks for none.
pub fn decide(plan: &Plan, state: &State, seen: &Observed, now: Timestamp) -> Decision {
    let mut turn = Turn {
        plan,
        seen,
        now,
        state: state.clone(),
        transitions: Vec::new(),
        verdicts: Vec::new(),
        ended_actions: Vec::new(),
        acts: Vec::new(),
    };
    turn.watch_route();
    turn.watch_scaling();
    turn.follow_strength();
    turn.follow_alone();
    turn.follow_endpoints();
    turn.follow_share();
    turn.heed_hand();
    turn.follow_connections();
    turn.follow_evidence();
    turn.follow_conditions();
    turn.follow_jobs();
    turn.follow_runs();
    turn.follow_guards();
    turn.resume_corrected();
    turn.follow_watch();
    turn.heed_actions();
    turn.follow_group();
    turn.follow_rollback_policy();
    turn.follow_spec();
    turn.follow_pause();
    turn.tell_of_scaling();
    turn.advance();
    turn.follow_database();
    turn.begin_runs();
    turn.follow_restart();
    turn.keep_acts(state.attempt.is_some());
    let effects = turn.effects();
    let jobs = turn.job_effects();
    let wake_at = turn.wake_at();
    let report = turn.report();
    Decision {
        state: turn.state,
        effects,
        jobs,
        wake_at,
        report,
    }
}

/// One decision in the making.
struct Turn<'a> {
    plan: &'a Plan,
    seen: &'a Observed,
    now: Timestamp,
    state: State,
    transitions: Vec<Transition>,
    verdicts: Vec<Verdict>,
    ended_actions: Vec<Effect>,
    acts: Vec<Act>,
}

impl Turn<'_> {
    /// Notes what happened, for the event, the record and the status.
    fn note(&mut self, reason: &str, message: impl Into<String>) {
        let weight = self.state.attempt.as_ref().map_or(0, |a| a.weight);
        let transition = Transition {
            at: self.now,
            reason: reason.to_owned(),
            message: message.into(),
            weight,
        };
        if let Some(attempt) = &mut self.state.attempt {
            remember(&mut attempt.transitions, transition.clone());
        }
        self.transitions.push(transition);
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.state.attempt.as_ref()
    }

    /// When to decide again if nothing happens before.
    fn wake_at(&self) -> Option<Timestamp> {
        let mut times = Vec::new();
        if let Some(attempt) = self.attempt() {
            times.extend(attempt.deadline);
            times.extend(self.dwell_until());
            times.extend(self.prepare_at());
            times.extend(self.bake_until());
            times.extend(due::next_measurement(self.plan, attempt, self.now));
            times.extend(self.job_times(attempt));
            times.extend(endpoints::known_at(attempt));
        }
        times.extend(self.watch_times());
        times.extend(self.migration_times());
        times.extend(self.state.rival.as_ref().map(|r| after(r.last, rival::CALM)));
        times.extend(self.room_at());
        times.extend(self.scale_again_times());
        times.extend(self.set_again_at());
        times.extend(self.restart_at());
        times.extend(self.adoption_at());
        times.extend(self.group_at());
        times.extend(self.hold_again_at());
        times.extend(self.lost_at());
        times.extend(self.alone_at());
        times.extend(self.run_times());
        times.extend(self.state.retiring.iter().map(|r| r.scale_down_at));
        // A time that has passed has been acted upon in this turn, or waits for something observed.
        times.into_iter().filter(|t| *t > self.now).min()
    }
}

/// Keeps the transitions bounded: the first half tells how it began, the newest how it went on.
fn remember(transitions: &mut Vec<Transition>, transition: Transition) {
    if transitions.len() >= MAX_TRANSITIONS {
        transitions.remove(MAX_TRANSITIONS / 2);
    }
    transitions.push(transition);
}

/// A time later, without overflow: time stands still at the end of the calendar.
fn after(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// What an attempt leaves behind.
fn ended(
    attempt: Attempt,
    stable: Option<crate::plan::Revision>,
    now: Timestamp,
    end: attempt::End,
) -> Ended {
    Ended {
        revision: attempt.revision,
        number: attempt.number,
        outcome: end.outcome,
        reason: end.reason,
        message: end.message,
        started_at: attempt.started_at,
        ended_at: now,
        stable,
        max_weight: attempt.max_weight,
        migration: attempt.migration,
        evidence: attempt.evidence,
        conditions: attempt.conditions,
        guards: attempt.guards.into_iter().map(GuardState::summary).collect(),
        transitions: attempt.transitions,
    }
}
