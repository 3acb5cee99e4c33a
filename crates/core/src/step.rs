//! The steps of a rollout, before full traffic.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step. Weights are whole percents of the service's traffic, 1 to 100, and only grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Give the canary this share of traffic, once the evidence allows it.
    SetWeight(u8),
    /// Stay at least this many seconds.
    Dwell(u32),
    /// Stay until a person promotes.
    Pause {},
    /// Give the canary so many pods, whatever its weight, from here on.
    SetCanaryScale(CanaryScale),
    /// Send requests with certain headers to the canary, from here on; without a match, no longer.
    #[serde(rename_all = "camelCase")]
    SetHeaderRoute {
        /// Its name within the rollout: a later step of the same name takes its place.
        #[schemars(length(max = 63))]
        name: String,
        /// Every one of them must match.
        #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
        matches: Vec<HeaderMatch>,
    },
    /// Send copies of requests to the canary, whose answers nobody gets, from here on; 0 %, no longer.
    SetMirror(Mirror),
}

/// How many pods a canary has, whatever its weight. Never fewer than its weight needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CanaryScale {
    /// So many, at most the service's replicas.
    Replicas(u32),
    /// Percent of the service's replicas, 1 to 100, rounded up.
    Percent(u8),
    /// `true`: what its weight needs, as before any such step.
    MatchWeight(bool),
}

/// What a request header must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// The header's name, in lower case.
    #[schemars(length(max = 256))]
    pub header: String,
    /// What its value must be.
    pub value: HeaderValue,
}

/// What a header's value must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValue {
    /// Just this.
    Exact(#[schemars(length(max = 4096))] String),
    /// Matched by this regular expression as a whole; the router says which syntax.
    Regex(#[schemars(length(max = 4096))] String),
}

/// Copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The share of the requests that are copied, 0 to 100.
    pub percent: u8,
    /// HTTP methods of the requests that are copied, in upper case; one at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
}

impl Step {
    /// The weight that it sets.
    pub fn weight(&self) -> Option<u8> {
        match self {
            Self::SetWeight(weight) => Some(*weight),
            _ => None,
        }
    }

    /// It lasts by its nature, for a time or until a person comes: no lack of progress.
    pub fn lasts(&self) -> bool {
        matches!(self, Self::Dwell(_) | Self::Pause {})
    }
}

/// In words, for people: `25 %`, `dwell 60 s`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetWeight(weight) => write!(f, "{weight} %"),
            Self::Dwell(seconds) => write!(f, "dwell {seconds} s"),
            Self::Pause {} => f.write_str("pause until a person promotes"),
            Self::SetCanaryScale(CanaryScale::Replicas(pods)) => write!(f, "canary scale {pods}"),
            Self::SetCanaryScale(CanaryScale::Percent(percent)) => write!(f, "canary scale {percent} %"),
            Self::SetCanaryScale(CanaryScale::MatchWeight(_)) => f.write_str("canary scale by weight"),
            Self::SetHeaderRoute { name, matches } if matches.is_empty() => {
                write!(f, "no header route {name}")
            }
            Self::SetHeaderRoute { name, .. } => write!(f, "header route {name}"),
            Self::SetMirror(Mirror { percent: 0, .. }) => f.write_str("no mirror"),
            Self::SetMirror(Mirror { percent, .. }) => write!(f, "mirror {percent} %"),
        }
    }
}
