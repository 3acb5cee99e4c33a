//! The state machine in a small world of its own: scenarios, and invariants under random events.

mod actions;
mod adoption;
mod clock;
mod conditions;
mod corrected;
mod doubts;
mod first;
mod groups;
mod hand;
mod invariants;
mod jobs;
mod looks;
mod many;
mod migrations;
mod overspending;
mod people;
mod restart;
mod rival;
mod room;
mod scenarios;
mod shares;
mod strategies;
mod verdicts;
mod watch;
mod workload;
mod world;
