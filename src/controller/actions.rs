//! What becomes of RolloutActions beside the reconciles: those for a service that does not exist are answered, and the
//! oldest that are over are deleted. No decision depends on it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use tokio::sync::mpsc::UnboundedReceiver;

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
/// How long to wait before an answer that the API server did not take is tried again.
const AGAIN: Duration = Duration::from_secs(5);

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
        let mut later = Vec::new();
        loop {
            let next = tokio::select! {
                chore = chores.recv() => chore,
                () = tokio::time::sleep(AGAIN), if !later.is_empty() => later.pop(),
            };
            let Some(chore) = next else { return };
            if let Err(error) = self.do_it(&chore).await {
                tracing::warn!(?chore, %error, "not done");
                // The next action that is over brings the other one again.
                if matches!(chore, Chore::Orphans(_)) && !later.contains(&chore) {
                    later.push(chore);
                }
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
