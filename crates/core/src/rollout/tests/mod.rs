//! The state machine in a small world of its own: scenarios, and invariants under random events.

mod conditions;
mod corrected;
mod invariants;
mod jobs;
mod rival;
mod scenarios;
mod world;
