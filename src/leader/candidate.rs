//! Stands for the lease: asks what to do, does it, and tells where that leaves this replica.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::utils::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Settings;
use super::election::{Election, Local, Next, Seen};
use super::fence::{Leadership, Leading, Standing, Until};
use super::lease::{LeaseEdge, Written};
use crate::controller::edges::{Clock, Edges};
use crate::k8s::failure::WriteError;

/// A release that is not answered by then is given up: others wait for the lease to end.
const RELEASE: Duration = Duration::from_millis(500);

/// A replica that stands for the lease.
pub struct Candidate {
    election: Election,
    edge: LeaseEdge,
    backoff: fn() -> Box<dyn Backoff>,
    clock: Arc<dyn Clock>,
    /// Where the election's own time begins.
    epoch: Instant,
    me: Arc<str>,
    lease: Option<Arc<ObjectReference>>,
    /// When, by the clock of the wall, the last renewal that was confirmed ends.
    wall: Timestamp,
    /// The lease was read once.
    looked: bool,
    /// Who held the lease before this replica did.
    before: Option<String>,
    standing: watch::Sender<Standing>,
    /// Who was logged to lead last.
    follows: Option<String>,
    /// Why the last request failed.
    trouble: Option<String>,
}

impl Candidate {
    /// A candidate, and what tells where it stands.
    pub fn new(edges: &Edges, settings: Settings) -> (Self, Leadership) {
        let (standing, told) = watch::channel(Standing::Unknown { why: None });
        let settings = Arc::new(settings);
        let candidate = Self {
            election: Election::new(settings.identity.clone(), settings.timing),
            me: settings.identity.as_str().into(),
            edge: LeaseEdge::new(edges.client.clone(), settings),
            backoff: edges.backoff,
            clock: edges.clock.clone(),
            epoch: Instant::now(),
            lease: None,
            wall: Timestamp::UNIX_EPOCH,
            looked: false,
            before: None,
            standing,
            follows: None,
            trouble: None,
        };
        (candidate, Leadership::new(told, edges.clock.clone()))
    }

    fn now(&self) -> Local {
        self.epoch.elapsed()
    }

    /// Stands for as long as it is polled. What was asked when it is dropped is in doubt, and made good by
    /// [`Candidate::resign`].
    pub async fn campaign(&mut self) -> Infallible {
        let mut watch = std::pin::pin!(self.edge.watch((self.backoff)()));
        loop {
            // Requests that fail one after the other must not keep it from the news.
            while let Some(Some(told)) = watch.next().now_or_never() {
                self.told(told);
            }
            self.publish();
            match self.election.next(self.now()) {
                Next::Wait(until) => self.wait(watch.as_mut(), until).await,
                Next::Read => self.read().await,
                Next::Create => self.create().await,
                Next::Write(over) => self.write(&over).await,
            }
        }
    }

    async fn wait(
        &mut self,
        mut watch: std::pin::Pin<&mut impl Stream<Item = Result<Option<Seen>, String>>>,
        until: Local,
    ) {
        tokio::select! {
            biased;
            Some(told) = watch.next() => self.told(told),
            () = tokio::time::sleep_until(self.epoch + until) => {}
        }
    }

    fn told(&mut self, news: Result<Option<Seen>, String>) {
        match news {
            Ok(lease) => self.election.told(lease, self.now()),
            // Without a watch a hand-over takes as long as the lease lasts; reading it brings what is wrong.
            Err(error) => tracing::debug!(error, "watching the lease failed; it is tried again"),
        }
    }

    async fn read(&mut self) {
        let began = self.now();
        match self.edge.read(self.election.patience()).await {
            Ok(lease) => {
                self.election.read(lease, self.now());
                self.looked = true;
                self.trouble = None;
            }
            Err(error) => self.failed(&error, began),
        }
    }

    async fn create(&mut self) {
        let began = self.now();
        match self.edge.create(self.election.patience()).await {
            Ok(Written::Done(lease, _)) => self.election.read(Some(lease), self.now()),
            Ok(Written::Stale) => self.election.stale(),
            Err(error) => self.failed(&error, began),
        }
    }

    async fn write(&mut self, over: &Seen) {
        let (began, wall) = (self.now(), self.clock.now());
        let before = over.holder.clone();
        self.election.sent();
        let patience = self.election.patience();
        match self.edge.hold(over, patience).await {
            Ok(Written::Done(lease, reference)) => {
                if before.as_deref() != Some(&self.me) {
                    self.before = before;
                }
                self.lease = Some(reference);
                self.wall = wall + self.edge.timing().usable();
                self.election.written(lease, began, self.now());
                self.trouble = None;
            }
            Ok(Written::Stale) => self.election.stale(),
            Err(error) => self.failed(&error, began),
        }
    }

    fn failed(&mut self, error: &WriteError, began: Local) {
        self.election.failed(began, self.now());
        let error = error.to_string();
        if self.trouble.as_ref() != Some(&error) {
            tracing::warn!(error, "the lease can't be read or written; it is tried again");
            self.trouble = Some(error);
        }
    }

    /// Tells where it stands.
    fn publish(&mut self) {
        let now = self.now();
        let standing = match self.election.until() {
            Some(until) if self.election.leads(now) => Standing::Leading(Leading {
                term: self.election.term(),
                me: self.me.clone(),
                until: Some(Until {
                    steady: self.epoch + until,
                    wall: self.wall,
                }),
                lease: self.lease.clone(),
                before: self.before.clone(),
            }),
            _ if !self.looked => Standing::Unknown {
                why: self.trouble.clone(),
            },
            _ => Standing::Standby {
                leader: self.election.holder().map(str::to_owned),
            },
        };
        if let Standing::Standby { leader: Some(leader) } = &standing
            && self.follows.as_ref() != Some(leader)
        {
            tracing::info!(leader, "this replica stands by");
            self.follows = Some(leader.clone());
        }
        self.standing.send_replace(standing);
    }

    /// Leads no longer, and gives back the lease if it holds it: others need not wait for its end.
    pub async fn resign(mut self) {
        let mut next = self.election.resign();
        self.standing.send_replace(Standing::Standby { leader: None });
        // The second time, when the first finds another version or has to look first.
        for _ in 0..3 {
            let step = match next.take() {
                Some(Next::Write(over)) => self.edge.release(&over, RELEASE).await.map(|w| match w {
                    Written::Done(..) => None,
                    Written::Stale => Some(Next::Read),
                }),
                Some(_) => self.edge.read(RELEASE).await.map(|lease| {
                    self.election.read(lease, self.epoch.elapsed());
                    self.election.resign()
                }),
                None => return,
            };
            match step {
                Ok(step) => next = step,
                Err(error) => {
                    tracing::warn!(%error, "the lease is not released; others wait for its end");
                    return;
                }
            }
        }
    }
}
