//! Version `v1alpha1`: what users write, and what they read back.
//!
//! These types accept whatever the schema lets through, so that an object written by another version never
//! stops the operator; [`validate`](crate::controller::validate) turns them into a plan.

// Each printer column has a type of its own; the lint takes the equal ones for repetitions.
#![allow(clippy::duplicated_attributes)]

mod gates;
mod guards;
mod notification_policy;
mod python_service;
mod rollout_action;
mod rollout_record;
mod scalars;
mod status;
mod strategy;
mod traffic;

pub use gates::*;
pub use guards::*;
pub use notification_policy::*;
pub use python_service::*;
pub use rollout_action::*;
pub use rollout_record::*;
pub use scalars::*;
pub use status::*;
pub use strategy::*;
pub use traffic::*;
