//! What is usual at stable, and the incidents of both revisions that show as something else.

use super::{Counts, Evidence, Objective, Worth, least_factor, upper_bound};

/// Stable's rate is unusual from so many times the usual on.
const UNUSUAL: f64 = 3.0;
/// Fewer bad requests in a block than these are bad luck.
const FEW: f64 = 5.0;

/// Incidents of both that nobody was told of are forgiven so often in an attempt.
const MOST_FORGIVEN: u8 = 3;

/// The rates of two blocks differ by more than chance: three standard errors of two proportions that are one.
fn differ(one: Counts, other: Counts) -> bool {
    let (Some(a), Some(b), Some(both)) = (one.ratio(), other.ratio(), one.plus(other).ratio()) else {
        return false;
    };
    let variance = both * (1.0 - both) * (1.0 / one.total() + 1.0 / other.total());
    (a - b).powi(2) > 9.0 * variance
}

impl Evidence {
    /// What the next block is expected to be like at stable, from which bets are made: as usual, before the attempt
    /// and in it; or as the last block was, while that is not as usual.
    pub(super) fn expected(&self) -> Counts {
        if self.is_unusual(self.latest[1]) {
            self.latest[1]
        } else {
            self.calm.plus(self.past.unwrap_or_default())
        }
    }

    /// An incident of both is over. What it has cost the evidence for safety is taken back: rates that changed by the
    /// minute say nothing of those afterwards. The bound on unsafe promotions is spent anew with it.
    pub fn incident_is_over(&mut self) {
        self.give_back();
        self.clustering.forget_pods();
    }

    fn give_back(&mut self) {
        for safety in [Some(&mut self.safety), self.refuted.as_mut()]
            .into_iter()
            .flatten()
        {
            safety.forgive();
        }
    }

    /// What stable does as a comparison is about to begin: an incident that ends then shows at the canary for as long as its
    /// counters are older than stable's.
    pub fn look_at_stable(&mut self, stable: Counts) {
        if stable.total() > 0.0 {
            self.latest = [self.latest[1], stable];
        }
    }

    /// The same of an incident that was over before it was declared one, for a block or two: at its edges the canary may have
    /// been seen to have more of it than stable. So often in an attempt, for the bound is spent anew each time.
    pub(super) fn short_incident_is_over(&mut self) {
        if self.forgiven < MOST_FORGIVEN {
            self.forgiven += 1;
            // One bad pod of stable's looks the same: what is known of the pods stays.
            self.give_back();
        }
    }

    /// Both burn fast enough to page somebody, and stable several times as fast as it did before in this attempt:
    /// stable's burn rate. A service that always burns its budget is no incident, one that the canary is out of is no
    /// reason to keep it waiting, and one that is over is none either: the windows would remember half a minute of it
    /// for half an hour, and stable's last two blocks know better. One that `goes_on` is over when these are as usual
    /// again, whether they would page or not.
    pub fn incident(&self, objective: &Objective, goes_on: bool) -> Option<f64> {
        let usual = UNUSUAL * objective.burn(self.usual());
        let latest = objective.burn(self.latest[0].plus(self.latest[1]).ratio()?);
        if goes_on {
            // Within the objective nobody is harmed, whatever was usual before.
            return (latest > usual.max(1.0)).then_some(latest);
        }
        self.canary_windows.fires(objective)?;
        self.stable_windows.fires(objective)?;
        let burn = self.stable_windows.burn(objective)?;
        (burn.min(latest) > usual.max(least_factor(objective))).then_some(burn)
    }

    /// The most that stable's rate usually is, 95 %: a first block without a bad request does not make every later one
    /// unusual.
    pub(super) fn usual(&self) -> f64 {
        upper_bound(self.calm.plus(self.past.unwrap_or_default()))
    }

    pub(super) fn is_unusual(&self, stable: Counts) -> bool {
        if self.calm.plus(self.past.unwrap_or_default()).total() <= 0.0 {
            // As it is found is how it is.
            return false;
        }
        stable.bad() >= FEW && stable.ratio().is_some_and(|ratio| ratio > UNUSUAL * self.usual())
    }

    /// Stable is so much better now that what was taken for usual can't have been: the attempt began in an incident.
    pub(super) fn was_unusual(&self, stable: Counts) -> bool {
        let taken_for_usual = self.calm.ratio().unwrap_or(0.0) * stable.total();
        taken_for_usual >= FEW * UNUSUAL && stable.bad() * UNUSUAL < taken_for_usual
    }

    /// An incident of both begins, changes or ends in a block in which stable did this. Each pod's counters were read at
    /// a moment of their own then: one arm may have seen more of it than the other.
    pub(super) fn is_edge(&self, stable: Counts, worth: Worth) -> bool {
        let last = self.last();
        self.is_unusual(stable) != self.is_unusual(last) || differ(worth.of(stable), worth.of(last))
    }

    /// Stable's last block; before the first one it was as the past has it.
    pub(super) fn last(&self) -> Counts {
        let last = Some(self.latest[1]).filter(|last| !last.is_none());
        last.or(self.past).unwrap_or_default()
    }
}
