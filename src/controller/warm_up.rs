//! Warm-up: a pod of a new revision counts as available once it has been ready for a while, and has answered some
//! requests of the operator's.
//!
//! What is known of it is kept in memory alone: an operator that starts warms the pods of an attempt once more, which
//! costs them a few requests. Nothing is written to the pods, so that they serve whatever becomes of the operator.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use molt_core::observed::{Observed, Trouble, TroubleKind};
use molt_core::plan::Revision;
use molt_core::state::State;
use prometheus_http_query::reqwest;
use reqwest::header::HOST;

use super::edges::Clock;
use super::pods::PodFacts;
use crate::k8s::Key;
use crate::metric_sources::http::{self, root_cause};

/// Requests to one pod at the same time: as many as warm the workers of a small pod, and do not overwhelm it.
const AT_ONCE: usize = 4;
/// How long one request may take: what is compiled at the first one takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// When a pod that did not answer as it should is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(2);
/// How often it is looked whether the requests under way are done.
const LOOK: Duration = Duration::from_millis(500);

/// What makes a pod warm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// How long it has been ready.
    pub duration: SignedDuration,
    /// Requests that it has answered.
    pub requests: u32,
    /// Their path, with its query.
    pub path: String,
    /// Their `Host`; its address and port if absent.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

/// How far the requests to one pod are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// They are under way.
    Sent,
    /// All were answered.
    Answered(Timestamp),
    /// One was not, and why; when they are sent again.
    Failed(String, Timestamp),
}

/// The pods of all services that were sent requests, by their UIDs.
#[derive(Clone, Default)]
pub struct WarmUps {
    known: Arc<Mutex<HashMap<Key, BTreeMap<String, Progress>>>>,
    client: Arc<OnceLock<Result<reqwest::Client, String>>>,
}

/// The pods that a warm-up is about: those of the attempt's revision.
pub fn warmed<'p>(
    state: &State,
    pods: &'p BTreeMap<String, Arc<PodFacts>>,
) -> Option<(Revision, Vec<(&'p String, &'p PodFacts)>)> {
    let revision = state.attempt.as_ref()?.revision.clone();
    let of_revision = pods
        .iter()
        .filter(|(_, pod)| pod.revision == revision && pod.ready);
    let pods = of_revision.map(|(name, pod)| (name, &**pod)).collect();
    Some((revision, pods))
}

impl WarmUps {
    /// When a pod became warm, or will; `None` while its requests are not answered.
    fn warm_at(&self, key: &Key, plan: &WarmUp, pod: &PodFacts) -> Option<Timestamp> {
        let waited = pod.ready_since?.checked_add(plan.duration).ok()?;
        if plan.requests == 0 {
            return Some(waited);
        }
        match self.lock().get(key)?.get(&pod.uid)? {
            Progress::Answered(at) => Some(waited.max(*at)),
            Progress::Sent | Progress::Failed(..) => None,
        }
    }

    /// When each of these pods became warm, or will: the end of time while that is not known.
    pub fn times(
        &self,
        key: &Key,
        plan: &WarmUp,
        pods: &[(&String, &PodFacts)],
    ) -> BTreeMap<String, Timestamp> {
        let at = |pod| self.warm_at(key, plan, pod).unwrap_or(Timestamp::MAX);
        pods.iter()
            .map(|(name, pod)| ((*name).clone(), at(pod)))
            .collect()
    }

    /// Adds to what was observed that some ready pods are not warm yet; says when the next of them is.
    pub fn tell(
        &self,
        key: &Key,
        plan: &WarmUp,
        (revision, pods): (&Revision, &[(&String, &PodFacts)]),
        seen: &mut Observed,
        now: Timestamp,
    ) -> Option<Duration> {
        let view = seen.revisions.get_mut(revision)?;
        let times = self.times(key, plan, pods);
        let cold: Vec<Timestamp> = times.values().copied().filter(|at| *at > now).collect();
        view.young = view.young.max(u32::try_from(cold.len()).unwrap_or(u32::MAX));
        if view.trouble.is_none() {
            view.trouble = self.trouble(key, plan, pods);
        }
        let next = cold.into_iter().min()?;
        if next == Timestamp::MAX {
            return Some(LOOK);
        }
        Duration::try_from(next.duration_since(now)).ok()
    }

    fn trouble(&self, key: &Key, plan: &WarmUp, pods: &[(&String, &PodFacts)]) -> Option<Trouble> {
        let all = self.lock();
        let known = all.get(key)?;
        let (name, why) = pods.iter().find_map(|(name, pod)| match known.get(&pod.uid)? {
            Progress::Failed(why, _) => Some((name, why)),
            Progress::Sent | Progress::Answered(_) => None,
        })?;
        Some(Trouble {
            kind: TroubleKind::NotReady,
            message: format!(
                "pod {name} is not warm: GET {} at port {} {why}; correct spec.runtime.warmUp, or what answers it",
                plan.path, plan.port
            ),
            restarts: 0,
        })
    }

    /// Sends requests to the pods that have had none; forgets those that have gone.
    pub fn carry_out(&self, key: &Key, plan: &WarmUp, pods: &[(&String, &PodFacts)], clock: &Arc<dyn Clock>) {
        let now = clock.now();
        let mut all = self.lock();
        let known = all.entry(key.clone()).or_default();
        known.retain(|uid, _| pods.iter().any(|(_, pod)| pod.uid == *uid));
        for (_, pod) in pods {
            let is_due = match known.get(&pod.uid) {
                None => true,
                Some(Progress::Failed(_, again)) => now >= *again,
                Some(Progress::Sent | Progress::Answered(_)) => false,
            };
            let Some(address) = pod.address.filter(|_| is_due) else {
                continue;
            };
            known.insert(pod.uid.clone(), Progress::Sent);
            let (shared, key, uid) = (self.clone(), key.clone(), pod.uid.clone());
            let client = self.client.get_or_init(|| http::client(None)).clone();
            let (plan, clock) = (plan.clone(), clock.clone());
            tokio::spawn(async move {
                let result = match client {
                    Ok(client) => send(&client, &plan, address).await,
                    Err(why) => Err(why),
                };
                let now = clock.now();
                let progress = match result {
                    Ok(()) => Progress::Answered(now),
                    Err(why) => Progress::Failed(why, now.checked_add(RETRY).unwrap_or(now)),
                };
                if let Some(known) = shared.lock().get_mut(&key)
                    && known.contains_key(&uid)
                {
                    known.insert(uid, progress);
                }
            });
        }
    }

    /// Nothing of this service is warmed up any more.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, BTreeMap<String, Progress>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All requests to one pod, a few at a time; ends with the first that is not answered as it should be.
async fn send(client: &reqwest::Client, plan: &WarmUp, address: std::net::IpAddr) -> Result<(), String> {
    let url = format!(
        "http://{}{}",
        std::net::SocketAddr::new(address, plan.port),
        plan.path
    );
    let one = async |_| {
        let mut request = client.get(&url).timeout(PATIENCE);
        if let Some(host) = &plan.host {
            request = request.header(HOST, host);
        }
        let answer = request.send().await.map_err(|error| {
            if error.is_timeout() {
                format!("was not answered within {} s", PATIENCE.as_secs())
            } else {
                format!("failed: {}", root_cause(&error))
            }
        })?;
        let status = answer.status();
        // Its body is a part of what has to be warm.
        answer
            .bytes()
            .await
            .map_err(|error| format!("broke off: {}", root_cause(&error)))?;
        if status.is_client_error() || status.is_server_error() {
            return Err(format!("was answered {status}"));
        }
        Ok(())
    };
    let mut all = stream::iter(0..plan.requests).map(one).buffer_unordered(AT_ONCE);
    while let Some(result) = all.next().await {
        result?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use molt_core::observed::RevisionView;
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::controller::edges::SystemClock;
    use crate::metric_sources::Starts;

    /// An application that fails its first requests; its port, and how many it has had by the right name.
    async fn application(failing: u32) -> (u16, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = asked.clone();
        let app = Router::new().route(
            "/warm",
            get(async move |headers: HeaderMap| {
                assert_eq!(headers[HOST], "shop.example.com");
                if counted.fetch_add(1, Ordering::SeqCst) < failing {
                    return StatusCode::INTERNAL_SERVER_ERROR;
                }
                StatusCode::OK
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (port, asked)
    }

    fn pod(ready_since: Timestamp) -> PodFacts {
        PodFacts {
            revision: Revision("v2".into()),
            uid: "u1".into(),
            created_at: Some(ready_since),
            ready: true,
            ready_since: Some(ready_since),
            address: Some(IpAddr::from([127, 0, 0, 1])),
            leaving: false,
            starts: Starts::default(),
            trouble: None,
            crashes: Vec::new(),
            unready_since: None,
        }
    }

    fn plan(port: u16, seconds: i64, requests: u32) -> WarmUp {
        WarmUp {
            duration: SignedDuration::from_secs(seconds),
            requests,
            path: "/warm".into(),
            host: Some("shop.example.com".into()),
            port,
        }
    }

    fn key() -> Key {
        Key {
            namespace: "shop".into(),
            name: "shop".into(),
        }
    }

    /// What is told of one ready pod: how many are young, when to look again, and what is wrong.
    fn told(
        ups: &WarmUps,
        plan: &WarmUp,
        pod: &PodFacts,
        now: Timestamp,
    ) -> (u32, Option<Duration>, Option<String>) {
        let revision = pod.revision.clone();
        let mut seen = Observed::default();
        let view = RevisionView {
            ready: 1,
            ..RevisionView::default()
        };
        seen.revisions.insert(revision.clone(), view);
        let name = "shop-v2-a".to_owned();
        let again = ups.tell(&key(), plan, (&revision, &[(&name, pod)]), &mut seen, now);
        let view = &seen.revisions[&revision];
        (
            view.young,
            again,
            view.trouble.as_ref().map(|t| t.message.clone()),
        )
    }

    async fn until_warm(ups: &WarmUps, plan: &WarmUp, pod: &PodFacts) -> Vec<String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let name = "shop-v2-a".to_owned();
        let mut troubles = Vec::new();
        for _ in 0..400 {
            ups.carry_out(&key(), plan, &[(&name, pod)], &clock);
            let (young, _, trouble) = told(ups, plan, pod, clock.now());
            troubles.extend(trouble);
            if young == 0 {
                return troubles;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it never became warm: {troubles:?}");
    }

    #[tokio::test]
    async fn a_pod_is_warm_once_its_requests_are_answered() {
        let (port, asked) = application(0).await;
        let (ups, plan, pod) = (WarmUps::default(), plan(port, 0, 50), pod(Timestamp::now()));
        assert_eq!(told(&ups, &plan, &pod, Timestamp::now()), (1, Some(LOOK), None));
        assert_eq!(until_warm(&ups, &plan, &pod).await, Vec::<String>::new());
        assert_eq!(asked.load(Ordering::SeqCst), 50);
        // Once is enough.
        until_warm(&ups, &plan, &pod).await;
        assert_eq!(asked.load(Ordering::SeqCst), 50);
    }

    #[tokio::test]
    async fn a_pod_that_answers_with_errors_is_not_warm_and_it_is_told_why_until_it_does_not() {
        let (port, _) = application(5).await;
        let (ups, plan, pod) = (WarmUps::default(), plan(port, 0, 3), pod(Timestamp::now()));
        let troubles = until_warm(&ups, &plan, &pod).await;
        let message = troubles.last().expect("it failed at first");
        assert!(
            message.contains("GET /warm") && message.contains("500") && message.contains("warmUp"),
            "{message}"
        );
        assert_eq!(told(&ups, &plan, &pod, Timestamp::now()), (0, None, None));
    }

    #[test]
    fn a_pod_is_warm_after_a_time_without_requests() {
        let begin = Timestamp::from_second(1_800_000_000).unwrap();
        let (ups, plan, pod) = (WarmUps::default(), plan(1, 20, 0), pod(begin));
        let after = |seconds| told(&ups, &plan, &pod, begin + SignedDuration::from_secs(seconds));
        assert_eq!(after(5), (1, Some(Duration::from_secs(15)), None));
        assert_eq!(after(20), (0, None, None));
    }
}
