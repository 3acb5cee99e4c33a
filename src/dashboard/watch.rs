//! What all viewers share: one watch of the services and one of the records, and a look whether the API server answers.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::fleet::Fleet;
use super::records::{LeanRecord, Records};
use super::row::{LeanService, Row, key};
use crate::api::v1alpha1::{PythonService, RolloutRecord};
use crate::k8s::Key;
use crate::plugin::failure::chain;

/// Objects of a page: a page is held as a whole, templates and evidence included.
const PAGE: u32 = 50;
/// How long a watch lasts before it is taken up anew, in seconds: one that has died in silence is noticed then.
const WATCH: u32 = 60;
/// How often it is looked whether the API server answers: while it does, and while it does not.
const LOOKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Starts to watch, in one namespace or in all. Ends with the runtime.
pub fn start(client: &Client, namespace: Option<&str>, fleet: &Arc<Fleet>, records: &Arc<Records>) {
    let services = ApiResource::erase::<PythonService>(&());
    let of_records = ApiResource::erase::<RolloutRecord>(&());
    let one = fleet.clone();
    tokio::spawn(follow(
        api::<LeanService>(client, namespace, &services),
        move |news| {
            take_service(&one, news);
        },
    ));
    let known = records.clone();
    tokio::spawn(follow(
        api::<LeanRecord>(client, namespace, &of_records),
        move |news| {
            take_record(&known, news);
        },
    ));
    tokio::spawn(look(client.clone(), fleet.clone()));
}

fn api<K>(client: &Client, namespace: Option<&str>, kind: &ApiResource) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = kube::core::DynamicResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
        None => Api::all_with(client.clone(), kind),
    }
}

/// What a watch brings.
enum News<K> {
    /// It is so now.
    Is(K),
    /// It is gone.
    Gone(K),
    /// All of them were read: these are there.
    All(HashSet<Key>),
    /// They can't be watched.
    Trouble(watcher::Error),
}

async fn follow<K>(api: Api<K>, mut take: impl FnMut(News<K>))
where
    K: Resource<DynamicType = ApiResource> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = Config::default().page_size(PAGE).timeout(WATCH);
    let mut events = watcher(api, config).backoff(Soon::default()).boxed();
    let mut there = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => there.clear(),
            Ok(Event::InitApply(object)) => {
                there.insert(key_of(&object));
                take(News::Is(object));
            }
            Ok(Event::InitDone) => take(News::All(std::mem::take(&mut there))),
            Ok(Event::Apply(object)) => take(News::Is(object)),
            Ok(Event::Delete(object)) => take(News::Gone(object)),
            Err(error) => take(News::Trouble(error)),
        }
    }
}

fn key_of(object: &impl Resource) -> Key {
    let meta = object.meta();
    Key::new(
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn take_service(fleet: &Fleet, news: News<LeanService>) {
    match news {
        News::Is(service) => {
            fleet.trouble(None);
            // A line has no key that is not a string.
            fleet.put(
                key(&service),
                serde_json::to_string(&Row::of(&service)).unwrap_or_default(),
            );
        }
        News::Gone(service) => fleet.remove(&key(&service)),
        News::All(there) => {
            fleet.trouble(None);
            fleet.synced(&there);
        }
        News::Trouble(error) => {
            tracing::warn!(error = chain(&error), "PythonServices can't be watched");
            if let Some(why) = lasting(&error) {
                fleet.trouble(Some(why));
            }
        }
    }
}

fn take_record(records: &Records, news: News<LeanRecord>) {
    match news {
        News::Is(record) => records.put(&record),
        News::Gone(record) => records.remove(&key_of(&record)),
        News::All(there) => records.retain(&there),
        News::Trouble(error) => tracing::warn!(error = chain(&error), "RolloutRecords can't be watched"),
    }
}

/// What does not pass by itself: the server's rights, or a cluster without Molt.
fn lasting(error: &watcher::Error) -> Option<String> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return None;
    };
    match status.code {
        404 => {
            Some("this cluster does not know the kind PythonService: Molt is not installed in it".to_owned())
        }
        401 | 403 => Some(format!(
            "the dashboard may not watch PythonServices, so nothing here is up to date: {}",
            status.message
        )),
        _ => None,
    }
}

/// A watch that was cut off without an event would tell of it only at its end.
async fn look(client: Client, fleet: Arc<Fleet>) {
    loop {
        let answer = tokio::time::timeout(ANSWER, client.apiserver_version()).await;
        // Whatever it says, it says something.
        let answers = matches!(answer, Ok(Ok(_) | Err(kube::Error::Api(_))));
        fleet.connected(answers);
        tokio::time::sleep(LOOKS[usize::from(!answers)]).await;
    }
}

/// How a watch that fails waits: people are looking.
#[derive(Default)]
struct Soon(u32);

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0 = (self.0 + 1).min(3);
        Some(Duration::from_millis(250 << self.0))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
