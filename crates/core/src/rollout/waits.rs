//! What an attempt waits for, and until when.

use jiff::{SignedDuration, Timestamp};

use super::endpoints::SETTLE;
use super::{Turn, after};
use crate::observed::ProblemKind;
use crate::plan::{BudgetExhausted, Step};
use crate::state::{Attempt, Stage};

/// What an attempt waits for; the status tells it, and a deadline judges by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Pods, the router, the route: the rollout is stuck.
    World(String),
    /// Evidence that can't be had: neither harm nor safety is shown.
    Evidence(String),
    /// More evidence for safety, which comes with the requests: worth waiting for as long as it grows.
    Safety(String),
    /// A person's word; there is no deadline for people.
    Person(String),
}

impl Wait {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::World(text) | Self::Evidence(text) | Self::Safety(text) | Self::Person(text) => text,
        }
    }
}

/// The longest time before the end of a dwell at which the next weight's pods start.
const MOST_AHEAD: SignedDuration = SignedDuration::from_secs(120);

impl Turn<'_> {
    /// What a `setWeight` step waits for; `None` when the weight can be raised, or has been acknowledged.
    pub(super) fn step_wait(&self, attempt: &Attempt, weight: u8) -> Option<Wait> {
        if attempt.weight < weight {
            let evidence = || {
                let cleared = attempt.is_cleared();
                if cleared {
                    None
                } else {
                    self.verdict_wait(attempt, Some(weight))
                }
            };
            let world = || {
                if let Some(problem) = self.seen.problem(ProblemKind::Route) {
                    return Some(Wait::World(problem.message.clone()));
                }
                if let Some(third) = self.third(attempt).filter(|_| self.divides_by_pods()) {
                    let why = if self.pulls() {
                        "which take work as well"
                    } else {
                        "which the Service would lead to as well"
                    };
                    let what = format!("revision {third} still has pods, {why}");
                    return Some(Wait::World(what));
                }
                let needed = self.plan.pods_for(weight);
                let ready = self.reliable(attempt) >= needed;
                (!ready).then(|| Wait::World(self.pods_wait(attempt, needed)))
            };
            // The first pods come before anything can be read of them, later ones only for good reason.
            // Pods of workers can't wait for it: they work as soon as they run.
            return if attempt.max_weight == 0 && !self.pulls() {
                world().or_else(evidence)
            } else {
                evidence().or_else(world)
            };
        }
        // `>=` for a step that asks for no more than the canary has already.
        (!self.acknowledged(attempt, attempt.weight)).then(|| Wait::World(self.route_wait()))
    }

    /// What stands between the last step and full traffic.
    pub(super) fn promotion_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if attempt.weight == 100 {
            return (!self.acknowledged(attempt, 100)).then(|| Wait::World(self.route_wait()));
        }
        if !attempt.is_cleared() {
            let wait = self
                .comparison_wait(attempt)
                .or_else(|| self.move_wait(attempt, None));
            if wait.is_some() {
                return wait;
            }
        }
        if let Some(problem) = self.seen.problem(ProblemKind::Route) {
            return Some(Wait::World(problem.message.clone()));
        }
        (self.reliable(attempt) < self.plan.replicas)
            .then(|| Wait::World(self.pods_wait(attempt, self.plan.replicas)))
    }

    pub(super) fn pods_wait(&self, attempt: &Attempt, needed: u32) -> String {
        let view = self.seen.revisions.get(&attempt.revision);
        let ready = self.seen.available(&attempt.revision);
        let mut pods = format!(
            "{ready} of {needed} pods of revision {} are ready",
            attempt.revision
        );
        let young = self.seen.ready(&attempt.revision).saturating_sub(ready);
        if young > 0 && ready < needed {
            pods = format!("{pods}, and {young} more not for spec.minReadySeconds yet");
        }
        let unknown = ready.saturating_sub(self.routable(attempt));
        let absent = ready.saturating_sub(self.endpoints_of(&attempt.revision));
        if absent > 0 && ready >= needed {
            pods = format!("{pods}, and {absent} of them no endpoints of the canary's Service yet");
        } else if unknown > 0 && ready >= needed {
            pods = format!(
                "{pods}, and the router has {} s to learn of {unknown} of them",
                SETTLE.as_secs()
            );
        }
        if let Some(room) = self.room_text(attempt, needed) {
            pods = format!("{pods}; {room}");
        }
        if let Some(connections) = self.connections_text(attempt, needed) {
            pods = format!("{pods}; {connections}");
        }
        match view.and_then(|v| v.trouble.as_ref()) {
            Some(trouble) => format!("{pods}: {}", trouble.message),
            None => pods,
        }
    }

    pub(super) fn route_wait(&self) -> String {
        let problem = self
            .seen
            .problem(ProblemKind::Route)
            .or_else(|| self.seen.problem(ProblemKind::RouteStatus))
            .or_else(|| self.seen.problem(ProblemKind::Apply));
        match problem {
            Some(problem) => problem.message.clone(),
            None => self
                .rival_text()
                .unwrap_or_else(|| self.unacknowledged_text("the new weights")),
        }
    }

    /// That it is not as wanted, and nobody says why: workers have no router, and it is their pods that are counted.
    pub(super) fn unacknowledged_text(&self, what: &str) -> String {
        if self.pulls() {
            "the pods that work are not the ones yet that should".to_owned()
        } else {
            format!("the router has not acknowledged {what} yet")
        }
    }

    /// The route has the weights that are wanted now, and the router has acknowledged them.
    pub(super) fn route_is_as_wanted(&self) -> bool {
        let route = &self.seen.route;
        if self.divides_by_pods() {
            return route.acknowledged && self.leads_as_wanted();
        }
        let preview = || route.preview == self.wanted_preview();
        route.acknowledged && self.wanted_weights().is_none_or(|w| w == route.weights) && preview()
    }

    /// How long a pause lasts: twice as long while the error budget is exhausted, where that is the policy.
    pub(super) fn dwell(&self, attempt: &Attempt, seconds: u32) -> SignedDuration {
        let slow = self.plan.budget_exhausted == BudgetExhausted::Slow && self.exhausted(attempt).is_some();
        SignedDuration::from_secs(i64::from(seconds)) * if slow { 2 } else { 1 }
    }

    pub(super) fn dwell_until(&self) -> Option<Timestamp> {
        let attempt = self.attempt().filter(|a| a.stage == Stage::Stepping)?;
        match attempt.steps.get(attempt.step as usize)? {
            Step::Dwell(s) => Some(after(attempt.step_since, self.dwell(attempt, *s))),
            _ => None,
        }
    }

    /// When the pods of the next weight may start: halfway through a dwell, two minutes before its end in a long one.
    pub(super) fn prepare_at(&self) -> Option<Timestamp> {
        let until = self.dwell_until()?;
        let since = self.attempt()?.step_since;
        let ahead = (until.duration_since(since) / 2).min(MOST_AHEAD);
        until.checked_sub(ahead).ok()
    }

    pub(super) fn bake_until(&self) -> Option<Timestamp> {
        match self.attempt()?.stage {
            Stage::Baking { until } => Some(until),
            _ => None,
        }
    }
}
