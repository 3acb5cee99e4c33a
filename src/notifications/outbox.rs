//! Where reconciles hand over what there is to tell. It takes no time and never fails: what finds no room is counted and
//! lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::WORTH;
use super::books::PolicyFacts;
use super::notice::{Notice, notices};
use crate::api::v1alpha1::{NotificationEvent, PythonServiceStatus};
use crate::controller::object::ServiceObject;
use crate::k8s::Key;
use crate::k8s::index::Index;
use crate::metrics::Metrics;

/// Services with something to tell that wait for the delivery.
const ROOM: usize = 1024;

/// What became of a service.
#[derive(Clone, Debug)]
pub struct Handover {
    /// The service.
    pub service: Key,
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who is called for it, if it is said.
    pub owner: Option<String>,
    /// Where it is written what to do, if it is said.
    pub runbook: Option<String>,
    /// What is new.
    pub fresh: Vec<Notice>,
    /// IDs of what lasted, and has passed.
    pub passed: Vec<String>,
    /// Nothing is known of what was told in this leadership: what is older than a policy is not told to it.
    pub first: bool,
}

/// Notices of a service that were handed over: their IDs, and whether they last.
struct Known {
    uid: String,
    ids: Vec<(String, bool)>,
}

/// Takes what reconciles hand over.
pub struct Outbox {
    sender: Sender<Handover>,
    policies: Arc<Index<PolicyFacts>>,
    known: Mutex<HashMap<Key, Known>>,
    metrics: Metrics,
}

impl Outbox {
    /// An outbox for services in namespaces with policies, and its other end.
    pub fn new(policies: Arc<Index<PolicyFacts>>, metrics: Metrics) -> (Self, Receiver<Handover>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        let outbox = Self {
            sender,
            policies,
            known: Mutex::default(),
            metrics,
        };
        (outbox, receiver)
    }

    /// A service has this status, which was persisted.
    pub fn tell(&self, object: &ServiceObject, status: &PythonServiceStatus, now: Timestamp) {
        let key = object.key();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.policies.has(&PolicyFacts::group(&key.namespace)) {
            known.remove(&key);
            return;
        }
        let uid = object.uid_text();
        let all = notices(uid, status);
        let before = known.get(&key).filter(|known| known.uid == uid);
        let first = before.is_none();
        let before = before.map_or(&[][..], |known| &known.ids);
        let is_new = |notice: &&Notice| {
            let told = before.iter().any(|(id, _)| *id == notice.id);
            !told && (!first || is_worth_it(notice, now))
        };
        let fresh: Vec<Notice> = all.iter().filter(is_new).cloned().collect();
        let passed: Vec<String> = before
            .iter()
            .filter(|(id, lasts)| *lasts && !all.iter().any(|notice| notice.id == *id))
            .map(|(id, _)| id.clone())
            .collect();
        let ids = all.into_iter().map(|notice| (notice.id, notice.lasts)).collect();
        let uid = uid.to_owned();
        known.insert(
            key.clone(),
            Known {
                uid: uid.clone(),
                ids,
            },
        );
        drop(known);
        self.hand_over(Handover {
            service: key,
            uid,
            labels: object.labels().clone(),
            owner: object.spec.as_ref().ok().and_then(|spec| spec.owner.clone()),
            runbook: object.spec.as_ref().ok().and_then(|spec| spec.runbook.clone()),
            fresh,
            passed,
            first,
        });
    }

    /// A service is gone: whoever was called for it need not come.
    pub fn gone(&self, object: &ServiceObject, now: Timestamp) {
        let key = object.key();
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.remove(&key);
        drop(all);
        if known.is_none() && !self.policies.has(&PolicyFacts::group(&key.namespace)) {
            return;
        }
        let notice = Notice {
            event: NotificationEvent::Healthy,
            reason: "Deleted".to_owned(),
            message: "the PythonService is gone".to_owned(),
            at: now,
            revision: None,
            attempt: None,
            weight: None,
            id: format!("{}-gone", object.uid_text()),
            lasts: true,
        };
        self.hand_over(Handover {
            service: key,
            uid: object.uid_text().to_owned(),
            labels: object.labels().clone(),
            owner: object.spec.as_ref().ok().and_then(|spec| spec.owner.clone()),
            runbook: object.spec.as_ref().ok().and_then(|spec| spec.runbook.clone()),
            fresh: vec![notice],
            passed: Vec::new(),
            first: false,
        });
    }

    fn hand_over(&self, handover: Handover) {
        if handover.fresh.is_empty() && handover.passed.is_empty() {
            return;
        }
        if let Err(refused) = self.sender.try_send(handover) {
            let handover = match refused {
                mpsc::error::TrySendError::Full(handover) | mpsc::error::TrySendError::Closed(handover) => {
                    handover
                }
            };
            tracing::warn!("notifications were lost: too many wait to be delivered");
            for _ in &handover.fresh {
                self.metrics.notified("none", "dropped");
            }
        }
    }
}

/// What is new to this leadership may be old. That all is well is told only to those who were called.
fn is_worth_it(notice: &Notice, now: Timestamp) -> bool {
    let worth = SignedDuration::try_from(WORTH).unwrap_or(SignedDuration::MAX);
    notice.event == NotificationEvent::Healthy || now.duration_since(notice.at) <= worth
}
