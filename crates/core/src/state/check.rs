//! What a state must be to be decided on: it was read from an object that people can edit.

use super::State;
use crate::plan::{Revision, Step};
use crate::step::{CanaryScale, Mirror};

/// Steps that a spec can have, and two that a rollout with little budget begins with.
const MOST_STEPS: usize = 42;

impl State {
    /// Whether the values that a schema can't bound make sense.
    ///
    /// # Errors
    ///
    /// The first field that is out of range, and its range.
    pub fn check(&self) -> Result<(), String> {
        let attempt = self.attempt.as_ref();
        let config = self.config.as_ref();
        let taken = config.and_then(|c| c.taken.as_ref());
        let settling = config.and_then(|c| c.settling.as_ref());
        let group = self.group.as_ref();
        let waits = group.and_then(|g| g.waits.as_ref());
        let fault = group.and_then(|g| g.fault.as_ref());
        let revisions = [
            ("stable", self.stable.as_ref()),
            ("attempt.revision", attempt.map(|a| &a.revision)),
            ("last.revision", self.last.as_ref().map(|l| &l.revision)),
            ("refused", self.refused.as_ref()),
            ("watch.backTo", self.watch.as_ref().map(|w| &w.back_to)),
            ("restart.revision", self.restart.as_ref().map(|r| &r.revision)),
            ("alone.revision", self.alone.as_ref().map(|a| &a.revision)),
            ("pinned.revision", self.pinned.as_ref().map(|pin| &pin.revision)),
            (
                "pinned.insteadOf",
                self.pinned.as_ref().map(|pin| &pin.instead_of),
            ),
            ("config.taken.revision", taken.map(|t| &t.revision)),
            ("config.taken.plain", taken.map(|t| &t.plain)),
            ("config.settling.revision", settling.map(|s| &s.revision)),
            ("group.waits.revision", waits.map(|w| &w.revision)),
            ("group.fault.revision", fault.map(|f| &f.revision)),
        ];
        let retiring = self.retiring.iter().map(|r| ("retiring", Some(&r.revision)));
        let served = self.served.iter().map(|revision| ("served", Some(revision)));
        for (field, revision) in revisions.into_iter().chain(retiring).chain(served) {
            if revision.is_some_and(|r| !is_name(r)) {
                return Err(format!(
                    "{field} is no name of a revision: 1 to 63 lower case letters and digits"
                ));
            }
        }
        let hold = attempt.and_then(|a| a.hold.as_ref());
        let weights = [
            ("asserted.stable", self.asserted.map(|w| w.stable)),
            ("asserted.canary", self.asserted.map(|w| w.canary)),
            ("attempt.weight", attempt.map(|a| a.weight)),
            ("attempt.maxWeight", attempt.map(|a| a.max_weight)),
            ("attempt.hold.weight", hold.map(|h| h.weight)),
        ];
        let steps = attempt.map_or(&[][..], |a| &a.steps);
        let steps_weights = steps.iter().map(|step| match step {
            Step::SetWeight(percent)
            | Step::SetCanaryScale(CanaryScale::Percent(percent))
            | Step::SetMirror(Mirror { percent, .. }) => ("attempt.steps", Some(*percent)),
            _ => ("attempt.steps", None),
        });
        for (field, weight) in weights.into_iter().chain(steps_weights) {
            if let Some(weight) = weight.filter(|w| *w > 100) {
                return Err(format!("{field} is {weight} %: a share is 0 to 100"));
            }
        }
        if steps.len() > MOST_STEPS {
            return Err(format!(
                "attempt.steps has {} steps: {MOST_STEPS} at most",
                steps.len()
            ));
        }
        match attempt {
            Some(a) if a.number == 0 => Err("attempt.number is 0: attempts count from 1".to_owned()),
            Some(a) if a.step as usize > steps.len() => Err(format!(
                "attempt.step is {}: there are {} steps",
                a.step,
                steps.len()
            )),
            _ => Ok(()),
        }
    }
}

fn is_name(revision: &Revision) -> bool {
    let name = &revision.0;
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
