use super::*;
use axum::extract::Form;
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use molt_sim::Outcome;
use serde_json::{Value, json};

use crate::plugin::replay::ReplayArgs;
use crate::plugin::text::Style;

const FROM: i64 = 1_700_000_000;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ReplayArgs,
}

fn range(flags: &[&str]) -> Result<RangeArgs, String> {
    let words = ["replay", "checkout.yaml"].iter().chain(flags);
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    Ok(line.args.range)
}

fn manifest(address: &str) -> Manifest {
    let text = include_str!("../../fixtures/checkout.yaml");
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("latency")).collect();
    Manifest::parse(&text.join("\n"), None, Some(address)).unwrap()
}

/// When the pod of the ReplicaSet `checkout-late` is scraped first, in seconds after [`FROM`].
const LATE: i64 = 600;

/// Answers a range selector with counters of pods that grow by 20 and 2 requests a second.
async fn answer(Form(form): Form<BTreeMap<String, String>>) -> Json<Value> {
    let at: f64 = form["time"].parse().unwrap();
    let range = form["query"].rsplit_once('[').unwrap().1;
    let seconds: f64 = range.trim_end_matches("s]").parse().unwrap();
    let first = ((at - seconds) / 15.0).ceil() as i64;
    let last = (at / 15.0).floor() as i64;
    let series = |pod: &str, rate: f64, status: &str| {
        let late = pod.starts_with("checkout-late");
        let values: Vec<Value> = (first..=last)
            .filter(|n| !late || n * 15 >= FROM + LATE)
            .map(|n| json!([n * 15, (n as f64 * 15.0 * rate - 1e9).to_string()]))
            .collect();
        let metric = json!({
            "__name__": "http_requests_total", "pod": pod, "status": status, "instance": pod, "job": "x",
        });
        json!({"metric": metric, "values": values})
    };
    let result = [
        series("checkout-old-abcde", 20.0, "2xx"),
        series("checkout-new-fghij", 2.0, "2xx"),
        series("checkout-new-fghij", 1.0, "5xx"),
        series("checkout-late-klmno", 2.0, "2xx"),
    ];
    Json(json!({"status": "success", "data": {"resultType": "matrix", "result": result}}))
}

async fn fake() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/v1/query", post(answer));
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

fn flags(canary: &str) -> Vec<String> {
    let time = |seconds: i64| Timestamp::from_second(FROM + seconds).unwrap().to_string();
    [
        "--from",
        &time(0),
        "--to",
        &time(3000),
        "--stable",
        "checkout-old",
        "--canary",
        canary,
    ]
    .map(str::to_owned)
    .to_vec()
}

async fn read(canary: &str) -> Result<Recording, String> {
    let flags = flags(canary);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let manifest = manifest(&fake().await);
    let read = range(&flags).unwrap().read(&manifest, None).await;
    read.map_err(|failure| failure.to_string())
}

#[tokio::test]
async fn what_prometheus_kept_is_replayed() {
    let recording = read("checkout-new").await.unwrap();
    assert_eq!(recording.blocks().len(), 100);
    let starts_and_ends = recording.blocks().iter().map(|b| (b.start, b.end));
    assert!(starts_and_ends.eq((0..100).map(|n| (n * 30_000, (n + 1) * 30_000))));
    for block in recording.blocks() {
        let counts = block.slos[0].unwrap();
        let read = [
            counts.stable.total(),
            counts.stable.bad(),
            counts.canary.total(),
            counts.canary.bad(),
        ];
        assert_eq!(read.map(|n| n as i64), [600, 0, 90, 30]);
    }
    let manifest = manifest("http://unused");
    let replay = molt_sim::replay::replay(&manifest.plan, &recording, None).unwrap();
    assert_eq!(replay.outcome, Outcome::RolledBack);
}

#[tokio::test]
async fn a_range_that_begins_before_the_canary_convicts_nobody() {
    let recording = read("checkout-late").await.unwrap();
    assert_eq!((recording.before(), recording.begin()), (20, 600_000));
    let manifest = manifest("http://unused");
    let replay = molt_sim::replay::replay(&manifest.plan, &recording, None).unwrap();
    assert_eq!(replay.outcome, Outcome::Promoted, "{}", replay.message);
    let text = crate::plugin::timeline::replayed(&manifest, &replay, Style::PLAIN);
    assert!(
        text.starts_with(
            "checkout: begins 10m after the recording does, with the canary's first request; 20 recorded blocks before it are left out\n"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn a_name_that_fits_no_pod_is_told() {
    let why = read("checkout-nwe").await.unwrap_err();
    assert!(
        why.starts_with("--canary: no request of ReplicaSet \"checkout-nwe\" in namespace \"default\""),
        "{why}"
    );
}

#[tokio::test]
async fn an_unreachable_prometheus_is_told() {
    let flags = flags("checkout-new");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let manifest = manifest("http://127.0.0.1:1");
    let why = range(&flags)
        .unwrap()
        .read(&manifest, None)
        .await
        .unwrap_err()
        .to_string();
    assert!(why.contains("127.0.0.1:1"), "{why}");
}

#[test]
fn flags_go_together() {
    assert!(range(&["--blocks", "b.jsonl"]).is_ok());
    assert!(range(&[]).unwrap_err().contains("--blocks"));
    assert!(range(&["--from", "x"]).unwrap_err().contains("--to"));
    assert!(
        range(&[
            "--blocks", "b.jsonl", "--from", "x", "--to", "y", "--stable", "a", "--canary", "b"
        ])
        .is_err()
    );
    let both = range(&["--blocks", "b.jsonl", "--prometheus", "http://x"]).unwrap_err();
    let first = both.lines().next().unwrap_or_default();
    for part in ["--blocks", "cannot be used with", "--prometheus"] {
        assert!(first.contains(part), "{part} is not in {first:?}");
    }
}

#[test]
fn an_address_that_is_none_is_told_by_its_flag() {
    let address = |text: &str| {
        let mut words = flags("checkout-new");
        words.extend(["--prometheus".to_owned(), text.to_owned()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let range = range(&words).unwrap();
        let address = range.address().map_err(|failure| failure.to_string());
        address.map(|address| address.map(str::to_owned))
    };
    assert_eq!(address("http://x:9090"), Ok(Some("http://x:9090".to_owned())));
    let why = address("nonsense").unwrap_err();
    assert!(
        why.starts_with("--prometheus: \"nonsense\" is not an address: write http://"),
        "{why}"
    );
}

#[test]
fn a_span_that_is_no_span_is_told() {
    let at = |seconds: i64| Timestamp::from_second(FROM + seconds).unwrap();
    let block = SignedDuration::from_secs(30);
    assert_eq!(edges(at(0), at(70), block), Ok(vec![at(0), at(30), at(60)]));
    for to in [0, -60] {
        let why = edges(at(0), at(to), block).unwrap_err();
        assert!(
            why.starts_with("--to: ") && why.contains("is not after --from"),
            "{why}"
        );
    }
    for to in [29, 30 * 20_001] {
        let why = edges(at(0), at(to), block).unwrap_err();
        assert!(
            why.starts_with("--to: ") && why.contains("1 to 20000 blocks"),
            "{why}"
        );
    }
    let why = time("--from", Some("yesterday")).unwrap_err().to_string();
    assert_eq!(
        why,
        "--from: \"yesterday\" is no time: write it with its zone, such as 2026-05-04T10:00:00Z"
    );
}
