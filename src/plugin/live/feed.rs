//! What happens to a service, for as long as somebody looks.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{Error, watch_object};
use molt_core::plan::Revision;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::api::v1alpha1::{PythonService, RolloutRecord};
use crate::controller::render::record_name;
use crate::plugin::Failure;
use crate::plugin::connect::Cluster;

/// How often the API server is asked whether it is there: a watch may be silent for minutes, and does not notice that a
/// token has expired.
const PULSE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before it is tried again: twice as long each time, up to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What there is to know.
#[derive(Debug)]
pub enum News {
    /// The service, as it is now.
    Service(Box<PythonService>),
    /// The record of the attempt under way or the last one: what was counted before anybody looked.
    Record(Box<RolloutRecord>),
    /// The API server gives no answer: why. What is known may be old.
    Lost(String),
    /// There is no such service any more.
    Deleted,
}

/// Why it goes on no longer.
enum Break {
    /// The service is gone, or nobody listens.
    End,
    /// The API server gives no answer; or refuses what the person signed in with.
    Lost { why: String, refused: bool },
}

/// Tells what happens, until the service is gone or nobody listens. Each new contact begins with the whole service, so
/// that nothing that happened meanwhile is missed.
pub async fn feed<C>(mut cluster: Cluster, name: String, again: impl Fn() -> C, news: Sender<News>)
where
    C: Future<Output = Result<Cluster, Failure>>,
{
    let mut wait = WAITS.0;
    loop {
        let mut answered = false;
        let Break::Lost { why, refused } = Box::pin(follow(&cluster, &name, &news, &mut answered)).await
        else {
            return;
        };
        if answered {
            wait = WAITS.0;
        }
        if news.send(News::Lost(why)).await.is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAITS.1);
        if refused {
            // The kubeconfig may say something else by now.
            if let Ok(newer) = again().await {
                cluster.client = newer.client;
            }
        }
    }
}

async fn follow(cluster: &Cluster, name: &str, news: &Sender<News>, answered: &mut bool) -> Break {
    let services = cluster.services();
    let mut watch = pin!(watch_object(services.clone(), name));
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse.reset();
    let mut attempt = None;
    loop {
        tokio::select! {
            event = watch.next() => match event {
                Some(Ok(Some(service))) => {
                    *answered = true;
                    let now = attempt_of(&service);
                    let is_new = now.is_some() && now != attempt;
                    if is_new && let Some((revision, number)) = &now
                        && let Some(record) = record(cluster, name, revision, *number).await
                        && news.send(News::Record(Box::new(record))).await.is_err()
                    {
                        return Break::End;
                    }
                    attempt = now;
                    if news.send(News::Service(Box::new(service))).await.is_err() {
                        return Break::End;
                    }
                }
                Some(Ok(None)) => {
                    // Nobody may listen any more; it ends either way.
                    drop(news.send(News::Deleted).await);
                    return Break::End;
                }
                Some(Err(error)) => return lost(of_watch(error)),
                None => return Break::Lost { why: "the watch ended".to_owned(), refused: false },
            },
            _ = pulse.tick() => match timeout(PATIENCE, services.get_metadata_opt(name)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return lost(error),
                Err(_) => return Break::Lost {
                    why: format!("the API server gave no answer within {} s", PATIENCE.as_secs()),
                    refused: false,
                },
            },
        }
    }
}

/// The attempt under way, or the one that ended last.
fn attempt_of(service: &PythonService) -> Option<(Revision, u32)> {
    let state = service.status.as_ref()?.state.as_ref()?;
    let running = state
        .attempt
        .as_ref()
        .map(|attempt| (&attempt.revision, attempt.number));
    let (revision, number) =
        running.or_else(|| state.last.as_ref().map(|last| (&last.revision, last.number)))?;
    Some((revision.clone(), number))
}

/// The record, if it is there and may be read; the view goes without it.
async fn record(cluster: &Cluster, service: &str, revision: &Revision, number: u32) -> Option<RolloutRecord> {
    let records: Api<RolloutRecord> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = record_name(service, revision, number);
    timeout(PATIENCE, records.get_opt(&name)).await.ok()?.ok()?
}

fn of_watch(error: Error) -> kube::Error {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => error,
        Error::WatchError(status) => kube::Error::Api(status),
        Error::NoResourceVersion => kube::Error::Service("the list has no version".into()),
    }
}

fn lost(error: kube::Error) -> Break {
    let refused = matches!(&error, kube::Error::Api(status) if status.code == 401);
    let mut why = Failure::from(error).to_string();
    if refused {
        why.push_str("; your credentials have expired or are not valid any more: sign in again");
    }
    Break::Lost { why, refused }
}
