//! The real controller on a simulated cluster, in virtual time, from one seed.
//!
//! A [life](life) is a few rollouts of one service with faults in between. The world is a state machine that
//! moves from event to event ([`world`]): the simulated API server of `molt-sim-api`, ReplicaSets, kubelets,
//! endpoints, a gateway, users and people. The operator is [`molt::controller::run_on`], whole, with a client,
//! a clock and a source of measurements that lead into that world. After each change the invariants are looked
//! at, as predicates on the world.
//!
//! The same seed gives the same life, to the last line of its log. `docs/simulation.md` says how to use it.

pub mod chance;
pub mod checks;
pub mod faults;
pub mod life;
pub mod link;
pub mod shrink;
pub mod source;
mod story;
pub mod sweep;
pub mod world;

pub use life::{Outcome, Planted, live, live_with};
