//! Open-loop load through the gateway, and what became of every request.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What k6 says of a request that was under way when k6 was ended.
const TAKEN_BACK: &str = "context canceled";

/// One request, as the load generator saw it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Request {
    /// When it was sent, in seconds since the epoch.
    pub t: f64,
    /// The answer's status; 0 for none.
    pub status: u16,
    /// The version that answered, from the application's own header; empty if the answer was not its.
    pub version: String,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// Why there was no answer.
    pub error: String,
}

impl Request {
    /// It was not answered well.
    pub fn failed(&self) -> bool {
        self.status != 200
    }
}

/// A WebSocket that was open for a while.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Stream {
    /// When it was open, in seconds since the epoch; 0 if it never was.
    pub opened: f64,
    /// When it ended.
    pub closed: f64,
    /// The version at its other end; empty if nothing was heard of it.
    pub version: String,
    /// Answers that were got.
    pub messages: u32,
    /// Messages at its end that nobody answered.
    pub unanswered: u32,
    /// Why it was closed, as WebSockets count it: 1012 is a server that ends.
    pub code: u16,
    /// What went wrong; empty for a regular end.
    pub error: String,
}

/// How the load generator meets the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests on connections that are kept.
    KeepAlive,
    /// Requests on a connection each.
    NewConnections,
    /// As many WebSockets as the rate says.
    Streams,
    /// Calls of gRPC; the URL is an address.
    Grpc,
    /// As many streams of gRPC as the rate says.
    GrpcStreams,
}

/// A load that runs.
pub struct Load {
    process: std::process::Child,
    out: PathBuf,
}

impl Load {
    /// Sends `rate` requests per second to a URL with this Host header until it is ended, at most half an hour.
    pub fn start(way: Way, url: &str, host: &str, rate: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/load.sh");
        let (id, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let out = std::env::temp_dir().join(format!("molt-e2e-{host}-{id}-{count}.jsonl"));
        drop(std::fs::remove_file(&out));
        let option = match way {
            Way::KeepAlive => None,
            Way::NewConnections => Some("--new-connections"),
            Way::Streams => Some("--streams"),
            Way::Grpc => Some("--grpc"),
            Way::GrpcStreams => Some("--grpc-streams"),
        };
        let process = Command::new(script)
            .args(option)
            .args([url, host, &rate.to_string(), "30m"])
            .arg(&out)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the load generator starts");
        Self { process, out }
    }

    /// Every request that has been answered, or has failed, so far; not those that the generator took back
    /// itself because it was ended.
    pub fn requests(&self) -> Vec<Request> {
        let requests: Vec<Request> = self.lines();
        requests.into_iter().filter(|r| r.error != TAKEN_BACK).collect()
    }

    /// Every stream that has ended so far.
    pub fn streams(&self) -> Vec<Stream> {
        self.lines()
    }

    fn lines<T: DeserializeOwned>(&self) -> Vec<T> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        // The last line may be half written.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Ends it, and returns every request. The generator's file goes; that of a scenario which failed before
    /// this stays, for a look at it.
    pub fn end(mut self) -> Vec<Request> {
        self.stop();
        let requests = self.requests();
        drop(std::fs::remove_file(&self.out));
        requests
    }

    fn stop(&mut self) {
        let pid = self.process.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.process.wait());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}
