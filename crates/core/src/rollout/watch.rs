//! After a promotion: the revision serves all users, the old one's ReplicaSet is kept without pods, and what spends the
//! error budget still takes users back.
//!
//! The margin of a promotion is what a harmful revision could spend until the watch is over, so somebody has to look
//! until then. It is no attempt: the service is Healthy meanwhile, and a new revision need not wait for it.

use jiff::Timestamp;

use super::database::past_contract;
use super::due::next_measurement;
use super::evidence::harmed;
use super::people::MOST_BY;
use super::{Turn, after};
use crate::analysis;
use crate::observed::ActionView;
use crate::plan::Revision;
use crate::state::{Attempt, Pin, Stage, State, Watch};

/// Characters of what spoke against a revision that are kept.
const MOST_WHY: usize = 500;

impl State {
    /// The revisions whose requests are counted: the one that is judged, and the one beside it. After a promotion the old one
    /// has no pods, and nobody is beside the new one.
    pub fn counted(&self) -> (Option<&Revision>, Option<&Revision>) {
        match (&self.attempt, &self.watch) {
            (Some(attempt), _) => (Some(&attempt.revision), self.stable.as_ref()),
            (None, Some(_)) => (self.stable.as_ref(), None),
            (None, None) => (None, self.stable.as_ref()),
        }
    }

    /// The revision that is watched, as the attempt that it was: in its bake. `None` while an attempt is under way.
    pub(super) fn watched(&self) -> Option<Attempt> {
        let watch = self.watch.as_ref().filter(|_| self.attempt.is_none())?;
        Some(as_attempt(self.stable.clone()?, watch.clone()))
    }
}

fn as_attempt(revision: Revision, watch: Watch) -> Attempt {
    Attempt {
        stage: Stage::Baking { until: watch.until },
        weight: 100,
        max_weight: 100,
        exposed_since: Some(watch.exposed_since),
        in_force_since: Some(watch.since),
        measured_to: watch.measured_to,
        evidence: watch.evidence,
        ..Attempt::begun(revision, 1, watch.since)
    }
}

impl Turn<'_> {
    /// Watches what this attempt has brought to all users, unless it was on its way back to what served before.
    pub(super) fn begin_watch(&mut self, attempt: &Attempt) {
        let (Some(back_to), Some(exposed_since)) = (self.state.stable.clone(), attempt.exposed_since) else {
            return;
        };
        if self.plan.watch.is_zero() || self.state.served.contains(&attempt.revision) {
            return;
        }
        self.state.watch = Some(Watch {
            back_to,
            exposed_since,
            since: attempt.in_force_since.unwrap_or(self.now),
            until: after(self.now, self.plan.watch),
            measured_to: attempt.measured_to,
            evidence: attempt.evidence.clone(),
        });
    }

    /// Takes in what was measured of a watched revision, and goes back if that shows harm.
    pub(super) fn follow_watch(&mut self) {
        let Some(mut watched) = self.state.watched() else {
            return;
        };
        let Some(mut watch) = self.state.watch.take() else {
            return;
        };
        if self.plan.deleting {
            return;
        }
        if let Some(why) = self.ends_watch(&watched.revision) {
            let message = format!(
                "the watch over revision {} ends before its time, {:.0}: {why}",
                watched.revision, watch.until
            );
            self.note("WatchEnded", message);
            return;
        }
        watched
            .evidence
            .retain(|entry| self.plan.slos.iter().any(|slo| entry.is_of(slo)));
        if let Some(measured) = self.seen.measurement.as_ref() {
            self.take_in(&mut watched, measured);
        }
        if let Some(why) = self.spoken_against(&watched) {
            self.leave(&watched.revision, &watch.back_to, &why);
            return;
        }
        if self.now >= watch.until {
            let read = watched.evidence.iter().map(|entry| entry.measured_to).min();
            let to_its_end = read.is_some_and(|read| after(read, self.plan.block) >= watch.until);
            let how = if to_its_end {
                "nothing spoke against it"
            } else {
                "its metrics could not be read to the end, and nothing spoke against it before"
            };
            self.note(
                "WatchEnded",
                format!("the watch over revision {} is over: {how}", watched.revision),
            );
            return;
        }
        watch.measured_to = watched.measured_to;
        watch.evidence = watched.evidence;
        self.state.watch = Some(watch);
    }

    /// Why a promoted revision is not watched on.
    fn ends_watch(&self, watched: &Revision) -> Option<String> {
        if self.plan.replicas == 0 {
            return Some("the service is scaled to zero".to_owned());
        }
        // The next attempt looks at it.
        let next = self.wanted().filter(|wanted| wanted != watched)?;
        Some(format!(
            "the spec asks for revision {next} now, which is compared with it"
        ))
    }

    fn spoken_against(&self, watched: &Attempt) -> Option<String> {
        if let Some(end) = self.crashed_under_traffic(watched) {
            return Some(end.message);
        }
        let harm = analysis::judge_watch(&self.views(watched), self.plan.slos.len(), &self.plan.limits)?;
        Some(harmed(&harm).message)
    }

    /// Back to the revision before: it starts its pods first, as any way back does.
    fn leave(&mut self, revision: &Revision, back_to: &Revision, why: &str) {
        let why: String = why.chars().take(MOST_WHY).collect();
        let kept = self.seen.revisions.get(back_to).is_some_and(|view| !view.altered);
        let usable = kept && !self.is_barred(back_to);
        let (Some(spec), true) = (self.plan.revision.clone(), usable) else {
            self.note(
                "WatchBreached",
                format!(
                    "{why}; {} stay on revision {revision}, for {}: apply a corrected revision",
                    self.users(),
                    if kept {
                        past_contract(back_to)
                    } else {
                        format!("the ReplicaSet of {back_to} is not there any more as it was (spec.revisionHistoryLimit keeps more)")
                    }
                ),
            );
            return;
        };
        self.note(
            "WatchBreached",
            format!(
                "{why}; {} go back from revision {revision} to {back_to} as soon as its pods are ready",
                self.users()
            ),
        );
        self.state.pinned = Some(Pin {
            revision: back_to.clone(),
            instead_of: spec,
            why: Some(why),
            group: None,
        });
        self.tell_group_of_breach(revision);
    }

    /// The revision that was taken back after its promotion, while the spec still asks for it.
    pub(super) fn convicted(&self) -> Option<&Revision> {
        let pin = self.state.pinned.as_ref().filter(|pin| pin.why.is_some())?;
        (self.plan.revision.as_ref() == Some(&pin.instead_of)).then_some(&pin.instead_of)
    }

    /// A watch has spoken against this revision.
    pub(super) fn is_convicted(&self, revision: &Revision) -> bool {
        self.convicted() == Some(revision)
    }

    /// Users flee to this revision from one that harms them.
    pub(super) fn is_refuge(&self, revision: &Revision) -> bool {
        let pin = self.state.pinned.as_ref().filter(|_| self.convicted().is_some());
        pin.is_some_and(|pin| pin.revision == *revision)
    }

    /// A person has a revision tried again that was taken back after its promotion.
    pub(super) fn retry_convicted(
        &mut self,
        action: &ActionView,
        convicted: &Revision,
        by: &str,
    ) -> Result<String, String> {
        if action.revision.as_ref().is_some_and(|r| r != convicted) {
            return Err(format!(
                "it was meant for another revision; revision {convicted} is the one that was taken back; nothing was changed"
            ));
        }
        if self.plan.paused || self.seen.fleet_paused.is_some() {
            let pause = self.standing_pause().unwrap_or_default();
            return Err(format!("{pause}; nothing was changed"));
        }
        self.state.pinned = None;
        self.state.refused = None;
        let by: String = by.chars().take(MOST_BY).collect();
        self.note(
            "RetriedByPerson",
            format!("revision {convicted} is tried again {by}"),
        );
        Ok(format!("revision {convicted} is tried again"))
    }

    /// That stable is what users fled to, and from what.
    pub(super) fn convicted_text(&self, stable: &Revision) -> Option<String> {
        let pin = self.state.pinned.as_ref().filter(|pin| pin.revision == *stable)?;
        let why = pin.why.as_deref()?;
        Some(format!(
            "revision {} was taken back after its promotion: {why}",
            pin.instead_of
        ))
    }

    /// What is said of the watch while the service rests.
    pub(super) fn watch_text(&self) -> String {
        self.state.watch.as_ref().map_or_else(String::new, |watch| {
            format!(
                "; it is watched until {:.0}, and what spends its error budget takes {} back to {}",
                watch.until,
                self.users(),
                watch.back_to
            )
        })
    }

    /// When to look at it again.
    pub(super) fn watch_times(&self) -> Vec<Timestamp> {
        let (Some(watched), Some(watch)) = (self.state.watched(), self.state.watch.as_ref()) else {
            return Vec::new();
        };
        let next = next_measurement(self.plan, &watched, self.now);
        next.into_iter().chain([watch.until]).collect()
    }
}
