//! Native histograms as a real Prometheus stores them: scraped from a classic histogram and converted.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use molt::api::v1alpha1::Preset;
use molt::metric_sources::headers::Headers;
use molt::metric_sources::prometheus::{Prometheus, TimeLimits};
use molt::metric_sources::{
    MeasureRequest, MetricSource, PrometheusSource, RouteBackends, SliQuery, SloQuery, Starts, http,
};
use molt::metrics::Metrics;
use molt_core::analysis::Objective;

const CANARY: &str = "shop-bbbbbbbbbb";
const STABLE: &str = "shop-aaaaaaaaaa";
/// How long anything may take; generous, because the machine may be slow.
const PATIENCE: Duration = Duration::from_mins(2);

struct Server {
    process: Child,
    dir: std::path::PathBuf,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// A pod that has served so many times ten requests: eight within 500 ms, or all of them.
async fn pod(served: Arc<AtomicU32>, within: u32) -> String {
    let metrics = move || {
        let n = served.load(Ordering::Relaxed);
        let name = "http_request_duration_seconds";
        std::future::ready(format!(
            "# TYPE {name} histogram\n{name}_bucket{{handler=\"/pay\",le=\"0.1\"}} {}\n{name}_bucket{{handler=\"/pay\",le=\"0.5\"}} {}\n{name}_bucket{{handler=\"/pay\",le=\"+Inf\"}} {}\n{name}_sum{{handler=\"/pay\"}} {}\n{name}_count{{handler=\"/pay\"}} {}\n",
            5 * n,
            within * n,
            10 * n,
            3 * n,
            10 * n
        ))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = axum::Router::new().route("/metrics", axum::routing::get(metrics));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn prometheus(canary: &str, stable: &str) -> Server {
    let script = ". e2e/cluster/node/common.sh && echo \"$MOLT_BIN/prometheus\"";
    let path = Command::new("bash")
        .args(["-c", script])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("bash runs");
    let path = String::from_utf8(path.stdout).expect("a path in UTF-8");
    let dir = std::env::temp_dir().join(format!("molt-native-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let target = |address: &str, set: &str| {
        format!("  - targets: [\"{address}\"]\n    labels: {{namespace: shop, pod: {set}-x2f9k}}\n")
    };
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: pods\n  scrape_native_histograms: true\n  convert_classic_histograms_to_nhcb: true\n  static_configs:\n{}{}",
        target(canary, CANARY),
        target(stable, STABLE)
    );
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let process = Command::new(path.trim())
        .current_dir(&dir)
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; build it with e2e/cluster/build.sh prometheus",
                path.trim()
            )
        });
    Server {
        process,
        dir,
        address: format!("http://{address}"),
    }
}

fn request(server: &Server, threshold: i64, edges: Vec<Timestamp>) -> MeasureRequest {
    let pods = || [CANARY, STABLE].map(|set| format!("{set}-x2f9k"));
    let born = Timestamp::now() - SignedDuration::from_hours(1);
    MeasureRequest {
        source: PrometheusSource::parse(None, &server.address).unwrap(),
        namespace: "shop".to_owned(),
        service: "shop".to_owned(),
        slos: vec![SloQuery {
            name: "latency".to_owned(),
            objective: Objective::parse("99", SignedDuration::from_hours(720)).unwrap(),
            sli: SliQuery::Latency(
                Preset::FastapiInstrumentator.into(),
                SignedDuration::from_millis(threshold),
            ),
        }],
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
            .collect::<BTreeMap<_, _>>(),
        edges,
        conditions: Vec::new(),
        guards: Vec::new(),
        want_history: false,
        now: Timestamp::now(),
    }
}

#[tokio::test]
async fn a_converted_histogram_is_counted_exactly_at_its_edge() {
    let answers = Arc::new(AtomicU32::new(1));
    let (canary, stable) = (pod(answers.clone(), 8).await, pod(answers.clone(), 10).await);
    let server = prometheus(&canary, &stable);
    let headers = Arc::new(Headers::new(None, None));
    let source = Prometheus::new(
        Metrics::new("test"),
        TimeLimits::default(),
        http::client(None).unwrap(),
        headers,
    );
    // Once both were scraped, fifty requests more are served.
    let start = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Timestamp::now();
            let edges = vec![now - SignedDuration::from_secs(3), now];
            let measured = source.measure(&request(&server, 500, edges)).await;
            if measured.measurement.blocks[0].slos[0].is_some() {
                return now;
            }
        }
    });
    let start = start.await.expect("it is scraped");
    answers.store(6, Ordering::Relaxed);
    let counted = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let edges = vec![start, Timestamp::now()];
            let measured = source.measure(&request(&server, 500, edges)).await;
            let counts = measured.measurement.blocks[0].slos[0].unwrap_or_default();
            if counts.canary.total() > 0.0 && counts.stable.total() > 0.0 {
                return [counts.canary, counts.stable].map(|c| (c.total() as u32, c.bad() as u32));
            }
        }
    });
    assert_eq!(counted.await.expect("it is counted"), [(50, 10), (50, 0)]);
    let edges = vec![start, Timestamp::now()];
    let refused = source.measure(&request(&server, 300, edges)).await;
    let problem = &refused.problems[0];
    assert_eq!(problem.reason, "HistogramEdgeMissing");
    assert!(
        problem.message.contains("nearest edge below it is 100ms"),
        "{}",
        problem.message
    );
}
