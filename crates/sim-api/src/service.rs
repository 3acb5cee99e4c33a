//! The server as a `tower::Service`, so that a `kube::Client` talks to it.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;

use crate::call::{Answer, Call};
use crate::faults::{Fault, Ordinal, Plan};
use crate::server::ApiServer;
use crate::status::Refusal;
use crate::transport::{AnswerBody, Lines, read, respond};
use crate::watch::Watch;

/// A simulated API server that clients can talk to. Clones are the same server.
#[derive(Clone)]
pub struct Sim {
    shared: Arc<Mutex<Shared>>,
}

/// One request that was made, and what came of it.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The request.
    pub call: Call,
    /// The fault that was planned for it.
    pub fault: Option<Fault>,
    /// The code of the server's answer, whether or not it arrived.
    pub code: Option<u16>,
    /// It changed something.
    pub changed: bool,
}

struct Shared {
    server: ApiServer,
    plan: Option<Plan>,
    ordinal: Ordinal,
    log: Vec<Logged>,
    /// The client's process is dead.
    crashed: bool,
    /// Watches that were opened before this are closed.
    watches_since: u64,
    watches: u64,
    /// Watches bring nothing for now.
    held: bool,
    wakers: Vec<Waker>,
}

impl Sim {
    /// Makes a server reachable.
    pub fn new(server: ApiServer) -> Self {
        let shared = Shared {
            server,
            plan: None,
            ordinal: Ordinal::default(),
            log: Vec::new(),
            crashed: false,
            watches_since: 0,
            watches: 0,
            held: false,
            wakers: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// A client of it. Must be made within a tokio runtime.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Reads or changes the server's state beside its clients; watches see what changed.
    pub fn with<T>(&self, f: impl FnOnce(&mut ApiServer) -> T) -> T {
        let mut shared = self.lock();
        let result = f(&mut shared.server);
        shared.wake();
        result
    }

    /// Makes a request beside the clients: no plan, no log.
    pub fn ask(&self, call: &Call) -> Answer {
        self.with(|server| server.handle(call))
    }

    /// From now on this chooses the faults. Counting begins anew.
    pub fn plan(&self, plan: impl FnMut(&Call, Ordinal) -> Option<Fault> + Send + 'static) {
        let mut shared = self.lock();
        shared.plan = Some(Box::new(plan));
        shared.ordinal = Ordinal::default();
    }

    /// From now on nothing goes wrong.
    pub fn no_faults(&self) {
        self.lock().plan = None;
    }

    /// What was asked so far; forgotten by this.
    pub fn take_log(&self) -> Vec<Logged> {
        std::mem::take(&mut self.lock().log)
    }

    /// Reads what was asked so far.
    pub fn with_log<T>(&self, f: impl FnOnce(&[Logged]) -> T) -> T {
        f(&self.lock().log)
    }

    /// The client's process has died by a planned crash.
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The client's process is alive again; no further fault is planned.
    pub fn restart(&self) {
        let mut shared = self.lock();
        shared.crashed = false;
        shared.plan = None;
    }

    /// Closes every open watch, as a server does now and then.
    pub fn close_watches(&self) {
        let mut shared = self.lock();
        shared.watches_since = shared.watches;
        shared.wake();
    }

    /// Holds every watch back, or lets them go on.
    pub fn hold_watches(&self, held: bool) {
        let mut shared = self.lock();
        shared.held = held;
        shared.wake();
    }

    // A panic while the lock is held is a failed test already.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// What the client gets; `None` for no answer, ever.
    fn answer(&mut self, sim: &Sim, call: Call) -> Option<io::Result<Response<SimBody>>> {
        if self.crashed {
            return None;
        }
        let fault = match &mut self.plan {
            Some(plan) => plan(&call, self.ordinal),
            None => None,
        };
        self.ordinal.request += 1;
        self.ordinal.write += u64::from(call.is_write());
        let mut logged = Logged {
            call,
            fault,
            code: None,
            changed: false,
        };
        let reply = self.reply(sim, &mut logged);
        self.log.push(logged);
        self.wake();
        reply
    }

    fn reply(&mut self, sim: &Sim, logged: &mut Logged) -> Option<io::Result<Response<SimBody>>> {
        let call = &logged.call;
        if logged.fault.as_ref().is_none_or(Fault::took_effect) && !call.is_watch() {
            let answer = self.server.handle(call);
            (logged.code, logged.changed) = (Some(answer.code), answer.changed);
            if logged.fault.is_none() {
                return Some(Ok(respond(
                    answer.code,
                    None,
                    SimBody::whole(answer.body.to_string()),
                )));
            }
        }
        let error = |kind, text: &str| Some(Err(io::Error::new(kind, text.to_owned())));
        match &logged.fault {
            None => Some(Ok(match self.server.watch(call) {
                Ok(watch) => {
                    logged.code = Some(200);
                    self.watches += 1;
                    let stream = SimBody::Watch(Box::new(WatchBody {
                        sim: sim.clone(),
                        watch,
                        number: self.watches,
                    }));
                    respond(200, None, stream)
                }
                Err(refusal) => refused(&refusal, None),
            })),
            Some(Fault::Refused(refusal)) => Some(Ok(refused(refusal, None))),
            Some(Fault::Overloaded(seconds)) => {
                let why = "the server has received too many requests and has asked us to try again later";
                let refusal = Refusal::new(429, "TooManyRequests", why);
                Some(Ok(refused(&refusal, Some(*seconds))))
            }
            Some(Fault::Unreachable) => error(io::ErrorKind::ConnectionRefused, "connection refused"),
            Some(Fault::Lost { .. }) => error(io::ErrorKind::ConnectionReset, "connection reset by peer"),
            Some(Fault::Silent { .. }) => None,
            Some(Fault::Crash { .. }) => {
                self.crashed = true;
                None
            }
        }
    }
}

fn refused(refusal: &Refusal, retry_after: Option<u32>) -> Response<SimBody> {
    respond(
        refusal.code,
        retry_after,
        SimBody::whole(refusal.to_value().to_string()),
    )
}

/// The body of an answer of [`Sim`].
pub type SimBody = AnswerBody<Box<WatchBody>>;

impl tower::Service<Request<Body>> for Sim {
    type Response = Response<SimBody>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sim = self.clone();
        Box::pin(async move {
            let call = read(request).await?;
            let answer = sim.lock().answer(&sim, call);
            match answer {
                Some(answer) => answer,
                None => pending().await,
            }
        })
    }
}

/// The events of a watch.
pub struct WatchBody {
    sim: Sim,
    watch: Watch,
    number: u64,
}

impl Lines for Box<WatchBody> {
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let WatchBody { sim, watch, number } = &mut **self;
        let mut shared = sim.lock();
        if !shared.crashed && !shared.held {
            if let Some(event) = watch.next(shared.server.store()) {
                return Poll::Ready(Some(Bytes::from(event.line(&event.object.to_string()))));
            }
            if watch.is_ended() || *number <= shared.watches_since {
                return Poll::Ready(None);
            }
        }
        shared.wakers.push(context.waker().clone());
        Poll::Pending
    }
}
