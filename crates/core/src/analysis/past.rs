//! What stable served before the attempt, as far as it helps to bet well.
//!
//! Bets may be made from whatever was known before the block, so a past that is out of date costs power, never the
//! guarantee: with none, the first block is bet on a rate of one in a hundred, which for most services is ten
//! times too high.

use super::{Counts, correlation_in};

/// The past is worth so many blocks at most, so that the attempt's own counts soon outweigh it.
const MOST_BLOCKS: usize = 20;

/// What stable's blocks before an attempt tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Past {
    /// What stable served, scaled to what twenty blocks are worth if it is more.
    pub served: Counts,
    /// How requests of one revision correlate within a block, 0 to 1; `None` where too few blocks tell:
    /// [`correlation_in`].
    pub correlation: Option<f64>,
    /// How many requests it answered in how many blocks, those without any apart.
    pub flow: PastFlow,
}

/// How many requests were answered before an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PastFlow {
    /// Requests in all of the blocks.
    pub requests: f64,
    /// Blocks with requests.
    pub blocks: u32,
    /// Blocks without any.
    pub empty: u32,
    /// The sum over all of these blocks of the squared deviations of their requests from the mean.
    pub squares: f64,
}

impl Past {
    /// What these blocks of stable's tell, in order of time; blocks in which it served nothing tell nothing.
    pub fn of(blocks: &[Counts]) -> Self {
        let of_all = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        let mean = blocks.iter().map(|b| b.total()).sum::<f64>() / f64::from(of_all.max(1));
        let squares = blocks.iter().map(|b| (b.total() - mean).powi(2)).sum();
        let blocks: Vec<Counts> = blocks.iter().copied().filter(|b| b.total() > 0.0).collect();
        let all = blocks
            .iter()
            .fold(Counts::default(), |sum, block| sum.plus(*block));
        let worth = MOST_BLOCKS as f64 / blocks.len().max(MOST_BLOCKS) as f64;
        Self {
            served: all.scaled(worth),
            correlation: correlation_in(&blocks),
            flow: {
                let served = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
                PastFlow {
                    requests: all.total(),
                    blocks: served,
                    empty: of_all - served,
                    squares,
                }
            },
        }
    }

    /// What a steady service tells that has so many requests in a block, and this share of bad ones, 0 to 1.
    /// What is no number of requests tells nothing.
    pub fn steady(requests: f64, bad_ratio: f64, correlation: Option<f64>) -> Self {
        let blocks = MOST_BLOCKS as f64;
        let served = Counts::new(requests * blocks, requests * blocks * bad_ratio);
        Self {
            served: served.unwrap_or_default(),
            correlation,
            flow: PastFlow {
                requests: served.map_or(0.0, Counts::total),
                blocks: MOST_BLOCKS as u32,
                empty: 0,
                squares: 0.0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_past_is_worth_twenty_blocks() {
        let block = Counts::new(200.0, 2.0).unwrap();
        let past = Past::of(&[block; 120]);
        assert_eq!(past.served.total().round() as u64, 20 * 200);
        assert_eq!(past.served.bad().round() as u64, 20 * 2);
        assert_eq!(past.correlation, Some(0.0));
    }

    #[test]
    fn a_short_past_is_worth_what_it_is() {
        let block = Counts::new(100.0, 1.0).unwrap();
        let past = Past::of(&[block, Counts::default(), block]);
        assert_eq!(past.served.total().round() as u64, 200);
        assert_eq!(past.correlation, None, "two blocks tell nothing of bursts");
        // A hundred, none, a hundred.
        assert_eq!(
            (
                past.flow.requests.round() as u64,
                past.flow.squares.round() as u64
            ),
            (200, 6667)
        );
        assert_eq!(Past::of(&[]), Past::default());
    }
}
