//! Whether a PythonService is ready for production.
//!
//! The rules are data, in CEL ([`catalogue`]), and have three uses: a [`review`] with a score, offline or in the
//! operator, and an admission [`policy`]. [`schema`] says what a closed schema would say to an object. Everything here is
//! pure: no files, no cluster, no clock.

pub mod catalogue;
pub mod document;
pub mod policy;
pub mod review;
pub mod schema;

pub use catalogue::{Catalogue, Rule, Severity};
pub use review::{Engine, Facts, Finding, Grade, Review};

/// The annotation of a PythonService that names rules, divided by commas, which are not to be told of it.
pub const IGNORE: &str = "molt.dev/lint-ignore";
