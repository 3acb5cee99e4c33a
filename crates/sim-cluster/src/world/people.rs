//! People, and the script of a life: one new revision after the other, faults in between, then rest.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::strikes::JUMP;
use super::{ACTIONS, CORE_SERVICES, Event, MAPS, ROUTE, ROUTES, SERVICE, SERVICES, World, path};
use crate::chance::Chance;
use crate::faults::{Kind, STORM};

/// What pauses every service.
const FLEET: &str = molt::controller::fleet::CONFIG_MAP;

/// Requests per second of all users together.
pub(super) const REQUESTS: f64 = 200.0;
/// How long after a rollout's beginning its last fault may be in force, in milliseconds.
const CALM_AFTER: u64 = STORM + 30_000;
/// How often it is looked whether a rollout has come to rest.
const LOOK: u64 = 5000;
/// Nothing has been written for so long: that is rest.
const REST: u64 = 30_000;
/// Once the faults have stopped everything has to come to rest within this. It is the sum of every deadline
/// that an attempt of the spec below may wait for, twice (one may be superseded by the next), doubled.
const LIVENESS: u64 = 45 * 60_000;
/// How long it is looked whether a service at rest stays so, and how long at the end of the life.
const IDLE: u64 = 30_000;
const IDLE_AT_LAST: u64 = 120_000;

/// How good a revision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Good.
    Good,
    /// Worse than its objective allows.
    Bad,
    /// Every other answer is bad.
    VeryBad,
}

impl Quality {
    /// Share of bad answers.
    pub fn bad_share(self) -> f64 {
        match self {
            Self::Good => 0.001,
            Self::Bad => 0.08,
            Self::VeryBad => 0.5,
        }
    }
}

/// A line of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The next rollout begins.
    Next,
    /// An image is asked for.
    Image(u32),
    /// The faults stop.
    Calm,
    /// Is it at rest?
    Look,
    /// It has been at rest; has it stayed so?
    Idle(u64, u64),
    /// A person does something.
    Person(Kind, u64),
    /// What a person has done is put right.
    Mend(Kind, u64),
}

/// What people want.
#[allow(clippy::struct_excessive_bools)] // Wishes, independent of each other.
pub(super) struct People {
    chance: Chance,
    owned_route: bool,
    rollout: usize,
    began: u64,
    calm_since: u64,
    image: u32,
    images: u32,
    replicas: u64,
    invalid: bool,
    paused: bool,
    deleted: bool,
    actions: u32,
    qualities: BTreeMap<String, Quality>,
    revisions: BTreeMap<u32, String>,
    paused_looks: u32,
    foreign: Vec<(String, String)>,
}

impl People {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 4);
        Self {
            owned_route: chance.percent(60),
            replicas: chance.between(2, 5),
            chance,
            rollout: 0,
            began: 0,
            calm_since: 0,
            image: 1,
            images: 1,
            invalid: false,
            paused: false,
            deleted: false,
            actions: 0,
            qualities: BTreeMap::new(),
            revisions: BTreeMap::new(),
            paused_looks: 0,
            foreign: Vec::new(),
        }
    }

    /// The route's name.
    pub fn route(&self) -> &'static str {
        if self.owned_route { SERVICE } else { ROUTE }
    }

    /// The route is Molt's.
    pub fn owns_route(&self) -> bool {
        self.owned_route
    }

    pub fn quality(&self, revision: &str) -> Quality {
        self.qualities.get(revision).copied().unwrap_or(Quality::Good)
    }

    /// The revision that was asked for last.
    pub fn newest(&self) -> Option<String> {
        self.revisions.get(&self.image).cloned()
    }

    /// Pods that are asked for.
    pub fn replicas(&self) -> u64 {
        self.replicas
    }

    fn spec(&self) -> Value {
        let gateway = if self.owned_route {
            json!({"parentRefs": [{"name": "gateway"}]})
        } else {
            json!({"httpRouteRef": {"name": ROUTE}})
        };
        let port = if self.invalid { 0 } else { 8000 };
        json!({
            "replicas": self.replicas,
            "paused": self.paused,
            "port": port,
            "progressDeadline": "75s",
            "drain": {"timeout": "5s"},
            "runtime": {"server": "uvicorn"},
            "template": {"spec": {"containers": [{"name": "app", "image": format!("checkout:{}", self.image)}]}},
            "traffic": {"gatewayAPI": gateway},
            "metrics": {"prometheus": {"interval": "5s"}},
            "strategy": {"canary": {
                "steps": [{"setWeight": 20}, {"pause": {"duration": "15s"}}, {"setWeight": 60}],
                "bake": "20s", "watch": "30s", "scaleDownDelay": "10s", "abortScaleDownDelay": "10s",
            }},
            "slos": [{
                "name": "availability", "objective": "99",
                "sli": {"preset": "fastapi-instrumentator", "type": "availability"}
            }],
        })
    }
}

impl World {
    /// The first thing that happens.
    pub(super) fn begin(&mut self) {
        if !self.people.owned_route {
            self.write_route("person", 0);
        }
        self.people.qualities.clear();
        self.want(1, Quality::Good);
        self.in_ms(20_000, Event::Script(Line::Look));
        self.people.calm_since = 0;
    }

    /// Asks for an image.
    fn want(&mut self, image: u32, quality: Quality) {
        self.people.image = image;
        self.people.images = self.people.images.max(image);
        let revision = molt::controller::revision::of_spec(&self.people.spec()).0;
        self.people.revisions.insert(image, revision.clone());
        self.people.qualities.entry(revision.clone()).or_insert(quality);
        let quality = self.people.quality(&revision);
        self.say(format!(
            "a person asks for checkout:{image}, revision {revision}, {quality:?}"
        ));
        self.apply_spec("person");
    }

    fn apply_spec(&mut self, manager: &str) {
        if self.people.deleted {
            return;
        }
        let body = json!({
            "apiVersion": "molt.dev/v1alpha1", "kind": "PythonService",
            "metadata": {"name": SERVICE}, "spec": self.people.spec(),
        });
        self.apply(&path(SERVICES, SERVICE), manager, body);
    }

    fn write_route(&mut self, manager: &str, canary: u64) {
        let backend = |name: &str, weight: u64| json!({"name": format!("{SERVICE}-{name}"), "port": 8000, "weight": weight});
        let body = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": ROUTE},
            "spec": {
                "parentRefs": [{"name": "gateway"}],
                "rules": [{"backendRefs": [backend("stable", 100 - canary), backend("canary", canary)]}],
            },
        });
        self.apply(&path(ROUTES, ROUTE), manager, body);
    }

    /// A line of the script.
    pub(super) fn perform(&mut self, line: Line) {
        match line {
            Line::Next => self.next_rollout(),
            Line::Image(image) => self.want(image, Quality::Good),
            Line::Calm => self.settle_people(),
            Line::Look => self.look(),
            Line::Idle(writes, asked) => self.look_idle(writes, asked),
            Line::Person(kind, size) => self.person(kind, size),
            Line::Mend(kind, size) => self.mend(kind, size),
        }
    }

    fn next_rollout(&mut self) {
        let rollout = self.people.rollout;
        self.people.rollout += 1;
        self.people.began = self.now;
        self.say(format!("— rollout {}", rollout + 1));
        let drawn = self.people.chance.between(0, 100);
        let quality = match drawn {
            0..60 => Quality::Good,
            60..85 => Quality::Bad,
            _ => Quality::VeryBad,
        };
        let again = self.people.chance.percent(20) && self.people.image > 1;
        if again {
            // Back to stable, then the same revision once more: another attempt at it.
            let image = self.people.image;
            let stable = self.stable_image().filter(|s| *s != image).unwrap_or(1);
            self.want(stable, Quality::Good);
            self.in_ms(4000, Event::Script(Line::Image(image)));
        } else {
            let image = self.people.images + 1;
            self.want(image, quality);
        }
        for index in 0..self.setup.faults.len() {
            let fault = self.setup.faults[index];
            if fault.rollout == rollout {
                self.in_ms(fault.after, Event::Strike(index));
            }
        }
        self.in_ms(CALM_AFTER, Event::Script(Line::Calm));
    }

    fn stable_image(&self) -> Option<u32> {
        let stable = self.service()?["status"]["state"]["stable"].as_str()?;
        let of = |r: &&String| r.as_str() == stable;
        self.people
            .revisions
            .iter()
            .find(|(_, r)| of(r))
            .map(|(image, _)| *image)
    }

    /// People put right what they did, and the world is in order again.
    fn settle_people(&mut self) {
        self.calm();
        for (resource, name) in std::mem::take(&mut self.people.foreign) {
            self.ask(
                Method::DELETE,
                &path(&resource, &name),
                "application/json",
                json!({}),
            );
        }
        self.people.invalid = false;
        self.people.paused = false;
        self.pause_fleet(false);
        self.apply_spec("person");
        self.act("Resume");
        self.people.calm_since = self.now;
        self.people.paused_looks = 0;
        self.in_ms(LOOK, Event::Script(Line::Look));
    }

    fn look(&mut self) {
        let service = self.service();
        let phase = service
            .map_or("", |s| s["status"]["phase"].as_str().unwrap_or_default())
            .to_owned();
        let current =
            service.is_some_and(|s| s["status"]["observedGeneration"] == s["metadata"]["generation"]);
        // What was written down by a clock that was ahead ends so much later.
        let jumped = self.struck.jumped.is_some_and(|at| at >= self.people.began);
        let clocks = if jumped { JUMP } else { 0 };
        // A pod that becomes ready late is told of in the status, however long nothing was written before.
        let quiet = self.still_since().is_some_and(|still| {
            let wrote = self.checks.last_write().max(self.people.calm_since + clocks);
            self.now.saturating_sub(wrote.max(still)) >= REST
        });
        // One that was rolled back may be restarted all the same: that it says beside.
        let restarted = service.is_some_and(|s| s["status"]["state"]["restart"].is_object());
        // A first revision that was found wanting serves on, for there is no other.
        let wanting = phase == "Degraded"
            && service.is_some_and(|s| {
                let state = &s["status"]["state"];
                state["stable"].is_null() && state["refused"].is_string()
            });
        let resting = (matches!(phase.as_str(), "Healthy" | "RolledBack") || wanting) && !restarted;
        if resting && current && quiet {
            // Who wrote the route back is forgotten after a while, which is a write.
            let rival = service.is_some_and(|s| s["status"]["state"]["rival"].is_object());
            let (writes, asked) = (self.checks.writes() + u64::from(rival), self.traffic.asked);
            let last = self.people.rollout >= self.setup.rollouts;
            let idle = if last { IDLE_AT_LAST } else { IDLE };
            self.in_ms(idle, Event::Script(Line::Idle(writes, asked)));
            return;
        }
        if self.now.saturating_sub(self.people.calm_since) > LIVENESS {
            let state = service
                .map(|s| s["status"]["message"].clone())
                .unwrap_or_default();
            self.violate(
                "liveness",
                format!(
                    "not at rest {} minutes after the faults stopped: phase {phase}, {state}",
                    LIVENESS / 60_000
                ),
            );
            return;
        }
        if phase == "Paused" {
            self.people.paused_looks += 1;
            if self.people.paused_looks.is_multiple_of(10) {
                self.act("Abort");
            }
        }
        self.in_ms(LOOK, Event::Script(Line::Look));
    }

    fn look_idle(&mut self, writes: u64, asked: u64) {
        let wrote = self.checks.writes().saturating_sub(writes);
        let read = self.traffic.asked - asked;
        if wrote + read > 0 {
            self.violate(
                "idle",
                format!("a service at rest caused {wrote} writes and {read} metric queries"),
            );
            return;
        }
        self.at_rest();
        if self.people.rollout >= self.setup.rollouts {
            self.finished = true;
            self.say("the end");
        } else {
            self.perform(Line::Next);
        }
    }

    fn act(&mut self, action: &str) {
        self.people.actions += 1;
        let name = format!("{}-{}", action.to_lowercase(), self.people.actions);
        self.say(format!("a person creates the action {name}"));
        let body = json!({
            "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"name": name},
            "spec": {"service": SERVICE, "action": action, "reason": "played", "requestedBy": "ada"},
        });
        self.ask(Method::POST, &path(ACTIONS, ""), "application/json", body);
    }

    /// A person pauses every service, or lets them go on.
    fn pause_fleet(&mut self, paused: bool) {
        let is = self.object(MAPS, FLEET).is_some();
        if paused {
            self.say("a person pauses the fleet");
            let body = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": FLEET},
                "data": {"paused": "true", "reason": "played", "by": "ada"},
            });
            self.apply(&path(MAPS, FLEET), "person", body);
        } else if is {
            self.say("a person lets the fleet go on");
            self.ask(Method::DELETE, &path(MAPS, FLEET), "application/json", json!({}));
        }
    }

    fn person(&mut self, kind: Kind, size: u64) {
        if self.people.deleted && kind != Kind::RouteWritten {
            return;
        }
        let later = 5000 + size % 30_000;
        match kind {
            Kind::Superseded => {
                let quality = if size.is_multiple_of(3) {
                    Quality::VeryBad
                } else {
                    Quality::Good
                };
                self.count(kind);
                self.want(self.people.images + 1, quality);
            }
            Kind::Reverted => {
                let Some(stable) = self.stable_image() else { return };
                self.count(kind);
                self.want(stable, Quality::Good);
            }
            Kind::Promote => {
                self.count(kind);
                self.act("Promote");
            }
            Kind::Abort => {
                self.count(kind);
                self.act("Abort");
            }
            Kind::PromoteFull => {
                self.count(kind);
                self.act("PromoteFull");
            }
            Kind::Pause => {
                self.count(kind);
                self.act("Pause");
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::PausedBySpec => {
                self.count(kind);
                self.people.paused = true;
                self.apply_spec("person");
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::Retry => {
                self.count(kind);
                self.act("Retry");
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::Undo => {
                self.count(kind);
                self.act("Undo");
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::Restart => {
                self.count(kind);
                self.act("Restart");
            }
            Kind::PausedFleet => {
                self.count(kind);
                self.pause_fleet(true);
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::Scaled => {
                self.count(kind);
                self.people.replicas = 1 + size % 6;
                self.apply_spec("person");
            }
            Kind::Invalid => {
                self.count(kind);
                self.people.invalid = true;
                self.apply_spec("person");
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::Deleted => {
                self.count(kind);
                self.ask(
                    Method::DELETE,
                    &path(SERVICES, SERVICE),
                    "application/json",
                    json!({}),
                );
                self.people.deleted = true;
                self.in_ms(later, Event::Script(Line::Mend(kind, size)));
            }
            Kind::Reapplied => {
                self.count(kind);
                self.apply_spec("argocd-controller");
            }
            Kind::RouteWritten if !self.people.owned_route => {
                self.count(kind);
                self.struck_route(size);
            }
            Kind::Foreign => self.foreign(size),
            _ => {}
        }
    }

    /// A tool like Argo CD writes its own weights into the user's route.
    fn struck_route(&mut self, size: u64) {
        let now = self.now;
        self.struck.fog(now + 20_000);
        let canary = if size.is_multiple_of(4) { 50 } else { 0 };
        self.write_route("argocd-controller", canary);
    }

    /// Somebody else takes the name of the next revision's Service.
    fn foreign(&mut self, size: u64) {
        let next = self.people.images + 1;
        let before = std::mem::replace(&mut self.people.image, next);
        let revision = molt::controller::revision::of_spec(&self.people.spec()).0;
        self.people.image = before;
        let name = format!("{SERVICE}-{revision}");
        let body = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"owner": "somebody"}},
            "spec": {"ports": [{"name": "http", "port": 1, "protocol": "TCP"}], "selector": {"app": "theirs"}},
        });
        if self.object(CORE_SERVICES, &name).is_some() {
            return;
        }
        self.count(Kind::Foreign);
        self.apply(&path(CORE_SERVICES, &name), "somebody", body);
        self.people.foreign.push((CORE_SERVICES.to_owned(), name));
        self.want(next, Quality::Good);
        self.in_ms(
            5000 + size % 60_000,
            Event::Script(Line::Mend(Kind::Foreign, size)),
        );
    }

    fn mend(&mut self, kind: Kind, size: u64) {
        match kind {
            Kind::Invalid => {
                self.people.invalid = false;
                self.apply_spec("person");
            }
            Kind::PausedBySpec => {
                self.people.paused = false;
                self.apply_spec("person");
            }
            Kind::PausedFleet => self.pause_fleet(false),
            Kind::Pause if !self.people.deleted => self.act("Resume"),
            // What was under way when it was first asked for may have ended.
            Kind::Retry if !self.people.deleted => self.act("Retry"),
            // The fix is pushed while users go back, or have just come back: it begins from there.
            Kind::Undo if !self.people.deleted && size.is_multiple_of(3) => {
                self.want(self.people.images + 1, Quality::Good);
            }
            Kind::Undo if !self.people.deleted => self.act("Undo"),
            Kind::Deleted if self.service().is_some() => {
                self.in_ms(5000, Event::Script(Line::Mend(kind, 0)));
            }
            Kind::Deleted => {
                self.people.deleted = false;
                self.apply_spec("person");
            }
            Kind::Foreign => {
                for (resource, name) in std::mem::take(&mut self.people.foreign) {
                    self.ask(
                        Method::DELETE,
                        &path(&resource, &name),
                        "application/json",
                        json!({}),
                    );
                }
            }
            _ => {}
        }
    }
}
