//! An operator that dies at a write, and is started again as a Deployment would do it.
//!
//! Between the operator and the API server is a layer that counts its writes. At the one that it is asked for
//! it never answers, whether or not the write was let through, nor to anything after that: for the server it
//! is as if the process were gone. Then everything that belonged to the operator is dropped, and a new one
//! starts with empty memory.
//!
//! Events are no writes here: they are told after everything else, and nothing depends on them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use molt::server::Readiness;
use tokio::sync::{Notify, watch};

use super::cluster::connect;

/// A death at a write, counted from 0 since it was ordered or since the last start.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    pub write: usize,
    /// The write is let through before.
    pub took_effect: bool,
}

/// One write that was asked for.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    pub path: String,
    /// What the server answered; none if it was not asked, or died with the operator.
    pub code: Option<u16>,
}

#[derive(Default)]
struct Shared {
    deaths: VecDeque<Death>,
    /// Writes since the last order or start.
    count: usize,
    log: Vec<Write>,
    died: Vec<Write>,
    /// When something was last written, or the operator last became ready.
    moved: Option<Instant>,
}

/// The operator of one namespace, on a thread and a runtime of its own.
pub struct Mortal {
    shared: Arc<Mutex<Shared>>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mortal {
    pub fn start(options: molt::controller::Options) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (stop, stopped) = watch::channel(false);
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || while live(&options, &of_thread, stopped.clone()) {});
        Self {
            shared,
            stop,
            thread: Some(thread),
        }
    }

    /// From now on it dies at these writes, one after the other.
    pub fn dies_at(&self, deaths: impl IntoIterator<Item = Death>) {
        let mut shared = lock(&self.shared);
        shared.deaths = deaths.into_iter().collect();
        shared.count = 0;
        shared.log.clear();
        shared.died.clear();
    }

    /// From now on it lives. Returns what it wrote since the deaths were ordered, and at which writes it died.
    pub fn spared(&self) -> (Vec<Write>, Vec<Write>) {
        let mut shared = lock(&self.shared);
        shared.deaths.clear();
        (std::mem::take(&mut shared.log), std::mem::take(&mut shared.died))
    }

    /// It is up and has written nothing for so long.
    pub fn is_quiet(&self, since: Duration) -> bool {
        lock(&self.shared).moved.is_some_and(|at| at.elapsed() >= since)
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the operator panicked");
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap()
}

/// One life; `true` if another one follows.
fn live(
    options: &molt::controller::Options,
    shared: &Arc<Mutex<Shared>>,
    mut stop: watch::Receiver<bool>,
) -> bool {
    {
        let mut shared = lock(shared);
        shared.moved = None;
        shared.count = 0;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let again = runtime.block_on(async {
        let life = Arc::new(Life::default());
        let door = Door {
            inner: connect().await,
            shared: shared.clone(),
            life: life.clone(),
        };
        let readiness = Readiness::default();
        let operator = molt::controller::run(
            Client::new(door, "default"),
            options.clone(),
            molt::metrics::Metrics::new("test"),
            readiness.clone(),
            std::future::pending(),
        );
        let ready = async {
            while readiness.tell().is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            lock(shared).moved = Some(Instant::now());
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = operator => panic!("the operator ended: {ended:?}"),
            () = ready => unreachable!("it waits for ever"),
            () = life.ended.notified() => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    });
    // Watches, connections and everything else that the operator had spawned ends with it.
    runtime.shutdown_background();
    again
}

#[derive(Default)]
struct Life {
    dead: AtomicBool,
    ended: Notify,
}

/// What stands between an operator and the API server.
#[derive(Clone)]
struct Door {
    inner: Client,
    shared: Arc<Mutex<Shared>>,
    life: Arc<Life>,
}

impl Door {
    /// Notes a write, and says where in the log it is and how the operator dies at it, if it does.
    fn note(&self, request: &Request<Body>) -> (usize, Option<Death>) {
        let mut shared = lock(&self.shared);
        let write = Write {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            code: None,
        };
        let count = shared.count;
        shared.count += 1;
        shared.moved = Some(Instant::now());
        shared.log.push(write.clone());
        let death = shared.deaths.front().copied().filter(|d| d.write == count);
        if death.is_some() {
            shared.deaths.pop_front();
            shared.died.push(write);
        }
        (shared.log.len() - 1, death)
    }

    async fn pass(self, request: Request<Body>) -> kube::Result<Response<Body>> {
        if self.life.dead.load(Ordering::Acquire) {
            return std::future::pending().await;
        }
        if request.method() == Method::GET || request.uri().path().ends_with("/events") {
            return self.inner.send(request).await;
        }
        let (place, death) = self.note(&request);
        if death.is_some_and(|d| !d.took_effect) {
            return self.die().await;
        }
        let answer = self.inner.send(request).await;
        {
            let mut shared = lock(&self.shared);
            shared.moved = Some(Instant::now());
            if let (Some(write), Ok(answer)) = (shared.log.get_mut(place), &answer) {
                write.code = Some(answer.status().as_u16());
            }
        }
        if death.is_some() {
            return self.die().await;
        }
        answer
    }

    async fn die<T>(self) -> T {
        self.life.dead.store(true, Ordering::Release);
        self.life.ended.notify_one();
        std::future::pending().await
    }
}

impl tower::Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().pass(request))
    }
}
