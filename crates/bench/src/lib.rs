//! Molt's decisions beside those of other tools, on the same simulated traffic: `make bench-decisions`.
//!
//! - `traces`: what a Prometheus would have read of both arms, scrape by scrape.
//! - `cases`: the situations, each with a healthy and a harmful canary.
//! - `judge`: what a judge is.
//! - `rivals`: the judges of other tools, written anew from their documentation.
//! - `engine`: Molt's judge. The only file that knows the engine's functions.
//! - `tune`: the best settings of a rival for one case, found with the truth known.
//! - `measure`: many runs on all cores, and what came out.
//! - `guards`: guards of the runtime, on pods with the noise of healthy ones.
//! - `rollouts`: whole rollouts, by the operator's own state machine.
//! - `watch`: the watch after a promotion.
//! - `report`, `chart`: the table, the goals and the picture.

pub mod cases;
pub mod chart;
pub mod engine;
pub mod guards;
pub mod judge;
pub mod measure;
pub mod report;
pub mod rivals;
pub mod rollouts;
pub mod traces;
pub mod tune;
pub mod watch;
