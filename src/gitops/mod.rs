//! What delivery tools need to know of a PythonService.

pub mod argocd;
