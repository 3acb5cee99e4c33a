//! `kubectl molt dashboard` on this machine, and somebody's browser in front of it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::stage::Stage;

/// A dashboard whose link was opened. It ends when this is dropped.
pub struct Dashboard {
    origin: String,
    cookies: PathBuf,
    _server: Child,
}

impl Dashboard {
    /// Starts it for the stage's namespace and opens its link.
    pub async fn open(stage: &Stage) -> Self {
        let mut server = Command::new(Stage::binaries().join("kubectl-molt"))
            .args(["--namespace", &stage.namespace, "dashboard"])
            .env("KUBECONFIG", stage.kubeconfig())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("`make image` has built it");
        let told = server.stdout.take().expect("it is piped");
        let link = BufReader::new(told).lines().next_line().await;
        let link = link.expect("it prints").expect("it prints its link");
        let (origin, _) = link.split_once("/open?").expect("the link opens the dashboard");
        let this = Self {
            origin: origin.to_owned(),
            cookies: std::env::temp_dir().join(format!("molt-{}-cookies", stage.namespace)),
            _server: server,
        };
        let jar = this.cookies.display().to_string();
        let opened = curl(&["--cookie-jar", &jar, &link]).await;
        assert!(opened.is_some(), "the link does not open: {link}");
        this
    }

    /// What is at a path under `/api`; nothing when it is refused or not there.
    pub async fn text(&self, path: &str) -> Option<String> {
        let jar = self.cookies.display().to_string();
        curl(&["--cookie", &jar, &format!("{}/api/{path}", self.origin)]).await
    }

    /// The same, read as JSON.
    pub async fn json(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.text(path).await?).ok()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.cookies));
    }
}

async fn curl(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("curl")
        .args(["--silent", "--fail", "--location", "--max-time", "10"])
        .args(arguments)
        .output()
        .await
        .expect("curl is there");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    answer.status.success().then_some(text)
}
