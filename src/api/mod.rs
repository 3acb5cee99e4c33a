//! The API as users write it.

pub mod crds;
pub mod v1alpha1;

/// The group of every kind.
pub const GROUP: &str = "molt.dev";
