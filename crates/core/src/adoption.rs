//! A Deployment whose place Molt's pods take, and which gets it back: what is remembered of it, and what is seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::Revision;
use crate::state::Rival;

/// What is remembered of the Deployment that was taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adoption {
    /// Its name.
    #[schemars(length(max = 253))]
    pub workload: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Pods that it had; on its way back, pods that it gets.
    pub replicas: u32,
    /// Where it is.
    pub stage: AdoptionStage,
    /// When something moved last, for the deadline.
    pub moved_at: Timestamp,
    /// `spec.replicas` as it was seen last: a larger one was written by somebody else.
    pub seen_replicas: u32,
    /// `spec.paused` as it was seen last.
    #[serde(default)]
    pub seen_paused: bool,
    /// Somebody who lately wrote `spec.replicas` or `spec.paused` back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<Rival>,
    /// The person who asked for it back, and why: `by ada: INC-12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub released: Option<String>,
}

/// Where the taking over of a Deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionStage {
    /// Molt's pods take the place of the Deployment's, a few at a time.
    Taking,
    /// Every pod is Molt's; the Deployment has none.
    Taken,
    /// The Deployment's pods take their place again.
    Returning,
    /// Every pod is the Deployment's: Molt does nothing any more.
    Returned,
}

/// The Deployment that `spec.workloadRef` names, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a decision")]
pub enum Sight {
    /// There is none, or none is named.
    #[default]
    Absent,
    /// Deployments can't be read at the moment; why.
    Unknown(String),
    /// It is there.
    Seen(WorkloadView),
}

impl Sight {
    /// What is seen of it.
    pub fn view(&self) -> Option<&WorkloadView> {
        match self {
            Self::Seen(view) => Some(view),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct WorkloadView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Pods that it is asked for.
    pub replicas: u32,
    /// Pods that it has and that are not on their way out.
    pub pods: u32,
    /// Those of them that are ready.
    pub ready: u32,
    /// It rolls out no change of its template.
    pub paused: bool,
    /// Its controller has seen its present form.
    pub observed: bool,
    /// Every pod that it is asked for is of its present template, and ready.
    pub settled: bool,
    /// Pods that it may have beyond those it is asked for, by its own `maxSurge`.
    pub surge: u32,
    /// It says that this service has taken it over, and how many pods it had before.
    pub held: Option<u32>,
    /// The revision that its template is, without the content of what the template names.
    pub revision: Option<Revision>,
    /// That is the revision that is stable.
    pub is_stable: bool,
    /// The labels that its pods are selected by, and Molt's as well; `None` where it is more than labels.
    pub selector: Option<BTreeMap<String, String>>,
    /// Why it is not known whether a HorizontalPodAutoscaler scales it.
    pub autoscalers_unread: Option<String>,
    /// A HorizontalPodAutoscaler that scales it.
    pub autoscaler: Option<String>,
    /// Molt's Services select its pods as well.
    pub widened: bool,
    /// The last field manager beside Molt that wrote `spec.replicas` or `spec.paused`.
    pub written_by: Option<String>,
    /// How that one is made to leave them alone.
    pub advice: String,
}
