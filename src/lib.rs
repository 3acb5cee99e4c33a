//! Molt: progressive delivery of Python workloads on Kubernetes, decided by evidence.
//!
//! The edges of the operator: they read the world, hand it to [`molt_core::rollout::decide`], and carry out
//! what it decides. See `ARCHITECTURE.md` for the map.

pub mod api;
pub mod controller;
pub mod dashboard;
pub mod gitops;
pub mod k8s;
pub mod leader;
pub mod metric_sources;
pub mod metrics;
pub mod migrations;
pub mod notifications;
pub mod plugin;
pub mod readiness;
pub mod reference;
pub mod rules;
pub mod server;
pub mod telemetry;
pub mod traces;
pub mod traffic;
