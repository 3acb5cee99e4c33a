//! What is known of each policy, and what its status says of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::desk::Trouble;
use super::ledger::Ledger;
use super::policy::{Plan, SinkPlan};
use crate::api::v1alpha1::{
    NotificationPolicy, NotificationPolicySpec, NotificationPolicyStatus, SinkStatus,
};
use crate::controller::validate::FieldError;
use crate::k8s::Key;
use crate::k8s::index::Facts;
use crate::k8s::writer::Writer;

/// A NotificationPolicy, as it is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFacts {
    /// Its UID.
    pub uid: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// The spec, or why it can't be read.
    pub spec: Result<NotificationPolicySpec, String>,
}

impl PolicyFacts {
    /// The group of a namespace's policies.
    pub fn group(namespace: &str) -> Key {
        Key::new(namespace, "")
    }
}

impl Facts for PolicyFacts {
    type Object = DeserializeGuard<NotificationPolicy>;

    fn read(object: &Self::Object) -> Option<(String, Self)> {
        if object.meta().deletion_timestamp.is_some() {
            return None;
        }
        let facts = Self {
            uid: object.uid()?,
            generation: object.meta().generation.unwrap_or_default(),
            created_at: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            spec: object
                .0
                .as_ref()
                .map(|policy| policy.spec.clone())
                .map_err(ToString::to_string),
        };
        Some((String::new(), facts))
    }
}

/// Where the statuses of policies are kept.
pub trait Store: Send + Sync {
    /// The status as it is now; `None` if the policy is gone.
    fn load<'a>(&'a self, policy: &'a Key)
    -> BoxFuture<'a, Result<Option<NotificationPolicyStatus>, String>>;

    /// Writes a status. What it lacks is taken away.
    fn save(&self, policy: Key, status: NotificationPolicyStatus) -> BoxFuture<'static, Result<(), String>>;
}

impl Store for Writer {
    fn load<'a>(
        &'a self,
        policy: &'a Key,
    ) -> BoxFuture<'a, Result<Option<NotificationPolicyStatus>, String>> {
        Box::pin(async {
            let found = self
                .get::<NotificationPolicy>(&policy.namespace, &policy.name)
                .await;
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.map(|policy| policy.status.unwrap_or_default()))
        })
    }

    fn save(&self, policy: Key, status: NotificationPolicyStatus) -> BoxFuture<'static, Result<(), String>> {
        let writer = self.clone();
        Box::pin(async move {
            // A merge keeps nothing of what is always written: lists are replaced as a whole.
            let body = json!({"status": status});
            writer
                .merge_status::<NotificationPolicy>(&policy.namespace, &policy.name, &body)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
    }
}

/// What is known of one policy.
pub struct Book {
    /// Its UID: another policy of this name is another one.
    pub uid: String,
    /// The generation that the rest is about.
    pub generation: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it asks for, or what is wrong with it.
    pub plan: Result<Plan, Vec<FieldError>>,
    /// What is wrong with its Secrets; `None` until they have been looked at.
    pub troubles: Option<Vec<Trouble>>,
    /// What each sink was told.
    pub ledgers: BTreeMap<String, Ledger>,
    conditions: Vec<Condition>,
    before: BTreeMap<String, SinkStatus>,
}

impl Book {
    /// Opens the book of a policy whose status is this.
    pub fn open(facts: &PolicyFacts, status: NotificationPolicyStatus) -> Self {
        let sinks = status.sinks.unwrap_or_default();
        let mut book = Self {
            uid: facts.uid.clone(),
            generation: 0,
            created_at: facts.created_at,
            plan: Err(Vec::new()),
            troubles: None,
            ledgers: BTreeMap::new(),
            conditions: status.conditions.unwrap_or_default(),
            before: sinks.into_iter().map(|sink| (sink.name.clone(), sink)).collect(),
        };
        book.read(facts);
        book
    }

    /// Takes in a changed spec. A sink that keeps its name keeps what it was told.
    pub fn read(&mut self, facts: &PolicyFacts) {
        self.generation = facts.generation;
        self.troubles = None;
        self.plan = match &facts.spec {
            Ok(spec) => Plan::parse(spec),
            Err(why) => Err(vec![FieldError::new(
                "spec",
                format!("can't be read by this version: {why}"),
            )]),
        };
        let Ok(plan) = &self.plan else { return };
        let mut kept = std::mem::take(&mut self.ledgers);
        for sink in &plan.sinks {
            let ledger = match kept.remove(&sink.name) {
                Some(mut ledger) => {
                    ledger.set_rate(sink.rate);
                    ledger
                }
                None => Ledger::of(self.before.remove(&sink.name), sink.rate),
            };
            self.ledgers.insert(sink.name.clone(), ledger);
        }
    }

    /// Its sinks, where it can be used.
    pub fn sinks(&self) -> Vec<Arc<SinkPlan>> {
        let plan = self.plan.as_ref().ok();
        plan.map(|plan| plan.sinks.iter().cloned().map(Arc::new).collect())
            .unwrap_or_default()
    }

    /// Something is wrong that may be put right without a change of the policy.
    pub fn is_troubled(&self) -> bool {
        self.troubles
            .as_ref()
            .is_some_and(|troubles| !troubles.is_empty())
    }

    /// Whether it can be used is not what the status says of it.
    pub fn has_news(&self) -> bool {
        let (status, reason, message) = self.ready();
        let status = if status { "True" } else { "False" };
        let said = self.conditions.iter().find(|c| c.type_ == "Ready");
        said.is_none_or(|c| (c.status.as_str(), c.reason.as_str(), &c.message) != (status, reason, &message))
    }

    /// The status now.
    pub fn status(&mut self, now: Timestamp) -> NotificationPolicyStatus {
        self.conditions = vec![
            self.condition("Ready", self.ready(), now),
            self.condition("Delivering", self.delivering(), now),
        ];
        let sinks = self.ledgers.iter_mut();
        let sinks = sinks.map(|(name, ledger)| ledger.status(name, now)).collect();
        NotificationPolicyStatus {
            observed_generation: Some(self.generation),
            conditions: Some(self.conditions.clone()),
            sinks: Some(sinks),
        }
    }

    fn ready(&self) -> (bool, &'static str, String) {
        match (&self.plan, &self.troubles) {
            (Err(errors), _) => {
                let errors = errors.iter().map(|e| format!("{}: {}", e.field, e.message));
                (false, "PolicyInvalid", joined(errors))
            }
            (Ok(_), Some(troubles)) if !troubles.is_empty() => {
                let all = troubles.iter().map(|t| format!("{}: {}", t.field, t.message));
                (false, troubles[0].reason, joined(all))
            }
            (Ok(plan), _) => {
                let message = format!("{} sinks can be told", plan.sinks.len());
                (true, "Deliverable", message)
            }
        }
    }

    fn delivering(&self) -> (bool, &'static str, String) {
        let troubles: Vec<String> = self
            .ledgers
            .iter()
            .filter_map(|(name, ledger)| Some(format!("sink {name}: {}", ledger.trouble()?)))
            .collect();
        if !troubles.is_empty() {
            return (false, "DeliveryFailed", joined(troubles));
        }
        if self.ledgers.values().any(Ledger::has_delivered) {
            let left_out: i64 = self.ledgers.values().map(Ledger::left_out).sum();
            let mut message = "every notification to date arrived, or later ones did".to_owned();
            if left_out > 0 {
                message = format!("{message}; {left_out} were left out to date, see status.sinks");
            }
            return (true, "Delivered", message);
        }
        (true, "NothingTold", "there was nothing to tell yet".to_owned())
    }

    fn condition(
        &self,
        kind: &str,
        (status, reason, message): (bool, &str, String),
        now: Timestamp,
    ) -> Condition {
        let status = if status { "True" } else { "False" };
        let before = self
            .conditions
            .iter()
            .find(|c| c.type_ == kind && c.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
        }
    }
}

fn joined(parts: impl IntoIterator<Item = impl Display>) -> String {
    let parts: Vec<String> = parts.into_iter().map(|part| part.to_string()).collect();
    // Conditions take 32 kB.
    parts.join("; ").chars().take(4000).collect()
}
