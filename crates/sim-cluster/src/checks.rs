//! What the checks remember. The predicates are in [`crate::world`], beside the world that they look at.

use std::collections::{BTreeMap, BTreeSet};

use molt_core::state::State;

/// An attempt's identity: the service's UID, the revision, the number.
pub type Identity = (String, String, u32);

/// What is known of one attempt from the world.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests of the canary that the operator was told of.
    pub evidence: f64,
    /// Waits that a person has ended.
    pub promotes: u32,
    /// A person has aborted it.
    pub aborted: bool,
    /// UIDs of the ReplicaSet while users were on it.
    pub sets: BTreeSet<String>,
}

/// What the checks remember.
#[derive(Default)]
pub struct Checks {
    pub(crate) violations: Vec<String>,
    pub(crate) state: Option<(String, State)>,
    pub(crate) begun: BTreeSet<Identity>,
    pub(crate) ended: BTreeMap<Identity, String>,
    pub(crate) attempts: BTreeMap<Identity, Seen>,
    /// By revision: since when it has, or has not, a ready endpoint.
    pub(crate) serving: BTreeMap<String, (bool, u64)>,
    /// By revision: ready endpoints over the last while.
    pub(crate) strength: BTreeMap<String, Vec<(u64, u64)>>,
    /// By revision: when the gateway stopped sending it anybody; absent while it sends somebody.
    pub(crate) unused_since: BTreeMap<String, u64>,
    pub(crate) used: BTreeSet<String>,
    /// Pods that users may be connected to: they were ready while the gateway sent their revision somebody.
    pub(crate) connected: BTreeSet<String>,
    /// Since when the route has had a weight at a revision that can't serve while another could.
    pub(crate) dark_since: Option<u64>,
    /// The revision that was restarted last, and when that ended.
    pub(crate) restart: Option<(String, Option<u64>)>,
    /// Actions without an answer: when they were seen first with an operator at work.
    pub(crate) unanswered: BTreeMap<String, u64>,
    /// The most pods that were asked for lately, and when that changed.
    pub(crate) replicas: Vec<(u64, u64)>,
    pub(crate) alive_since: Option<u64>,
    writes: u64,
    last_write: u64,
    /// Attempts at a later revision that ended, by outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Bad revisions that were tested to an end, and those among them that were promoted by evidence.
    pub(crate) bad: (u64, u64),
}

impl Checks {
    /// What was broken.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Attempts that ended, by outcome.
    pub fn outcomes(&self) -> &BTreeMap<String, u64> {
        &self.outcomes
    }

    /// Attempts at bad revisions that ended by evidence alone, and how many of them were promoted.
    pub fn bad(&self) -> (u64, u64) {
        self.bad
    }

    /// Attempts that began.
    pub fn rollouts(&self) -> u64 {
        self.begun.len() as u64
    }

    /// Writes of the operators'.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// When an operator wrote last.
    pub fn last_write(&self) -> u64 {
        self.last_write
    }

    /// An operator's write has arrived.
    pub fn wrote(&mut self, now: u64) {
        self.writes += 1;
        self.last_write = now;
    }

    /// An operator has asked for measurements.
    pub fn measured(&mut self, now: u64) {
        self.last_write = self.last_write.max(now);
    }

    /// An operator begins to work.
    pub fn operator_started(&mut self, now: u64) {
        self.alive_since.get_or_insert(now);
    }

    /// One operator works no longer; whether others do.
    pub fn operator_died(&mut self, now: u64, others: bool) {
        // They have to take over first.
        self.alive_since = others.then_some(now);
    }
}
