//! What guards of the runtime ask for.

use super::SloQuery;
use super::conditions::PromqlQuery;

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
    /// Seconds that the collector of garbage takes.
    GcPauses {
        /// A counter of seconds, or a histogram or summary of them without the suffix of its series.
        metric: String,
    },
    /// How much of a pool of threads or workers is busy.
    Saturation {
        /// The gauge of those that are busy.
        metric: String,
        /// How many there are.
        limit: PoolLimit,
    },
    /// Workers that the server ends because they hang.
    WorkerTimeouts {
        /// The counter.
        metric: String,
    },
    /// Exceptions by type.
    Exceptions {
        /// Counters, each with the label that has the type.
        counters: Vec<(String, String)>,
    },
}

/// How many threads or workers a pool has.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolLimit {
    /// The gauge that tells.
    Metric(String),
    /// So many, above 0.
    Number(f64),
}

/// How a database's connections are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionsQuery {
    /// Gives how many there are.
    pub used: PromqlQuery,
    /// How many there may be.
    pub limit: ConnectionsLimit,
}

/// How many connections a server allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionsLimit {
    /// A query tells.
    Query(PromqlQuery),
    /// So many, above 0.
    Number(u32),
}
