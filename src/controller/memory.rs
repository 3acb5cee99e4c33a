//! What is remembered of each service between two reconciles. Losing it costs nothing but a repeated try.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use molt_core::decision::Verdict;
use molt_core::observed::{History, JobKey, Problem};
use tokio::time::Instant;

use super::jobs::Refused;
use super::readiness::Judged;
use super::rules::Failed;
use crate::k8s::Key;
use crate::traffic::rules_owners::Edit;

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// The longest while a person may be putting it right, and nothing tells when that is done.
const LONGEST_FOR_A_PERSON: Duration = Duration::from_secs(15);

/// How long a route's controller may take to answer before it is said that it does not.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);

/// What is remembered of one service.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The version of the object that the last status write made.
    pub written: Option<String>,
    /// Why the last write failed.
    pub apply_problem: Option<Problem>,
    /// Why the last reading of the metrics failed.
    pub metric_problems: Vec<Problem>,
    /// The history that was read last: its queries cover days, and are not made at every try.
    pub history: Option<KeptHistory>,
    /// Verdicts that no record holds yet.
    pub verdicts: Vec<Verdict>,
    /// Why the RolloutRecord is not taken by the API server.
    pub unrecorded: Option<String>,
    /// Why the PrometheusRule could not be written.
    pub rules: Option<Failed>,
    /// The Jobs that the API server did not take.
    pub jobs: BTreeMap<JobKey, Refused>,
    /// Why the last eviction was refused.
    pub eviction_refused: Option<String>,
    /// What somebody wrote in a route of Molt's, and was told of.
    pub edit: Option<Edit>,
    /// The route of Molt's that carried the weights when it was last looked at: its kind and name.
    pub route: Option<(&'static str, String)>,
    /// A Service of the service's own name is somebody else's.
    pub name_taken: bool,
    /// Since when a parent of the route is without an answer.
    pub unanswered_since: Option<Timestamp>,
    /// What the rules of readiness said, and of what.
    pub readiness: Option<Judged>,
    /// Failures in a row.
    pub failures: u32,
}

/// A history, and what it is the answer to.
#[derive(Clone, Debug)]
pub struct KeptHistory {
    /// When it was read.
    pub at: Instant,
    /// [`Plan::basis`](molt_core::plan::Plan::basis) of the reading.
    pub basis: String,
    /// One for each objective.
    pub history: Vec<History>,
    /// What it shows that stands in the way.
    pub problems: Vec<Problem>,
}

/// The memories of all services.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<Key, Memory>>);

impl Memories {
    /// A copy of what is remembered.
    pub fn of(&self, key: &Key) -> Memory {
        self.lock().get(key).cloned().unwrap_or_default()
    }

    /// Changes what is remembered.
    pub fn update(&self, key: &Key, change: impl FnOnce(&mut Memory)) {
        change(self.lock().entry(key.clone()).or_default());
    }

    /// Forgets a service that is gone.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Notes a failure, and says how long to wait: twice as long with each one in a row, up to 5 minutes, or
    /// 15 seconds where a person puts it right.
    pub fn failed(&self, key: &Key, for_a_person: bool) -> Duration {
        let mut memories = self.lock();
        let memory = memories.entry(key.clone()).or_default();
        let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(memory.failures.min(16)));
        memory.failures = memory.failures.saturating_add(1);
        wait.min(if for_a_person {
            LONGEST_FOR_A_PERSON
        } else {
            LONGEST_WAIT
        })
    }

    /// Notes whether a parent of the route is without an answer, and says how long that may still last: nothing
    /// once it has lasted too long.
    pub fn unanswered(&self, key: &Key, is: bool, now: Timestamp) -> Duration {
        let mut memories = self.lock();
        let memory = memories.entry(key.clone()).or_default();
        let since = memory.unanswered_since.filter(|_| is).unwrap_or(now);
        memory.unanswered_since = is.then_some(since);
        let lasted = now.duration_since(since).max(SignedDuration::ZERO);
        Duration::try_from(PATIENCE - lasted).unwrap_or_default()
    }

    // A panic while the lock is held leaves a map that is still a map.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_silence_is_no_news() {
        let (key, memories) = (Key::new("shop", "a"), Memories::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        let left = |is, second| memories.unanswered(&key, is, at(second)).as_secs();
        assert_eq!((left(true, 100), left(true, 110)), (15, 5));
        assert_eq!(left(false, 111), 15);
        assert_eq!(
            (left(true, 112), left(true, 127)),
            (15, 0),
            "an answer begins it anew"
        );
        assert_eq!(left(true, 200), 0);
        assert_eq!(left(true, 90), 15, "the clock went back");
    }

    #[test]
    fn each_service_backs_off_on_its_own() {
        let (a, b) = (Key::new("shop", "a"), Key::new("shop", "b"));
        let memories = Memories::default();
        let waits: Vec<u64> = (0..12).map(|_| memories.failed(&a, false).as_secs()).collect();
        assert_eq!(waits[..4], [1, 2, 4, 8]);
        assert_eq!(waits[11], 300);
        assert_eq!(
            memories.failed(&a, true).as_secs(),
            15,
            "nobody waits for minutes after a correction"
        );
        assert_eq!(memories.failed(&b, false).as_secs(), 1);
        memories.update(&a, |m| m.failures = 0);
        assert_eq!(memories.failed(&a, false).as_secs(), 1);
    }
}
