//! Two operators in one cluster: one leads, and is cut off from its lease amid a rollout; the other takes over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use molt::api::v1alpha1::Phase;
use molt::leader::{Settings, Timing};
use molt::server::Readiness;
use molt_sim_api::gate::gated;
use tokio::sync::oneshot;

use super::support::cluster::{Stage, service, stable, until, without_operator};

/// Every write of every operator, in the order in which they were made: by whom, and what.
type Writes = Arc<Mutex<Vec<(&'static str, String)>>>;

struct Operator {
    readiness: Readiness,
    /// Its lease can't be reached by it.
    cut: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    process: tokio::task::JoinHandle<()>,
}

impl Operator {
    fn start(stage: &Stage, name: &'static str, writes: &Writes) -> Self {
        let (cut, readiness) = (Arc::new(AtomicBool::new(false)), Readiness::default());
        let (is_cut, writes) = (cut.clone(), writes.clone());
        let client = gated(stage.client.clone(), name, move |method, path| {
            let passes = !(is_cut.load(Ordering::SeqCst) && path.contains("/leases"));
            if passes && *method != Method::GET {
                writes.lock().unwrap().push((name, format!("{method} {path}")));
            }
            passes
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let settings = Settings {
            namespace: stage.namespace.clone(),
            lease: "molt".to_owned(),
            identity: name.to_owned(),
            timing: Timing::default(),
        };
        let options = molt::controller::Options {
            leader_election: Some(settings),
            ..stage.options()
        };
        let metrics = molt::metrics::Metrics::new("test");
        let operator = molt::controller::run(client, options, metrics, readiness.clone(), async {
            drop(stopped.await);
        });
        Self {
            readiness,
            cut,
            stop: Some(stop),
            process: tokio::spawn(async move { operator.await.unwrap() }),
        }
    }

    fn says(&self, what: &str) -> bool {
        self.readiness.tell() == Ok(what.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_its_lease_writes_nothing_once_another_leads() {
    let stage = without_operator("leaders").await;
    let writes = Writes::default();
    let one = Operator::start(&stage, "one", &writes);
    until("one leads", async || one.says("leading")).await;
    let mut two = Operator::start(&stage, "two", &writes);
    until("two stands by", async || two.says("standby; one leads")).await;

    stage.apply(service("checkout", "shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("checkout", Phase::Healthy).await);
    stage.apply(service("checkout", "shop:better")).await.unwrap();
    stage.until_phase("checkout", Phase::Progressing).await;

    one.cut.store(true, Ordering::SeqCst);
    let cut = Instant::now();
    until("two leads", async || two.says("leading")).await;
    println!(
        "renewals cut off: the other leads after {:.1} s",
        cut.elapsed().as_secs_f64()
    );
    until("the rollout is steered to its end", async || {
        let service = stage.service("checkout").await;
        let status = service.status.clone();
        status.is_some_and(|s| s.phase == Some(Phase::Healthy)) && stable(&service) != first
    })
    .await;
    stage.until_event("molt", "LeaderElected").await;
    one.cut.store(false, Ordering::SeqCst);
    until("one stands by", async || one.says("standby; two leads")).await;

    let stopped = Instant::now();
    drop(two.stop.take());
    until("one leads again", async || one.says("leading")).await;
    println!(
        "stopped: the other leads after {:.1} s",
        stopped.elapsed().as_secs_f64()
    );
    two.process.await.unwrap();
    stage.apply(service("checkout", "shop:best")).await.unwrap();
    stage.until_phase("checkout", Phase::Progressing).await;
    one.process.abort();

    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let spec = leases.get("molt").await.unwrap().spec.unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_transitions),
        (Some("one"), Some(3))
    );

    let writes = writes.lock().unwrap();
    // What one tries with the lease is the API server's to refuse; everything else is written by turns.
    let mut terms: Vec<&str> = Vec::new();
    for (who, what) in writes.iter() {
        if !what.contains("/leases") && terms.last() != Some(who) {
            terms.push(who);
        }
    }
    assert_eq!(terms, ["one", "two", "one"], "{writes:#?}");
}
