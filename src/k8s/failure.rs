//! Why a write failed, in words that say what to do.

use std::time::Duration;

use kube::core::Status;
use molt_core::observed::{Problem, ProblemKind};
use thiserror::Error;

use crate::leader::NotLeading;

/// What was attempted on which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The verb, as RBAC has it.
    pub verb: &'static str,
    /// The plural, with its group: `replicasets.apps`.
    pub resource: String,
    /// The object.
    pub name: String,
}

/// Why a write failed.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The object has changed since it was decided on; the watch brings the news.
    #[error("{} {} has changed meanwhile; decided anew with what it is now", .0.resource, .0.name)]
    Stale(Target),
    /// An object of this name exists and is somebody else's.
    #[error("{} {} exists and does not belong to this PythonService: {hint}", .target.resource, .target.name)]
    NameTaken {
        /// The object.
        target: Target,
        /// What to do.
        hint: String,
    },
    /// There is something that can't be written as it is.
    #[error("{message}")]
    Unready {
        /// One `CamelCase` word.
        reason: &'static str,
        /// What is missing.
        message: String,
    },
    /// The API server refused it.
    #[error("{}", refused(.target, .source))]
    Refused {
        /// What was attempted.
        target: Target,
        /// What the server, or the way to it, said.
        source: Box<kube::Error>,
    },
    /// This replica does not lead. What was under way when it lost the lead may have been done.
    #[error("{} {} {}: {why}", .target.verb, .target.resource, .target.name)]
    NotLeading {
        /// What was attempted.
        target: Target,
        /// In words.
        #[source]
        why: NotLeading,
    },
    /// The API server did not answer in time.
    #[error("{} {} {}: the API server did not answer within {limit:?}", .target.verb, .target.resource, .target.name)]
    Timeout {
        /// What was attempted.
        target: Target,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl WriteError {
    /// The API server refused it for a reason that does not pass by itself.
    pub fn is_lasting(&self) -> bool {
        let Self::Refused { source, .. } = self else {
            return false;
        };
        matches!(&**source, kube::Error::Api(status) if (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code))
    }

    /// A bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Stale(_) => "Conflict",
            Self::NameTaken { .. } => "NameTaken",
            Self::Unready { .. } => "Unready",
            Self::Refused { source, .. } => match &**source {
                kube::Error::Api(status) if status.is_forbidden() => "Forbidden",
                kube::Error::Api(status) if status.is_invalid() => "Invalid",
                kube::Error::Api(_) => "Refused",
                _ => "Unreachable",
            },
            Self::NotLeading { .. } => "NotLeading",
            Self::Timeout { .. } => "Timeout",
        }
    }

    /// What the next decision is told; `None` for what passes by itself.
    pub fn problem(&self) -> Option<Problem> {
        let reason = match self {
            Self::Stale(_) | Self::NotLeading { .. } => return None,
            Self::NameTaken { .. } => "NameTaken",
            Self::Unready { reason, .. } => reason,
            Self::Refused { .. } | Self::Timeout { .. } => "ApplyFailed",
        };
        Some(Problem {
            kind: ProblemKind::Apply,
            reason: reason.to_owned(),
            message: self.to_string(),
        })
    }

    /// A person puts it right, mostly where no watch tells of it: a name, a quota, a role, a webhook.
    pub fn is_for_a_person(&self) -> bool {
        match self {
            Self::NameTaken { .. } | Self::Unready { .. } => true,
            Self::Refused { .. } => self
                .status()
                .is_some_and(|s| (400..500).contains(&s.code) && s.code != 429),
            Self::Stale(_) | Self::NotLeading { .. } | Self::Timeout { .. } => false,
        }
    }

    /// The API server has refused to write to a PythonService itself: no condition can say so.
    pub fn is_untold(&self) -> bool {
        let own = |target: &Target| target.resource.starts_with("pythonservices.");
        match self {
            Self::Refused { target, .. } => own(target) && self.status().is_some(),
            _ => false,
        }
    }

    /// The API server's answer, if it gave one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }
}

fn refused(target: &Target, source: &kube::Error) -> String {
    let Target { verb, resource, name } = target;
    match source {
        kube::Error::Api(status) if status.is_forbidden() && is_rbac(&status.message) => format!(
            "{verb} {resource} {name} is forbidden: add the verb {verb} on {resource} to the operator's role ({})",
            status.message
        ),
        kube::Error::Api(status) => {
            format!(
                "the API server refused to {verb} {resource} {name}: {}{}",
                status.message,
                hint(status)
            )
        }
        error => format!("{verb} {resource} {name}: {error}"),
    }
}

/// Quotas and admission plugins answer `Forbidden` as well.
fn is_rbac(message: &str) -> bool {
    message.contains("cannot ") && message.contains("API group")
}

fn hint(status: &Status) -> &'static str {
    if status.message.contains("exceeded quota") {
        "; raise the namespace's quota or lower replicas"
    } else if status.message.contains("admission webhook") || status.reason == "ServiceUnavailable" {
        "; see the admission webhook that it names"
    } else if is_too_large(status) {
        "; the object is larger than the API server can store: move large values of spec.template to ConfigMaps, and shorten annotations"
    } else {
        ""
    }
}

/// etcd takes requests of 1.5 MiB, unless it is told otherwise; the API server takes more from its clients.
fn is_too_large(status: &Status) -> bool {
    status.code == 413
        || status.message.contains("request is too large")
        || status.message.contains("larger than max")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(code: u16, reason: &str, message: &str) -> WriteError {
        WriteError::Refused {
            target: Target {
                verb: "patch",
                resource: "replicasets.apps".into(),
                name: "checkout-0a".into(),
            },
            source: Box::new(kube::Error::Api(
                Status::failure(message, reason).with_code(code).boxed(),
            )),
        }
    }

    #[test]
    fn a_missing_right_is_named() {
        let error = refused_with(
            403,
            "Forbidden",
            "replicasets.apps \"checkout-0a\" is forbidden: User \"molt\" cannot patch resource \"replicasets\" in API group \"apps\" in the namespace \"shop\"",
        );
        let problem = error.problem().unwrap();
        assert_eq!(problem.reason, "ApplyFailed");
        assert!(
            problem
                .message
                .contains("add the verb patch on replicasets.apps to the operator's role"),
            "{}",
            problem.message
        );
        assert_eq!(error.category(), "Forbidden");
    }

    #[test]
    fn a_quota_is_no_missing_right() {
        let error = refused_with(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: small");
        let message = error.to_string();
        assert!(
            message.contains("raise the namespace's quota") && !message.contains("role"),
            "{message}"
        );
    }

    #[test]
    fn what_a_person_corrects_is_told_from_what_a_busy_server_says() {
        assert!(refused_with(403, "Forbidden", "exceeded quota: small").is_for_a_person());
        assert!(!refused_with(429, "TooManyRequests", "slow down").is_for_a_person());
        assert!(!refused_with(500, "InternalError", "etcd is gone").is_for_a_person());
    }

    #[test]
    fn a_conflict_is_no_problem() {
        let target = Target {
            verb: "patch",
            resource: "services".into(),
            name: "a".into(),
        };
        assert!(WriteError::Stale(target).problem().is_none());
    }
}
