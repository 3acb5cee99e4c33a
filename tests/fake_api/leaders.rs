//! Two operators on one API server: one leads, and the other takes over. Time is virtual: it goes on when nothing
//! else does.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use molt::controller::edges::{Clock, Edges};
use molt::leader::{Settings, Timing};
use molt::metric_sources::headers::Headers;
use molt::metric_sources::sources::Sources;
use molt::server::Readiness;
use molt_sim_api::gate::gated;
use molt_sim_api::{Call, Fault, Sim};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::players;
use super::stage::{apply_service, empty, is_healthy, options, seen};

/// How long, in virtual time, anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process that can be stopped and let go on, as `SIGSTOP` and `SIGCONT` do.
#[derive(Clone, Default)]
struct Ice(Arc<Mutex<(bool, Option<Waker>)>>);

impl Ice {
    fn freeze(&self) {
        self.0.lock().unwrap().0 = true;
    }

    fn thaw(&self) {
        let mut ice = self.0.lock().unwrap();
        ice.0 = false;
        ice.1.take().into_iter().for_each(Waker::wake);
    }

    async fn around<T>(self, mut process: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
        std::future::poll_fn(move |context| {
            let mut ice = self.0.lock().unwrap();
            if ice.0 {
                ice.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
            drop(ice);
            process.as_mut().poll(context)
        })
        .await
    }
}

/// A clock of the wall that goes as fast as virtual time does.
struct VirtualClock(Timestamp, Instant);

impl Default for VirtualClock {
    fn default() -> Self {
        Self(Timestamp::now(), Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0 + self.1.elapsed()
    }
}

struct Operator {
    name: &'static str,
    ice: Ice,
    stop: Option<oneshot::Sender<()>>,
    readiness: Readiness,
    process: JoinHandle<()>,
}

impl Operator {
    fn start(sim: &Sim, name: &'static str) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ice, readiness) = (Ice::default(), Readiness::default());
        let settings = Settings {
            namespace: "molt-system".to_owned(),
            lease: "molt".to_owned(),
            identity: name.to_owned(),
            timing: Timing::default(),
        };
        let metrics = molt::metrics::Metrics::new("test");
        let source = Sources::new(metrics.clone(), Headers::new(None, None), None).unwrap();
        let edges = Edges {
            clock: Arc::new(VirtualClock::default()),
            ..Edges::new(gated(sim.client(), name, |_, _| true), Arc::new(source))
        };
        let operator = molt::controller::run_on(
            edges,
            molt::controller::Options {
                leader_election: Some(settings),
                ..options()
            },
            metrics,
            readiness.clone(),
            async {
                drop(stopped.await);
            },
        );
        let frozen = ice.clone().around(Box::pin(operator));
        Self {
            name,
            ice,
            stop: Some(stop),
            readiness,
            process: tokio::spawn(frozen),
        }
    }

    fn leads(&self) -> bool {
        self.readiness.tell() == Ok("leading".to_owned())
    }

    fn stands_by_for(&self, leader: &str) -> bool {
        self.readiness.tell() == Ok(format!("standby; {leader} leads"))
    }
}

/// Lets the world go on until something is so.
async fn until(sim: &Sim, what: &str, check: impl Fn(&Sim) -> bool) {
    let began = Instant::now();
    loop {
        sim.with(players::play);
        if check(sim) {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited in vain until {what}; {}",
            seen(sim)["status"]
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pass(sim: &Sim, time: Duration) {
    let began = Instant::now();
    until(sim, "time has passed", |_| began.elapsed() >= time).await;
}

/// Gives whoever leads something to write.
fn change(sim: &Sim, replicas: u64) {
    let path = "/apis/molt.dev/v1alpha1/namespaces/shop/pythonservices/checkout?fieldManager=person";
    let body = json!({"spec": {"replicas": replicas}});
    let call = Call::new(Method::PATCH, path, "application/merge-patch+json", body);
    assert_eq!(sim.ask(&call).code, 200);
}

/// What is asked for has been brought about.
fn is_steered(sim: &Sim) -> bool {
    let service = seen(sim);
    service["status"]["observedGeneration"] == service["metadata"]["generation"]
}

fn holder(sim: &Sim) -> Option<String> {
    sim.with(|s| {
        let lease = s.object("leases.coordination.k8s.io", "molt-system", "molt")?;
        Some(lease["spec"]["holderIdentity"].as_str()?.to_owned())
    })
}

fn is_of_lease(call: &Call) -> bool {
    call.path.contains("/leases")
}

/// One leads a service that is healthy, another one stands by.
async fn two() -> (Sim, Operator, Operator) {
    let sim = empty();
    sim.with(|s| s.set_time(Timestamp::now()));
    apply_service(&sim, "checkout:1");
    let one = Operator::start(&sim, "one");
    until(&sim, "one leads", |_| one.leads()).await;
    until(&sim, "the service is healthy", is_healthy).await;
    let two = Operator::start(&sim, "two");
    until(&sim, "two stands by", |_| two.stands_by_for("one")).await;
    pass(&sim, Duration::from_secs(2)).await;
    sim.take_log();
    (sim, one, two)
}

/// Changes keep coming, so that whoever believes to lead has something to write.
async fn press(sim: &Sim, time: Duration) {
    let began = Instant::now();
    let mut replicas = 2;
    while began.elapsed() < time {
        replicas = 5 - replicas;
        change(sim, replicas);
        pass(sim, Duration::from_millis(100)).await;
    }
}

/// Nothing is written by `first` after `second` has taken the lease, and `second` does write. What one asks of the
/// lease in vain is no write.
fn assert_handed_over(sim: &Sim, first: &str, second: &str) {
    sim.with_log(|log| {
        let done = log.iter().filter(|l| l.changed || !is_of_lease(&l.call));
        let writes = || done.clone().map(|l| &l.call).filter(|c| c.is_write());
        let took = writes().position(|c| c.user_agent == second && is_of_lease(c));
        let after: Vec<&Call> = writes().skip(took.expect("the other takes the lease")).collect();
        let late: Vec<&&Call> = after.iter().filter(|c| c.user_agent == first).collect();
        assert!(late.is_empty(), "{first} has written after {second}: {late:#?}");
        let steers = |c: &&&Call| c.user_agent == second && !is_of_lease(c);
        assert!(after.iter().any(|c| steers(&c)), "{second} has written nothing");
    });
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_renewals_are_not_answered_writes_nothing_more() {
    let (sim, one, two) = two().await;
    sim.plan(|call, _| {
        let cut = call.user_agent == "one" && is_of_lease(call) && call.is_write();
        cut.then_some(Fault::Silent { took_effect: false })
    });
    let began = Instant::now();
    while !two.leads() {
        assert!(!(one.leads() && two.leads()));
        press(&sim, Duration::from_millis(100)).await;
        assert!(began.elapsed() < PATIENCE, "two never leads");
    }
    press(&sim, Duration::from_secs(6)).await;
    until(&sim, "two steers", is_steered).await;
    assert_handed_over(&sim, "one", "two");
    assert!(one.stands_by_for("two"), "{:?}", one.readiness.tell());
    println!("renewals cut off: the other leads after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn renewals_that_take_effect_without_an_answer_are_none() {
    let (sim, one, two) = two().await;
    sim.plan(|call, _| {
        let cut = call.user_agent == "one" && is_of_lease(call);
        cut.then_some(Fault::Lost { took_effect: true })
    });
    pass(&sim, Duration::from_secs(4)).await;
    assert!(!one.leads());
    sim.take_log();
    press(&sim, Duration::from_secs(5)).await;
    sim.with_log(|log| {
        let by_one = |c: &Call| c.user_agent == "one" && c.is_write() && !is_of_lease(c);
        let written: Vec<&Call> = log.iter().map(|l| &l.call).filter(|c| by_one(c)).collect();
        assert!(written.is_empty(), "{written:#?}");
    });
    sim.no_faults();
    until(&sim, "somebody steers", |sim| {
        (one.leads() || two.leads()) && is_steered(sim)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_frozen_amid_a_write_writes_nothing_when_it_thaws() {
    let (sim, one, two) = two().await;
    // Its status is written, and it never learns of that: what follows would be the effects.
    sim.plan(|call, _| {
        let hangs = call.user_agent == "one" && call.is_write() && call.path.ends_with("/checkout/status");
        hangs.then_some(Fault::Silent { took_effect: true })
    });
    change(&sim, 3);
    let asked = |sim: &Sim| sim.with_log(|log| log.iter().any(|l| l.fault.is_some()));
    until(&sim, "one writes", asked).await;
    one.ice.freeze();
    until(&sim, "two leads and steers", |sim| two.leads() && is_steered(sim)).await;
    sim.no_faults();
    press(&sim, Duration::from_secs(2)).await;
    one.ice.thaw();
    press(&sim, Duration::from_secs(6)).await;
    assert_handed_over(&sim, "one", "two");
    assert!(one.stands_by_for("two"), "{:?}", one.readiness.tell());
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_in_less_than_five_seconds() {
    let (sim, one, two) = two().await;
    one.process.abort();
    let killed = Instant::now();
    change(&sim, 3);
    until(&sim, "two leads and steers", |sim| two.leads() && is_steered(sim)).await;
    println!("killed: the other steers after {:?}", killed.elapsed());
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    assert_handed_over(&sim, one.name, two.name);
}

#[tokio::test(start_paused = true)]
async fn a_single_operator_that_is_killed_steers_again_in_less_than_fifteen_seconds() {
    let (sim, one, two) = two().await;
    two.process.abort();
    one.process.abort();
    let killed = Instant::now();
    change(&sim, 3);
    let again = Operator::start(&sim, "one-again");
    until(&sim, "it steers", |sim| again.leads() && is_steered(sim)).await;
    println!(
        "a single one killed: it steers again after {:?}",
        killed.elapsed()
    );
    assert!(
        killed.elapsed() < Duration::from_secs(15),
        "{:?}",
        killed.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_hands_over_at_once() {
    let (sim, mut one, two) = two().await;
    drop(one.stop.take());
    let stopped = Instant::now();
    change(&sim, 3);
    until(&sim, "two leads and steers", |sim| two.leads() && is_steered(sim)).await;
    println!("stopped: the other steers after {:?}", stopped.elapsed());
    assert!(
        stopped.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopped.elapsed()
    );
    one.process.await.unwrap();
    assert_handed_over(&sim, "one", "two");

    let mut two = two;
    drop(two.stop.take());
    two.process.await.unwrap();
    assert_eq!(holder(&sim), None, "the lease is released");
}

#[tokio::test(start_paused = true)]
async fn while_nothing_moves_the_leader_renews_and_the_other_writes_nothing() {
    let (sim, _one, _two) = two().await;
    pass(&sim, Duration::from_secs(20)).await;
    sim.with_log(|log| {
        let writes: Vec<&Call> = log.iter().map(|l| &l.call).filter(|c| c.is_write()).collect();
        let others: Vec<&&Call> = writes
            .iter()
            .filter(|c| !(is_of_lease(c) && c.user_agent == "one"))
            .collect();
        assert!(others.is_empty(), "{others:#?}");
        assert!(
            (18..=21).contains(&writes.len()),
            "{} renewals in 20 s",
            writes.len()
        );
    });
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_is_made_anew_and_led_by_one() {
    let (sim, one, two) = two().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/molt-system/leases/molt";
    let call = Call::new(Method::DELETE, path, "application/json", json!({}));
    assert_eq!(sim.ask(&call).code, 200);
    until(&sim, "nobody leads", |_| !one.leads() && !two.leads()).await;
    until(&sim, "somebody leads", |sim| {
        assert!(!(one.leads() && two.leads()));
        (one.leads() || two.leads()) && holder(sim).is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_may_not_read_the_lease_is_not_ready_and_says_why() {
    let sim = empty();
    apply_service(&sim, "checkout:1");
    sim.plan(|call, _| {
        is_of_lease(call).then(|| Fault::forbidden("get", "leases", "coordination.k8s.io", "molt"))
    });
    let one = Operator::start(&sim, "one");
    let wanted = "add the verb get on leases.coordination.k8s.io to the operator's role";
    let says = || one.readiness.tell().is_err_and(|why| why.contains(wanted));
    until(&sim, "it says why", |_| says()).await;
}
