//! The state machine in a small world of its own: scenarios, and invariants under random events.

mod actions;
mod adoption;
mod clock;
mod conditions;
mod corrected;
mod doubts;
mod endpoints;
mod first;
mod hand;
mod in_cluster;
mod invariants;
mod jobs;
mod looks;
mod many;
mod overspending;
mod people;
mod restart;
mod rival;
mod room;
mod scenarios;
mod shares;
mod strategies;
mod verdicts;
mod workload;
mod world;
