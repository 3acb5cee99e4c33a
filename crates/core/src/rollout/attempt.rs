//! How attempts begin and end: by the spec, by people.

use jiff::Timestamp;

use super::deadlines::STUCK;
use super::stages::promoted;
use super::{Turn, after, ended};
use crate::migration::MigrationStage;
use crate::plan::{Revision, Step};
use crate::state::{Attempt, MAX_SERVED, Outcome, Retiring, Stage};

/// Why an attempt ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub outcome: Outcome,
    pub reason: String,
    pub message: String,
}

impl End {
    pub(super) fn new(outcome: Outcome, reason: &str, message: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

impl Attempt {
    /// One that has just begun: it has no steps, and nothing is known.
    pub(super) fn begun(revision: Revision, number: u32, now: Timestamp) -> Self {
        Self {
            revision,
            number,
            started_at: now,
            stage: Stage::Stepping,
            since: now,
            steps: Vec::new(),
            at_once: false,
            step: 0,
            step_since: now,
            weight: 0,
            max_weight: 0,
            exposed_since: None,
            raised_at: None,
            in_force_since: None,
            endpoints: None,
            carried: None,
            hold: None,
            deadline: None,
            patience: None,
            cleared_step: None,
            incident_since: None,
            overridden: None,
            paused: None,
            doubt: None,
            migration: None,
            measured_to: now,
            group_header: None,
            evidence: Vec::new(),
            conditions: Vec::new(),
            guards: Vec::new(),
            connections: None,
            trial: None,
            transitions: Vec::new(),
        }
    }

    /// The wait of its current step is over: by evidence, or by a person.
    pub(super) fn is_cleared(&self) -> bool {
        self.cleared_step == Some(self.step)
    }

    /// It has asked the router for its step's weight, which nobody has acknowledged yet, and a pause comes next.
    pub(super) fn rises_towards_a_pause(&self) -> bool {
        let step = |index: u32| self.steps.get(index as usize);
        let risen = step(self.step)
            .and_then(Step::weight)
            .is_some_and(|w| self.weight >= w);
        self.stage == Stage::Stepping && risen && step(self.step + 1).is_some_and(Step::lasts)
    }

    /// Index of the step whose wait a promotion ends now: the current one's, or that of the pause which comes next once
    /// the router has acknowledged a weight. As many as there are steps once they are done.
    pub fn awaited_step(&self) -> u32 {
        self.step + u32::from(self.rises_towards_a_pause())
    }
}

impl Turn<'_> {
    /// Ends, supersedes or begins an attempt as the spec asks for.
    pub(super) fn follow_spec(&mut self) {
        if self.plan.deleting && self.gives_back() {
            return self.follow_adoption();
        }
        if self.plan.deleting {
            if self.state.attempt.is_some() {
                self.finish(End::new(
                    Outcome::Aborted,
                    "Deleted",
                    "the PythonService is being deleted",
                ));
            }
            return;
        }
        let spec = self.plan.revision.as_ref();
        if spec.is_some_and(|r| self.state.pinned.as_ref().is_some_and(|pin| pin.instead_of != *r)) {
            self.state.pinned = None;
        }
        let wanted = self.wanted();
        if wanted.is_some() && self.state.refused.is_some() && wanted != self.state.refused {
            self.state.refused = None;
        }
        self.find_stable();
        self.leave_lost_stable();
        let wanted = self.wanted();
        self.follow_adoption();
        if let Some(attempt) = self.attempt().cloned()
            && wanted.as_ref().is_some_and(|r| *r != attempt.revision)
        {
            // It serves all users, shown safe or because there was no other: the next revision is compared with it.
            let is_first =
                self.state.stable.is_none() && self.seen.ready(&attempt.revision) >= self.plan.replicas;
            match attempt.stage {
                Stage::Settling => self.finish(promoted(&attempt)),
                Stage::Baking { .. } if is_first => self.finish(self.first_end(&attempt)),
                _ => {}
            }
        }
        if let Some(attempt) = self.attempt()
            && wanted.as_ref() != Some(&attempt.revision)
            && !matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Settling)
            && !self.outlasts_an_edit(attempt)
        {
            let end = match &wanted {
                None => End::new(
                    Outcome::Aborted,
                    "SpecInvalid",
                    "the spec was changed to one that can't be used",
                ),
                Some(r) if self.state.stable.as_ref() == Some(r) => End::new(
                    Outcome::Aborted,
                    "SpecReverted",
                    format!("the spec went back to stable revision {r}"),
                ),
                Some(r) => End::new(
                    Outcome::Superseded,
                    "Superseded",
                    format!("the spec went on to revision {r}"),
                ),
            };
            self.withdraw(end);
        }
        if self.state.attempt.is_none()
            && let Some(revision) = wanted
        {
            self.begin(&revision);
        }
    }

    /// A state that was lost is found again in the world: the revision that users are served by is stable,
    /// whatever the spec asks for.
    pub(super) fn find_stable(&mut self) {
        if self.state.stable.is_some() || self.state.attempt.is_some() || self.state.last.is_some() {
            return;
        }
        let serves = |r: &&Revision| self.weight_of(r) >= 50 && self.seen.ready(r) > 0;
        let serving = self.seen.revisions.keys().find(serves).cloned();
        if let Some(revision) = serving.or_else(|| self.stable_of_runs()) {
            self.note(
                "StableFound",
                format!("revision {revision} serves; it is taken for stable"),
            );
            self.state.stable = Some(revision);
            // What was refused is not forgotten with the state.
            let wanted = self
                .wanted()
                .filter(|wanted| self.state.stable.as_ref() != Some(wanted));
            self.state.refused = wanted.filter(|wanted| self.seen.tried.contains(wanted));
        }
    }

    /// Begins an attempt at a revision unless it is stable, refused, or the service is scaled to zero.
    pub(super) fn begin(&mut self, revision: &Revision) {
        if self.state.stable.as_ref() == Some(revision) || self.state.refused.as_ref() == Some(revision) {
            return;
        }
        if self.plan.replicas == 0 && self.state.stable.is_some() {
            return;
        }
        if self.by_runs() && !self.seen.runs.known {
            return;
        }
        if self.adoption_moves() || self.database_is_busy() || self.is_barred(revision) {
            return;
        }
        let first = self.state.stable.is_none();
        if !first && self.pause_of(revision).is_some() {
            return;
        }
        if self.group_stops(revision) {
            return;
        }
        let last = self.state.last.as_ref().filter(|l| l.revision == *revision);
        let had_pods = last.is_some_and(|last| !last.ended_at_migrations());
        let waits_for_pods = first && had_pods && !self.by_runs();
        if waits_for_pods && self.seen.ready(revision) < self.plan.replicas.max(1) {
            // A first revision that failed has nothing to go back to: its pods stay, and it is tried
            // again once they are ready.
            return;
        }
        let seen = self.seen.attempts.get(revision).copied().unwrap_or(0);
        let number = 1 + seen.max(last.map_or(0, |l| l.number));
        // Another first one that failed may have been what users were led to.
        let failed = self.state.last.as_ref().map(|l| l.revision.clone());
        if let Some(failed) = failed.filter(|r| first && r != revision && self.seen.revisions.contains_key(r))
        {
            self.retire(failed, self.plan.abort_scale_down_delay);
        }
        self.state.retiring.retain(|r| r.revision != *revision);
        let straight = !first && self.is_known(revision);
        let all = u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX);
        let attempt = Attempt {
            stage: match (first, straight) {
                // What served before finds in the database what it needs.
                (_, false) if self.plan.migrations.is_some() => Stage::Migrating,
                (true, _) => Stage::Deploying,
                (false, true) => Stage::Promoting,
                (false, false) => Stage::Stepping,
            },
            steps: self.plan.steps.clone(),
            at_once: self.plan.at_once,
            step: if straight { all } else { 0 },
            cleared_step: straight.then_some(all),
            migration: if straight { None } else { self.first_check() },
            group_header: self.plan.group.as_ref().and_then(|group| group.header.clone()),
            ..Attempt::begun(revision.clone(), number, self.now)
        };
        self.state.attempt = Some(attempt);
        self.state.watch = None;
        self.tell_acts();
        self.follow_endpoints();
        let deadline = self.progress_until();
        self.update(|a| a.deadline = Some(deadline));
        let waited = self.leave_gate(straight);
        let pin = self.state.pinned.as_ref().filter(|pin| pin.revision == *revision);
        let group = pin.and_then(|pin| pin.group.clone());
        let breach = pin.and_then(|pin| pin.why.clone());
        match &self.state.stable {
            None => {
                let migrates = self.attempt().is_some_and(|a| a.stage == Stage::Migrating);
                let what = if migrates {
                    "its migrations come first"
                } else if self.by_runs() {
                    "its first runs decide"
                } else {
                    "its pods start"
                };
                self.note(
                    "FirstDeployment",
                    format!("revision {revision} is the first; {what}"),
                );
            }
            Some(stable) if straight => {
                let why = match (group, breach) {
                    (Some(group), _) => group,
                    (None, Some(breach)) => format!("it served them before; {breach}"),
                    (None, None) => "it served them before".to_owned(),
                };
                let message = format!(
                    "attempt {number} at revision {revision} goes straight to all {}, for {why}; stable is {stable}",
                    self.users()
                );
                self.note("RollbackStarted", message);
            }
            Some(stable) => {
                let waited = waited.map_or_else(String::new, |waited| format!("; {waited}"));
                let message =
                    format!("attempt {number} at revision {revision} starts; stable is {stable}{waited}");
                self.note("AttemptStarted", message);
            }
        }
        self.no_deadline_while_it_lasts();
    }

    /// A first step that lasts has no deadline, and neither have migrations, which have one of their own.
    pub(super) fn no_deadline_while_it_lasts(&mut self) {
        self.update(|a| {
            let lasts = a.stage == Stage::Stepping && a.steps.first().is_some_and(Step::lasts);
            if lasts || a.stage == Stage::Migrating {
                a.deadline = None;
            }
        });
    }

    /// Takes the traffic away; the attempt ends once the router has acknowledged it.
    pub(super) fn withdraw(&mut self, end: End) {
        let now = self.now;
        let deadline = after(now, self.plan.progress_deadline);
        let under_way = |a: &&Attempt| !matches!(a.stage, Stage::Withdrawing { .. });
        let Some(attempt) = self.attempt().filter(under_way).cloned() else {
            return;
        };
        self.tell_group(&attempt, &end);
        let Some(attempt) = &mut self.state.attempt else {
            return;
        };
        attempt.weight = 0;
        attempt.hold = None;
        attempt.since = now;
        attempt.deadline = Some(deadline);
        attempt.stage = Stage::Withdrawing {
            outcome: end.outcome,
            reason: end.reason.clone(),
            message: end.message.clone(),
        };
        self.note(&end.reason, end.message);
    }

    /// Ends the attempt: its revision becomes stable, or waits for its pods to go.
    pub(super) fn finish(&mut self, end: End) {
        let outcome = end.outcome;
        let message = match outcome {
            Outcome::Promoted => end.message.clone(),
            _ => format!("{outcome:?}: {}", end.message),
        };
        self.note(
            if outcome == Outcome::Promoted {
                "Promoted"
            } else {
                "AttemptEnded"
            },
            message,
        );
        if let Some(attempt) = self.attempt().cloned() {
            self.keep_of_migrations(&attempt, outcome);
        }
        let Some(attempt) = self.state.attempt.take() else {
            return;
        };
        let revision = attempt.revision.clone();
        let before = self.state.stable.clone();
        let at_migrations = (attempt.migration.as_ref()).is_some_and(|m| m.stage != MigrationStage::Applied);
        if outcome == Outcome::Promoted {
            self.keep_runs(&attempt);
            self.begin_watch(&attempt);
            self.state.stable = Some(revision.clone());
            self.state.served.retain(|r| *r != revision);
            if let Some(old) = before.clone() {
                self.state.served.retain(|r| *r != old);
                if !self.is_convicted(&old) {
                    self.state.served.insert(0, old.clone());
                    self.state.served.truncate(MAX_SERVED);
                }
                self.retire(old, self.plan.scale_down_delay);
            }
        } else if before.is_some() {
            self.retire(revision.clone(), self.plan.abort_scale_down_delay);
            if outcome.refuses(&end.reason) && self.wanted().as_ref() == Some(&revision) {
                self.state.refused = Some(revision);
            }
        } else if self.wanted().as_ref() != Some(&revision) {
            self.retire(revision, self.plan.abort_scale_down_delay);
        } else if outcome == Outcome::RolledBack
            && (at_migrations || self.by_runs() || attempt.max_weight > 0 && end.reason != STUCK)
        {
            // Nobody is there to take its users, so it serves on; it is not tried again and again.
            self.state.refused = Some(revision);
        }
        self.state.last = Some(ended(attempt, before, self.now, end));
    }

    fn retire(&mut self, revision: Revision, delay: jiff::SignedDuration) {
        let scale_down_at = after(self.now, delay.max(self.plan.drain));
        self.state.retiring.retain(|r| r.revision != revision);
        self.state.retiring.push(Retiring {
            unconfirmed: !self.is_left(&revision),
            revision,
            scale_down_at,
        });
    }
}
