//! The operator against a real kube-apiserver, etcd and controller manager.
//!
//! No node runs here: [`support::kubelet`] says of pods what a kubelet would say, [`support::gateway`]
//! acknowledges routes as a Gateway's controller would, and [`support::prometheus`] counts what the route's
//! weights imply. Admission, server-side apply, ownership, garbage collection and watches are the real thing.

mod action_policy;
mod admission;
mod adoption;
mod autoscalers;
mod bad_input;
mod conditions;
mod config;
mod crashes;
mod dashboard;
mod dashboard_browser;
mod dashboard_load;
mod fleet;
mod gitops;
mod groups;
mod grpc;
mod guards;
mod istio;
mod jobs;
mod leaders;
mod like_the_real_one;
mod limits;
mod live;
mod migrations;
mod notifications;
mod people;
mod poison;
mod readiness;
mod restarts;
mod rollouts;
mod rules;
mod runbook;
mod scaling;
mod strategies;
mod support;
mod traffic;
mod users_route;
mod watch;
mod workers;
