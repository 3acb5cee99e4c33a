//! The PrometheusRule of a service whose objectives ask for one.
//!
//! It decides nothing and nothing waits for it, so the core knows nothing of it: what is wanted is compared with
//! what the watch saw, written when they differ, and a failure is a condition of its own that stops no other
//! write.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use molt_core::decision::ConditionView;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Context;
use super::memory::Memory;
use super::object::ServiceObject;
use super::render::Owner;
use super::validate::Validated;
use crate::k8s::Key;
use crate::k8s::failure::WriteError;
use crate::k8s::index::{Facts, Presence};
use crate::k8s::{labels, subset};
use crate::rules::{self, Subject};

/// The condition that tells of it.
pub const CONDITION: &str = "RulesApplied";

/// As much of a `PrometheusRule` as is read here.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PrometheusRule {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Its groups.
    #[serde(default)]
    pub spec: Value,
}

impl Resource for PrometheusRule {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        rules::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "monitoring.coreos.com".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "prometheusrules".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is kept of a PrometheusRule of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFacts {
    uid: String,
    owners: Vec<String>,
    labels: BTreeMap<String, String>,
    groups: Digests,
}

/// The content of each group by its name: rules are long, and only their difference matters.
type Digests = BTreeMap<String, [u8; 32]>;

/// Groups of others are none of Molt's business: they are neither compared nor taken away.
fn digests(spec: &Value) -> Digests {
    let groups = spec["groups"].as_array().map_or(&[][..], Vec::as_slice);
    groups
        .iter()
        .filter_map(|group| {
            let name = group["name"]
                .as_str()
                .filter(|n| n.starts_with(rules::GROUP_PREFIX))?;
            Some((name.to_owned(), Sha256::digest(group.to_string()).into()))
        })
        .collect()
}

impl Facts for RuleFacts {
    type Object = PrometheusRule;

    fn read(object: &PrometheusRule) -> Option<(String, Self)> {
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let facts = Self {
            uid: object.uid().unwrap_or_default(),
            owners: object.owner_references().iter().map(|o| o.uid.clone()).collect(),
            labels: object.labels().clone(),
            groups: digests(&object.spec),
        };
        Some((object.labels().get(labels::SERVICE)?.clone(), facts))
    }
}

impl RuleFacts {
    fn says(&self, wanted: &Value) -> bool {
        self.groups == digests(&wanted["spec"])
            && subset::is_subset(&wanted["metadata"]["labels"], &json!(self.labels))
    }
}

/// A write that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    reason: String,
    message: String,
    /// The generation of the service that it was tried for: another one is tried at once.
    generation: Option<i64>,
    /// Failures in a row.
    times: u32,
    again: Instant,
}

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Write it.
    Apply {
        /// The object.
        body: Value,
        /// It is there already, and belongs to the service.
        ours: bool,
    },
    /// Take it away.
    Delete {
        /// The object's UID.
        uid: String,
    },
}

/// What there is to do, and what is said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The write.
    pub step: Step,
    /// The condition, where an objective asks for rules.
    pub condition: Option<ConditionView>,
}

/// Compares what is wanted with what is there. `more` are labels that every PrometheusRule gets.
pub fn plan(
    object: &ServiceObject,
    validated: &Validated,
    presence: Presence,
    live: Option<&RuleFacts>,
    more: &BTreeMap<String, String>,
    failed: Option<&Failed>,
) -> Plan {
    let nothing = |condition| Plan {
        step: Step::Nothing,
        condition,
    };
    // What can't be understood changes nothing: neither does its alerts.
    let (Ok(spec), Some(source), []) = (&object.spec, &validated.source, validated.errors.as_slice()) else {
        return nothing(None);
    };
    if object.is_deleting() {
        return nothing(None);
    }
    let asks = |name: &str| {
        spec.slos
            .iter()
            .any(|slo| slo.name == name && slo.rules == Some(true))
    };
    let slos: Vec<_> = validated
        .queries
        .iter()
        .filter(|q| asks(&q.name))
        .cloned()
        .collect();
    let ours = live.filter(|l| l.owners.iter().any(|o| o == object.uid_text()));
    if slos.is_empty() {
        return match ours {
            Some(live) => Plan {
                step: Step::Delete {
                    uid: live.uid.clone(),
                },
                condition: failed.map(|f| fault(&f.reason, f.message.clone())),
            },
            None => nothing(None),
        };
    }
    match presence {
        Presence::Missing => return nothing(Some(fault("PrometheusRuleMissing", missing()))),
        Presence::Pending => return nothing(Some(fault("PrometheusRulesUnread", unread()))),
        Presence::Present => {}
    }
    let key = object.key();
    let subject = Subject {
        namespace: &key.namespace,
        service: &key.name,
        route: validated.route.name(&key.name),
        source,
        slos: &slos,
        owner: object.spec.as_ref().ok().and_then(|spec| spec.owner.as_deref()),
        runbook: object.spec.as_ref().ok().and_then(|spec| spec.runbook.as_deref()),
    };
    let made = match rules::build(subject) {
        Ok(made) => made,
        Err(error) => {
            return nothing(Some(fault(
                "RulesImpossible",
                format!("spec.metrics.prometheus.{error}"),
            )));
        }
    };
    let owner = Owner::of(object);
    let body = owner.prometheus_rule(&made.groups, more);
    if ours.is_some_and(|live| live.says(&body)) {
        let mut message = format!("PrometheusRule {} has the rules", rules::object_name(&key.name));
        for note in &made.notes {
            message = format!("{message}; {note}");
        }
        return nothing(Some(view(true, "Applied", message, false)));
    }
    let condition = match failed {
        Some(failed) => fault(&failed.reason, failed.message.clone()),
        None => view(
            false,
            "Applying",
            "the PrometheusRule is being written".to_owned(),
            false,
        ),
    };
    Plan {
        step: Step::Apply {
            body,
            ours: ours.is_some(),
        },
        condition: Some(condition),
    }
}

fn view(status: bool, reason: &str, message: String, fault: bool) -> ConditionView {
    ConditionView {
        kind: CONDITION,
        status,
        reason: reason.to_owned(),
        message,
        fault,
    }
}

fn fault(reason: &str, message: String) -> ConditionView {
    view(false, reason, message, true)
}

fn missing() -> String {
    format!(
        "the cluster has no PrometheusRule in {}: install the Prometheus Operator's CRDs, which are found without a restart; or take `rules` out of spec.slos, and load what `kubectl molt rules --plain` prints into your Prometheus",
        rules::API_VERSION
    )
}

fn unread() -> String {
    "the cluster's PrometheusRules have not been read yet: if this stays, give the operator's role the verbs list and watch on prometheusrules.monitoring.coreos.com".to_owned()
}

/// Carries out a plan, and says when to look again if it failed.
pub(super) async fn carry_out(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    step: &Step,
    memory: &Memory,
) -> Option<Duration> {
    if *step == Step::Nothing {
        context.memories.update(key, |m| m.rules = None);
        return None;
    }
    let generation = object.metadata.generation;
    let before = memory.rules.as_ref().filter(|f| f.generation == generation);
    let now = Instant::now();
    if let Some(failed) = before.filter(|f| f.again > now) {
        return Some(failed.again - now);
    }
    let error = write(object, context, key, step).await.err()?;
    let times = before.map_or(0, |f| f.times);
    let wait = FIRST_WAIT
        .saturating_mul(2u32.saturating_pow(times.min(16)))
        .min(LONGEST_WAIT);
    tracing::warn!(%error, wait_seconds = wait.as_secs(), "the PrometheusRule is written later");
    let reason = error
        .problem()
        .map_or_else(|| "Conflict".to_owned(), |p| p.reason);
    let failed = Failed {
        reason,
        message: error.to_string(),
        generation,
        times: times.saturating_add(1),
        again: now + wait,
    };
    context.memories.update(key, |m| m.rules = Some(failed));
    // The first failure has to be told; afterwards it waits.
    Some(if times == 0 { Duration::ZERO } else { wait })
}

async fn write(object: &ServiceObject, context: &Context, key: &Key, step: &Step) -> Result<(), WriteError> {
    let writer = &context.writer;
    match step {
        Step::Nothing => Ok(()),
        Step::Apply { body, ours: true } => writer
            .apply::<PrometheusRule>(&key.namespace, labels::MANAGER, true, body)
            .await
            .map(drop),
        Step::Apply { body, ours: false } => writer
            .create::<PrometheusRule>(&key.namespace, object.uid_text(), body)
            .await
            .map(drop),
        Step::Delete { uid } => {
            let name = rules::object_name(&key.name);
            writer
                .delete::<PrometheusRule>(&key.namespace, &name, uid, None)
                .await
        }
    }
}
