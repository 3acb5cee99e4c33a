//! The simulated world: one state machine that moves from event to event. It holds no task and no clock; the
//! [driver](crate::life) tells it the time.

mod gateway;
mod invariants;
mod network;
mod operators;
mod people;
mod pods;
mod strikes;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use molt_sim_api::store::Change;
use molt_sim_api::{ApiServer, Call, Kind as ApiKind, builtin};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::chance::Chance;
use crate::checks::Checks;
use crate::faults::{Fault, Kind};

pub use network::{Delivery, Reply};
pub use operators::identity;
pub use people::Quality;
pub use traffic::Reading;

/// The namespace of everything.
pub const NAMESPACE: &str = "shop";
/// The name of the service.
pub const SERVICE: &str = "checkout";
/// The name of the user's route, where there is one.
pub const ROUTE: &str = "public";
/// The kinds that the server knows: the same in every life.
static KINDS: OnceLock<Vec<ApiKind>> = OnceLock::new();
/// Virtual time begins here.
const EPOCH: i64 = 1_800_000_000;

/// The resource of PythonServices.
pub const SERVICES: &str = "pythonservices.molt.dev";
/// The resource of RolloutActions.
pub const ACTIONS: &str = "rolloutactions.molt.dev";
/// The resource of RolloutRecords.
pub const RECORDS: &str = "rolloutrecords.molt.dev";
/// The resource of ReplicaSets.
pub const SETS: &str = "replicasets.apps";
/// The resource of ConfigMaps.
pub const MAPS: &str = "configmaps";
/// The resource of Pods.
pub const PODS: &str = "pods";
/// The resource of Services.
pub const CORE_SERVICES: &str = "services";
/// The resource of EndpointSlices.
pub const SLICES: &str = "endpointslices.discovery.k8s.io";
/// The resource of Leases.
pub const LEASES: &str = "leases.coordination.k8s.io";
/// The name of the operator's Lease.
pub const LEASE: &str = "molt";
/// The resource of HTTPRoutes.
pub const ROUTES: &str = "httproutes.gateway.networking.k8s.io";

/// Who changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// An operator's process.
    Operator(u32),
    /// Anything else.
    World,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start an operator as this process.
    Start(u32),
    /// This process is dead.
    Kill(u32),
    /// This process is asked to end.
    End(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Arrive(u64),
    Answer(u64),
    Deliver(u64),
    Close(u64),
    SyncSet(String),
    Kubelet(String),
    Gone(String),
    SyncSlice(String),
    Translate(String),
    Collect,
    Strike(usize),
    Start,
    Retire(u32),
    Script(people::Line),
    Tick,
}

impl Event {
    /// A kubelet, the gateway or another controller of the world's own does something.
    fn is_worlds_own(&self) -> bool {
        matches!(
            self,
            Self::SyncSet(_)
                | Self::Kubelet(_)
                | Self::Gone(_)
                | Self::SyncSlice(_)
                | Self::Translate(_)
                | Self::Collect
        )
    }
}

/// How a life is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Rollouts in the life.
    pub rollouts: usize,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Changes what the operator sends: a planted mistake.
    pub rewrite: Option<fn(&mut Call)>,
}

/// The world.
pub struct World {
    setup: Setup,
    server: ApiServer,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    serial: u64,
    seen: u64,
    chance: Chance,
    log: Vec<String>,
    author: Author,
    network: network::Network,
    pods: pods::Pods,
    gateway: gateway::Gateway,
    traffic: traffic::Traffic,
    people: people::People,
    struck: strikes::Struck,
    counts: BTreeMap<Kind, u64>,
    alive: BTreeSet<u32>,
    processes: u32,
    orders: VecDeque<Order>,
    checks: Checks,
    /// When a controller of the world's own last did something.
    stirred: u64,
    finished: bool,
    notify: Arc<Notify>,
}

/// A world that several tasks share.
#[derive(Clone)]
pub struct Cluster {
    world: Arc<Mutex<World>>,
    /// Tells the driver that an event was added.
    pub notify: Arc<Notify>,
}

impl Cluster {
    /// A world at its beginning.
    pub fn new(setup: Setup) -> Self {
        let notify = Arc::new(Notify::new());
        let world = World::new(setup, Arc::clone(&notify));
        Self {
            world: Arc::new(Mutex::new(world)),
            notify,
        }
    }

    /// The world, at a time in milliseconds since its beginning.
    pub fn at(&self, now: u64) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.now = world.now.max(now);
        world
    }

    /// The world as it is.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.at(0)
    }
}

/// The time of the world as a timestamp.
pub fn timestamp(millis: u64) -> Timestamp {
    let since = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    let epoch = Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH);
    epoch.checked_add(since).unwrap_or(Timestamp::MAX)
}

/// The value of a field of an object's metadata.
pub fn meta<'v>(object: &'v Value, field: &str) -> &'v str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The value of a label.
pub fn label<'v>(object: &'v Value, name: &str) -> &'v str {
    object["metadata"]["labels"][name].as_str().unwrap_or_default()
}

impl World {
    fn new(setup: Setup, notify: Arc<Notify>) -> Self {
        let kinds = KINDS.get_or_init(|| {
            let ours = molt::api::crds::all()
                .into_iter()
                .filter_map(|crd| serde_json::to_value(crd).ok())
                .map(|crd| ApiKind::from_crd(&crd));
            builtin::kinds().into_iter().chain(ours).collect()
        });
        let seed = setup.seed;
        let mut world = Self {
            server: ApiServer::new(kinds.iter().cloned(), timestamp(0)),
            now: 0,
            queue: BTreeMap::new(),
            serial: 0,
            seen: 0,
            chance: Chance::new(seed, 2),
            log: Vec::new(),
            author: Author::World,
            network: network::Network::default(),
            pods: pods::Pods::default(),
            gateway: gateway::Gateway::default(),
            traffic: traffic::Traffic::new(seed),
            people: people::People::new(seed),
            struck: strikes::Struck::default(),
            counts: BTreeMap::new(),
            alive: BTreeSet::new(),
            processes: 0,
            orders: VecDeque::new(),
            checks: Checks::default(),
            stirred: 0,
            finished: false,
            notify,
            setup,
        };
        for replica in 0..world.replicas() {
            world.in_ms(1 + replica, Event::Start);
        }
        world.in_ms(1000, Event::Tick);
        world.begin();
        world
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Lets happen what is due.
    pub fn run_due(&mut self) {
        let until = self.now;
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= until) {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(event);
        }
    }

    /// What the driver is to do next.
    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The life is over: all rollouts have been lived, or an invariant was broken.
    pub fn is_finished(&self) -> bool {
        self.finished || !self.checks.violations().is_empty()
    }

    /// When a controller of the world's own last did something; `None` while one of them still has something to do.
    fn still_since(&self) -> Option<u64> {
        let still = !self.queue.values().any(Event::is_worlds_own);
        still.then_some(self.stirred)
    }

    /// What the clock of an operator's process says.
    pub fn operators_time(&self, process: u32) -> Timestamp {
        let skew = SignedDuration::from_millis(self.struck.skew(process, self.now));
        timestamp(self.now).checked_add(skew).unwrap_or(Timestamp::MAX)
    }

    /// What happened, a line for each event that matters.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// Faults that struck, by kind.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// The invariants, and what they have seen.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Milliseconds lived.
    pub fn lived(&self) -> u64 {
        self.now
    }

    fn in_ms(&mut self, wait: u64, event: Event) {
        self.serial += 1;
        self.queue.insert((self.now + wait, self.serial), event);
        self.notify.notify_one();
    }

    fn say(&mut self, what: impl AsRef<str>) {
        let (minutes, millis) = (self.now / 60_000, self.now % 60_000);
        self.log.push(format!(
            "{minutes:>4}:{:06.3} {}",
            millis as f64 / 1000.0,
            what.as_ref()
        ));
    }

    fn count(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
        self.say(format!("FAULT {kind}"));
    }

    fn happen(&mut self, event: Event) {
        if event.is_worlds_own() {
            self.stirred = self.now;
        }
        match event {
            Event::Arrive(id) => self.arrive(id),
            Event::Answer(id) => self.answer(id),
            Event::Deliver(id) => self.deliver(id),
            Event::Close(id) => self.close(id),
            Event::SyncSet(name) => self.sync_set(&name),
            Event::Kubelet(pod) => self.kubelet(&pod),
            Event::Gone(pod) => self.gone(&pod),
            Event::SyncSlice(name) => self.sync_slice(&name),
            Event::Translate(route) => self.translate(&route),
            Event::Collect => {
                self.server.collect_garbage();
                self.after_change();
            }
            Event::Strike(index) => self.strike(index),
            Event::Start => self.start_operator(),
            Event::Retire(process) => self.retire(process),
            Event::Script(line) => self.perform(line),
            Event::Tick => {
                self.catch_up_traffic();
                self.server.keep(400);
                self.tick_checks();
                self.in_ms(1000, Event::Tick);
            }
        }
    }

    /// Asks the server beside the operator, as one of the world's own actors.
    fn ask(&mut self, method: Method, path: &str, content_type: &str, body: Value) {
        let before = std::mem::replace(&mut self.author, Author::World);
        self.server.set_time(timestamp(self.now));
        self.server.handle(&Call::new(method, path, content_type, body));
        self.after_change();
        self.author = before;
    }

    fn merge(&mut self, path: &str, body: Value) {
        let path = format!("{path}?fieldManager=world");
        self.ask(Method::PATCH, &path, "application/merge-patch+json", body);
    }

    fn apply(&mut self, path: &str, manager: &str, body: Value) {
        let path = format!("{path}?fieldManager={manager}&force=true");
        self.ask(Method::PATCH, &path, "application/apply-patch+yaml", body);
    }

    fn object(&self, resource: &str, name: &str) -> Option<&Value> {
        self.server.object(resource, NAMESPACE, name)
    }

    /// The service as it is stored.
    fn service(&self) -> Option<&Value> {
        self.object(SERVICES, SERVICE)
    }

    /// Lets everybody see what has changed.
    fn after_change(&mut self) {
        let from = self.seen;
        self.seen = self.server.store().version();
        if self.seen == from {
            return;
        }
        let changes: Vec<Change> = self
            .server
            .store()
            .since(from)
            .map(|changes| changes.cloned().collect())
            .unwrap_or_default();
        let touched: BTreeSet<&str> = changes.iter().map(|c| c.key.resource.as_str()).collect();
        self.pump(&touched);
        for change in &changes {
            self.react(change);
        }
        for change in &changes {
            self.check(change);
        }
    }

    /// What the world's controllers do about a change.
    fn react(&mut self, change: &Change) {
        let name = change.key.name.clone();
        let deleting = !change.deleted && change.after["metadata"]["deletionTimestamp"].is_string();
        let owner = &change.after["metadata"]["ownerReferences"][0];
        if change.before.is_none()
            && owner["kind"] == "PythonService"
            && self
                .service()
                .is_none_or(|s| s["metadata"]["uid"] != owner["uid"])
        {
            // A write that took effect late: its owner is gone, and the collector sees that too.
            self.in_ms(500, Event::Collect);
        }
        match change.key.resource.as_str() {
            SETS => {
                if change.deleted {
                    self.in_ms(20, Event::Collect);
                } else {
                    let spec = |o: &Value| o["spec"]["replicas"].clone();
                    if change
                        .before
                        .as_ref()
                        .is_none_or(|b| spec(b) != spec(&change.after))
                    {
                        let wait = self.chance.between(5, 150);
                        self.in_ms(wait, Event::SyncSet(name));
                    }
                }
            }
            PODS => self.pod_changed(change, deleting),
            CORE_SERVICES => {
                if change.deleted {
                    self.in_ms(20, Event::Collect);
                } else {
                    self.slices_of(&[name]);
                }
            }
            ROUTES if !change.deleted => {
                let generation = |o: &Value| o["metadata"]["generation"].clone();
                if change
                    .before
                    .as_ref()
                    .is_none_or(|b| generation(b) != generation(&change.after))
                {
                    self.route_changed(&name);
                }
            }
            ROUTES => self.route_gone(&name),
            SERVICES if change.deleted => self.in_ms(20, Event::Collect),
            _ => {}
        }
    }
}

/// The path of an object, or of a list.
pub fn path(resource: &str, name: &str) -> String {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let root = match group {
        "" => "/api/v1".to_owned(),
        "molt.dev" => "/apis/molt.dev/v1alpha1".to_owned(),
        group => format!("/apis/{group}/v1"),
    };
    let tail = if name.is_empty() {
        String::new()
    } else {
        format!("/{name}")
    };
    format!("{root}/namespaces/{NAMESPACE}/{plural}{tail}")
}

/// A condition as controllers write it.
fn condition(kind: &str, status: bool, reason: &str, generation: &Value, now: u64) -> Value {
    json!({
        "type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": "",
        "observedGeneration": generation, "lastTransitionTime": timestamp(now).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
}
