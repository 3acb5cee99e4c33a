//! One of several replicas leads: it alone writes.
//!
//! | what | module |
//! |---|---|
//! | how long a leadership lasts | [`timing`] |
//! | who leads: pure, no clock, no network | [`election`] |
//! | the Lease at the API server | [`lease`] |
//! | standing for it, for as long as the process lives | [`candidate`] |
//! | no write without leadership | [`fence`] |
//!
//! The reasons are in `docs/adr/0008-one-leads.md`.

pub mod candidate;
pub mod election;
pub mod fence;
pub mod lease;
pub mod timing;

pub use candidate::Candidate;
pub use fence::{Fence, Leadership, Leading, NotLeading, Standing};
pub use timing::{Timing, TimingError};

/// Which lease, for whom, and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name: all replicas of one operator have the same.
    pub lease: String,
    /// This replica's name. No other process may ever have it, this one's successor included.
    pub identity: String,
    /// Times.
    pub timing: Timing,
}
