//! What goes wrong with a request.

use crate::call::Call;
use crate::server::no_such_path;
use crate::status::Refusal;

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The server refuses it, and does nothing.
    Refused(Refusal),
    /// The server is overloaded, and says for how many seconds.
    Overloaded(u32),
    /// No connection.
    Unreachable,
    /// The connection breaks before the server has the request, or, with `took_effect`, before its answer.
    Lost {
        /// The server has done what was asked.
        took_effect: bool,
    },
    /// There is never an answer.
    Silent {
        /// The server has done what was asked.
        took_effect: bool,
    },
    /// The client's process dies: this request and all later ones are never answered, until
    /// [`Sim::restart`](crate::Sim::restart).
    Crash {
        /// The server has done what was asked.
        took_effect: bool,
    },
}

/// How many requests, and how many writes among them, have come before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ordinal {
    /// Requests.
    pub request: u64,
    /// Writes.
    pub write: u64,
}

/// Chooses the fault of each request.
pub type Plan = Box<dyn FnMut(&Call, Ordinal) -> Option<Fault> + Send>;

impl Fault {
    /// The object is another one than it was.
    pub fn conflict() -> Self {
        let why = "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again";
        Self::Refused(Refusal::new(409, "Conflict", why))
    }

    /// The operator's role lacks a verb on a resource.
    pub fn forbidden(verb: &str, plural: &str, group: &str, name: &str) -> Self {
        let message = format!(
            "{plural}.{group} \"{name}\" is forbidden: User \"molt\" cannot {verb} resource \"{plural}\" in API group \"{group}\" in the namespace \"shop\""
        );
        Self::Refused(Refusal::new(403, "Forbidden", message))
    }

    /// A quota of the namespace is used up.
    pub fn over_quota(plural: &str, group: &str, name: &str) -> Self {
        let message = format!(
            "{plural}.{group} \"{name}\" is forbidden: exceeded quota: small, requested: count/{plural}.{group}=1, used: count/{plural}.{group}=1, limited: count/{plural}.{group}=1"
        );
        Self::Refused(Refusal::new(403, "Forbidden", message))
    }

    /// The kind is not known.
    pub fn unknown_kind() -> Self {
        Self::Refused(no_such_path())
    }

    /// The server has failed.
    pub fn internal_error() -> Self {
        Self::Refused(Refusal::new(500, "InternalError", "etcdserver: leader changed"))
    }

    /// The object is too large for the server's store.
    pub fn too_large() -> Self {
        Self::Refused(Refusal::new(
            500,
            "InternalError",
            "etcdserver: request is too large",
        ))
    }

    /// The request is carried out although its sender does not learn of it.
    pub(crate) fn took_effect(&self) -> bool {
        matches!(
            self,
            Self::Lost { took_effect: true }
                | Self::Silent { took_effect: true }
                | Self::Crash { took_effect: true }
        )
    }
}
