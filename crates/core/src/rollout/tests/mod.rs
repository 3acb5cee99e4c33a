//! The state machine in a small world of its own: scenarios, and invariants under random events.

mod conditions;
mod invariants;
mod scenarios;
mod world;
