//! What moves an attempt on.

use jiff::{SignedDuration, Timestamp};

use super::attempt::End;
use super::report::pods_are_ready;
use super::{CRASHES_BEFORE_TRAFFIC, CRASHES_UNDER_TRAFFIC, Turn, after};
use crate::observed::{ProblemKind, TroubleKind};
use crate::plan::{BudgetExhausted, OnInconclusive, RouteMode, SloPlan, Step};
use crate::state::{Attempt, Hold, Outcome, Stage};

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

/// More moves than any attempt can make in one turn; a bound, so that a mistake can't hang the operator.
const MOST_MOVES: usize = 200;

impl Turn<'_> {
    /// Moves the attempt as far as it can go now.
    pub(super) fn advance(&mut self) {
        for _ in 0..MOST_MOVES {
            if !self.advance_once() {
                break;
            }
        }
        self.drop_retired();
    }

    /// One move; `false` when nothing can move.
    fn advance_once(&mut self) -> bool {
        let Some(attempt) = self.attempt().cloned() else {
            return false;
        };
        if self.plan.deleting {
            return false;
        }
        if let Some(end) = self.hard_gate(&attempt) {
            self.withdraw(end);
            return true;
        }
        match &attempt.stage {
            Stage::Deploying => self.deploying(&attempt),
            Stage::Stepping => self.stepping(&attempt),
            Stage::Promoting => self.promoting(&attempt),
            Stage::Baking { until } => self.baking(&attempt, *until),
            Stage::Settling => self.settling(&attempt),
            Stage::Held => false,
            Stage::Withdrawing {
                outcome,
                reason,
                message,
            } => {
                let end = End::new(*outcome, reason, message.clone());
                self.withdrawing(&attempt, end)
            }
        }
    }

    /// What ends an attempt without statistics: pods that can't run.
    fn hard_gate(&self, attempt: &Attempt) -> Option<End> {
        let first = self.state.stable.is_none();
        if first || matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Settling) {
            return None;
        }
        if let Some(end) = self.clock_went_back(attempt) {
            return Some(end);
        }
        if let Some(end) = self.crashed_under_traffic(attempt) {
            return Some(end);
        }
        if self.seen.revisions.get(&attempt.revision)?.altered {
            return Some(End::new(
                Outcome::RolledBack,
                "RevisionAltered",
                format!(
                    "the pod template in the ReplicaSet of revision {} was changed since its first pods were created, so what would be promoted is not what is tested: change spec.template of the PythonService instead",
                    attempt.revision
                ),
            ));
        }
        let trouble = self.seen.revisions.get(&attempt.revision)?.trouble.as_ref()?;
        match trouble.kind {
            TroubleKind::CrashLoop
                if attempt.exposed_since.is_none() && trouble.restarts >= CRASHES_BEFORE_TRAFFIC =>
            {
                Some(End::new(
                    Outcome::RolledBack,
                    "CanaryCrashLooping",
                    format!(
                        "the canary crashed {} times: {}",
                        trouble.restarts, trouble.message
                    ),
                ))
            }
            TroubleKind::BadContainer => Some(End::new(
                Outcome::RolledBack,
                "CanaryCannotStart",
                trouble.message.clone(),
            )),
            _ => None,
        }
    }

    /// A container ended too often since users came. What it did before, waiting for a dependency for instance,
    /// is not held against it, and one that runs again at the moment is not acquitted.
    fn crashed_under_traffic(&self, attempt: &Attempt) -> Option<End> {
        let since = attempt.exposed_since?;
        let crashes = &self.seen.revisions.get(&attempt.revision)?.crashes;
        let of_users = |ends: &[Timestamp]| ends.iter().filter(|end| **end >= since).count();
        let worst = crashes.iter().max_by_key(|c| of_users(&c.ends))?;
        let times = of_users(&worst.ends);
        let containers = crashes.iter().filter(|c| of_users(&c.ends) > 0).count();
        // Each may have crashed but once: what one pod did by chance, half of them did not.
        let half = self.seen.revisions.get(&attempt.revision)?.pods.div_ceil(2) as usize;
        let what = if times >= CRASHES_UNDER_TRAFFIC {
            format!("the canary crashed {times} times since it has had users")
        } else if containers >= half.max(CRASHES_UNDER_TRAFFIC) {
            format!("{containers} containers of the canary crashed since it has had users")
        } else {
            return None;
        };
        Some(End::new(
            Outcome::RolledBack,
            "CanaryCrashLooping",
            format!("{what}: {}", worst.message),
        ))
    }

    /// What was read of the canary lies ahead of the clock: until the clock is there again nothing new is read,
    /// and no deadline comes, so nobody would watch over its users.
    fn clock_went_back(&self, attempt: &Attempt) -> Option<End> {
        let unwatched = attempt.measured_to > after(self.now, self.plan.progress_deadline);
        (attempt.weight > 0 && unwatched).then(|| {
            End::new(
                Outcome::Inconclusive,
                "ClockWentBack",
                format!(
                    "the operator's clock says {:.0}, and the metrics were read up to {:.0} already: nothing new can be read of the canary; check the time of the operator's node, then try the revision again",
                    self.now, attempt.measured_to
                ),
            )
        })
    }

    fn deploying(&mut self, attempt: &Attempt) -> bool {
        let ready = self.seen.ready(&attempt.revision);
        if attempt.weight == 0 {
            if ready < self.plan.replicas {
                let wait = Wait::World(self.pods_wait(attempt, self.plan.replicas));
                return self.check_deadline(attempt, &wait);
            }
            self.update(|a| a.weight = 100);
            self.note(
                "PodsReady",
                format!("{}; the route may lead to them", pods_are_ready(ready)),
            );
            return true;
        }
        if self.plan.replicas > 0 && !self.route_is_as_wanted() {
            let wait = Wait::World(self.route_wait());
            return self.check_deadline(attempt, &wait);
        }
        self.update(|a| a.max_weight = 100);
        self.finish(End::new(
            Outcome::Promoted,
            "FirstDeployment",
            format!(
                "revision {} serves all users; it is the first, so there was nothing to compare it with",
                attempt.revision
            ),
        ));
        true
    }

    fn stepping(&mut self, attempt: &Attempt) -> bool {
        let Some(step) = attempt.steps.get(attempt.step as usize).copied() else {
            self.enter(Stage::Promoting, Some(self.plan.progress_deadline));
            return true;
        };
        match step {
            Step::Dwell(seconds) => {
                let until = after(attempt.step_since, self.dwell(attempt, seconds));
                if self.now < until {
                    return self.check_unready(attempt);
                }
                self.next_step();
                true
            }
            Step::SetWeight(weight) => {
                if let Some(wait) = self.step_wait(attempt, weight) {
                    return self.clear_step(attempt, weight) || self.check_deadline(attempt, &wait);
                }
                if attempt.weight < weight {
                    self.raise(weight);
                    self.note(
                        "WeightRaised",
                        format!("the canary gets {weight} % of the traffic"),
                    );
                    return true;
                }
                self.reached(attempt, weight);
                self.next_step();
                true
            }
        }
    }

    /// What a `setWeight` step waits for; `None` when the weight can be raised, or has been acknowledged.
    pub(super) fn step_wait(&self, attempt: &Attempt, weight: u8) -> Option<Wait> {
        if attempt.weight < weight {
            let evidence = || {
                let cleared = attempt.cleared_step == Some(attempt.step);
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
                let needed = self.plan.pods_for(weight);
                let ready = self.seen.ready(&attempt.revision) >= needed;
                (!ready).then(|| Wait::World(self.pods_wait(attempt, needed)))
            };
            // The first pods come before anything can be read of them, later ones only for good reason.
            return if attempt.max_weight == 0 {
                world().or_else(evidence)
            } else {
                evidence().or_else(world)
            };
        }
        // `>=` for a step that asks for no more than the canary has already.
        (!self.acknowledged(attempt, attempt.weight)).then(|| Wait::World(self.route_wait()))
    }

    /// Notes that the evidence for a step is there, so that a later dip does not take it back.
    fn clear_step(&mut self, attempt: &Attempt, weight: u8) -> bool {
        let cleared = attempt.cleared_step == Some(attempt.step)
            || attempt.weight >= weight
            || self.verdict_wait(attempt, Some(weight)).is_some();
        if cleared {
            return false;
        }
        let deadline = after(self.now, self.plan.progress_deadline);
        self.update(|a| {
            a.cleared_step = Some(a.step);
            a.deadline = Some(deadline);
        });
        true
    }

    /// The canary gets this weight. The router has time for it, whatever was waited for before.
    fn raise(&mut self, weight: u8) {
        let deadline = after(self.now, self.plan.progress_deadline);
        self.update(|a| {
            a.weight = weight;
            a.cleared_step = Some(a.step);
            a.deadline = Some(deadline);
        });
    }

    fn promoting(&mut self, attempt: &Attempt) -> bool {
        if let Some(wait) = self.promotion_wait(attempt) {
            let cleared = attempt.cleared_step == Some(attempt.step)
                || attempt.weight == 100
                || self.verdict_wait(attempt, None).is_some();
            if !cleared {
                let deadline = after(self.now, self.plan.progress_deadline);
                self.update(|a| {
                    a.cleared_step = Some(a.step);
                    a.deadline = Some(deadline);
                });
                self.note("ShownSafe", "safety is shown; the canary grows to full strength");
                return true;
            }
            return self.check_deadline(attempt, &wait);
        }
        if attempt.weight < 100 {
            self.raise(100);
            self.note("WeightRaised", "the canary gets all traffic");
            return true;
        }
        self.reached(attempt, 100);
        let until = after(self.now, self.plan.bake);
        self.enter(Stage::Baking { until }, None);
        self.note(
            "BakeStarted",
            format!("all users are on the canary; the old revision stays at full strength until {until:.0}"),
        );
        true
    }

    /// What stands between the last step and full traffic.
    pub(super) fn promotion_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if attempt.weight == 100 {
            return (!self.acknowledged(attempt, 100)).then(|| Wait::World(self.route_wait()));
        }
        if attempt.cleared_step != Some(attempt.step)
            && let Some(wait) = self.verdict_wait(attempt, None)
        {
            return Some(wait);
        }
        if let Some(problem) = self.seen.problem(ProblemKind::Route) {
            return Some(Wait::World(problem.message.clone()));
        }
        (self.seen.ready(&attempt.revision) < self.plan.replicas)
            .then(|| Wait::World(self.pods_wait(attempt, self.plan.replicas)))
    }

    fn baking(&mut self, attempt: &Attempt, until: Timestamp) -> bool {
        let ready = self.seen.ready(&attempt.revision);
        let serves = self.plan.replicas > 0;
        if ready == 0 && serves {
            return self.check_unready(attempt);
        }
        if self.written_weight(attempt) == 0 && serves {
            // Its users were sent to stable meanwhile: it has to prove itself anew once they are back.
            let until = after(self.now, self.plan.bake);
            self.update(|a| a.stage = Stage::Baking { until });
            return self.bake_waits(attempt, self.now, &Wait::World(self.route_wait()));
        }
        if self.now < until {
            return self.check_unready(attempt);
        }
        // What is promoted has to do without the old revision's pods.
        if ready < self.plan.replicas {
            let wait = Wait::World(self.pods_wait(attempt, self.plan.replicas));
            return self.bake_waits(attempt, self.now, &wait);
        }
        if serves && !self.route_is_as_wanted() {
            return self.bake_waits(attempt, self.now, &Wait::World(self.route_wait()));
        }
        // Missing data never counts as success: the bake is over once it has been read to its end.
        if self
            .least_read(attempt)
            .is_none_or(|read| after(read, self.plan.block) < until)
        {
            let wait = Wait::Evidence("the metrics of the bake could not be read to its end".to_owned());
            return self.bake_waits(attempt, until, &wait);
        }
        if let Some(why) = self.bake_conditions_wait(attempt) {
            return self.bake_waits(attempt, until, &Wait::Evidence(why));
        }
        if self.plan.route == RouteMode::Adopted {
            self.enter(Stage::Settling, Some(self.plan.progress_deadline));
            return true;
        }
        self.finish(promoted(attempt));
        true
    }

    /// The bake is over, and something is still missing: there is a deadline for it, reckoned from `since`.
    fn bake_waits(&mut self, attempt: &Attempt, since: Timestamp, wait: &Wait) -> bool {
        if attempt.deadline.is_none() {
            let deadline = after(since, self.plan.progress_deadline);
            self.update(|a| a.deadline = Some(deadline));
            return true;
        }
        self.check_deadline(attempt, wait)
    }

    fn settling(&mut self, attempt: &Attempt) -> bool {
        // A route that can't be brought home keeps nobody from the next revision for ever.
        let overdue = attempt.deadline.is_some_and(|deadline| self.now >= deadline);
        let done = overdue || (self.stable_slot_ready(&attempt.revision) && self.route_is_as_wanted());
        if done {
            self.finish(promoted(attempt));
        }
        done
    }

    fn withdrawing(&mut self, attempt: &Attempt, end: End) -> bool {
        // Of a service that is scaled to zero, no pod of stable's will take the traffic over.
        let nothing_to_move =
            self.state.stable.is_none() || !self.seen.route.exists || self.plan.replicas == 0;
        let moved = self.written_weight(attempt) == 0 && self.seen.route.acknowledged;
        let given_up = attempt.deadline.is_some_and(|d| self.now >= d) && self.written_weight(attempt) == 0;
        if nothing_to_move || moved || given_up {
            self.finish(end);
            // The next revision need not wait for another turn.
            if let Some(revision) = self.plan.revision.clone() {
                self.begin(&revision);
            }
            return true;
        }
        false
    }

    /// The time that every objective was read up to; `None` while one of them was never read.
    fn least_read(&self, attempt: &Attempt) -> Option<Timestamp> {
        let read = |slo: &SloPlan| {
            let mut entries = attempt.evidence.iter();
            entries.find(|e| e.is_of(slo)).map(|e| e.measured_to)
        };
        let all: Option<Vec<Timestamp>> = self.plan.slos.iter().map(read).collect();
        all?.into_iter().min()
    }

    /// At a deadline: a stuck rollout goes back, an undecided one follows the policy.
    fn check_deadline(&mut self, attempt: &Attempt, wait: &Wait) -> bool {
        if attempt.deadline.is_none_or(|deadline| self.now < deadline) {
            return false;
        }
        match wait {
            Wait::World(what) => self.stuck(what),
            Wait::Person(_) => return false,
            Wait::Evidence(what) => self.undecided(attempt, what),
            Wait::Safety(what) => match self.patience(attempt) {
                Some(patience) => {
                    let deadline = after(self.now, self.plan.progress_deadline);
                    self.update(|a| {
                        a.patience = Some(patience);
                        a.deadline = Some(deadline);
                    });
                }
                None => self.undecided(attempt, what),
            },
        }
        true
    }

    fn stuck(&mut self, what: &str) {
        let message = format!("no progress before the deadline: {what}");
        self.withdraw(End::new(Outcome::RolledBack, "ProgressDeadlineExceeded", message));
    }

    fn undecided(&mut self, attempt: &Attempt, what: &str) {
        let rival = self.state.rival.as_ref().map_or_else(String::new, |rival| {
            format!(
                "; meanwhile {} wrote the weights of the route back",
                rival.manager
            )
        });
        let message = format!("neither harm nor safety could be shown before the deadline: {what}{rival}");
        let budget_safe =
            self.spend_is_known_and_within_bounds(attempt) && self.conditions_wait(attempt, None).is_none();
        match self.plan.on_inconclusive {
            OnInconclusive::Rollback => {
                self.withdraw(End::new(Outcome::Inconclusive, "Inconclusive", message));
            }
            OnInconclusive::PromoteIfBudgetSafe
                if budget_safe && !matches!(attempt.stage, Stage::Baking { .. }) =>
            {
                let deadline = after(self.now, self.plan.progress_deadline);
                self.update(|a| {
                    a.cleared_step = Some(a.step);
                    a.deadline = Some(deadline);
                });
                self.note(
                    "PromotedWithinBudget",
                    format!("{message}; what it spends is within bounds"),
                );
            }
            OnInconclusive::Pause | OnInconclusive::PromoteIfBudgetSafe => {
                self.enter(Stage::Held, None);
                let basis = self.plan.basis.clone();
                self.update(|a| {
                    a.hold = Some(Hold {
                        basis,
                        weight: a.weight,
                    });
                    a.weight = 0;
                });
                self.note(
                    "Inconclusive",
                    format!(
                        "{message}; no traffic, waits for a person to promote or abort; goes on by itself once spec.slos, spec.metrics or spec.analysis is corrected"
                    ),
                );
            }
        }
    }

    /// While it dwells or bakes no deadline runs, but a canary without a ready pod may not stay for ever.
    fn check_unready(&mut self, attempt: &Attempt) -> bool {
        let ready = self.seen.ready(&attempt.revision);
        if ready > 0 || attempt.weight == 0 {
            if attempt.deadline.is_some() {
                self.update(|a| a.deadline = None);
            }
            return false;
        }
        if attempt.deadline.is_none() {
            let deadline = after(self.now, self.plan.progress_deadline);
            self.update(|a| a.deadline = Some(deadline));
            self.note(
                "CanaryUnavailable",
                "the canary has no ready pod; its traffic goes to stable meanwhile",
            );
            return false;
        }
        let wait = Wait::World(self.pods_wait(attempt, 1));
        self.check_deadline(attempt, &wait)
    }

    /// Revisions whose pods have gone no longer wait for it.
    fn drop_retired(&mut self) {
        let (now, seen) = (self.now, self.seen);
        let drained = after(now, self.plan.drain);
        for index in 0..self.state.retiring.len() {
            let left = self.is_left(&self.state.retiring[index].revision);
            let retiring = &mut self.state.retiring[index];
            if retiring.unconfirmed && left {
                retiring.unconfirmed = false;
                retiring.scale_down_at = retiring.scale_down_at.max(drained);
            }
        }
        self.state.retiring.retain(|r| {
            let gone = seen
                .revisions
                .get(&r.revision)
                .is_none_or(|v| v.wanted == 0 && v.pods == 0);
            now < r.scale_down_at || !gone
        });
    }

    /// The route has the weights that are wanted now, and the router has acknowledged them.
    pub(super) fn route_is_as_wanted(&self) -> bool {
        self.seen.route.acknowledged && self.wanted_weights().is_none_or(|w| w == self.seen.route.weights)
    }

    /// The weight is in force: evidence begins to count with the first one.
    fn reached(&mut self, attempt: &Attempt, weight: u8) {
        let now = self.now;
        if attempt.exposed_since.is_none() {
            // The grid begins anew at each exposure, so that no block mixes before and after.
            self.update(|a| {
                a.measured_to = now;
                a.exposed_since = Some(now);
                a.evidence.iter_mut().for_each(|e| e.measured_to = now);
            });
        }
        self.update(|a| a.max_weight = a.max_weight.max(weight));
    }

    fn next_step(&mut self) {
        let now = self.now;
        let deadline = after(now, self.plan.progress_deadline);
        self.update(|a| {
            a.step += 1;
            a.step_since = now;
            a.patience = None;
            // A dwell is no lack of progress.
            let dwells = matches!(a.steps.get(a.step as usize), Some(Step::Dwell(_)));
            a.deadline = (!dwells).then_some(deadline);
        });
    }

    fn enter(&mut self, stage: Stage, deadline: Option<SignedDuration>) {
        let now = self.now;
        self.update(|a| {
            a.stage = stage;
            a.since = now;
            a.patience = None;
            a.deadline = deadline.map(|d| after(now, d));
        });
    }

    fn update(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = &mut self.state.attempt {
            change(attempt);
        }
    }

    /// How long a pause lasts: twice as long while the error budget is exhausted, where that is the policy.
    fn dwell(&self, attempt: &Attempt, seconds: u32) -> SignedDuration {
        let slow = self.plan.budget_exhausted == BudgetExhausted::Slow && self.exhausted(attempt).is_some();
        SignedDuration::from_secs(i64::from(seconds)) * if slow { 2 } else { 1 }
    }

    pub(super) fn dwell_until(&self) -> Option<Timestamp> {
        let attempt = self.attempt().filter(|a| a.stage == Stage::Stepping)?;
        match attempt.steps.get(attempt.step as usize)? {
            Step::Dwell(s) => Some(after(attempt.step_since, self.dwell(attempt, *s))),
            Step::SetWeight(_) => None,
        }
    }

    pub(super) fn bake_until(&self) -> Option<Timestamp> {
        match self.attempt()?.stage {
            Stage::Baking { until } => Some(until),
            _ => None,
        }
    }

    fn pods_wait(&self, attempt: &Attempt, needed: u32) -> String {
        let view = self.seen.revisions.get(&attempt.revision);
        let ready = self.seen.ready(&attempt.revision);
        let pods = format!(
            "{ready} of {needed} pods of revision {} are ready",
            attempt.revision
        );
        match view.and_then(|v| v.trouble.as_ref()) {
            Some(trouble) => format!("{pods}: {}", trouble.message),
            None => pods,
        }
    }

    fn route_wait(&self) -> String {
        let problem = self
            .seen
            .problem(ProblemKind::Route)
            .or_else(|| self.seen.problem(ProblemKind::RouteStatus))
            .or_else(|| self.seen.problem(ProblemKind::Apply));
        match problem {
            Some(problem) => problem.message.clone(),
            None => self
                .rival_text()
                .unwrap_or_else(|| "the router has not acknowledged the new weights yet".to_owned()),
        }
    }
}

pub(super) fn promoted(attempt: &Attempt) -> End {
    End::new(
        Outcome::Promoted,
        "Promoted",
        format!(
            "revision {} is stable now: the ReplicaSet that was tested, with its pods",
            attempt.revision
        ),
    )
}
