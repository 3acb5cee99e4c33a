//! Given/when/then scenarios on a real cluster: real pods, a real gateway, a real Prometheus, real load.
//!
//! `e2e/cluster/up.sh` brings the cluster up, `e2e/cluster/install.sh` puts the operator into it; the
//! scenarios find both by `MOLT_E2E_CLUSTER`, the cluster's name. They run side by side, each in a namespace
//! of its own; those that end the operator, or measure it, have it for themselves.

// A scenario fails by a panic: that is what a test runner reads.
#![allow(clippy::missing_panics_doc)]

pub mod black_hole;
pub mod dashboard;
pub mod gateway;
pub mod load;
pub mod operator;
pub mod rollout;
pub mod stage;
pub mod users;

pub use black_hole::BlackHole;
pub use dashboard::Dashboard;
pub use load::{Load, Request, Stream, Way};
pub use stage::{Stage, sample, until};
pub use users::Users;
