//! Migrations of a service's database: what runs in its image, what that reports, and what SQL does to older revisions.

pub mod classify;
pub mod redact;
pub mod report;

/// What runs in the service's image.
pub const RUNNER: &str = include_str!("runner.py");
