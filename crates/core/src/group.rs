//! Services that are released together: what each of them sees of the others, and what it remembers.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::Phase;
use crate::plan::Revision;

/// The group that a service belongs to: services of the same namespace with the same name of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The service's wave: the rollout of a higher one starts once the lower ones are Healthy.
    pub wave: u32,
    /// The header by which the route tells revisions of the others which of its own a request goes to: `stable` or
    /// `canary`.
    pub header: Option<String>,
    /// Why a header that is asked for is without effect.
    pub headless: Option<String>,
}

/// What the header says of a request that a revision under test had a part in.
pub const CANARY: &str = "canary";
/// What it says of one that only stable revisions had a part in.
pub const STABLE: &str = "stable";

/// Another service of the group, as its object and its status have it.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its wave.
    pub wave: u32,
    /// Where it is; absent while it has no status, or none that can be read.
    pub phase: Option<Phase>,
    /// The status is about its present spec.
    pub current: bool,
    /// An attempt is under way.
    pub attempt: bool,
    /// The revision that its spec asks for, as its status has it, where that is kept out: it was taken back, or a person
    /// went back from it.
    pub out: Option<Revision>,
    /// It takes part in a release that is not over, as [`GroupState::since`] has it.
    pub since: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// Its last attempt that ended badly.
    pub fault: Option<Fault>,
    /// It goes back to what served before, after the waves behind its own: nobody waits for it.
    pub back: bool,
}

/// An attempt that ended badly: what went with it was released with something that nobody gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// When that was decided.
    pub at: Timestamp,
    /// Its revision.
    pub revision: Revision,
    /// Its number.
    pub attempt: u32,
    /// Why: one `CamelCase` word.
    #[schemars(length(max = 64))]
    pub reason: String,
}

/// What a service remembers of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupState {
    /// A revision whose attempt waits for the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<GroupWait>,
    /// The service takes part in a release that is not over: what goes wrong with another one after this time takes it
    /// back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The service's own last attempt that ended badly; the others go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Why the service stayed where it is although the release was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub stayed: Option<String>,
}

/// A revision whose attempt waits for the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupWait {
    /// The revision.
    pub revision: Revision,
    /// Since when it has been asked for.
    pub since: Timestamp,
    /// The service that was waited for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub peer: Option<String>,
    /// It goes back to a revision that was stable before, after the waves behind its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// Who had it start all the same, and why: `by ada: INC-12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub overridden: Option<String>,
}
