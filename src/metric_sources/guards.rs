//! What guards of the runtime ask for.

use super::SloQuery;

/// How one guard is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardQuery {
    /// Requests that were answered with 4xx, of those that this objective counts.
    ClientErrors(SloQuery),
    /// The pods' memory.
    Memory,
    /// How late the event loop runs what is due.
    EventLoopLag {
        /// The histogram, without the suffix of its series.
        metric: String,
        /// Seconds; the first edge of the histogram at or above it counts.
        p99: f64,
    },
    /// Processor time.
    Cpu,
    /// Open files and sockets.
    OpenFiles,
}
