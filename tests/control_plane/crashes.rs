//! A crash before and after every write changes nothing about the outcome (invariant 7), on a real API server.
//!
//! A life is a service that goes through chapters: a first deployment, a promotion, a rollback, and so on. Two
//! lives without a crash say how each chapter ends and how many writes it takes. In each further life every
//! chapter has its crash: before or after its first write, its second one, and so on. A life ends with the last
//! chapter that has such a place left; chapters that it needs nevertheless have two crashes, the second one
//! while the operator recovers. Each chapter must end as it does without a crash before the next one begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use molt::api::v1alpha1::{PythonService, RolloutAction};
use serde_json::{Value, json};

use crate::support::cluster::{connect, install_crds, make_namespace, make_node, service};
use crate::support::gateway;
use crate::support::mortal::{Death, Mortal, Write};
use crate::support::world::World;

/// Namespaces of this file.
const PREFIX: &str = "crash-";
/// How long a chapter may take; generous, because the machine may be slow.
const PATIENCE: Duration = Duration::from_mins(10);
/// Lives that run at the same time: they mostly wait.
const AT_ONCE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chapter {
    /// A first deployment.
    First,
    /// From a new revision to its promotion.
    Promotion,
    /// From a new revision to its rollback by evidence.
    Rollback,
    /// From a person's word to the end of the attempt.
    Abort,
    /// From another spec in mid-flight to the promotion of that.
    Superseded,
    /// From the deletion in mid-flight to nothing.
    Deleted,
}

/// Whose route carries the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Molts,
    Users,
}

impl Route {
    /// Those with more writes come first.
    fn chapters(self) -> &'static [Chapter] {
        use Chapter::{Abort, Deleted, First, Promotion, Rollback, Superseded};
        match self {
            Self::Molts => &[First, Superseded, Rollback, Abort, Deleted],
            Self::Users => &[First, Promotion, Abort, Deleted],
        }
    }
}

struct Life {
    world: Arc<World>,
    client: Client,
    namespace: String,
    route: Route,
    operator: Mortal,
}

/// What a chapter was like.
struct Told {
    end: Value,
    writes: Vec<Write>,
    died: Vec<Write>,
}

impl Life {
    async fn begin(world: Arc<World>, client: Client, namespace: String, route: Route) -> Self {
        make_namespace(&client, &namespace).await;
        if route == Route::Users {
            write_route(&client, &namespace).await;
        }
        let operator = Mortal::start(molt::controller::Options {
            prometheus_address: world.prometheus.address.clone(),
            prometheus_headers_file: None,
            prometheus_ca_file: None,
            namespace: Some(namespace.clone()),
            concurrency: 4,
            rule_labels: BTreeMap::new(),
            snapshot_secrets: false,
            fleet_namespace: namespace.clone(),
            strict_paused: false,
            leader_election: None,
            dashboard_url: None,
        });
        Self {
            world,
            client,
            namespace,
            route,
            operator,
        }
    }

    /// Goes through a chapter, with the deaths that are in it. Without an expected end it ends when it is over.
    async fn live(&self, chapter: Chapter, deaths: Vec<Death>, expected: Option<&Value>) -> Told {
        self.prepare(chapter).await;
        let whose = format!("{} {:?} {chapter:?} {deaths:?}", self.namespace, self.route);
        self.operator.dies_at(deaths);
        self.act(chapter).await;
        let calm = Duration::from_millis(if expected.is_some() { 500 } else { 2000 });
        let over = || match expected {
            Some(expected) => self.seen() == *expected,
            None => self.is_over(chapter),
        };
        let ended = self.until(|| self.operator.is_quiet(calm) && over()).await;
        let (writes, died) = self.operator.spared();
        assert!(
            ended,
            "{whose} did not end as it should, after a crash at {died:?}:\n{}last writes: {:#?}\nroutes: {:?}",
            difference(&self.seen(), expected.unwrap_or(&Value::Null)),
            &writes[writes.len().saturating_sub(12)..],
            self.world
                .routes
                .of(&self.namespace)
                .values()
                .map(|r| (r.metadata.generation, &r.data["status"]))
                .collect::<Vec<_>>()
        );
        Told {
            end: self.seen(),
            writes,
            died,
        }
    }

    /// What a chapter begins with.
    async fn prepare(&self, chapter: Chapter) {
        let image = match chapter {
            Chapter::First | Chapter::Promotion | Chapter::Rollback => return,
            Chapter::Abort => "shop:4",
            Chapter::Superseded => "shop:5",
            Chapter::Deleted => "shop:7",
        };
        self.apply(image, Some("10m")).await;
        let dwells = || {
            let status = self.service().and_then(|s| s.status).unwrap_or_default();
            status.canary.is_some_and(|c| c.weight == 20) && status.step.is_some_and(|s| s.index == 1)
        };
        assert!(
            self.until(dwells).await,
            "{} does not dwell before {chapter:?}:\n{}",
            self.namespace,
            difference(&self.seen(), &Value::Null)
        );
    }

    async fn act(&self, chapter: Chapter) {
        match chapter {
            Chapter::First => self.apply("shop:1", None).await,
            Chapter::Promotion => self.apply("shop:2", None).await,
            Chapter::Rollback => self.apply("shop3:bad", None).await,
            Chapter::Superseded => self.apply("shop:6", None).await,
            Chapter::Abort => {
                let action: RolloutAction = serde_json::from_value(json!({
                    "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction",
                    "metadata": {"name": "abort"},
                    "spec": {"service": "shop", "action": "Abort", "requestedBy": "oncall"}
                }))
                .unwrap();
                let api: Api<RolloutAction> = Api::namespaced(self.client.clone(), &self.namespace);
                api.create(&PostParams::default(), &action).await.unwrap();
            }
            Chapter::Deleted => {
                let deleted = self.services().delete("shop", &DeleteParams::default()).await;
                drop(deleted.unwrap());
            }
        }
    }

    fn services(&self) -> Api<PythonService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn apply(&self, image: &str, dwell: Option<&str>) {
        let mut object = service("shop", image);
        let spec = &mut object["spec"];
        spec["progressDeadline"] = json!("5m");
        spec["drain"] = json!({"timeout": "0s"});
        spec["revisionHistoryLimit"] = json!(1);
        // No kubelet ends them.
        spec["template"]["spec"]["terminationGracePeriodSeconds"] = json!(0);
        let mut steps = vec![json!({"setWeight": 20})];
        steps.extend(dwell.map(|time| json!({"pause": {"duration": time}})));
        spec["strategy"]["canary"] = json!({"steps": steps, "bake": "1s", "watch": "0s", "scaleDownDelay": "1s", "abortScaleDownDelay": "1s"});
        if self.route == Route::Users {
            spec["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}});
        }
        let params = PatchParams::apply("person").force();
        let applied = self
            .services()
            .patch("shop", &params, &Patch::Apply(object))
            .await
            .unwrap();
        let known = || {
            let known = self.service().and_then(|s| s.metadata.generation);
            known >= applied.metadata.generation
        };
        assert!(self.until(known).await, "the watch brings it");
    }

    fn service(&self) -> Option<PythonService> {
        self.world.services.of(&self.namespace).remove("shop")
    }

    fn pods(&self) -> Vec<Pod> {
        self.world.pods.of(&self.namespace).into_values().collect()
    }

    async fn until(&self, check: impl Fn() -> bool) -> bool {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !check() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        waited.await.is_ok()
    }

    /// Nothing is left to do, as far as that can be seen without knowing the end.
    fn is_over(&self, chapter: Chapter) -> bool {
        let of = &self.namespace;
        let recorded = self.world.records.of(of).into_values().all(|record| {
            let outcome = record.status.and_then(|s| s.outcome);
            outcome.is_some()
        });
        let answered = self.world.actions.of(of).into_values().all(|action| {
            let state = action.status.and_then(|s| s.state);
            state.is_some()
        });
        let done = match (chapter, self.service()) {
            (Chapter::Deleted, service) => {
                service.is_none() && self.world.sets.of(of).is_empty() && self.pods().is_empty()
            }
            (_, None) => false,
            (_, Some(service)) => {
                let status = service.status.unwrap_or_default();
                let state = status.state.unwrap_or_default();
                status.observed_generation == service.metadata.generation
                    && state.attempt.is_none()
                    && state.last.is_some()
                    && state.retiring.is_empty()
                    && self.pods().len() == 2
            }
        };
        recorded && answered && done
    }

    /// Everything that must be as it is without a crash. What differs from life to life is left out:
    /// identities, versions, times.
    fn seen(&self) -> Value {
        let (world, of) = (&self.world, &self.namespace);
        let service = self.service().map(|service| {
            let status = service.status.clone().unwrap_or_default();
            let state = status.state.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            json!({
                "current": status.observed_generation == service.metadata.generation,
                "finalizers": service.finalizers(),
                "phase": status.phase,
                "stable": status.stable,
                "canary": status.canary,
                "conditions": conditions.iter().map(|c| json!([c.type_, c.status, c.reason])).collect::<Vec<_>>(),
                "attempt": state.attempt.map(|a| json!([a.revision, a.number])),
                "last": state.last.map(|l| json!([l.revision, l.number, l.outcome, l.reason, l.stable])),
                "refused": state.refused,
                "retiring": state.retiring,
                "actions": state.actions.len(),
            })
        });
        let records = world.records.of(of).into_iter().map(|(name, record)| {
            let status = record.status.unwrap_or_default();
            let reasons: Vec<String> = status.transitions.into_iter().map(|t| t.reason).collect();
            let told = json!({
                "stable": record.spec.stable_revision, "outcome": status.outcome, "reason": status.reason,
                "maxWeight": status.max_weight, "transitions": reasons,
            });
            (name, told)
        });
        let sets = world.sets.of(of).into_iter().map(|(name, set)| {
            let attempt = set.annotations().get("molt.dev/attempt").cloned();
            (name, json!([set.spec.unwrap().replicas, attempt]))
        });
        let services = world.core_services.of(of).into_iter();
        let routes = world.routes.of(of).into_iter();
        let actions = world.actions.of(of).into_iter();
        json!({
            "service": service,
            "sets": sets.collect::<BTreeMap<_, _>>(),
            "services": services.map(|(n, s)| (n, s.spec.unwrap().selector)).collect::<BTreeMap<_, _>>(),
            "routes": routes.map(|(n, r)| (n, r.data["spec"].clone())).collect::<BTreeMap<_, _>>(),
            "actions": actions.map(|(n, a)| (n, a.status.map(|s| s.state))).collect::<BTreeMap<_, _>>(),
            "records": records.collect::<BTreeMap<_, _>>(),
            "pods": self.pods().iter().map(|p| p.labels()["molt.dev/revision"].clone()).collect::<Vec<_>>(),
            // An object that was made twice has had two UIDs.
            "ever": {
                "sets": world.sets.ever(of),
                "services": world.core_services.ever(of),
                "records": world.records.ever(of),
                "routes": world.routes.ever(of),
            },
        })
    }
}

async fn write_route(client: &Client, namespace: &str) {
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 8000, "weight": weight});
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "front"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{
            "backendRefs": [backend("shop-stable", 100), backend("shop-canary", 0)]
        }]}
    });
    gateway::routes(client.clone(), namespace)
        .patch("front", &PatchParams::apply("person"), &Patch::Apply(route))
        .await
        .unwrap();
}

/// The lines in which two values differ.
fn difference(is: &Value, wanted: &Value) -> String {
    fn walk(at: &str, is: &Value, wanted: &Value, lines: &mut String) {
        match (is, wanted) {
            (Value::Object(a), Value::Object(b)) => {
                let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                for name in names {
                    let null = &Value::Null;
                    let (a, b) = (a.get(name).unwrap_or(null), b.get(name).unwrap_or(null));
                    walk(&format!("{at}/{name}"), a, b, lines);
                }
            }
            _ if is == wanted => {}
            _ => lines.extend([
                at,
                ": ",
                &is.to_string(),
                ", expected ",
                &wanted.to_string(),
                "\n",
            ]),
        }
    }
    let mut lines = String::new();
    walk("", is, wanted, &mut lines);
    lines
}

/// A life for each place of a crash in the chapter with the most writes. Between two writes there are only
/// reads, so a crash before a write is one after the write before, whose answer was lost; with
/// `MOLT_CRASHES=all` both are made.
fn places(writes: usize) -> usize {
    if both() { 2 * writes } else { writes + 1 }
}

fn both() -> bool {
    std::env::var("MOLT_CRASHES").is_ok_and(|v| v == "all")
}

/// Where the crashes of a chapter with so many writes are in the life of this number.
fn deaths(number: usize, writes: usize) -> Vec<Death> {
    let death = |number: usize| match number {
        n if both() => Death {
            write: n / 2,
            took_effect: n % 2 == 1,
        },
        0 => Death {
            write: 0,
            took_effect: false,
        },
        n => Death {
            write: n - 1,
            took_effect: true,
        },
    };
    let all = places(writes);
    let first = death(number % all);
    let again = (number >= all).then(|| death((number - all) % 5));
    std::iter::once(first).chain(again).collect()
}

fn kind(write: &Write) -> String {
    let mut parts = write.path.split('/').skip_while(|p| *p != "namespaces").skip(2);
    let resource = parts.next().unwrap_or("?");
    let sub = parts.nth(1).map(|s| format!("/{s}")).unwrap_or_default();
    format!("{} {resource}{sub}", write.method)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, for every crash costs a rollout in real time: `make test-crashes` runs it, and CI does; the same sweep on the simulated API server, tests/fake_api/crashes.rs, runs always"]
async fn a_crash_at_any_write_changes_nothing_about_the_outcome() {
    let began = std::time::Instant::now();
    let client = connect().await;
    install_crds(&client).await;
    make_node(&client).await;
    let world = World::of(&client, PREFIX).await;
    let born =
        |name: String, route| Life::begin(world.clone(), client.clone(), format!("{PREFIX}{name}"), route);

    let references = [Route::Molts, Route::Users].map(async |route| {
        let life = born(format!("none-{route:?}").to_lowercase(), route).await;
        let mut told = Vec::new();
        for chapter in route.chapters() {
            told.push(life.live(*chapter, Vec::new(), None).await);
        }
        (route, told)
    });
    let references = futures::future::join_all(references).await;
    println!("without a crash: {:.1} s", began.elapsed().as_secs_f64());

    let mut lives = Vec::new();
    for (route, told) in &references {
        for (chapter, told) in route.chapters().iter().zip(told) {
            println!("{route:?} {chapter:?}: {} writes", told.writes.len());
        }
        let most = told.iter().map(|t| t.writes.len()).max().unwrap();
        lives.extend((0..places(most)).map(|number| (number, *route, told)));
    }
    let count = lives.len();
    let died = stream::iter(lives)
        .map(async |(number, route, references)| {
            let life = born(
                format!("{}-{number}", if route == Route::Molts { "m" } else { "u" }),
                route,
            )
            .await;
            let mut died = Vec::new();
            let last = references
                .iter()
                .rposition(|told| number < places(told.writes.len()));
            for (chapter, reference) in route
                .chapters()
                .iter()
                .zip(references)
                .take(last.unwrap_or(0) + 1)
            {
                let deaths = deaths(number, reference.writes.len());
                died.push(life.live(*chapter, deaths, Some(&reference.end)).await.died);
            }
            died
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for write in died.iter().flatten().flatten() {
        *kinds.entry(kind(write)).or_default() += 1;
    }
    let twice = died.iter().flatten().filter(|d| d.len() > 1).count();
    println!(
        "{} crashes in {count} lives, {twice} of them while the operator recovered, in {:.1} s: {kinds:#?}",
        died.iter().flatten().flatten().count(),
        began.elapsed().as_secs_f64()
    );
}
