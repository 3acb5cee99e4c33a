//! `kubectl molt status --watch`: the binary itself, on a terminal and without one.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::DeleteParams;
use kube::config::Kubeconfig;
use molt::api::v1alpha1::PythonService;
use serde_json::{Value, json};

use crate::people::{act, given_a_dwell};
use crate::support::cluster::{Stage, config, connect, kubeconfig, until};
use crate::support::dashboard::{Cable, account};

/// The plugin at work; it ends with the test.
struct Plugin {
    process: Child,
    keys: Option<ChildStdin>,
    printed: Arc<Mutex<String>>,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Plugin {
    fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let (out, err) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let streams: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for mut stream in streams {
            let printed = printed.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    printed.lock().unwrap().push_str(&text);
                }
            });
        }
        let keys = process.stdin.take();
        Self {
            process,
            keys,
            printed,
        }
    }

    fn words(kubeconfig: &Path, namespace: &str) -> Vec<String> {
        let kubeconfig = kubeconfig.to_str().unwrap();
        [
            "--kubeconfig",
            kubeconfig,
            "-n",
            namespace,
            "status",
            "shop",
            "--watch",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Without a terminal.
    fn in_lines(kubeconfig: &Path, namespace: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-molt"));
        command.args(Self::words(kubeconfig, namespace));
        Self::start(command)
    }

    /// On a terminal of 100 columns and 30 rows, which util-linux's `script` makes.
    fn on_terminal(kubeconfig: &Path, namespace: &str) -> Self {
        let words = Self::words(kubeconfig, namespace).join(" ");
        let plugin = env!("CARGO_BIN_EXE_kubectl-molt");
        let inside = format!("stty cols 100 rows 30; exec {plugin} {words}");
        let mut command = Command::new("script");
        command
            .args([
                "--quiet",
                "--flush",
                "--return",
                "--command",
                &inside,
                "/dev/null",
            ])
            .env("TERM", "xterm-256color");
        Self::start(command)
    }

    fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    async fn until(&self, words: &str) {
        let what = format!("{words:?} is printed");
        let found = until(&what, async || self.printed().contains(words));
        let found = tokio::time::timeout(Duration::from_mins(1), found).await;
        assert!(found.is_ok(), "{words:?} is not in {:?}", self.printed());
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.keys.as_mut().expect("it listens");
        stdin
            .write_all(keys.as_bytes())
            .and_then(|()| stdin.flush())
            .unwrap();
    }

    async fn ends_with(&mut self, code: i32) {
        let mut ended = None;
        until("it ends", async || {
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        assert_eq!(ended.unwrap().code(), Some(code), "{:?}", self.printed());
    }
}

/// A kubeconfig of its own, changed.
fn own_kubeconfig(name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let file = Kubeconfig::read_from(kubeconfig()).unwrap();
    let mut file = serde_json::to_value(file).unwrap();
    change(&mut file);
    // JSON is YAML.
    let path = Path::new(&kubeconfig()).with_file_name(format!("kubeconfig-{name}"));
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

async fn given_somebody_who_watches(stage: &Stage, name: &str) -> String {
    let rules = json!([{"apiGroups": ["molt.dev"], "resources": ["pythonservices", "rolloutrecords"], "verbs": ["get", "list", "watch"]}]);
    account(stage, name, rules).await
}

#[tokio::test]
async fn a_person_looks_at_a_terminal_and_leaves_it_as_it_was() {
    let (stage, _, second) = given_a_dwell("live").await;
    let path = PathBuf::from(kubeconfig());
    let mut shown = Plugin::on_terminal(&path, "live");
    shown.until("step 2 of").await;
    shown.until(&second).await;
    shown.until("availability").await;
    shown.until("quit").await;
    shown.press("\t");
    shown.press("q");
    shown.ends_with(2).await;
    let text = shown.printed();
    let (entered, left) = (text.find("\x1b[?1049h"), text.rfind("\x1b[?1049l"));
    assert!(entered.is_some() && entered < left, "{text:?}");
    let after = &text[left.unwrap()..];
    assert!(
        after.contains("live/shop") && after.contains("\x1b[?25h"),
        "what was seen last stays, and there is a cursor: {after:?}"
    );

    let mut shown = Plugin::on_terminal(&path, "live");
    shown.until("step 2 of").await;
    shown.press("\x03");
    shown.ends_with(130).await;
    assert!(shown.printed().contains("\x1b[?1049l"));

    // It ends by itself once nothing moves.
    let mut shown = Plugin::on_terminal(&path, "live");
    shown.until("step 2 of").await;
    act(
        &stage,
        json!({"revision": second, "attempt": 1, "action": "Abort"}),
    )
    .await;
    shown.ends_with(1).await;
    let text = shown.printed();
    assert!(
        text[text.rfind("\x1b[?1049l").unwrap()..].contains("RolledBack"),
        "{text:?}"
    );
}

#[tokio::test]
async fn without_a_terminal_each_change_is_a_line_and_a_deletion_the_end() {
    let (stage, _, second) = given_a_dwell("lines").await;
    let mut lines = Plugin::in_lines(&PathBuf::from(kubeconfig()), "lines");
    lines.until(&format!("canary {second} 10%")).await;
    let text = lines.printed();
    assert!(text.starts_with(|c: char| c.is_ascii_digit()), "a time: {text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    lines.until("was deleted").await;
    lines.ends_with(4).await;
}

#[tokio::test]
async fn a_loss_of_the_api_server_is_told_and_ends_by_itself() {
    let (_stage, _, _) = given_a_dwell("cable").await;
    let mut config = config().await;
    let cable = Cable::between(&mut config).await;
    let path = own_kubeconfig("cable", |file| {
        file["clusters"][0]["cluster"]["server"] = json!(config.cluster_url.to_string());
    });
    let lines = Plugin::in_lines(&path, "cable");
    let shown = Plugin::on_terminal(&path, "cable");
    lines.until("Progressing").await;
    shown.until("step 2 of").await;
    cable.plug(false);
    lines.until("the API server can't be reached").await;
    shown.until("! no contact for").await;
    cable.plug(true);
    lines.until("the API server answers again").await;
}

#[tokio::test]
async fn a_token_that_expires_is_told_and_a_new_one_is_taken() {
    let (stage, _, _) = given_a_dwell("token").await;
    let with = |token: &str| {
        own_kubeconfig("token", |file| {
            file["users"][0]["user"] = json!({"token": token});
        })
    };
    let token = given_somebody_who_watches(&stage, "ada").await;
    let path = with(&token);
    let lines = Plugin::in_lines(&path, "token");
    lines.until("Progressing").await;
    // What the account signed is worth nothing any more.
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), "token");
    accounts.delete("ada", &DeleteParams::default()).await.unwrap();
    lines.until("sign in again").await;
    with(&given_somebody_who_watches(&stage, "bob").await);
    lines.until("the API server answers again").await;
}

/// `make bench-status`: what the plugin takes beside what the API server takes. The goal is 50 ms of its own.
#[tokio::test]
#[ignore = "a measurement: make bench-status"]
async fn status_takes_little_time_of_its_own() {
    const ROUNDS: usize = 40;
    given_a_dwell("quick").await;
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let plugin = std::env::var_os("MOLT_PLUGIN").unwrap_or(env!("CARGO_BIN_EXE_kubectl-molt").into());
    let (mut whole, mut server) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let done = Command::new(&plugin)
            .args(["--kubeconfig", &kubeconfig(), "-n", "quick", "status", "shop"])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        whole.push(began.elapsed());
        assert_eq!(done.code(), Some(2));
        // The same request, with a connection of its own.
        let client = connect().await;
        let services: Api<PythonService> = Api::namespaced(client, "quick");
        let began = Instant::now();
        services.get("shop").await.unwrap();
        server.push(began.elapsed());
    }
    let (whole, server) = (median(whole), median(server));
    let own = whole.saturating_sub(server);
    println!(
        "kubectl molt status: {whole:?}, of which the API server and the connection {server:?}; its own: {own:?}"
    );
    if std::env::var_os("MOLT_PLUGIN").is_some() {
        assert!(own < Duration::from_millis(50), "{own:?}");
    }
}
