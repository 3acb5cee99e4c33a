//! PythonService: how a new revision reaches all users.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How a new revision reaches all users. Another strategy counts from the next attempt on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.canary) != has(self.blueGreen)")
    .message("set exactly one of canary (growing shares of the traffic) and blueGreen (all users at once)"))]
pub struct Strategy {
    /// By growing shares of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// All users at once, and back at once: nobody meets both revisions in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
}

/// A canary.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// What becomes of stable's pods as traffic leaves it. Default Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_during_canary: Option<StableDuringCanary>,
    /// The steps before full traffic. Default: 5, 10, 25, 50 with a dwell of 60s each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self.filter(s, has(s.setWeight)).map(s, s.setWeight).isSorted()")
        .message("weights must not fall from one setWeight to the next: put the steps in order of their weights"))]
    pub steps: Option<Vec<CanaryStep>>,
    /// How long the old revision keeps its pods after a promotion. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay: Option<Duration>,
    /// How long a rolled-back revision keeps its pods. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_scale_down_delay: Option<Duration>,
    /// How long the old revision stays at full strength after all traffic has moved. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Duration>,
    /// How long the promoted revision is watched: what spends its error budget until then takes users back to the old one,
    /// whose pods start again first. `0s` turns it off. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Duration>,
}

/// What becomes of stable's pods as traffic leaves it.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StableDuringCanary {
    /// They stay, as far as maxSurge leaves room: the way back takes one change of weights.
    Keep,
    /// Those go that its part of the traffic does not need: the way back is as quick as pods start.
    Scale,
}

/// One step; exactly one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.setWeight), has(self.pause), has(self.setCanaryScale), has(self.setHeaderRoute), has(self.setMirror)].filter(set, set).size() == 1")
    .message("a step has exactly one of setWeight, pause, setCanaryScale, setHeaderRoute and setMirror"))]
pub struct CanaryStep {
    /// The canary's share of the traffic, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub set_weight: Option<i32>,
    /// A minimum dwell; without a duration, until a person promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Pods of the canary from here on, whatever its weight; never fewer than the weight needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_canary_scale: Option<CanaryScale>,
    /// Sends requests with certain headers to the canary, from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_header_route: Option<HeaderRoute>,
    /// Sends copies of requests to the canary, from here on; nobody gets its answers to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_mirror: Option<Mirror>,
}

/// A pause.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// How long at least. Default: until a person promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}

/// Pods of the canary; exactly one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.replicas), has(self.percent), has(self.matchWeight)].filter(set, set).size() == 1")
    .message("set exactly one of replicas, percent and matchWeight"))]
pub struct CanaryScale {
    /// So many, at most the service's replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub replicas: Option<i32>,
    /// Percent of the service's replicas, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<i32>,
    /// `true`: as many as its weight needs, as before any such step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("matchWeight is true, or left out"))]
    pub match_weight: Option<bool>,
}

/// Requests that go to the canary whatever its weight.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderRoute {
    /// Its name: a later step with the same name takes its place.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What a request must have, all of it. Empty: requests are no longer told apart by it.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub matches: Option<Vec<HeaderMatch>>,
}

/// A header, or a cookie, and its value.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.headerName) != has(self.cookieName)")
        .message("set exactly one of headerName and cookieName"),
    validation = Rule::new("[has(self.exact), has(self.prefix), has(self.regex)].filter(set, set).size() == 1")
        .message("set exactly one of exact, prefix and regex"),
    validation = Rule::new("!has(self.cookieName) || has(self.exact)")
        .message("a cookie is matched by its exact value: set exact")
)]
pub struct HeaderMatch {
    /// The header's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub header_name: Option<String>,
    /// The cookie's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub cookie_name: Option<String>,
    /// The value is just this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub exact: Option<String>,
    /// The value begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// This regular expression matches the whole value; the gateway says which syntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub regex: Option<String>,
}

/// Copies of requests.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The share of the requests that are copied; 0: no longer.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Methods of the requests that are copied. Default GET, HEAD and OPTIONS: a copy of anything else would do it
    /// twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9))]
    pub methods: Option<Vec<Method>>,
}

/// HTTP methods.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// OPTIONS.
    Options,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// CONNECT.
    Connect,
    /// TRACE.
    Trace,
}

/// All users at once.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreen {
    /// Pods of the new revision until it is promoted. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub preview_replicas: Option<i32>,
    /// Goes on by itself once all that is tried before has succeeded. Default true; `false` waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promotion: Option<bool>,
    /// Requests that go to the new revision before all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_traffic: Option<HeaderMatch>,
    /// How long the old revision stays at full strength after all users have moved. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Duration>,
    /// How long the promoted revision is watched, as in a canary. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Duration>,
    /// How long the old revision keeps its pods after a promotion. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay: Option<Duration>,
    /// How long a rolled-back revision keeps its pods. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_scale_down_delay: Option<Duration>,
}
