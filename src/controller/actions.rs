//! What becomes of RolloutActions beside the reconciles: those for a service that does not exist are answered, and the
//! oldest that are over are deleted. No decision depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use super::caches::Caches;
use super::edges::Clock;
use super::object::ServiceObject;
use super::render::action_status;
use super::validate::DEFAULT_RECORDS;
use crate::api::v1alpha1::RolloutAction;
use crate::k8s::Key;
use crate::k8s::failure::WriteError;
use crate::k8s::writer::Writer;

/// So many that are over stay whatever the limit: whoever asked is to see the answer.
const FEWEST: usize = 5;
/// How long to wait before an answer that the API server did not take is tried again; twice as long each time, up to
/// [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(5);
/// The longest wait: an API server that refuses is put right by people.
const LONGEST: Duration = Duration::from_mins(5);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Actions for a service that the caches don't have.
    Orphans(Key),
    /// A service has one more action that is over.
    Surplus {
        /// The service.
        service: Key,
        /// How many stay.
        limit: usize,
    },
}

/// Who does it.
pub struct Keeper {
    /// Writes.
    pub writer: Writer,
    /// What is known of the actions that wait.
    pub caches: Arc<Caches>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Keeper {
    /// Does what comes, for as long as something can come.
    pub async fn run(&self, mut chores: UnboundedReceiver<Chore>) {
        let mut later = Later::default();
        loop {
            let due = later.next();
            let again = async {
                match due {
                    Some((at, service)) => {
                        sleep_until(at).await;
                        Chore::Orphans(service)
                    }
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                chore = chores.recv() => chore,
                chore = again => Some(chore),
            };
            let Some(chore) = next else { return };
            match (&chore, self.do_it(&chore).await) {
                (Chore::Orphans(service), Ok(())) => later.taken(service),
                (Chore::Orphans(service), Err(error)) => {
                    let (is_news, wait) = later.refused(service, &error.to_string(), Instant::now());
                    if is_news {
                        tracing::warn!(?chore, %error, ?wait, "not done; it is tried again, and said again when the cause changes");
                    }
                }
                // The next action that is over brings it again.
                (Chore::Surplus { .. }, Err(error)) => tracing::warn!(?chore, %error, "not done"),
                (Chore::Surplus { .. }, Ok(())) => {}
            }
        }
    }

    async fn do_it(&self, chore: &Chore) -> Result<(), WriteError> {
        match chore {
            Chore::Orphans(service) => self.answer_orphans(service).await,
            Chore::Surplus { service, limit } => self.forget_surplus(service, *limit).await,
        }
    }

    async fn answer_orphans(&self, service: &Key) -> Result<(), WriteError> {
        let Key { namespace, name } = service;
        let orphans = self.caches.actions.of(service);
        // The caches may lag: then the service's own event brings the turn that answers.
        if orphans.is_empty() || self.writer.get::<ServiceObject>(namespace, name).await?.is_some() {
            return Ok(());
        }
        let message =
            format!("there is no PythonService {name} in namespace {namespace}; nothing was changed");
        for action in orphans.keys() {
            let status = action_status(false, &message, self.clock.now());
            let ended = self
                .writer
                .merge_status::<RolloutAction>(namespace, action, &status);
            match ended.await {
                Err(error) if error.status().is_some_and(|s| s.code == 404) => {}
                result => drop(result?),
            }
        }
        self.forget_surplus(service, DEFAULT_RECORDS).await
    }

    /// Deletes the oldest that are over. One that waits for its answer is never touched.
    async fn forget_surplus(&self, service: &Key, limit: usize) -> Result<(), WriteError> {
        let namespace = &service.namespace;
        let all = self
            .writer
            .list::<DeserializeGuard<RolloutAction>>(namespace)
            .await?;
        let actions = all.into_iter().filter_map(|action| action.0.ok());
        for (name, uid) in surplus(actions, &service.name, limit.max(FEWEST)) {
            self.writer
                .delete::<RolloutAction>(namespace, &name, &uid, None)
                .await?;
        }
        Ok(())
    }
}

/// Services that are not there whose actions could not be answered yet.
#[derive(Default)]
struct Later(BTreeMap<Key, Refused>);

struct Refused {
    cause: String,
    wait: Duration,
    due: Instant,
}

impl Later {
    /// Notes that an answer was not taken: whether the cause is another one than before, and how long to wait now.
    fn refused(&mut self, service: &Key, cause: &str, now: Instant) -> (bool, Duration) {
        let before = self.0.get(service);
        let is_news = before.is_none_or(|before| before.cause != cause);
        let wait = before.map_or(AGAIN, |before| (before.wait * 2).min(LONGEST));
        let refused = Refused {
            cause: cause.to_owned(),
            wait,
            due: now + wait,
        };
        self.0.insert(service.clone(), refused);
        (is_news, wait)
    }

    /// Nothing is left to answer.
    fn taken(&mut self, service: &Key) {
        self.0.remove(service);
    }

    /// What is to be tried next, and when.
    fn next(&self) -> Option<(Instant, Key)> {
        let next = self.0.iter().min_by_key(|(_, refused)| refused.due);
        next.map(|(service, refused)| (refused.due, service.clone()))
    }
}

/// Names and UIDs of a service's actions that are over, beyond the newest so many.
fn surplus(
    actions: impl Iterator<Item = RolloutAction>,
    service: &str,
    limit: usize,
) -> Vec<(String, String)> {
    let over = |action: RolloutAction| {
        let status = action.status.as_ref().filter(|s| s.state.is_some())?;
        let created = action.creation_timestamp().map(|t| t.0);
        let at: Option<Timestamp> = status.handled_at.or(created);
        (action.spec.service == service).then(|| Some((at, action.name_any(), action.uid()?)))?
    };
    let mut over: Vec<_> = actions.filter_map(over).collect();
    over.sort_unstable();
    let many = over.len().saturating_sub(limit);
    over.truncate(many);
    over.into_iter().map(|(_, name, uid)| (name, uid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action(name: &str, service: &str, handled: Option<u8>) -> RolloutAction {
        let at = handled.map(|second| format!("2026-01-01T00:00:{second:02}Z"));
        let state = handled.map(|_| "Expired");
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"service": service, "action": "Abort", "requestedBy": "oncall"},
            "status": {"state": state, "handledAt": at},
        }))
        .unwrap()
    }

    #[test]
    fn an_answer_that_is_refused_is_tried_ever_later_and_said_once_for_each_cause() {
        let mut later = Later::default();
        let (service, other) = (Key::new("shop", "gone"), Key::new("shop", "other"));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        let mut said = 0;
        for _ in 0..9 {
            let (is_news, wait) = later.refused(&service, "403: no", now);
            said += u32::from(is_news);
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(later.next(), Some((now, service.clone())));
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(said, 1);
        // Another cause is said, and another service does not wait for this one.
        assert_eq!(later.refused(&service, "503: later", now), (true, LONGEST));
        assert_eq!(later.refused(&other, "503: later", now), (true, AGAIN));
        assert_eq!(later.next(), Some((now + AGAIN, other.clone())));
        later.taken(&other);
        assert_eq!(later.next(), Some((now + LONGEST, service.clone())));
        later.taken(&service);
        assert_eq!(later.next(), None);
        assert_eq!(later.refused(&service, "503: later", now), (true, AGAIN));
    }

    #[test]
    fn the_oldest_that_are_over_go_and_none_that_waits() {
        let actions = || {
            [
                action("new", "checkout", Some(9)),
                action("waits", "checkout", None),
                action("old", "checkout", Some(1)),
                action("older", "checkout", Some(0)),
                action("other", "cart", Some(0)),
            ]
            .into_iter()
        };
        let pair = |name: &str| (name.to_owned(), format!("uid-{name}"));
        assert_eq!(surplus(actions(), "checkout", 1), [pair("older"), pair("old")]);
        assert_eq!(surplus(actions(), "checkout", 3), []);
        assert_eq!(surplus(actions(), "cart", 0), [pair("other")]);
    }
}
