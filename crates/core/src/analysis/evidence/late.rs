//! What was read of the canary later than of stable waits for stable's next block.
//!
//! Each pod is scraped at a moment of its own. What begins between the last scrape of stable's pods and the canary's, within
//! a block, shows at the canary alone: an outage of everybody's looks like one of the canary's. So harm is bet on what the
//! canary did up to the moment that all of stable's counters tell of, and the rest joins the next block. Then stable
//! has seen at least as much of whatever begins as the canary has. What waits is decided by when it was read and by how many
//! requests it is, never by how they ended, so each request is bet on once and the guarantee stays.

use super::{Block, Counts, Evidence};

/// Fewer requests than these don't wait: a canary's first ones would be seen a block later, and so few that fail in an
/// incident prove nothing.
const ENOUGH: f64 = 3.0;

impl Evidence {
    /// The canary's counts that harm is bet on now; the rest waits.
    pub(super) fn known_to_both(&mut self, block: &Block) -> Counts {
        let all = self.waiting.plus(block.canary);
        let now = all.minus(block.canary_late);
        let waits = now.total() >= ENOUGH;
        self.waiting = if waits {
            block.canary_late
        } else {
            Counts::default()
        };
        if waits { now } else { all }
    }
}
