//! Given/when/then scenarios on a real cluster: real pods, a real gateway, a real Prometheus, real load.
//!
//! `e2e/cluster/up.sh` brings the cluster up, `e2e/cluster/install.sh` puts the operator into it; the
//! scenarios find both by `MOLT_E2E_CLUSTER`, the cluster's name.

// A scenario fails by a panic: that is what a test runner reads.
#![allow(clippy::missing_panics_doc)]

pub mod load;
pub mod stage;

pub use load::{Load, Request};
pub use stage::{Stage, sample, until};
