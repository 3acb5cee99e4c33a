//! Delivers what reconciles have handed over, while this replica leads; and keeps the statuses of policies.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::books::{Book, PolicyFacts, Store};
use super::desk::{Desks, Done, Job, Patience, Trouble, access};
use super::ledger::{End, Verdict};
use super::line::is_urgent;
use super::notice::Notice;
use super::outbox::Handover;
use super::outside::Outside;
use super::policy::SinkPlan;
use super::render::{Facts, body};
use crate::api::v1alpha1::NotificationPolicyStatus;
use crate::controller::edges::Clock;
use crate::k8s::Key;
use crate::k8s::index::Index;
use crate::metrics::Metrics;

/// Notifications of one sink that wait for their turn, at most: news, and with what is urgent.
const MOST_WAITING: [usize; 2] = [64, 1024];
/// How soon the Secrets of a policy are looked at again when something is wrong with them; twice as long each time.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// The longest until then.
const LAST_LOOK: Duration = Duration::from_mins(5);
/// When a status that could not be written is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// What a delivery works with.
pub struct Edges {
    /// Policies.
    pub policies: Arc<Index<PolicyFacts>>,
    /// Secrets and HTTP.
    pub outside: Arc<dyn Outside>,
    /// Where statuses are kept.
    pub store: Arc<dyn Store>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// How long things may take.
    pub patience: Patience,
    /// Where the dashboard is, for links.
    pub dashboard: Option<String>,
}

/// A policy's book, and what is under way for it.
struct Open {
    book: Book,
    /// Where jobs for each sink go.
    desks: BTreeMap<String, Desk>,
    /// Its status is to be written, then.
    dirty: Option<Instant>,
    writing: bool,
    looking: bool,
    look_at: Option<Instant>,
    looks: u32,
}

/// Who works for one sink, until nobody wants it any more: nothing is sent for a policy or a sink that is gone.
struct Desk {
    jobs: UnboundedSender<Job>,
    worker: AbortHandle,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// What a task found.
enum Found {
    Secrets(Key, i64, Vec<Trouble>),
    Written(Key, Result<(), String>),
}

/// The delivery of one leadership.
pub struct Delivery {
    edges: Edges,
    handovers: Receiver<Handover>,
    desks: Desks,
    done: UnboundedReceiver<Done>,
    open: BTreeMap<Key, Open>,
    tasks: JoinSet<Found>,
    workers: JoinSet<()>,
}

impl Delivery {
    /// Of what comes out of an outbox.
    pub fn new(edges: Edges, handovers: Receiver<Handover>) -> Self {
        let (sender, done) = mpsc::unbounded_channel();
        let desks = Desks {
            outside: edges.outside.clone(),
            metrics: edges.metrics.clone(),
            patience: edges.patience,
            done: sender,
        };
        Self {
            edges,
            handovers,
            desks,
            done,
            open: BTreeMap::new(),
            tasks: JoinSet::new(),
            workers: JoinSet::new(),
        }
    }

    /// Works until `stop`, and then writes what is known. When this is dropped nothing more is sent.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.edges.policies.changes();
        changes.mark_changed();
        loop {
            self.look(Instant::now());
            self.write(Instant::now());
            let next = self.next();
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(done) = self.done.recv() => self.ended(&done),
                Some(found) = self.tasks.join_next() => self.found(found.ok()),
                Ok(()) = changes.changed() => self.review().await,
                Some(handover) = self.handovers.recv() => self.take(&handover).await,
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        self.workers.abort_all();
        while let Ok(done) = self.done.try_recv() {
            self.ended(&done);
        }
        // A status that is being written is the older one: wait for it.
        while !self.tasks.is_empty() || self.open.values().any(|open| open.dirty.is_some()) {
            for open in self.open.values_mut().filter(|open| open.dirty.is_some()) {
                open.dirty = Some(Instant::now());
            }
            self.write(Instant::now());
            if let Some(Ok(Found::Written(_, Err(_)))) = self.tasks.join_next().await {
                return;
            }
        }
    }

    /// Policies come, change and go.
    async fn review(&mut self) {
        let all = self.edges.policies.all();
        self.open.retain(|key, _| all.contains_key(key));
        for (key, facts) in all {
            self.follow(&key, &facts).await;
        }
    }

    /// Opens the book of a policy, or turns to what has changed in it.
    async fn follow(&mut self, key: &Key, facts: &PolicyFacts) {
        if self.open.get(key).is_some_and(|open| open.book.uid != facts.uid) {
            self.open.remove(key);
        }
        if let Some(open) = self.open.get_mut(key) {
            if open.book.generation != facts.generation {
                open.book.read(facts);
                open.desks.retain(|name, _| open.book.ledgers.contains_key(name));
                open.begin_anew();
            }
            return;
        }
        // As the last leader left it: a cache may lag behind.
        let status = match self.edges.store.load(key).await {
            Ok(Some(status)) => status,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(policy = %key, error, "what was told is not known; it may be told again");
                NotificationPolicyStatus::default()
            }
        };
        let is_old = status.observed_generation != Some(facts.generation);
        let mut open = Open {
            book: Book::open(facts, status),
            desks: BTreeMap::new(),
            dirty: None,
            writing: false,
            looking: false,
            look_at: None,
            looks: 0,
        };
        open.begin_anew();
        if !is_old {
            // Nothing to say, unless its Secrets have changed.
            open.dirty = None;
        }
        self.open.insert(key.clone(), open);
    }

    /// Something became of a service.
    async fn take(&mut self, handover: &Handover) {
        let group = PolicyFacts::group(&handover.service.namespace);
        for (name, facts) in self.edges.policies.of(&group) {
            let key = Key::new(&handover.service.namespace, &name);
            self.follow(&key, &facts).await;
            self.tell(&key, handover);
        }
    }

    fn tell(&mut self, key: &Key, handover: &Handover) {
        let now = self.edges.clock.now();
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        let Ok(plan) = &open.book.plan else { return };
        if !plan.selects(&handover.service.name, &handover.labels) {
            return;
        }
        let mut jobs = Vec::new();
        for sink in &plan.sinks {
            let Some(ledger) = open.book.ledgers.get_mut(&sink.name) else {
                continue;
            };
            ledger.passed(&handover.passed);
            for notice in &handover.fresh {
                // The API server tells the time of creation in whole seconds: that second was before.
                if handover.first && notice.at.as_second() <= open.book.created_at.as_second() {
                    continue;
                }
                let wanted = plan.tells(sink, notice.event);
                match ledger.judge(notice, &handover.uid, wanted, now) {
                    Verdict::Skip => {}
                    Verdict::Limited => {
                        self.edges.metrics.notified(sink.form.kind(), "rate_limited");
                        open.dirty.get_or_insert_with(Instant::now);
                    }
                    Verdict::Send { .. }
                        if ledger.waiting() > MOST_WAITING[usize::from(is_urgent(notice.event))] =>
                    {
                        self.edges.metrics.notified(sink.form.kind(), "dropped");
                        let of = (handover.service.name.as_str(), handover.uid.as_str());
                        ledger.ended(notice, of, &End::Dropped, now);
                        open.dirty.get_or_insert_with(Instant::now);
                    }
                    Verdict::Send { omitted } => {
                        jobs.push(job(
                            sink,
                            notice,
                            handover,
                            omitted,
                            self.edges.dashboard.as_deref(),
                        ));
                    }
                }
            }
        }
        for job in jobs {
            let desk = open.desks.entry(job.sink.name.clone()).or_insert_with(|| {
                let (jobs, receiver) = mpsc::unbounded_channel();
                let work = self.desks.clone().work(key.clone(), receiver);
                let worker = self.workers.spawn(work);
                Desk { jobs, worker }
            });
            // Whoever works there lives as long as this.
            drop(desk.jobs.send(job));
        }
    }

    fn ended(&mut self, done: &Done) {
        let now = self.edges.clock.now();
        let Some(open) = self.open.get_mut(&done.policy) else {
            return;
        };
        if let Some(ledger) = open.book.ledgers.get_mut(&done.sink) {
            let (service, uid) = &done.service;
            ledger.ended(&done.notice, (service, uid), &done.end, now);
            open.dirty.get_or_insert_with(Instant::now);
        }
        if matches!(done.end, End::GaveUp(_)) {
            // Maybe a Secret is gone: the policy says which.
            open.look_at.get_or_insert_with(Instant::now);
        }
        while let Some(ended) = self.workers.try_join_next() {
            drop(ended);
        }
    }

    fn found(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Secrets(key, generation, troubles)) => {
                let Some(open) = self.open.get_mut(&key) else {
                    return;
                };
                open.looking = false;
                if open.book.generation != generation {
                    return;
                }
                open.book.troubles = Some(troubles);
                if open.book.has_news() {
                    open.dirty.get_or_insert_with(Instant::now);
                }
                open.look_at = open.book.is_troubled().then(|| {
                    open.looks += 1;
                    let wait = FIRST_LOOK * (1 << (open.looks - 1).min(8));
                    Instant::now() + wait.min(LAST_LOOK)
                });
            }
            Some(Found::Written(key, written)) => {
                let Some(open) = self.open.get_mut(&key) else {
                    return;
                };
                open.writing = false;
                if let Err(error) = written {
                    tracing::warn!(policy = %key, error, "the status of a NotificationPolicy is written later");
                    open.dirty = Some(Instant::now() + WRITE_AGAIN);
                }
            }
            None => {}
        }
    }

    /// Writes the statuses that have changed; of one policy one at a time.
    fn write(&mut self, now: Instant) {
        for (key, open) in &mut self.open {
            if open.writing || open.dirty.is_none_or(|at| at > now) {
                continue;
            }
            // It takes a moment until it is known whether its Secrets can be used.
            if open.looking {
                continue;
            }
            (open.dirty, open.writing) = (None, true);
            let status = open.book.status(self.edges.clock.now());
            let (key, write) = (key.clone(), self.edges.store.save(key.clone(), status));
            self.tasks.spawn(async move { Found::Written(key, write.await) });
        }
    }

    /// Looks at the Secrets of policies that are due.
    fn look(&mut self, now: Instant) {
        for (key, open) in &mut self.open {
            if open.looking || open.look_at.is_none_or(|at| at > now) {
                continue;
            }
            open.look_at = None;
            let sinks = open.book.sinks();
            if sinks.is_empty() {
                continue;
            }
            open.looking = true;
            let (key, generation, outside) = (key.clone(), open.book.generation, self.edges.outside.clone());
            self.tasks.spawn(async move {
                let mut troubles = Vec::new();
                for sink in sinks {
                    troubles.extend(access(&*outside, &key.namespace, &sink).await.err());
                }
                Found::Secrets(key, generation, troubles)
            });
        }
    }

    /// When something is due by itself.
    fn next(&self) -> Option<Instant> {
        let times = self.open.values().flat_map(|open| {
            let write = open.dirty.filter(|_| !open.writing && !open.looking);
            let look = open.look_at.filter(|_| !open.looking);
            [write, look]
        });
        times.flatten().min()
    }
}

impl Open {
    fn begin_anew(&mut self) {
        let now = Instant::now();
        (self.looks, self.look_at, self.dirty) = (0, Some(now), Some(now));
    }
}

fn job(sink: &SinkPlan, notice: &Notice, handover: &Handover, omitted: u64, dashboard: Option<&str>) -> Job {
    let facts = Facts {
        notice: std::borrow::Cow::Borrowed(notice),
        namespace: &handover.service.namespace,
        service: &handover.service.name,
        uid: &handover.uid,
        owner: handover.owner.as_deref(),
        runbook: handover.runbook.as_deref(),
        dashboard,
        omitted,
    };
    Job {
        body: body(sink, &facts),
        sink: Arc::new(sink.clone()),
        notice: notice.clone(),
        service: (handover.service.name.clone(), handover.uid.clone()),
    }
}
