//! Molt's state machine in virtual time: what would happen to a release, to whom, at which cost.
//!
//! Everything is decided by [`molt_core::rollout::decide`], the very function that the operator calls; here
//! are only the world that it sees, the traffic, and the counting of what became of users. No IO and no
//! clock: the same setup and seed give the same run, on every machine and with any number of threads.
//!
//! - [`scenario`]: what stable and canary do, as a person writes it.
//! - [`Setup`]: a plan, a scenario, traffic, and the cluster's [`Environment`].
//! - [`run`]: one rollout, with its timeline.
//! - [`study`]: many rollouts, with their distribution.
//! - [`replay`]: the machine driven by recorded counts instead of a simulated world.
//! - [`picture`]: a timeline as an SVG.

mod arrivals;
mod person;
pub mod picture;
mod pods;
mod proxy;
pub mod replay;
mod run;
pub mod scenario;
mod setup;
mod study;
mod timeline;
mod world;

pub use run::{Arm, Outcome, Run, Summary, UNFINISHED, run};
pub use setup::{Clusters, Counter, Environment, Invalid, Measure, Setup, Tenant};
pub use study::{Percentiles, Reason, Study, study, summaries};
pub use timeline::{BlockEntry, CountsEntry, EvidenceEntry, Timeline, TransitionEntry};
