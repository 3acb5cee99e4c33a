//! How the world should look, and what is missing.

use std::collections::BTreeMap;

use super::Turn;
use crate::decision::Effect;
use crate::observed::{Backend, ProblemKind, Slot, Weights};
use crate::plan::{Revision, RouteMode, Step};
use crate::state::{Attempt, Stage};

/// Revisions that one turn deletes at most. The next turn, which their end brings about, goes on.
const MOST_DELETIONS: usize = 20;

impl Turn<'_> {
    /// What is to be done, in an order that is safe to be cut anywhere: grow, point, weigh, shrink, clean up.
    pub(super) fn effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.ended_actions);
        if self.plan.deleting && !self.gives_back() {
            if self.plan.route == RouteMode::Adopted {
                effects.push(Effect::ReleaseRoute);
            }
            effects.push(Effect::RemoveFinalizer);
            return effects;
        }
        let wanted = self.wanted_pods();
        self.create(&mut effects);
        self.scale(&wanted, true, &mut effects);
        self.run(&mut effects);
        self.select(&mut effects);
        self.weigh(&mut effects);
        self.scale(&wanted, false, &mut effects);
        self.clean_up(&wanted, &mut effects);
        effects.extend(self.evict());
        // The last: nothing else depends on it, should somebody refuse it.
        self.adopt(&mut effects);
        effects
    }

    /// The router has acknowledged that nobody is sent to a revision, or there is no route.
    pub(super) fn is_left(&self, revision: &Revision) -> bool {
        let nobody = self.weight_of(revision) == 0 && !self.previews(revision);
        (self.seen.route.acknowledged && nobody) || !self.seen.route.exists
    }

    /// The route sends something to a revision beside its weight.
    pub(super) fn previews(&self, revision: &Revision) -> bool {
        let preview = self.seen.route.preview.as_ref();
        preview.is_some_and(|preview| preview.revision == *revision)
    }

    /// Pods that each revision should have now.
    pub(super) fn wanted_pods(&self) -> BTreeMap<Revision, u32> {
        if self.is_singleton() {
            return self.pod_of_singleton();
        }
        if self.by_runs() {
            // A ReplicaSet keeps what the revision is, for as long as it may be asked for; its pods are those of runs.
            return self.seen.revisions.keys().map(|r| (r.clone(), 0)).collect();
        }
        let mut wanted = BTreeMap::new();
        let has = |revision: &Revision| self.seen.revisions.get(revision).map_or(0, |v| v.wanted);
        for revision in self.seen.revisions.keys() {
            // Whatever users are sent to keeps its pods, whoever sent them there.
            let used = self.weight_of(revision) > 0 || self.previews(revision) || self.slot_selects(revision);
            let kept = self.kept_by_others().unwrap_or(u32::MAX);
            wanted.insert(revision.clone(), if used { has(revision).min(kept) } else { 0 });
        }
        for retiring in &self.state.retiring {
            let revision = &retiring.revision;
            let is_due = self.now >= retiring.scale_down_at && !self.slot_selects(revision);
            let kept = match self.kept_by_others() {
                Some(kept) if is_due => kept,
                None if is_due && self.is_left(revision) => 0,
                _ => u32::MAX,
            };
            wanted.insert(revision.clone(), has(revision).min(kept));
        }
        if let Some(stable) = &self.state.stable {
            wanted.insert(stable.clone(), self.plan.replicas + self.restart_surge());
        }
        if let (Some(stable), Some(attempt)) = (&self.state.stable, self.attempt()) {
            let others = self.pods_of_others(attempt);
            let pods = self.pods_within_room(attempt, stable, self.canary_pods(attempt), others);
            wanted.insert(stable.clone(), pods.stable);
            wanted.insert(attempt.revision.clone(), pods.canary);
        } else if let Some(attempt) = self.attempt() {
            let floor = has(&attempt.revision);
            wanted.insert(attempt.revision.clone(), self.canary_pods(attempt).max(floor));
        } else if let (None, Some(revision)) = (&self.state.stable, &self.plan.revision)
            && !self.adoption_moves()
            && !self.waits_for_migrations(revision)
        {
            // A first revision that failed: there is nothing else, so its pods keep trying.
            wanted.insert(revision.clone(), self.plan.replicas);
        }
        wanted.extend(self.adopted_pods());
        wanted
    }

    /// The weight whose pods start before a dwell is over, where its evidence is there already: they need not be
    /// waited for afterwards.
    fn prepared_weight(&self, attempt: &Attempt) -> u8 {
        if self.prepare_at().is_none_or(|at| self.now < at) {
            return 0;
        }
        let next = attempt
            .steps
            .iter()
            .skip(attempt.step as usize + 1)
            .find(|step| step.weight().is_some() || **step == Step::Pause {});
        // Nobody knows when a person comes.
        if next == Some(&Step::Pause {}) {
            return 0;
        }
        let next = next.and_then(Step::weight);
        if self.move_wait(attempt, next).is_some() {
            return 0;
        }
        next.unwrap_or(100)
    }

    /// That the service is to have no pods, and keeps them because an attempt runs.
    pub(super) fn scaling_put_off(&self) -> Option<&'static str> {
        let attempt = self.attempt()?;
        if self.plan.deleting || self.plan.replicas > 0 {
            return None;
        }
        match attempt.stage {
            // Nobody is served by the old revision: there is nothing to wait for.
            _ if self.state.stable.is_none() => None,
            Stage::Migrating | Stage::Deploying => None,
            Stage::Settling | Stage::Withdrawing { .. } => {
                Some("scaled to zero: takes effect when the attempt ends")
            }
            Stage::Stepping | Stage::Promoting | Stage::Baking { .. } | Stage::Held => Some(
                "scaled to zero: takes effect when the attempt ends; `kubectl molt abort` to have it now",
            ),
        }
    }

    /// Tells once in an attempt that the scaling to zero waits for its end.
    pub(super) fn tell_of_scaling(&mut self) {
        let told = |a: &Attempt| a.transitions.iter().any(|t| t.reason == "ScalingPutOff");
        if let Some(put_off) = self.scaling_put_off()
            && !self.attempt().is_some_and(told)
        {
            self.note("ScalingPutOff", put_off);
        }
    }

    /// Pods that the attempt's revision needs for where it is and where it is cleared to go.
    pub(super) fn canary_pods(&self, attempt: &Attempt) -> u32 {
        let by_weight = match attempt.stage {
            Stage::Deploying | Stage::Settling | Stage::Baking { .. } => self.plan.replicas,
            Stage::Migrating | Stage::Held | Stage::Withdrawing { .. } => 0,
            Stage::Promoting => {
                if attempt.is_cleared() || attempt.weight == 100 {
                    self.plan.replicas
                } else {
                    self.plan.pods_for(attempt.weight)
                }
            }
            Stage::Stepping => {
                let next = match attempt.steps.get(attempt.step as usize) {
                    Some(Step::SetWeight(w))
                        if attempt.is_cleared()
                            || (attempt.max_weight == 0 && self.may_begin_to_work(attempt, *w)) =>
                    {
                        *w
                    }
                    Some(Step::Dwell(_)) => self.prepared_weight(attempt),
                    _ => 0,
                };
                self.plan.pods_for(next.max(attempt.weight))
            }
        };
        let goes_on = matches!(attempt.stage, Stage::Stepping | Stage::Promoting);
        by_weight.max(if goes_on { self.scaled_pods(attempt) } else { 0 })
    }

    fn create(&self, effects: &mut Vec<Effect>) {
        // Only the plan's own template is at hand; an older ReplicaSet that was deleted can't be made again.
        if let Some(revision) = &self.plan.revision {
            let used = self.state.stable.as_ref() == Some(revision)
                || self.attempt().is_some_and(|a| a.revision == *revision)
                || (self.state.stable.is_none() && !self.adoption_moves());
            if used && !self.seen.revisions.contains_key(revision) {
                effects.push(Effect::CreateRevision {
                    revision: revision.clone(),
                });
            }
        }
        for revision in self
            .state
            .stable
            .iter()
            .chain(self.attempt().map(|a| &a.revision))
        {
            let lacks_service = self.seen.revisions.get(revision).is_some_and(|v| !v.has_service);
            if lacks_service && !self.pulls() {
                effects.push(Effect::CreateRevisionService {
                    revision: revision.clone(),
                });
            }
        }
    }

    /// Scales up (`grow`) or down what differs from what is wanted.
    fn scale(&mut self, wanted: &BTreeMap<Revision, u32>, grow: bool, effects: &mut Vec<Effect>) {
        for (revision, pods) in wanted {
            let view = self.seen.revisions.get(revision);
            let has = view.map(|v| v.wanted);
            let attempt = self
                .attempt()
                .filter(|a| a.revision == *revision)
                .map(|a| a.number);
            // A ReplicaSet that is created in this turn begins with no pods and is scaled in the next.
            let Some(has) = has else { continue };
            let untold = attempt.is_some_and(|n| view.is_some_and(|v| v.attempt != n));
            let differs = if grow {
                *pods > has || (untold && *pods == has)
            } else {
                *pods < has
            };
            if differs && !self.waits_to_scale(revision, has, *pods) {
                self.note_scaling(revision);
                if grow {
                    self.note_alone(revision, *pods);
                }
                effects.push(Effect::Scale {
                    revision: revision.clone(),
                    replicas: *pods,
                    attempt,
                });
            }
        }
    }

    /// Points the fixed-name services where they belong.
    fn select(&self, effects: &mut Vec<Effect>) {
        if self.is_given_back() || self.pulls() {
            return;
        }
        let by_pods = self.leads_by_pods() && !self.seen.name_taken;
        if by_pods {
            self.lead_on(effects);
        }
        let mut point = |slot: Slot, revision: &Revision| {
            let differs = self
                .seen
                .selected
                .get(&slot)
                .is_none_or(|s| s.revision != *revision);
            if differs && !self.would_go_dark(slot, revision) {
                effects.push(Effect::Select {
                    slot,
                    revision: revision.clone(),
                });
            }
        };
        let Some(home) = self
            .state
            .stable
            .as_ref()
            .or_else(|| self.attempt().map(|a| &a.revision))
        else {
            return;
        };
        let full = self.attempt().filter(|a| {
            matches!(a.stage, Stage::Baking { .. } | Stage::Settling)
                && self.seen.ready(&a.revision) >= self.plan.replicas
        });
        match full {
            _ if by_pods || self.seen.name_taken => {}
            Some(attempt) => point(Slot::InCluster, &attempt.revision),
            None => point(Slot::InCluster, home),
        }
        if self.plan.route == RouteMode::Adopted {
            let unweighted = |slot| self.slot_weight(slot) == 0 && self.seen.route.acknowledged;
            match self.attempt() {
                Some(a) if a.stage == Stage::Settling => {
                    if unweighted(Slot::Stable) {
                        point(Slot::Stable, &a.revision);
                    }
                }
                // Of a first revision both names are: nothing keeps one that it took the place of.
                Some(_) if self.state.stable.is_none() => {
                    point(Slot::Stable, home);
                    point(Slot::Canary, home);
                }
                Some(a) => {
                    point(Slot::Stable, home);
                    let enters = matches!(a.stage, Stage::Stepping | Stage::Promoting);
                    let leaves = matches!(a.stage, Stage::Withdrawing { .. } | Stage::Held);
                    if leaves && self.seen.problem(ProblemKind::Route).is_some() {
                        // The weights can't be written: the name that has them leads to stable instead.
                        point(Slot::Canary, home);
                    } else if enters && unweighted(Slot::Canary) && self.seen.ready(&a.revision) > 0 {
                        point(Slot::Canary, &a.revision);
                    } else if !self.seen.selected.contains_key(&Slot::Canary) {
                        point(Slot::Canary, home);
                    }
                }
                None => {
                    point(Slot::Stable, home);
                    // Its connections drain first: the old canary keeps its name until its time is over.
                    let drains = self.seen.selected.get(&Slot::Canary).is_some_and(|s| {
                        self.state
                            .retiring
                            .iter()
                            .any(|r| r.revision == s.revision && self.now < r.scale_down_at)
                    });
                    if !drains {
                        point(Slot::Canary, home);
                    }
                }
            }
        }
    }

    /// A service with users would leave pods that serve for a revision that has none.
    fn would_go_dark(&self, slot: Slot, revision: &Revision) -> bool {
        let has_users = slot == Slot::InCluster || self.slot_weight(slot) > 0;
        let shared = slot == Slot::InCluster && self.seen.shared;
        let serves = shared || self.seen.selected.get(&slot).is_some_and(|s| s.endpoints > 0);
        has_users && serves && self.seen.ready(revision) == 0
    }

    /// The weight that a user's route gives to a fixed-name service.
    fn slot_weight(&self, slot: Slot) -> u8 {
        self.seen
            .route
            .weights
            .get(&Backend::Slot(slot))
            .copied()
            .unwrap_or(0)
    }

    fn weigh(&mut self, effects: &mut Vec<Effect>) {
        if self.seen.problem(ProblemKind::Route).is_some() || self.is_given_back() || self.is_taking() {
            return;
        }
        let Some(wanted) = self.wanted_weights() else {
            return;
        };
        if self.plan.route == RouteMode::Adopted && !self.slots_lead(&wanted) {
            return;
        }
        if self.plan.replicas > 0
            && !self.seen.route.exists
            && self.state.stable.is_none()
            && self.attempt().is_none()
        {
            return;
        }
        let preview = self.wanted_preview();
        let waits = self.set_again_at().is_some_and(|at| self.now < at);
        let differs = wanted != self.seen.route.weights || preview != self.seen.route.preview;
        if differs && !waits {
            effects.push(Effect::SetRoute {
                weights: wanted,
                preview,
            });
            self.note_setting();
        }
    }

    /// The fixed-name services exist, and the canary's name leads to the canary before it gets a weight.
    fn slots_lead(&self, wanted: &Weights) -> bool {
        let exist =
            self.seen.selected.contains_key(&Slot::Stable) && self.seen.selected.contains_key(&Slot::Canary);
        let leads = self.attempt().is_none_or(|a| {
            wanted.get(&Backend::Slot(Slot::Canary)).is_none_or(|w| *w == 0)
                || self.state.stable.is_none()
                || self
                    .seen
                    .selected
                    .get(&Slot::Canary)
                    .is_some_and(|s| s.revision == a.revision && s.endpoints > 0)
                || a.stage == Stage::Settling
        });
        exist && leads
    }

    /// A fixed-name service still leads to this revision.
    fn slot_selects(&self, revision: &Revision) -> bool {
        self.leads_to(revision) || self.seen.selected.values().any(|s| s.revision == *revision)
    }

    /// Deletes revisions beyond the history limit that have neither pods nor weight.
    fn clean_up(&self, wanted: &BTreeMap<Revision, u32>, effects: &mut Vec<Effect>) {
        let mut idle: Vec<_> = self
            .seen
            .revisions
            .iter()
            .filter(|(revision, view)| {
                let watched = self.state.watch.as_ref();
                let named = self.state.stable.as_ref() == Some(revision)
                    // Harm that shows late takes users back to it.
                    || watched.is_some_and(|watch| watch.back_to == **revision)
                    // One that was altered is not to be used again, even if it is asked for.
                    || (self.plan.revision.as_ref() == Some(revision) && !view.altered)
                    || self.attempt().is_some_and(|a| a.revision == **revision)
                    || self.state.retiring.iter().any(|r| r.revision == **revision);
                !named
                    && view.wanted == 0
                    && view.pods == 0
                    && wanted.get(*revision).is_none_or(|pods| *pods == 0)
                    && self.weight_of(revision) == 0
                    && !self.previews(revision)
                    && !self
                        .seen
                        .route
                        .weights
                        .contains_key(&Backend::Revision((*revision).clone()))
                    && !self.slot_selects(revision)
            })
            .collect();
        // What has served users is what somebody may go back to; what was refused never did.
        let served = |revision: &Revision| self.state.served.iter().position(|r| r == revision);
        idle.sort_by_key(|(revision, view)| {
            let place = served(revision).unwrap_or(usize::MAX);
            (place, std::cmp::Reverse(view.created_at), (*revision).clone())
        });
        let (altered, mut idle): (Vec<_>, Vec<_>) = idle.into_iter().partition(|(_, view)| view.altered);
        let mut surplus = idle.split_off(idle.len().min(self.plan.revision_history_limit));
        surplus.extend(altered);
        // The oldest first, and few at a time: what is more urgent must not wait for thousands of them.
        for (revision, _) in surplus.into_iter().rev().take(MOST_DELETIONS) {
            effects.push(Effect::DeleteRevision {
                revision: revision.clone(),
            });
        }
    }
}
