//! Scenarios on a real cluster, in one program so that they run side by side.

mod adoption;
mod after_promotion;
mod bad_input;
mod config;
mod connections;
mod faults;
mod groups;
mod grpc;
mod guards;
mod jobs;
mod life;
mod migrations;
mod replicas;
mod rollouts;
mod strategies;
mod tutorial;
mod workers;
