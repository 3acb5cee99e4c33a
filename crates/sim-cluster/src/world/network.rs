//! What lies between the operator and the API server: latency, lost answers, watches that lag.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use molt_sim_api::status::Refusal;
use molt_sim_api::watch::Watch;
use molt_sim_api::{Call, Fault as ApiFault};
use serde_json::Value;
use tokio::sync::oneshot;

use super::operators::{is_about_lease, tells_of_lease};
use super::{Author, Event, World, timestamp};
use crate::faults::Kind;
use crate::story;

/// A connection on which nothing comes is given up by the client after so long (kube's default).
const READ_TIMEOUT: u64 = 295_000;
/// A server closes a watch after so long (what kube's watcher asks for).
const WATCH_LASTS: u64 = 290_000;
/// How long what was decided before a request that failed may still be carried out.
const DECIDED_LONG_AGO: u64 = 25_000;

/// What comes back of a request.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Whole {
        /// The status code.
        code: u16,
        /// The body.
        body: Arc<str>,
        /// Seconds to wait before the next try.
        retry_after: Option<u32>,
    },
    /// A watch by its number.
    Watch(u64),
    /// No connection, or one that broke.
    Broken(std::io::ErrorKind),
}

/// What a watch brings next.
pub type Delivery = Poll<Option<Bytes>>;

struct Request {
    process: u32,
    call: Call,
    fault: Option<Kind>,
    back: u64,
    waits: oneshot::Sender<Reply>,
}

struct Open {
    process: u32,
    watch: Watch,
    queued: VecDeque<(u64, Bytes)>,
    ready: VecDeque<Bytes>,
    last_due: u64,
    closed: bool,
    waker: Option<Waker>,
}

/// Requests and watches under way.
#[derive(Default)]
pub(super) struct Network {
    numbers: u64,
    requests: BTreeMap<u64, Request>,
    answers: BTreeMap<u64, (u32, oneshot::Sender<Reply>, Reply)>,
    watches: BTreeMap<u64, Open>,
    texts: Texts,
    /// Whoever waits for these waits for ever: their process is dead.
    graveyard: Vec<oneshot::Sender<Reply>>,
}

/// The text of what was sent last: a write is answered with what watches bring.
#[derive(Default)]
struct Texts(Option<(Arc<Value>, Arc<str>)>);

impl Texts {
    fn of(&mut self, object: &Arc<Value>) -> Arc<str> {
        if let Some((_, text)) = self.0.as_ref().filter(|(known, _)| Arc::ptr_eq(known, object)) {
            return Arc::clone(text);
        }
        let text: Arc<str> = object.to_string().into();
        self.0 = Some((Arc::clone(object), Arc::clone(&text)));
        text
    }
}

impl Network {
    pub(super) fn forget_watches(&mut self, process: u32) {
        self.watches.retain(|_, open| open.process != process);
    }
}

fn fits(kind: Kind, call: &Call) -> bool {
    let list = !call.is_write() && call.parameter("watch").is_empty() && call.path.ends_with('s');
    let event = call.path.contains("/events");
    match kind {
        Kind::Conflict => call.is_write() && call.method != http::Method::POST && !event,
        Kind::Late | Kind::CrashBefore | Kind::CrashAfter => call.is_write() && !event,
        Kind::SilentBefore | Kind::SilentAfter => !call.is_watch() && !list,
        _ => !call.is_watch(),
    }
}

impl World {
    /// Takes a request of an operator's.
    pub fn submit(&mut self, process: u32, mut call: Call) -> oneshot::Receiver<Reply> {
        let (waits, receiver) = oneshot::channel();
        if !self.alive.contains(&process) {
            self.network.graveyard.push(waits);
            return receiver;
        }
        if let Some(rewrite) = self.setup.rewrite {
            rewrite(&mut call);
        }
        self.check_leads(process, &call);
        let fault = self.fault_of(process, &call);
        let (mut there, mut back) = (self.chance.between(1, 8), self.chance.between(1, 8));
        if let Some(end) = self.struck.cut_off(process, self.now) {
            // The packets are sent again until they arrive; the sender may have given up by then.
            there += end - self.now + self.chance.between(50, 2000);
        } else if let Some(kind) = fault.filter(|k| *k != Kind::LeaseUnreachable) {
            self.count(kind);
            self.say(format!("  … strikes {}", story::request(&call)));
            let long = self.chance.between(2500, 12_000);
            match kind {
                Kind::Slow => back += long,
                Kind::Late => (there, back) = (there + 14_000 + long, READ_TIMEOUT),
                Kind::SilentBefore | Kind::SilentAfter => back = READ_TIMEOUT,
                _ => {}
            }
            if matches!(
                kind,
                Kind::Slow | Kind::Late | Kind::SilentBefore | Kind::SilentAfter
            ) {
                let fog = self.now + there + DECIDED_LONG_AGO;
                self.struck.fog(fog);
            } else {
                self.struck.fog(self.now + 3000);
            }
        }
        if fault == Some(Kind::CrashBefore) {
            self.network.graveyard.push(waits);
            self.crash(process);
            return receiver;
        }
        self.network.numbers += 1;
        let id = self.network.numbers;
        let request = Request {
            process,
            call,
            fault,
            back,
            waits,
        };
        self.network.requests.insert(id, request);
        self.in_ms(there, Event::Arrive(id));
        receiver
    }

    /// The armed fault that a request meets, or what its process suffers from.
    fn fault_of(&mut self, process: u32, call: &Call) -> Option<Kind> {
        if self.struck.cut_off(process, self.now).is_some() {
            return None;
        }
        let lease = is_about_lease(call);
        if lease && self.struck.lease_unreachable(process, self.now) {
            return Some(Kind::LeaseUnreachable);
        }
        // The lease is renewed so often that it would meet most of them.
        if lease && !self.chance.percent(5) {
            return None;
        }
        let armed = self.struck.armed.iter().position(|kind| fits(*kind, call))?;
        self.struck.armed.remove(armed)
    }

    pub(super) fn arrive(&mut self, id: u64) {
        let Some(request) = self.network.requests.remove(&id) else {
            return;
        };
        let refused = |refusal: Refusal, retry_after| Reply::Whole {
            code: refusal.code,
            body: refusal.to_value().to_string().into(),
            retry_after,
        };
        let of = |fault: ApiFault| match fault {
            ApiFault::Refused(refusal) => refused(refusal, None),
            _ => Reply::Broken(std::io::ErrorKind::ConnectionReset),
        };
        let broken = Reply::Broken(std::io::ErrorKind::ConnectionReset);
        let reply = match request.fault {
            Some(Kind::Conflict) => of(ApiFault::conflict()),
            Some(Kind::Internal) => of(ApiFault::internal_error()),
            Some(Kind::TooMany) => {
                refused(Refusal::new(429, "TooManyRequests", "too many requests"), Some(1))
            }
            Some(Kind::Unavailable) => refused(Refusal::new(503, "ServiceUnavailable", "not ready"), None),
            Some(Kind::Unreachable | Kind::LeaseUnreachable) => {
                Reply::Broken(std::io::ErrorKind::ConnectionRefused)
            }
            Some(Kind::LostBefore | Kind::SilentBefore) => broken,
            Some(Kind::LostAfter | Kind::SilentAfter | Kind::Late) => {
                self.serve(request.process, &request.call);
                broken
            }
            Some(Kind::CrashAfter) => {
                self.serve(request.process, &request.call);
                self.network.graveyard.push(request.waits);
                self.crash(request.process);
                return;
            }
            _ => self.serve(request.process, &request.call),
        };
        self.network
            .answers
            .insert(id, (request.process, request.waits, reply));
        self.in_ms(request.back, Event::Answer(id));
    }

    pub(super) fn answer(&mut self, id: u64) {
        if let Some((process, waits, reply)) = self.network.answers.remove(&id) {
            if self.alive.contains(&process) {
                // Whoever has given up waiting does not hear of it.
                drop(waits.send(reply));
            } else {
                self.network.graveyard.push(waits);
            }
        }
    }

    fn serve(&mut self, process: u32, call: &Call) -> Reply {
        self.author = Author::Operator(process);
        self.server.set_time(timestamp(self.now));
        let reply = if call.is_watch() {
            match self.server.watch(call) {
                Ok(watch) => Reply::Watch(self.open(process, watch)),
                Err(refusal) => Reply::Whole {
                    code: refusal.code,
                    body: refusal.to_value().to_string().into(),
                    retry_after: None,
                },
            }
        } else {
            let held = self.holder().map(str::to_owned);
            let answer = self.server.handle(call);
            let text = self.network.texts.of(&answer.body);
            if is_about_lease(call) {
                // Renewals are no news.
                let holds = self.holder().map(str::to_owned);
                if holds != held {
                    self.say(format!("the lease goes from {held:?} to {holds:?}"));
                }
            } else if call.is_write() {
                let what = story::write(call);
                self.say(format!("operator {process}: {what} → {}", answer.code));
                if !tells_of_lease(call) {
                    self.checks.wrote(self.now);
                }
            }
            Reply::Whole {
                code: answer.code,
                body: text,
                retry_after: None,
            }
        };
        self.after_change();
        self.author = Author::World;
        reply
    }

    fn open(&mut self, process: u32, watch: Watch) -> u64 {
        self.network.numbers += 1;
        let id = self.network.numbers;
        let resource = watch.resource().to_owned();
        let open = Open {
            process,
            watch,
            queued: VecDeque::new(),
            ready: VecDeque::new(),
            last_due: 0,
            closed: false,
            waker: None,
        };
        self.network.watches.insert(id, open);
        self.pump(&BTreeSet::from([resource.as_str()]));
        self.in_ms(WATCH_LASTS, Event::Close(id));
        id
    }

    /// Sends what has changed to the watches that want it.
    pub(super) fn pump(&mut self, resources: &BTreeSet<&str>) {
        let mut due = Vec::new();
        let mut doubled = 0;
        for (id, open) in &mut self.network.watches {
            if open.closed || !resources.contains(open.watch.resource()) {
                continue;
            }
            let lag = self.struck.lag(open.watch.resource(), self.now);
            while let Some(event) = open.watch.next(self.server.store()) {
                let at = (self.now + lag + self.chance.between(1, 25)).max(open.last_due);
                open.last_due = at;
                let line = Bytes::from(event.line(&self.network.texts.of(&event.object)));
                if self.struck.duplicates(self.now) && event.word != "ERROR" {
                    open.queued.push_back((at, line.clone()));
                    doubled += 1;
                }
                open.queued.push_back((at, line));
                due.push((at, *id));
            }
        }
        if doubled > 0 {
            self.struck.duplicated += doubled;
        }
        for (at, id) in due {
            let wait = at.saturating_sub(self.now);
            self.in_ms(wait, Event::Deliver(id));
        }
    }

    pub(super) fn deliver(&mut self, id: u64) {
        let now = self.now;
        let held = self.struck.held_until;
        if held > now {
            return self.in_ms(held - now, Event::Deliver(id));
        }
        let process = self.network.watches.get(&id).map(|open| open.process);
        if let Some(end) = process.and_then(|p| self.struck.cut_off(p, now)) {
            return self.in_ms(end - now, Event::Deliver(id));
        }
        let Some(open) = self.network.watches.get_mut(&id) else {
            return;
        };
        while let Some((_, line)) = open.queued.pop_front_if(|(at, _)| *at <= now) {
            open.ready.push_back(line);
        }
        if let Some(waker) = open.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn close(&mut self, id: u64) {
        if let Some(open) = self.network.watches.get_mut(&id) {
            open.closed = true;
            // What was not delivered is sent again on the next watch.
            open.queued.clear();
            if let Some(waker) = open.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) fn close_watches(&mut self) {
        let all: Vec<u64> = self.network.watches.keys().copied().collect();
        for id in all {
            self.close(id);
        }
    }

    /// What a watch brings to its process.
    pub fn poll_watch(&mut self, id: u64, context: &Context<'_>) -> Delivery {
        // A watch that is not there any more was a dead process's.
        let Some(open) = self.network.watches.get_mut(&id) else {
            return Poll::Pending;
        };
        if !self.alive.contains(&open.process) {
            return Poll::Pending;
        }
        if let Some(line) = open.ready.pop_front() {
            return Poll::Ready(Some(line));
        }
        if open.closed || open.watch.is_ended() && open.queued.is_empty() {
            self.network.watches.remove(&id);
            return Poll::Ready(None);
        }
        open.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody reads a watch any more.
    pub fn drop_watch(&mut self, id: u64) {
        self.network.watches.remove(&id);
    }
}
