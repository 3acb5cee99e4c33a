//! Another writer of a user's route, who puts the weights back that Molt has changed.
//!
//! The rules of a route are one atomic list, so Molt can't own a weight in it: it can only see that the rules
//! are no longer as it wrote them, set its weights again, and say who it was.

use jiff::{SignedDuration, Timestamp};

use super::{Turn, after};
use crate::observed::{Backend, Slot, Weights};
use crate::plan::RouteMode;
use crate::state::{Rival, SlotWeights};

/// The first wait before weights are set again, from the second time on; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(60);
/// How long a rival must keep still to be forgotten: longer than delivery tools usually take between two
/// comparisons (Argo CD 3 minutes, Flux 10).
pub(super) const CALM: SignedDuration = SignedDuration::from_mins(15);

impl Turn<'_> {
    /// Notes whether somebody has changed the weights since Molt wrote them.
    pub(super) fn watch_route(&mut self) {
        if self.plan.route != RouteMode::Adopted {
            // A route of Molt's own has no second writer whose fields it could not take.
            self.state.asserted = None;
            self.state.rival = None;
            return;
        }
        let calm = |rival: &Rival| self.now >= after(rival.last, CALM);
        if self.state.rival.as_ref().is_some_and(calm) {
            self.state.rival = None;
        }
        let route = &self.seen.route;
        let Some(has) = slot_weights(&route.weights) else {
            return;
        };
        if route.rules.ours {
            self.state.asserted = Some(has);
            return;
        }
        // What Molt has never written, or knows to be changed already, can't be written back.
        if self.state.asserted.is_none_or(|asserted| asserted == has) {
            return;
        }
        self.state.asserted = None;
        let times = self.state.rival.as_ref().map_or(0, |rival| rival.times);
        let unnamed = || "a field manager without a name".to_owned();
        self.state.rival = Some(Rival {
            manager: route.rules.other.clone().unwrap_or_else(unnamed),
            last: self.now,
            times,
        });
    }

    /// Notes that the weights are being set. While the rules are a rival's it counts, whether or not the write
    /// is ever seen: a rival may be faster than the watch.
    pub(super) fn note_setting(&mut self) {
        if let Some(rival) = &mut self.state.rival
            && !self.seen.route.rules.ours
        {
            rival.last = self.now;
            rival.times = rival.times.saturating_add(1);
        }
    }

    /// When weights that somebody has written back are set again. `None` while nobody has: then at once.
    ///
    /// Only a gain of the canary's may wait for long. Traffic that must leave it, or that stable has no pod for,
    /// never waits longer than a second, whoever sent it there.
    pub(super) fn set_again_at(&self) -> Option<Timestamp> {
        let rival = self.state.rival.as_ref()?;
        let wanted = slot_weights(&self.wanted_weights()?)?;
        let has = slot_weights(&self.seen.route.weights)?;
        if self.seen.route.rules.ours || has == wanted {
            return None;
        }
        let doublings = rival.times.checked_sub(1)?;
        let wait = FIRST_WAIT * 2i32.pow(doublings.min(16));
        let stable_serves = self.state.stable.as_ref().is_some_and(|r| self.seen.ready(r) > 0);
        let may_wait = wanted.canary > has.canary && stable_serves;
        let longest = if may_wait { LONGEST_WAIT } else { FIRST_WAIT };
        Some(after(rival.last, wait.min(longest)))
    }

    /// What is to be told of a rival.
    pub(super) fn rival_text(&self) -> Option<String> {
        let rival = self.state.rival.as_ref()?;
        let manager = &rival.manager;
        let advice = self.seen.route.rules.advice.get(manager);
        let advice = advice.map_or_else(String::new, |advice| format!(" {advice}"));
        Some(format!(
            "{manager} wrote the weights of the route back less than {} minutes ago; Molt sets them again, each time after a longer wait, and this is told until {manager} has kept still for so long.{advice}",
            CALM.as_mins()
        ))
    }
}

fn slot_weights(weights: &Weights) -> Option<SlotWeights> {
    let of = |slot| weights.get(&Backend::Slot(slot)).copied();
    Some(SlotWeights {
        stable: of(Slot::Stable)?,
        canary: of(Slot::Canary)?,
    })
}
