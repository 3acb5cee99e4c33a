//! How many pods stable and the canary have while an attempt runs.
//!
//! Without a bound stable keeps all of its pods, and the canary's come on top. Where `maxSurge` bounds them, or stable is to
//! shrink, stable gives up pods as traffic leaves it, never more than its part of the traffic leaves over, and never so
//! many that fewer than the service's replicas would serve. What is given up has been without its part of the traffic for
//! as long as connections drain. On the way back it is the canary that makes room.

use jiff::{SignedDuration, Timestamp};

use super::doubt::is_open;
use super::{Turn, after};
use crate::observed::{ProblemKind, RevisionView};
use crate::plan::Revision;
use crate::state::{Attempt, Carried, Stage};

/// Pods of both revisions of an attempt, as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pods {
    pub stable: u32,
    pub canary: u32,
}

impl Turn<'_> {
    /// Pods that there may be in all; `None`: as many as it takes.
    fn most(&self, attempt: &Attempt) -> Option<u32> {
        let divided = !attempt.at_once && !self.divides_by_pods();
        let bounded = divided && self.state.stable.is_some() && self.plan.replicas > 0;
        let surge = self.plan.room.max_surge.filter(|_| bounded)?;
        Some(self.plan.replicas.saturating_add(surge.of(self.plan.replicas)))
    }

    /// The pods of both revisions are bounded.
    pub(super) fn is_bounded(&self, attempt: &Attempt) -> bool {
        self.most(attempt).is_some()
    }

    /// Stable may have fewer pods than the service wants while this attempt runs.
    pub(super) fn makes_room(&self, attempt: &Attempt) -> bool {
        let divided = !attempt.at_once && !self.divides_by_pods();
        self.most(attempt).is_some() || (divided && self.plan.room.stable_scales && self.plan.replicas > 0)
    }

    /// Notes how strong the service is to be again: while `spec.replicas` is absent only stable's pods would tell, and they
    /// may be fewer or more for the moment. It is forgotten once they are as many again.
    pub(super) fn follow_strength(&mut self) {
        if self.by_runs() {
            // No pod stays.
            self.state.strength = None;
            return;
        }
        let replicas = self.plan.replicas;
        let shrinks = |a: &Attempt| self.makes_room(a) || self.pulls();
        let differs = self.attempt().is_some_and(shrinks) || self.state.restart.is_some();
        let stable = self.state.stable.as_ref();
        let stable = stable.and_then(|r| self.seen.revisions.get(r));
        let is_back = self.state.attempt.is_none() && stable.is_none_or(|view| view.wanted == replicas);
        if differs || (self.state.strength.is_some() && !is_back) {
            self.state.strength = Some(replicas);
        } else {
            self.state.strength = None;
        }
    }

    /// Notes since when the router has given the canary its share.
    pub(super) fn follow_share(&mut self) {
        let makes_room = self.attempt().is_some_and(|a| self.makes_room(a));
        let Some(attempt) = self.attempt() else { return };
        let percent = self.written_weight(attempt);
        let known = attempt.carried.filter(|carried| carried.percent == percent);
        let carried = (makes_room && self.seen.route.acknowledged).then(|| {
            known.unwrap_or(Carried {
                percent,
                since: self.now,
            })
        });
        self.update(|a| a.carried = carried);
    }

    /// When pods whose part of the traffic has moved may go.
    fn drained_at(&self, attempt: &Attempt) -> Option<Timestamp> {
        let percent = self.written_weight(attempt);
        let carried = attempt.carried.filter(|carried| carried.percent == percent)?;
        Some(after(carried.since, self.plan.drain))
    }

    /// When room may be made next.
    pub(super) fn room_at(&self) -> Option<Timestamp> {
        let attempt = self.attempt()?;
        self.drained_at(attempt).filter(|_| self.makes_room(attempt))
    }

    fn set_of(&self, revision: &Revision) -> RevisionView {
        self.seen.revisions.get(revision).cloned().unwrap_or_default()
    }

    /// Pods that stable has to have now: its part of the traffic, and all that the canary can't replace. One at least
    /// stays, so that there is something to go back to.
    fn needed_of_stable(&self, attempt: &Attempt, stable: &Revision) -> u32 {
        let replicas = self.plan.replicas;
        if matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Held) {
            return replicas;
        }
        let share = self.weight_of(stable).max(100 - attempt.weight.min(100));
        let alone = replicas.saturating_sub(self.seen.available(&attempt.revision));
        self.plan.carriers_of(share).max(alone).clamp(1, replicas.max(1))
    }

    /// What both revisions should have. `asks`: pods that the canary needs for where it is cleared to go; `others`: pods of
    /// all further revisions.
    pub(super) fn pods_within_room(
        &self,
        attempt: &Attempt,
        stable: &Revision,
        asks: u32,
        others: u32,
    ) -> Pods {
        let replicas = self.plan.replicas;
        let (of_stable, of_canary) = (self.set_of(stable), self.set_of(&attempt.revision));
        let has = Pods {
            stable: of_stable.wanted,
            canary: of_canary.wanted,
        };
        let asks = self.within_connections(attempt, asks, has.canary).max(has.canary);
        if self.pulls() {
            return self.pods_of_workers(attempt, stable, has, asks);
        }
        if !self.makes_room(attempt) {
            // It may have to take everything back.
            return Pods {
                stable: replicas.max(has.stable),
                canary: asks,
            };
        }
        let most = self.most(attempt).unwrap_or(u32::MAX);
        let mut free = most.saturating_sub(has.stable.saturating_add(has.canary).saturating_add(others));
        let needed = self.needed_of_stable(attempt, stable);
        let drained = self.drained_at(attempt).is_some_and(|at| self.now >= at);
        let moves = matches!(
            attempt.stage,
            Stage::Stepping | Stage::Promoting | Stage::Baking { .. }
        );
        // What it lacks comes first, then the canary, then the rest of its strength.
        let grown = needed.saturating_sub(has.stable).min(free);
        free -= grown;
        let lacks = needed.saturating_sub(has.stable + grown);
        let started = (asks - has.canary).min(free.saturating_sub(ending(&of_stable, &of_canary)));
        free -= started;
        let canary = if lacks > 0 {
            let given = self.given_way(attempt, &of_canary, lacks, drained);
            has.canary.saturating_sub(given)
        } else {
            has.canary + started
        };
        let spare = has.stable.saturating_sub(needed);
        let stable = if moves && drained && spare > 0 && lacks == 0 {
            let room_wanted = (asks - has.canary).saturating_sub(started + free);
            let gives = if self.plan.room.stable_scales {
                spare
            } else {
                spare.min(room_wanted)
            };
            has.stable - gives
        } else {
            has.stable + grown
        };
        // What is free beyond that is stable's.
        let reserved = (asks - has.canary).saturating_sub(started);
        let full = replicas.saturating_sub(stable).min(free.saturating_sub(reserved));
        let stays = self.plan.room.stable_scales && (moves || attempt.stage == Stage::Settling);
        Pods {
            stable: if stays || stable < has.stable {
                stable
            } else {
                stable + full
            },
            canary,
        }
    }

    /// Pods that the canary gives up because stable lacks them: those that don't serve at once, others once the traffic has
    /// left them.
    fn given_way(&self, attempt: &Attempt, view: &RevisionView, lacks: u32, drained: bool) -> u32 {
        // Pods that were given up before may serve until they are deleted.
        let serving = view.serving().min(view.wanted);
        let dead = view.wanted - serving;
        let needed = self.plan.carriers_of(self.written_weight(attempt));
        let spare = if drained {
            serving.saturating_sub(needed)
        } else {
            0
        };
        lacks.min(dead + spare)
    }

    /// Raises the canary's weight to what the pods can carry that there is room for, so that stable can give up some of its
    /// own; `false` when there is nothing to raise.
    pub(super) fn raise_within_room(&mut self, attempt: &Attempt, target: u8) -> bool {
        if self.most(attempt).is_none() || attempt.paused.is_some() || is_open(attempt) {
            return false;
        }
        let in_force = attempt.weight > 0 && self.acknowledged(attempt, attempt.weight);
        if in_force && attempt.weight > attempt.max_weight {
            self.reached(attempt, attempt.weight);
            return true;
        }
        let cleared = attempt.is_cleared()
            || (attempt.max_weight == 0 && self.verdict_wait(attempt, Some(target)).is_none());
        let ready = self.reliable(attempt);
        let settled = attempt.weight == 0 || in_force;
        let part = self.plan.weight_for(ready).min(target);
        let short = ready < self.plan.pods_for(target) && self.seen.problem(ProblemKind::Route).is_none();
        if !(cleared && settled && short && part > attempt.weight && self.room_is_full(attempt)) {
            return false;
        }
        self.raise(part);
        self.note(
            "WeightRaised",
            format!("the canary gets {part} % of the traffic, on its way to {target} %: spec.maxSurge leaves room for no more pods of it before stable gives some up"),
        );
        true
    }

    /// All pods of the canary are there that there is room for.
    fn room_is_full(&self, attempt: &Attempt) -> bool {
        let (Some(stable), view) = (&self.state.stable, self.set_of(&attempt.revision)) else {
            return false;
        };
        let asks = self.canary_pods(attempt);
        let pods = self.pods_within_room(attempt, stable, asks, self.pods_of_others(attempt));
        view.available() >= view.wanted && pods.canary <= view.wanted && view.wanted < asks
    }

    /// A revision of the attempt has fewer pods than it needs, because there is no room for more.
    fn lacks_room(&self, attempt: &Attempt) -> bool {
        let (Some(most), Some(stable)) = (self.most(attempt), &self.state.stable) else {
            return false;
        };
        let (of_stable, of_canary) = (self.set_of(stable), self.set_of(&attempt.revision));
        let all = of_stable.wanted
            + of_canary.wanted
            + ending(&of_stable, &of_canary)
            + self.pods_of_others(attempt);
        let lacks = of_canary.wanted < self.canary_pods(attempt)
            || of_stable.wanted < self.needed_of_stable(attempt, stable);
        lacks && all >= most
    }

    /// Retired revisions whose room the attempt lacks go before their time, drained as if they had been left now.
    pub(super) fn hasten_retired(&mut self) {
        if !self.attempt().is_some_and(|a| self.lacks_room(a)) {
            return;
        }
        let drained = after(self.now, self.plan.drain);
        for retiring in self.state.retiring.iter_mut().filter(|r| !r.unconfirmed) {
            retiring.scale_down_at = retiring.scale_down_at.min(drained);
        }
    }

    /// How long the attempt may make no progress: with a bound, pods wait for connections to others to drain before they
    /// can start.
    pub(super) fn progress_time(&self) -> SignedDuration {
        let bounded = self.attempt().is_some_and(|a| self.is_bounded(a));
        let drain = if bounded {
            self.plan.drain
        } else {
            SignedDuration::ZERO
        };
        self.plan.progress_deadline.saturating_add(drain)
    }

    /// When a wait of the attempt that begins now ends.
    pub(super) fn progress_until(&self) -> Timestamp {
        after(self.now, self.progress_time())
    }

    /// Pods of revisions that are neither stable nor tried.
    pub(super) fn pods_of_others(&self, attempt: &Attempt) -> u32 {
        let ours = |r: &Revision| *r == attempt.revision || self.state.stable.as_ref() == Some(r);
        let others = self.seen.revisions.iter().filter(|(revision, _)| !ours(revision));
        others.map(|(_, view)| view.wanted.max(view.pods)).sum()
    }

    /// So many pods of the canary, or as many as there is room for.
    pub(super) fn within_reach(&self, attempt: &Attempt, needed: u32) -> u32 {
        let (Some(_), Some(stable)) = (self.most(attempt), &self.state.stable) else {
            return needed;
        };
        let pods = self.pods_within_room(attempt, stable, needed, self.pods_of_others(attempt));
        needed.min(pods.canary.max(1))
    }

    /// Why the canary has fewer pods than it needs, where that is the reason.
    pub(super) fn room_text(&self, attempt: &Attempt, needed: u32) -> Option<String> {
        let most = self.most(attempt)?;
        let stable = self.state.stable.as_ref()?;
        let (of_stable, of_canary) = (self.set_of(stable), self.set_of(&attempt.revision));
        let others = self.pods_of_others(attempt);
        let ending = ending(&of_stable, &of_canary);
        if of_canary.wanted >= needed || of_stable.wanted + of_canary.wanted + ending + others < most {
            return None;
        }
        let also = [
            (others, "of revisions that go"),
            (ending, "that end are still there"),
        ]
        .into_iter()
        .filter(|(pods, _)| *pods > 0)
        .map(|(pods, what)| format!(", and {pods} {what}"))
        .collect::<Vec<String>>()
        .concat();
        Some(format!(
            "spec.maxSurge leaves room for {most} pods in all: stable has {} of them{also}; more start as those give way, {} s after their traffic has moved",
            of_stable.wanted,
            self.plan.drain.as_secs()
        ))
    }

    /// How strong stable is while the canary bakes, in words.
    pub(super) fn strength_text(&self, attempt: &Attempt) -> String {
        if self.pulls() {
            return "without pods".to_owned();
        }
        if !self.makes_room(attempt) {
            return "at full strength".to_owned();
        }
        "with the pods that there is room for".to_owned()
    }
}

/// Pods beyond those wanted: until they have ended they hold their memory and their connections as well.
fn ending(stable: &RevisionView, canary: &RevisionView) -> u32 {
    stable.pods.saturating_sub(stable.wanted) + canary.pods.saturating_sub(canary.wanted)
}
