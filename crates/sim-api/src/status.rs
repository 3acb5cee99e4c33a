//! Answers that are no objects: `Status`.

use serde_json::{Value, json};

use crate::apply::owners::{Conflict, Operation};
use crate::kind::Kind;

/// A request that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The HTTP status code.
    pub code: u16,
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// What more is to be said.
    pub details: Value,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: json!({}),
        }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({"name": name, "group": kind.group, "kind": kind.plural});
        self
    }

    /// There is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message).about(kind, name)
    }

    /// There is one of this name.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message).about(kind, name)
    }

    /// It is another version, or another object.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            kind.resource()
        );
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// The version that was written is not the one that there is.
    pub fn stale(kind: &Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// It is not valid.
    pub fn invalid(kind: &Kind, name: &str, why: &str) -> Self {
        let group = if kind.group.is_empty() {
            String::new()
        } else {
            format!(".{}", kind.group)
        };
        let message = format!("{}{group} \"{name}\" is invalid: {why}", kind.kind);
        let mut refusal = Self::new(422, "Invalid", message).about(kind, name);
        refusal.details["kind"] = json!(kind.kind);
        refusal
    }

    /// The request can't be understood.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// Others own fields that were applied.
    pub fn owned_by_others(conflicts: &[Conflict]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|conflict| {
                let owner = &conflict.owner;
                let mut message = format!("conflict with \"{}\"", owner.manager);
                if !owner.subresource.is_empty() {
                    message.extend([" with subresource \"", &owner.subresource, "\""]);
                }
                if owner.operation == Operation::Update {
                    message.extend([" using ", &owner.api_version]);
                }
                json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.path})
            })
            .collect();
        let message = match conflicts {
            [one] => format!(
                "Apply failed with 1 conflict: {}: {}",
                causes[0]["message"].as_str().unwrap_or_default(),
                one.path
            ),
            many => format!("Apply failed with {} conflicts", many.len()),
        };
        let mut refusal = Self::new(409, "Conflict", message);
        refusal.details = json!({ "causes": causes });
        refusal
    }

    /// As the server writes it.
    pub fn to_value(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        })
    }
}
