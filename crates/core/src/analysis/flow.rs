//! Whether as many requests are answered as usual.
//!
//! A canary that has all the traffic has nobody beside it, and frameworks count a request when it is over. So what it
//! leaves without an answer, because its workers hang under the full load for instance, shows as requests that do not
//! come. That fewer callers came can't be told from it: it is a reason to compare, and no more. Only where all users moved
//! at once, and nobody is to be asked beside it, they go back by it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PastFlow, exact};

/// Of fewer blocks nothing usual is known.
const LEAST_BLOCKS: u32 = 4;
/// The flow has fallen when this part of the usual is missing, at the least.
const MISSING: f64 = 0.3;
/// And when all such blocks in a row are together so many standard deviations below their mean.
const DEVIATIONS: f64 = 4.0;
/// It takes so many of them, at the least: one may be a pause of the callers.
const IN_A_ROW: u32 = 2;
/// Less than this part of the usual is hardly anything.
const HARDLY_ANY: f64 = 0.25;

/// Requests per second that were answered, block by block: mean and spread (Welford's method, 1962).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Flow {
    /// Blocks that tell what is usual.
    blocks: u32,
    /// Their mean rate, per second.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    mean: f64,
    /// The sum of their squared deviations from it.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    squares: f64,
    /// Blocks in a row with far fewer.
    low: u32,
    /// The mean rate of these.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    lowest: f64,
    /// That they have fewer is beyond chance, if one of them alone may tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clear: bool,
}

impl Flow {
    /// Takes in what was answered in a block of so many seconds, above 0; `alone` if by a canary that had all the
    /// traffic.
    pub(super) fn absorb(&mut self, requests: f64, seconds: f64, alone: bool) {
        let rate = requests / seconds;
        if alone && self.is_low(rate) {
            self.low = self.low.saturating_add(1);
            let before = if self.low == 1 { 0.0 } else { self.lowest };
            self.lowest = before + (rate - before) / f64::from(self.low);
            self.clear = self.is_clear(seconds);
            return;
        }
        self.begin_anew();
        // Callers come and go with the hours: what is not far below the usual is learnt to be so.
        self.blocks = self.blocks.saturating_add(1);
        let off = rate - self.mean;
        self.mean += off / f64::from(self.blocks);
        self.squares += off * (rate - self.mean);
    }

    /// Takes what was answered before the attempt, in blocks of so many seconds, above 0, for what is usual.
    pub(super) fn know(&mut self, past: &PastFlow, seconds: f64) {
        self.blocks = past.blocks.saturating_add(past.empty);
        self.mean = past.requests / (f64::from(self.blocks.max(1)) * seconds);
        self.squares = past.squares / (seconds * seconds);
    }

    /// Forgets that it has fallen.
    pub(super) fn begin_anew(&mut self) {
        (self.low, self.clear) = (0, false);
    }

    /// The part of the usual flow that is left, where it has fallen clearly.
    pub(super) fn fallen(&self) -> Option<f64> {
        (self.clear && self.low >= IN_A_ROW).then(|| self.lowest / self.mean)
    }

    /// Hardly anything was answered in a whole block, where that is beyond chance. It may be a pause of the callers: a
    /// reason to ask beside stable, which helps most users at once if it is none.
    pub(super) fn has_stopped(&self) -> bool {
        self.clear && self.lowest < HARDLY_ANY * self.mean
    }

    fn is_low(&self, rate: f64) -> bool {
        self.blocks >= LEAST_BLOCKS && rate < (1.0 - MISSING) * self.mean
    }

    /// Together they are too few for chance. Requests that come by chance alone scatter with the root of their number, so
    /// that more blocks know better; what callers do beside that lasts for many blocks, and no number of them makes it
    /// smaller.
    fn is_clear(&self, seconds: f64) -> bool {
        let chance = self.mean / seconds;
        let callers = (self.squares / f64::from(self.blocks - 1) - chance).max(0.0);
        // What is usual is itself known from some blocks alone.
        let usual = (callers + chance) / f64::from(self.blocks);
        let deviation = (callers + chance / f64::from(self.low) + usual).sqrt();
        self.mean - self.lowest > DEVIATIONS * deviation
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counts, Past};
    use super::*;

    fn after(usual: &[f64], alone: &[f64]) -> Flow {
        let mut flow = Flow::default();
        for requests in usual {
            flow.absorb(*requests, 10.0, false);
        }
        for requests in alone {
            flow.absorb(*requests, 10.0, true);
        }
        flow
    }

    #[test]
    fn a_flow_that_halves_for_two_blocks_has_fallen() {
        let usual = [200.0, 210.0, 190.0, 205.0, 195.0, 200.0, 212.0, 188.0];
        assert_eq!(after(&usual, &[100.0]).fallen(), None, "one may be a pause");
        let part = after(&usual, &[100.0, 98.0]).fallen().unwrap();
        assert!((part - 0.49).abs() < 0.01, "{part}");
        assert_eq!(after(&usual, &[100.0, 200.0, 100.0]).fallen(), None);
        assert_eq!(
            after(&usual[..3], &[100.0, 100.0]).fallen(),
            None,
            "too little is known"
        );
        assert_eq!(
            after(&usual, &[150.0; 9]).fallen(),
            None,
            "a quarter less is no reason"
        );
    }

    #[test]
    fn one_block_with_hardly_an_answer_is_a_stop_unless_such_blocks_are_usual() {
        let usual = [200.0, 210.0, 190.0, 205.0, 195.0, 200.0, 212.0, 188.0];
        let stopped = after(&usual, &[0.0]);
        assert!(stopped.has_stopped());
        assert_eq!(stopped.fallen(), None, "it convicts nobody");
        assert!(
            after(&usual, &[40.0]).has_stopped(),
            "it stopped as the block began"
        );
        assert!(!after(&usual, &[60.0]).has_stopped(), "a part is answered");
        assert!(!after(&usual, &[0.0, 200.0]).has_stopped(), "it came back");
        assert!(!after(&usual[..3], &[0.0]).has_stopped(), "too little is known");
        let bursts = [20.0, 400.0, 0.0, 380.0, 10.0, 200.0, 0.0, 510.0];
        assert!(!after(&bursts, &[0.0]).has_stopped());
        let few = [14.0, 12.0, 15.0, 13.0, 14.0, 12.0, 15.0, 15.0];
        assert!(!after(&few, &[0.0]).has_stopped(), "chance may leave so few out");
    }

    #[test]
    fn what_was_usual_before_is_known_from_the_first_block() {
        let counts = |requests: &[f64]| -> Vec<Counts> {
            (requests.iter().map(|n| Counts::new(*n, 0.0).unwrap())).collect()
        };
        let known = |before: &[f64], alone: &[f64]| {
            let mut flow = Flow::default();
            flow.know(&Past::of(&counts(before)).flow, 10.0);
            for requests in alone {
                flow.absorb(*requests, 10.0, true);
            }
            flow.fallen()
        };
        let usual = [200.0, 210.0, 190.0, 205.0, 195.0, 200.0, 212.0, 188.0];
        assert!(known(&usual, &[100.0, 100.0]).is_some());
        assert_eq!(known(&usual, &[150.0, 160.0]), None);
        // With pauses of the callers among the blocks, one more is none of the revision's.
        assert_eq!(
            known(&[200.0, 0.0, 210.0, 0.0, 190.0, 200.0], &[60.0, 60.0]),
            None
        );
        assert_eq!(known(&[], &[0.0, 0.0]), None);
    }

    #[test]
    fn an_evening_is_no_fall() {
        let usual = [200.0; 60];
        let evening: Vec<f64> = (0..120).map(|block| 200.0 - f64::from(block)).collect();
        assert_eq!(after(&usual, &evening).fallen(), None);
    }

    #[test]
    fn a_flow_that_always_comes_in_bursts_has_not() {
        let usual = [20.0, 400.0, 50.0, 380.0, 10.0, 200.0, 30.0, 510.0];
        assert_eq!(after(&usual, &[10.0; 9]).fallen(), None);
    }

    #[test]
    fn what_a_block_or_two_can_not_show_more_of_them_do() {
        let usual = [30.0, 25.0, 36.0, 31.0, 22.0, 35.0, 29.0, 33.0];
        assert_eq!(after(&usual, &[15.0, 16.0]).fallen(), None);
        let part = after(&usual, &[15.0, 16.0, 14.0, 15.0]).fallen().unwrap();
        assert!((part - 0.5).abs() < 0.02, "{part}");
        assert_eq!(
            after(&usual, &[15.0, 16.0, 26.0, 15.0, 16.0]).fallen(),
            None,
            "it came back"
        );
    }

    #[test]
    fn so_few_requests_that_chance_may_leave_them_out_say_nothing() {
        assert_eq!(
            after(&[4.0, 3.0, 5.0, 4.0, 4.0, 2.0, 5.0, 5.0], &[0.0; 4]).fallen(),
            None
        );
    }
}
