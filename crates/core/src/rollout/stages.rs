//! What moves an attempt on.

use jiff::SignedDuration;

use super::attempt::End;
use super::report::pods_are_ready;
use super::waits::Wait;
use super::{Turn, after};
use crate::plan::{RouteMode, Step};
use crate::state::{Attempt, Outcome, Stage};

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
        self.hasten_retired();
    }

    /// One move; `false` when nothing can move.
    fn advance_once(&mut self) -> bool {
        let Some(attempt) = self.attempt().cloned() else {
            return false;
        };
        if self.plan.deleting && !self.gives_back() {
            return false;
        }
        if let Some(end) = self.hard_gate(&attempt) {
            self.withdraw(end);
            return true;
        }
        match &attempt.stage {
            Stage::Migrating => self.migrating(&attempt),
            stage if self.by_runs() && !matches!(stage, Stage::Withdrawing { .. }) => self.running(&attempt),
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

    fn deploying(&mut self, attempt: &Attempt) -> bool {
        let ready = self.seen.available(&attempt.revision);
        if attempt.weight == 0 {
            if ready < self.plan.replicas {
                let wait = Wait::World(self.pods_wait(attempt, self.plan.replicas));
                return self.check_deadline(attempt, &wait);
            }
            self.update(|a| a.weight = 100);
            let next = match self.plan.route {
                _ if self.pulls() => "",
                RouteMode::Shares => "; the Service may lead to them",
                _ => "; the route may lead to them",
            };
            self.note("PodsReady", format!("{}{next}", pods_are_ready(ready)));
            return true;
        }
        if self.plan.replicas > 0 && !self.route_is_as_wanted() {
            let wait = Wait::World(self.route_wait());
            return self.check_deadline(attempt, &wait);
        }
        self.reached(attempt, 100);
        let until = after(self.now, self.plan.bake);
        self.enter(Stage::Baking { until }, None);
        let who = if self.plan.replicas == 0 {
            format!("the first revision is scaled to zero: {}", self.nobody_text())
        } else {
            format!("all {} are on the first revision", self.users())
        };
        let message = format!("{who}; it is judged until {until:.0} beside the objectives");
        self.note("BakeStarted", message);
        true
    }

    fn stepping(&mut self, attempt: &Attempt) -> bool {
        let Some(step) = attempt.steps.get(attempt.step as usize).cloned() else {
            self.enter(Stage::Promoting, Some(self.progress_time()));
            return true;
        };
        match step {
            Step::Pause {} if attempt.is_cleared() && attempt.paused.is_none() => {
                self.next_step();
                true
            }
            Step::Pause {} => self.check_unready(attempt),
            Step::SetCanaryScale(_) if attempt.paused.is_some() => self.check_unready(attempt),
            Step::SetCanaryScale(_) => {
                let needed = self.within_reach(attempt, self.canary_pods(attempt));
                if self.seen.available(&attempt.revision) < needed {
                    let wait = Wait::World(self.pods_wait(attempt, needed));
                    return self.check_deadline(attempt, &wait);
                }
                self.next_step();
                true
            }
            Step::SetHeaderRoute { .. } | Step::SetMirror(_) => self.previewing(attempt),
            Step::Dwell(seconds) => {
                let until = after(attempt.step_since, self.dwell(attempt, seconds));
                let over = self.now >= until || attempt.is_cleared();
                if !over || attempt.paused.is_some() {
                    return self.check_unready(attempt);
                }
                self.next_step();
                true
            }
            Step::SetWeight(weight) if attempt.weight < weight && attempt.paused.is_some() => {
                self.check_unready(attempt)
            }
            Step::SetWeight(weight) => {
                if let Some(wait) = self.step_wait(attempt, weight) {
                    return self.begins_smaller(attempt, weight)
                        || self.clear_step(attempt, weight)
                        || self.raise_within_room(attempt, weight)
                        || self.check_deadline(attempt, &wait);
                }
                if attempt.weight < weight {
                    self.raise(weight);
                    self.note(
                        "WeightRaised",
                        format!("the canary gets {weight} % of {}", self.share_word()),
                    );
                    return true;
                }
                self.reached(attempt, weight);
                self.next_step();
                true
            }
        }
    }

    /// Notes that the evidence for a step is there, so that a later dip does not take it back.
    fn clear_step(&mut self, attempt: &Attempt, weight: u8) -> bool {
        let cleared = attempt.is_cleared()
            || attempt.weight >= weight
            || self.verdict_wait(attempt, Some(weight)).is_some();
        if cleared {
            return false;
        }
        let deadline = self.progress_until();
        self.update(|a| {
            a.cleared_step = Some(a.step);
            a.deadline = Some(deadline);
        });
        true
    }

    /// The canary gets this weight. The router has time for it, whatever was waited for before.
    pub(super) fn raise(&mut self, weight: u8) {
        let now = self.now;
        let deadline = self.progress_until();
        self.update(|a| {
            a.weight = weight;
            a.raised_at = Some(now);
            a.in_force_since = None;
            a.cleared_step = Some(a.step);
            a.deadline = Some(deadline);
        });
    }

    fn promoting(&mut self, attempt: &Attempt) -> bool {
        if self.is_singleton() {
            return self.taking_turns(attempt);
        }
        if self.begin_comparison(attempt) {
            return true;
        }
        if attempt.weight < 100 && attempt.paused.is_some() {
            return self.check_unready(attempt);
        }
        if let Some(wait) = self.promotion_wait(attempt) {
            let cleared =
                attempt.is_cleared() || attempt.weight == 100 || self.move_wait(attempt, None).is_some();
            if !cleared {
                let deadline = self.progress_until();
                self.update(|a| {
                    a.cleared_step = Some(a.step);
                    a.deadline = Some(deadline);
                });
                let why = if attempt.at_once {
                    "nothing speaks against it"
                } else {
                    "safety is shown"
                };
                self.note("ShownSafe", format!("{why}; the canary grows to full strength"));
                // Where it grows by parts nothing is left to compare, and it gets them only without a doubt.
                if self.is_bounded(attempt) {
                    self.acquit();
                }
                return true;
            }
            return self.raise_within_room(attempt, 100) || self.check_deadline(attempt, &wait);
        }
        if attempt.weight < 100 {
            self.acquit();
            self.raise(100);
            let all = if self.pulls() { "all work" } else { "all traffic" };
            self.note("WeightRaised", format!("the canary gets {all}"));
            return true;
        }
        self.reached(attempt, 100);
        let until = after(self.now, self.plan.bake);
        self.enter(Stage::Baking { until }, None);
        self.note(
            "BakeStarted",
            format!(
                "all {} are on the canary; the old revision stays {} until {until:.0}",
                self.users(),
                self.strength_text(attempt)
            ),
        );
        true
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
        let nobody = self.written_weight(attempt) == 0 && !self.previews(&attempt.revision);
        let moved = nobody && self.seen.route.acknowledged;
        let given_up = attempt.deadline.is_some_and(|d| self.now >= d) && nobody;
        if nothing_to_move || moved || given_up {
            self.finish(end);
            // The next revision need not wait for another turn.
            if let Some(revision) = self.wanted() {
                self.begin(&revision);
            }
            return true;
        }
        false
    }

    /// Revisions whose pods have gone no longer wait for it.
    fn drop_retired(&mut self) {
        let (now, seen) = (self.now, self.seen);
        let drained = after(now, self.plan.drain);
        for index in 0..self.state.retiring.len() {
            let revision = &self.state.retiring[index].revision;
            // Callers inside the cluster come by the service's own name.
            let named = self.leads_to(revision);
            let left = self.is_left(revision) && !named;
            let used = self.weight_of(revision) > 0 || self.previews(revision) || named;
            let retiring = &mut self.state.retiring[index];
            // Somebody else's hand may send users to it again.
            retiring.unconfirmed |= used;
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

    /// The weight is in force: evidence begins to count with the first one.
    pub(super) fn reached(&mut self, attempt: &Attempt, weight: u8) {
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

    pub(super) fn next_step(&mut self) {
        let now = self.now;
        let deadline = self.progress_until();
        self.update(|a| {
            a.step += 1;
            a.step_since = now;
            a.patience = None;
            let lasts = a.steps.get(a.step as usize).is_some_and(Step::lasts);
            a.deadline = (!lasts).then_some(deadline);
        });
    }

    pub(super) fn enter(&mut self, stage: Stage, deadline: Option<SignedDuration>) {
        let now = self.now;
        self.update(|a| {
            a.stage = stage;
            a.since = now;
            a.patience = None;
            a.deadline = deadline.map(|d| after(now, d));
        });
    }

    pub(super) fn update(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = &mut self.state.attempt {
            change(attempt);
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

impl Turn<'_> {
    /// The first revision is stable from now on.
    ///
    /// Of a service that is scaled to zero it serves nobody, and is not said to.
    pub(super) fn first_end(&self, attempt: &Attempt) -> End {
        let revision = &attempt.revision;
        let what = if self.plan.replicas == 0 {
            format!(
                "revision {revision} is stable; the service is scaled to zero: {}",
                self.nobody_text()
            )
        } else {
            format!(
                "revision {revision} {}, and nothing spoke against it",
                self.has_all_text()
            )
        };
        End::new(
            Outcome::Promoted,
            "FirstDeployment",
            format!("{what}; it is the first, so there was nothing to compare it with"),
        )
    }
}
