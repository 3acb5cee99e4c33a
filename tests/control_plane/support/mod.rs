//! A control plane for all tests of this binary, a namespace and an operator for each.

pub mod cluster;
pub mod dashboard;
mod database;
pub mod gateway;
pub mod istio;
pub mod kubelet;
pub mod metrics_api;
pub mod mortal;
pub mod prometheus;
pub mod runtime;
pub mod stored;
pub mod world;

pub use cluster::{Stage, given};
