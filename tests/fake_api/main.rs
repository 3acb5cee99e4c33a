//! The operator's edges against a simulated API server: what a real one does seldom, at every place.
//!
//! `molt_sim_api` says what is simulated; the control-plane tests hold it to a real server.

mod adoption;
mod applying;
mod config;
mod crashes;
mod faults;
mod jobs;
mod leaders;
mod players;
mod restarts;
mod stage;
