//! The pure core of Molt: it decides and does no IO.
//!
//! No async, no clock, no randomness, no Kubernetes types, no logging; time is an argument. The same
//! [`decide`](rollout::decide) serves the operator, the simulator and the tests.
//!
//! - [`plan`]: what the user wants, validated; its steps are in [`step`].
//! - [`state`]: what decides and survives a restart; it lives in the object's status.
//! - [`observed`]: what the edges saw of the world.
//! - [`decision`]: what is to be done, and why.
//! - [`rollout`]: the state machine that turns the first three into the fourth.
//! - [`analysis`]: counts into evidence, evidence into verdicts.
//! - [`condition`]: thresholds that a user sets beside the objectives.
//! - [`guard`]: what of a canary's runtime must not be worse than stable's.
//! - [`adoption`]: a Deployment whose place Molt's pods take.
//! - [`migration`]: migrations of a service's database.
//! - [`room`]: how many pods a rollout may hold.
//! - [`group`]: services that are released together.
//! - [`config`]: which revision a spec asks for where the content of ConfigMaps counts.

pub mod adoption;
pub mod analysis;
pub mod condition;
pub mod config;
pub mod decision;
pub mod group;
pub mod guard;
pub mod migration;
pub mod observed;
pub mod plan;
pub mod rollout;
pub mod room;
pub mod state;
pub mod step;
