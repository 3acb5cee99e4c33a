//! Open-loop load through the gateway, and what became of every request.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

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

/// A load that runs.
pub struct Load {
    process: std::process::Child,
    out: PathBuf,
}

impl Load {
    /// Sends `rate` requests per second for a path, without a slash at its beginning, of a host of the gateway's
    /// until it is ended, at most half an hour.
    pub fn start(gateway: &str, host: &str, path: &str, rate: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/load.sh");
        let out = std::env::temp_dir().join(format!("molt-e2e-{host}-{path}{}.jsonl", std::process::id()));
        drop(std::fs::remove_file(&out));
        let process = Command::new(script)
            .args([&format!("{gateway}/{path}"), host, &rate.to_string(), "30m"])
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
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        // The last line may be half written.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|request: &Request| request.error != TAKEN_BACK)
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
