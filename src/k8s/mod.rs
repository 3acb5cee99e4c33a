//! What the edges share about Kubernetes: names of labels, caches, writes and their failures.

pub mod cron;
pub mod failure;
pub mod index;
pub mod labels;
pub mod secrets;
pub mod subset;
pub mod syntax;
pub mod writer;

use std::fmt;

/// A namespaced name: of a PythonService, or of whatever an index is grouped by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of this name in this namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
