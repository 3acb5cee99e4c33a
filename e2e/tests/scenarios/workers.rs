//! Workers by real Celery and a real Redis, under tasks that are sent all the time: none is lost, whatever becomes of the
//! revision.
//!
//! Tasks write down their runs themselves, in Redis; `enqueue.py` sends them and answers what became of them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{pods_of, stable};
use molt_e2e::{Stage, until};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a long task runs, in seconds; 900 in a run by hand: `MOLT_E2E_LONG=900`.
fn long_seconds() -> u64 {
    std::env::var("MOLT_E2E_LONG").map_or(180, |text| text.parse().expect("MOLT_E2E_LONG is a number"))
}

/// What became of the tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    sent: u64,
    done: u64,
    open: u64,
    never_started: Vec<String>,
    not_finished: Vec<String>,
    twice: Vec<String>,
    begun_twice: u64,
    by: std::collections::BTreeMap<String, u64>,
    queued: u64,
    ticks: Vec<String>,
}

fn pod(name: &str, container: &Value) -> Pod {
    let mut container = container.clone();
    container["name"] = json!(name);
    container["imagePullPolicy"] = json!("IfNotPresent");
    container["resources"] = json!({"requests": {"cpu": "10m", "memory": "48Mi"}});
    let scraped = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9808"});
    let annotations = if name == "exporter" { scraped } else { json!({}) };
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"fsGroup": 65532},
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [container],
        },
    }))
    .expect("it is a pod")
}

/// A pod that runs a program of the application.
fn program(name: &str, env: &[(&str, String)]) -> Pod {
    let env: Vec<Value> = env
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let file = if name == "exporter" {
        "exporter.py"
    } else {
        "enqueue.py"
    };
    pod(
        name,
        &json!({"image": "molt.local/celery:dev", "args": [file], "env": env}),
    )
}

async fn start(stage: &Stage, pod: Pod) {
    let name = pod.name_any();
    stage.pods().create(&PostParams::default(), &pod).await.unwrap();
    until_ready(stage, &name).await;
}

async fn until_ready(stage: &Stage, name: &str) {
    stage
        .until(&format!("{name} is ready"), async || {
            let pod = stage.pods().get(name).await.unwrap();
            let conditions = pod.status.and_then(|s| s.conditions).unwrap_or_default();
            conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
        })
        .await;
}

async fn address(stage: &Stage, name: &str) -> IpAddr {
    let pod = stage.pods().get(name).await.unwrap();
    let address = pod.status.and_then(|s| s.pod_ip).expect("it has an address");
    address.parse().unwrap()
}

/// A broker, and an exporter of what workers tell.
async fn given_a_broker(namespace: &str) -> Stage {
    let stage = Stage::given(namespace).await;
    let redis = json!({
        "image": "molt.local/redis:dev",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
    });
    start(&stage, pod("redis", &redis)).await;
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "redis"},
        "spec": {"selector": {"app": "redis"}, "ports": [{"port": 6379}]},
    }))
    .unwrap();
    stage
        .core_services()
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    start(&stage, program("exporter", &[])).await;
    stage
}

/// Tasks that are sent all the time.
async fn enqueue(stage: &Stage, name: &str, more: &[(&str, String)]) {
    let mut env = vec![("LONG", long_seconds().to_string())];
    env.extend_from_slice(more);
    start(stage, program(name, &env)).await;
    stage
        .until("tasks are done", async || {
            ask(stage, name, "/report").await.is_some_and(|r| r.done > 20)
        })
        .await;
}

/// What the enqueuer answers; `None` while it can't.
async fn ask(stage: &Stage, name: &str, path: &str) -> Option<Report> {
    let address = address(stage, name).await;
    let exchange = async {
        let mut stream = TcpStream::connect((address, 8000)).await?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), exchange)
        .await
        .ok()?
        .ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then_some(())?;
    Some(serde_json::from_str(body).expect("it is a report"))
}

/// Sends no more, waits until everything has been done, and says what became of it all.
async fn settle(stage: &Stage, name: &str) -> Report {
    let patience = Duration::from_secs(long_seconds() * 2 + 240);
    let begun = Instant::now();
    let mut last = Report::default();
    while begun.elapsed() < patience {
        if let Some(report) = ask(stage, name, "/stop").await {
            last = report;
            if last.open == 0 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!(
        "{}: {} tasks sent, {} done, {} open; {} done twice, {} begun twice; by {:?}",
        stage.namespace,
        last.sent,
        last.done,
        last.open,
        last.twice.len(),
        last.begun_twice,
        last.by
    );
    last
}

/// None is lost. What ends is finished within the time that Molt gives it, so none is run twice either.
fn none_lost(report: &Report) {
    assert!(report.sent > 100, "{report:?}");
    assert_eq!(
        (report.open, report.queued),
        (0, 0),
        "lost: never started {:?}, not finished {:?}",
        report.never_started,
        report.not_finished
    );
    assert!(report.twice.is_empty(), "run twice: {:?}", report.twice);
}

/// The workers in a release that behaves as these variables say.
fn workers(stage: &Stage, release: &str, behaviour: &[(&str, &str)]) -> Value {
    let mut env = vec![json!({"name": "RELEASE", "value": release})];
    env.extend(
        behaviour
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value})),
    );
    json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": "tasks", "namespace": stage.namespace},
        "spec": {
            "replicas": 3,
            "progressDeadline": "3m",
            "runtime": {"server": "celery", "queues": ["default"]},
            "exposure": {"replicas": {}},
            "template": {"spec": {
                // Ten minutes unless somebody says how long a task may take.
                "terminationGracePeriodSeconds": (long_seconds() > 500).then_some(long_seconds() + 120),
                "containers": [{
                    "name": "worker",
                    "image": "molt.local/celery:dev",
                    "imagePullPolicy": "IfNotPresent",
                    // Room for long tasks beside the short ones.
                    "args": ["-m", "celery", "-A", "tasks", "worker", "-E", "-c", "8", "-Q", "$(MOLT_QUEUES)"],
                    "env": env,
                    "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}},
                }],
            }},
            "metrics": {"prometheus": {"interval": "5s"}},
            "strategy": {"canary": {
                "steps": [{"setWeight": 25}, {"pause": {"duration": "15s"}}],
                "bake": "20s", "watch": "0s",
            }},
            "slos": [{
                "name": "success", "objective": "99",
                "sli": {"preset": "celery-exporter", "type": "availability"},
            }],
        },
    })
}

async fn given_workers(namespace: &str) -> (Stage, String) {
    let stage = given_a_broker(namespace).await;
    stage.apply(workers(&stage, "v1", &[])).await;
    let first = stable(&stage.until_phase("tasks", Phase::Healthy).await);
    (stage, first)
}

#[tokio::test]
#[ignore = "takes five to ten minutes: make e2e-long"]
async fn no_task_is_lost_across_a_promotion_and_a_rollback() {
    let (stage, first) = given_workers("e2e-workers").await;
    // Long enough to outlast what its workers belong to; the next scenario has those of minutes.
    enqueue(&stage, "enqueue", &[("LONG", "45".to_owned())]).await;

    stage.apply(workers(&stage, "v2", &[])).await;
    let done = stage.until_phase("tasks", Phase::Healthy).await;
    let second = stable(&done);
    assert_ne!(first, second);
    let services = stage.core_services().list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = services.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["redis"], "nobody calls workers");

    // Half of its tasks fail: it goes back, and its long tasks end first.
    stage.apply(workers(&stage, "v3", &[("FAILS", "0.5")])).await;
    let back = stage.until_phase("tasks", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::RolledBack));

    let report = settle(&stage, "enqueue").await;
    // What v3 failed by itself is done by nobody: it was acknowledged all the same.
    let failed = report.open;
    let started = report.never_started.is_empty();
    assert!(started, "lost before they began: {:?}", report.never_started);
    assert!(failed * 10 < report.sent, "{failed} of {} are open", report.sent);
    assert!(report.twice.is_empty(), "run twice: {:?}", report.twice);
    assert_eq!(report.queued, 0);
    stage.end().await;
}

#[tokio::test]
#[ignore = "takes five to ten minutes: make e2e-long"]
async fn long_tasks_end_where_they_began() {
    let (stage, first) = given_workers("e2e-workers-long").await;
    let more = [("RATE", "5".to_owned()), ("LONG_EVERY", "8".to_owned())];
    enqueue(&stage, "enqueue", &more).await;
    stage.apply(workers(&stage, "v2", &[])).await;
    let second = stable(&stage.until_phase("tasks", Phase::Healthy).await);
    assert_ne!(first, second);
    // On the way back as well: v1 is known, and its workers have gone.
    stage.apply(workers(&stage, "v1", &[])).await;
    stage
        .until("the first release works again", async || {
            let service = stage.services().get("tasks").await.unwrap();
            let status = service.status.clone().unwrap_or_default();
            status.phase == Some(Phase::Healthy) && stable(&service) == first
        })
        .await;
    let report = settle(&stage, "enqueue").await;
    none_lost(&report);
    let long = |kind: &str| report.by.keys().any(|key| key.ends_with(kind));
    assert!(long(" long") && long(" long_early"), "{:?}", report.by);
    stage.end().await;
}

#[tokio::test]
#[ignore = "how many tasks the broker takes with it is chance, and Celery's; make e2e-long"]
async fn a_broker_that_goes_away_promotes_nothing() {
    let (stage, first) = given_workers("e2e-workers-redis").await;
    enqueue(&stage, "enqueue", &[("LONG", "5".to_owned())]).await;
    let mut paused = workers(&stage, "v2", &[]);
    paused["spec"]["strategy"]["canary"]["steps"] =
        json!([{"setWeight": 25}, {"pause": {"duration": "60s"}}]);
    stage.apply(paused).await;
    stage
        .until("both work", async || {
            let status = stage.services().get("tasks").await.unwrap().status.unwrap();
            status.canary.is_some_and(|canary| canary.weight > 0)
        })
        .await;
    for _ in 0..12 {
        shut_down(&stage).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let service = stage.services().get("tasks").await.unwrap();
        assert_eq!(stable(&service), first, "nothing is promoted without evidence");
    }
    until_ready(&stage, "redis").await;
    // Both worked on, or waited: what is shown afterwards decides, or a person does.
    stage
        .until("the rollout comes to an end, or asks for a person", async || {
            let status = stage.services().get("tasks").await.unwrap().status.unwrap();
            matches!(
                status.phase,
                Some(Phase::Healthy | Phase::Paused | Phase::RolledBack)
            )
        })
        .await;
    let report = settle(&stage, "enqueue").await;
    // A task that a worker has just taken when the broker dies is lost by Celery's transport, not by a rollout.
    assert!(report.open < 20, "{report:?}");
    stage.end().await;
}

async fn shut_down(stage: &Stage) {
    let to = (address(stage, "redis").await, 6379);
    if let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(to)).await {
        drop(stream.write_all(b"SHUTDOWN NOW\r\n").await);
    }
}

#[tokio::test]
#[ignore = "waits for minutes until metrics are gone, which no other test needs; make e2e-long"]
async fn without_its_exporter_a_rollout_pauses_and_tells() {
    let (stage, first) = given_workers("e2e-workers-blind").await;
    enqueue(&stage, "enqueue", &[("LONG", "5".to_owned())]).await;
    stage
        .pods()
        .delete("exporter", &DeleteParams::default())
        .await
        .unwrap();
    stage
        .until("the exporter is gone", async || {
            stage.pods().get_opt("exporter").await.unwrap().is_none()
        })
        .await;
    // What was scraped before is still in the range that is read.
    tokio::time::sleep(Duration::from_secs(150)).await;
    stage.apply(workers(&stage, "v2", &[])).await;
    let paused = stage.until_phase("tasks", Phase::Paused).await;
    assert_eq!(stable(&paused), first);
    let status = paused.status.unwrap();
    let canary = status.canary.expect("an attempt is under way").revision;
    assert!(
        pods_of(&stage, &canary).await.is_empty(),
        "no worker of it started"
    );
    let message = status.message.unwrap_or_default();
    assert!(message.contains("celery worker -E"), "{message}");
    none_lost(&settle(&stage, "enqueue").await);
    stage.end().await;
}

#[tokio::test]
#[ignore = "takes five to ten minutes: make e2e-long"]
async fn of_beat_there_is_never_a_second_one() {
    let (stage, _) = given_workers("e2e-beat").await;
    enqueue(&stage, "enqueue", &[("LONG", "5".to_owned())]).await;
    let beat = |release: &str, args: &[&str]| {
        let mut object = workers(&stage, release, &[]);
        object["metadata"]["name"] = json!("beat");
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("replicas");
        spec.remove("slos");
        spec["exposure"] = json!({"singleton": {}});
        spec["strategy"]["canary"] = json!({"bake": "15s", "watch": "0s"});
        spec["runtime"] = json!({"server": "celery"});
        let container = &mut spec["template"]["spec"]["containers"][0];
        container["args"] = json!(args);
        object
    };
    let good = [
        "-m",
        "celery",
        "-A",
        "tasks",
        "beat",
        "-s",
        "/tmp/schedule",
        "--pidfile=",
    ];
    stage.apply(beat("v1", &good)).await;
    stage.until_phase("beat", Phase::Healthy).await;
    stage.apply(beat("v2", &good)).await;
    let second = stable(&stage.until_phase("beat", Phase::Healthy).await);
    // One that ends at once: the second one is back within a restart.
    stage.apply(beat("v3", &["-c", "raise SystemExit(3)"])).await;
    let back = stage.until_phase("beat", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
    tokio::time::sleep(Duration::from_secs(15)).await;

    let report = settle(&stage, "enqueue").await;
    let ticks: Vec<(f64, String)> = report
        .ticks
        .iter()
        .map(|tick| {
            let (at, pod) = tick.split_once(' ').expect("a time and a pod");
            (at.parse().unwrap(), pod.to_owned())
        })
        .collect();
    let mut schedulers: Vec<&str> = Vec::new();
    let mut longest: f64 = 0.0;
    for pair in ticks.windows(2) {
        longest = longest.max(pair[1].0 - pair[0].0);
    }
    for (_, pod) in &ticks {
        if schedulers.last() != Some(&pod.as_str()) {
            assert!(
                !schedulers.contains(&pod.as_str()),
                "two at once: {schedulers:?}, {pod}"
            );
            schedulers.push(pod);
        }
    }
    println!(
        "{} schedulers one after the other, at most {longest:.1} s without one",
        schedulers.len()
    );
    assert_eq!(schedulers.len(), 3, "{schedulers:?}");
    assert!(longest < 60.0, "nobody scheduled anything for {longest} s");
    stage.end().await;
}

#[tokio::test]
#[ignore = "takes five to ten minutes: make e2e-long"]
async fn workers_know_a_task_before_anybody_sends_it() {
    let (stage, _) = given_workers("e2e-workers-order").await;
    enqueue(&stage, "enqueue", &[("LONG", "5".to_owned())]).await;
    stage.apply(workers(&stage, "v2", &[])).await;
    stage.until_phase("tasks", Phase::Healthy).await;
    // Now those who send them may.
    enqueue(
        &stage,
        "new",
        &[("LONG", "5".to_owned()), ("NEW", "1".to_owned())],
    )
    .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    ask(&stage, "enqueue", "/stop").await;
    let report = settle(&stage, "new").await;
    none_lost(&report);
    assert!(report.by.contains_key("v2 new"), "{:?}", report.by);
    // An old worker has not met one: it would have thrown it away.
    until("nothing is queued", async || {
        ask(&stage, "new", "/report").await.is_some_and(|r| r.queued == 0)
    })
    .await;
    stage.end().await;
}
