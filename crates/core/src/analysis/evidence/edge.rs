//! A block in which stable's rate changes is bet on when the next one has come.
//!
//! Each pod is scraped at a moment of its own, so at the edge of an incident of both the canary may have seen more of it than
//! stable, in this block. It has not seen more than stable has in the block before, in this one and in the next one together:
//! of these all pods have counted whatever the canary did. So the bet is held, as it was made, and beside what stable did in all
//! three it is settled: it wins no more than beside a stable that had all of that in one block. What it loses counts at once, so
//! that the evidence is at every look at most what it would be if nothing were held.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Beside, Block, Counts, Evidence, HarmBets};

/// So many standard errors are no chance.
const CHANCE: f64 = 3.0;

/// A bet on harm in one block, in independent requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Bet {
    /// What the canary did in it.
    pub(super) canary: Counts,
    /// What the canary had done before, and what stable was expected to do: the bet was made from them.
    pub(super) canary_before: Counts,
    /// What stable did in it.
    pub(super) stable: Counts,
    /// See `canary_before`.
    pub(super) stable_before: Counts,
}

impl Bet {
    fn place(&self, bets: &mut HarmBets, excused: Option<f64>) {
        let beside = Beside::Stable {
            now: self.stable,
            before: self.stable_before,
        };
        bets.absorb(self.canary, self.canary_before, beside, excused);
    }
}

/// A bet that waits for the next block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Held {
    /// The bet.
    pub(super) bet: Bet,
    /// What stable is seen to have done in the block before it and in this one: as it was counted, of a block whose weight
    /// rises among as few requests as it has by the new one.
    pub(super) stable: [Counts; 2],
    /// Its end, where the next one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Timestamp>,
}

impl Held {
    /// The rate that a canary which is like stable may have had: as if all that was bad at stable in the three blocks had
    /// fallen into one, and three standard errors more; 1 where nothing is known of the next one.
    fn excused(&self, next: Option<Counts>) -> f64 {
        let Some(next) = next.filter(|next| !next.is_none()) else {
            return 1.0;
        };
        let [last, now] = self.stable;
        let blocks = [last, now, next];
        let rate: f64 = blocks.iter().filter_map(|block| block.ratio()).sum();
        // As uncertain as a block that has the fewest requests, and as with one bad request at the least.
        let served = blocks.iter().map(|block| block.total()).filter(|n| *n > 0.0);
        let requests = served.fold(f64::INFINITY, f64::min).max(1.0);
        let variance = rate.max(1.0 / requests) / requests;
        (rate + CHANCE * variance.sqrt()).min(1.0)
    }
}

impl Evidence {
    /// Settles the bet that is held, if one is, beside the block that has come. Without one, or with one that does not
    /// follow at once, nobody knows whose harm it was, and nothing is won. What stable is seen to have done in the block that
    /// was held.
    pub(super) fn settle(&mut self, next: Option<&Block>) -> Option<Counts> {
        let held = self.held.take()?;
        let next = next.filter(|next| held.until == Some(next.start));
        self.place(held.bet, Some(held.excused(next.map(|next| next.stable))));
        Some(held.stable[1])
    }

    /// What these bets are worth, with the one that is held as far as it loses: what it wins is not known yet.
    pub(super) fn ln_with_held(&self, bets: &HarmBets, ln: fn(&HarmBets) -> f64) -> f64 {
        self.held.map_or_else(
            || ln(bets),
            |held| {
                let mut lost = bets.clone();
                held.bet.place(&mut lost, Some(1.0));
                ln(&lost)
            },
        )
    }

    /// Bets; with a rate that is `excused` it wins no more than beside that one.
    pub(super) fn place(&mut self, bet: Bet, excused: Option<f64>) {
        bet.place(&mut self.harm, excused);
        if let Some(again) = &mut self.again {
            bet.place(again, excused);
        }
    }
}
