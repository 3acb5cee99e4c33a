//! Pods that are scraped, and the stores that do it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use molt::metric_sources::headers::Headers;
use molt::metric_sources::prometheus::{Prometheus, TimeLimits};
use molt::metric_sources::{MeasureRequest, PrometheusSource, RouteBackends, SloQuery, Starts, http};
use molt::metrics::Metrics;
use serde_json::{Value, json};

pub const CANARY: &str = "shop-bbbbbbbbbb";
pub const STABLE: &str = "shop-aaaaaaaaaa";
/// How long anything may take; generous, because the machine may be slow.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How often the pods have served ten requests: all of stable's well; of the canary's two slow, and one of these a failure.
#[derive(Clone, Debug)]
pub struct Served(Arc<AtomicU32>);

impl Served {
    pub fn once() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }

    pub fn is(&self, times: u32) {
        self.0.store(times, Ordering::Relaxed);
    }

    fn page(&self, failed: u32, within: u32) -> String {
        let n = self.0.load(Ordering::Relaxed);
        let seconds = "http_request_duration_seconds";
        let bucket = |(edge, count): (&str, u32)| {
            format!("{seconds}_bucket{{handler=\"/pay\",le=\"{edge}\"}} {}", count * n)
        };
        let requests = |(status, count): (&str, u32)| {
            format!(
                "http_requests_total{{handler=\"/pay\",method=\"GET\",status=\"{status}\"}} {}",
                count * n
            )
        };
        let mut lines = vec![format!("# TYPE {seconds} histogram")];
        lines.extend([("0.1", 5), ("0.5", within), ("+Inf", 10)].map(bucket));
        lines.push(format!("{seconds}_sum{{handler=\"/pay\"}} {}", 3 * n));
        lines.push(format!("{seconds}_count{{handler=\"/pay\"}} {}", 10 * n));
        lines.push("# TYPE http_requests_total counter".to_owned());
        lines.extend([("2xx", 10 - failed), ("5xx", failed)].map(requests));
        lines.join("\n") + "\n"
    }

    /// The address of a pod.
    async fn pod(&self, failed: u32, within: u32) -> String {
        let served = self.clone();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let metrics = move || std::future::ready(served.page(failed, within));
        let app = axum::Router::new().route("/metrics", axum::routing::get(metrics));
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }
}

/// A store, which ends with the test.
pub struct Store {
    process: Option<Child>,
    dir: PathBuf,
    /// Where it answers.
    address: String,
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            drop(process.kill());
            drop(process.wait());
        }
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Store {
    /// A Prometheus; `job` goes into the settings of its job.
    pub async fn prometheus(name: &str, served: &Served, job: &str) -> Self {
        let port = free_port();
        let mut store = Self::new(name, served, job, port).await;
        store.start(
            "prometheus",
            &[
                "--config.file=scrape.yml".to_owned(),
                "--storage.tsdb.path=data".to_owned(),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ],
        );
        store
    }

    /// A `VictoriaMetrics` of one node.
    pub async fn victoria_metrics(name: &str, served: &Served) -> Self {
        let port = free_port();
        let mut store = Self::new(name, served, "", port).await;
        store.start(
            "victoria-metrics",
            &[
                "-promscrape.config=scrape.yml".to_owned(),
                "-storageDataPath=data".to_owned(),
                format!("-httpListenAddr=127.0.0.1:{port}"),
            ],
        );
        store
    }

    async fn new(name: &str, served: &Served, job: &str, port: u16) -> Self {
        let dir = std::env::temp_dir().join(format!("molt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let target = |address: &str, set: &str| {
            format!("  - targets: [\"{address}\"]\n    labels: {{namespace: shop, pod: {set}-x2f9k}}\n")
        };
        let (canary, stable) = (served.pod(1, 8).await, served.pod(0, 10).await);
        let scrape = format!(
            "global: {{scrape_interval: 1s, external_labels: {{cluster: test}}}}\nscrape_configs:\n- job_name: pods\n{job}  static_configs:\n{}{}",
            target(&canary, CANARY),
            target(&stable, STABLE)
        );
        std::fs::write(dir.join("scrape.yml"), scrape).unwrap();
        Self {
            process: None,
            dir,
            address: format!("http://127.0.0.1:{port}"),
        }
    }

    fn start(&mut self, part: &str, args: &[String]) {
        let path = bin().join(part);
        let log = std::fs::File::create(self.dir.join(format!("{part}.log"))).unwrap();
        let process = Command::new(&path)
            .current_dir(&self.dir)
            .args(args)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; build it with e2e/cluster/build.sh {part}",
                    path.display()
                )
            });
        self.process = Some(process);
    }
}

/// Where the cluster's binaries are.
fn bin() -> PathBuf {
    let script = ". e2e/cluster/node/common.sh && echo \"$MOLT_BIN\"";
    let told = Command::new("bash")
        .args(["-c", script])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("bash runs");
    Path::new(std::str::from_utf8(&told.stdout).expect("a path in UTF-8").trim()).to_owned()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What reads.
pub fn source() -> Prometheus {
    Prometheus::new(
        Metrics::new("test"),
        TimeLimits::default(),
        http::client(None).unwrap(),
        Arc::new(Headers::new(None, None)),
    )
}

/// An indicator of latency by the pods' histogram.
pub fn latency(threshold: &str) -> Value {
    json!({"preset": "fastapi-instrumentator", "type": "latency", "threshold": threshold})
}

/// Asks for one objective of each of these indicators.
pub fn request(store: &Store, indicators: &[Value], edges: Vec<Timestamp>) -> MeasureRequest {
    let pods = || [CANARY, STABLE].map(|set| format!("{set}-x2f9k"));
    let born = Timestamp::now() - SignedDuration::from_hours(1);
    let source = PrometheusSource::parse(None, &store.address).unwrap();
    let slo = |(i, sli): (usize, &Value)| {
        let slo = json!({"name": format!("slo-{i}"), "objective": "99", "window": "30d", "sli": sli});
        SloQuery::parse(&serde_json::from_value(slo).unwrap(), &source).unwrap()
    };
    MeasureRequest {
        slos: indicators.iter().enumerate().map(slo).collect(),
        source,
        namespace: "shop".to_owned(),
        service: "shop".to_owned(),
        canary: Some(CANARY.to_owned()),
        backends: RouteBackends::default(),
        stable: Some(STABLE.to_owned()),
        warm_at: BTreeMap::default(),
        births: pods().map(|pod| (pod, born)).into(),
        starts: pods()
            .map(|pod| {
                let at = vec![born];
                (pod, Starts { at, older: false })
            })
            .into_iter()
            .collect(),
        edges,
        conditions: Vec::new(),
        guards: Vec::new(),
        connections: None,
        want_history: false,
        now: Timestamp::now(),
    }
}
