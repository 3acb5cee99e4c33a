//! A simulated Kubernetes API server: one deterministic state machine in memory, with faults on demand.
//!
//! [`ApiServer`] is the state machine: no clock of its own, no threads, no randomness. [`Sim`] makes a
//! `tower::Service` of it that a `kube::Client` talks to, and asks a plan which requests go wrong, and how.
//!
//! | simulated | module |
//! |---|---|
//! | create, get, list, replace, delete; optimistic concurrency; generations; finalizers | [`server`] |
//! | JSON patch, merge patch | [`server`] |
//! | server-side apply, `managedFields`, conflicts | [`apply`], [`shape`] |
//! | status subresources | [`server`] |
//! | label and field selectors | [`selector`] |
//! | watches from a version, bookmarks, `410 Gone` | [`watch`] |
//! | garbage collection by owner, as an explicit step | [`collect`] |
//! | HTTP | [`transport`] |
//! | faults: refusals, lost answers, crashes | [`faults`], [`service`] |
//! | several clients, told apart and cut off one by one | [`gate`] |
//!
//! A differential test in the root package holds it to a real `kube-apiserver`.
//!
//! Deliberately absent: validation by schemas and admission (whoever writes is taken to write valid objects),
//! authorization (a plan refuses instead), pages of lists (a list is whole), dry runs, conversion between
//! versions, strategic merge patch, the scale subresource (the operator scales by the object), discovery,
//! and every controller: ReplicaSets make no pods unless a test plays that part.

pub mod apply;
pub mod builtin;
pub mod call;
pub mod collect;
pub mod faults;
pub mod gate;
pub mod kind;
pub mod selector;
pub mod server;
pub mod service;
pub mod shape;
pub mod status;
pub mod store;
pub mod transport;
pub mod watch;

pub use call::{Answer, Call};
pub use faults::{Fault, Ordinal};
pub use kind::Kind;
pub use server::ApiServer;
pub use service::Sim;
