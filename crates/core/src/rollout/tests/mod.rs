//! The state machine in a small world of its own: scenarios, and invariants under random events.

mod actions;
mod clock;
mod conditions;
mod corrected;
mod doubts;
mod invariants;
mod jobs;
mod looks;
mod many;
mod overspending;
mod people;
mod rival;
mod scenarios;
mod verdicts;
mod world;
