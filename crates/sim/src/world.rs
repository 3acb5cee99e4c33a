//! The world that the state machine sees: two revisions' pods, a route, users, and what Prometheus knows.
//!
//! It has no opinion: it carries out effects, lets time pass, and tells what it looks like. Times are whole
//! milliseconds since the attempt began, which is the epoch of its timestamps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use molt_core::analysis::{Counts, MEMORY_WINDOW, Past, PodCounts, Sample};
use molt_core::decision::Effect;
use molt_core::guard::{PodRuntime, RuntimeBlock};
use molt_core::observed::{
    Backend, BlockCounts, History, MeasuredBlock, Measurement, Observed, Preview, RevisionView, RouteView,
    Selection, Slot, Weights,
};
use molt_core::plan::{Revision, RouteMode};
use molt_core::rollout::Due;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::pods::{Fate, Millis, Pod, millis, with_spread};
use crate::proxy::Proxy;
use crate::setup::{Counter, Setup};

mod users;

use users::Chance;
pub use users::Users;

/// The revision that serves when the attempt begins.
pub const STABLE: &str = "stable";

/// Pods of one revision.
struct Set {
    revision: Revision,
    exists: bool,
    wanted: u32,
    attempt: u32,
    created_at: Millis,
    pods: Vec<Pod>,
}

/// See the module.
pub struct World<'a> {
    setup: &'a Setup,
    rng: Pcg64Mcg,
    now: Millis,
    stable: Set,
    canary: Set,
    /// The weights as the route has them.
    written: Weights,
    /// What the route sends to a revision beside its weight.
    preview: Option<Preview>,
    /// When the router has them; `None` once it has.
    acknowledged_at: Option<Millis>,
    /// The canary's share of the traffic, 0 to 1, as the router has it.
    share: f64,
    selected: BTreeMap<Slot, Revision>,
    chance: Chance,
    /// Where an objective's requests are counted at the route.
    proxy: Option<Proxy>,
    /// What users had of stable.
    pub users_of_stable: Users,
    /// What users had of the canary.
    pub users_of_canary: Users,
    /// When its first pod was ready for the first time.
    canary_ready: Option<Millis>,
    /// When the first request came to the canary.
    pub first_request: Option<Millis>,
    /// How long the canary had a share of the traffic.
    pub exposed: Millis,
    /// For each objective, bad events at the canary beyond those that stable would have had.
    pub attributable: Vec<f64>,
}

impl<'a> World<'a> {
    /// A world in which stable serves everybody, and nothing of the plan's revision is there.
    pub fn new(setup: &'a Setup, seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let replicas = setup.plan.replicas;
        let objectives = setup.measures.len();
        let set = |name: Revision, pods: Vec<Pod>| Set {
            revision: name,
            exists: !pods.is_empty(),
            wanted: pods.len() as u32,
            attempt: 0,
            created_at: 0,
            pods,
        };
        let pods = (0..replicas)
            .map(|_| Pod::serving(&mut rng, &setup.environment, objectives, 0))
            .collect();
        let stable = set(STABLE.into(), pods);
        let canary = set(
            setup.plan.revision.clone().unwrap_or_else(|| "canary".into()),
            Vec::new(),
        );
        let chance = Chance::draw(&mut rng);
        let home = stable.revision.clone();
        let at_route = setup.counters.iter().any(|counter| *counter != Counter::Pods);
        let proxy = at_route.then(|| Proxy::new(&mut rng, &setup.environment, objectives));
        let (weights, slots) = match setup.plan.route {
            RouteMode::Adopted => (
                vec![
                    (Backend::Slot(Slot::Stable), 100),
                    (Backend::Slot(Slot::Canary), 0),
                ],
                vec![Slot::InCluster, Slot::Stable, Slot::Canary],
            ),
            _ => (
                vec![(Backend::Revision(home.clone()), 100)],
                vec![Slot::InCluster],
            ),
        };
        Self {
            setup,
            rng,
            now: 0,
            stable,
            canary,
            written: weights.into_iter().collect(),
            preview: None,
            acknowledged_at: None,
            share: 0.0,
            selected: slots.into_iter().map(|slot| (slot, home.clone())).collect(),
            chance,
            proxy,
            users_of_stable: Users::default(),
            users_of_canary: Users::default(),
            canary_ready: None,
            first_request: None,
            exposed: 0,
            attributable: vec![0.0; objectives],
        }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The router sends somebody to the canary.
    pub fn is_exposed(&self) -> bool {
        self.share > 0.0
    }

    /// When something changes next by itself.
    pub fn next_change(&self) -> Option<Millis> {
        let pods = [&self.stable, &self.canary].into_iter().flat_map(|s| &s.pods);
        let incidents = self.setup.scenario.incidents.iter();
        let incidents = incidents.flat_map(|incident| [incident.at, incident.end()].map(millis));
        pods.filter_map(Pod::next_change)
            .chain(self.acknowledged_at)
            .chain(incidents)
            .chain(self.next_harm())
            .chain(self.next_draw())
            .chain(self.proxy.as_ref().map(Proxy::next_scrape))
            .filter(|at| *at > self.now)
            .min()
    }

    /// Lets time pass until `to`, which must not be beyond the [next change](Self::next_change).
    pub fn advance(&mut self, to: Millis) {
        self.send(to);
        self.now = to;
        let fates = [self.fate(false), self.fate(true)];
        for (set, fate) in [&mut self.stable, &mut self.canary].into_iter().zip(fates) {
            for pod in &mut set.pods {
                pod.live(&mut self.rng, &self.setup.environment, fate, to);
            }
        }
        if self.canary_ready.is_none() && self.canary.ready() > 0 {
            self.canary_ready = Some(to);
        }
        if self.acknowledged_at.is_some_and(|at| at <= to) {
            self.acknowledged_at = None;
        }
        if self.acknowledged_at.is_none() {
            self.share = self.canary_share();
        }
    }

    fn fate(&self, canary: bool) -> Fate {
        let scenario = &self.setup.scenario;
        let environment = &self.setup.environment;
        let room = (environment.memory_limit - environment.memory_at_start).max(0.0);
        Fate {
            crash_after: scenario.crash_after.filter(|_| canary).map(millis),
            killed_after: scenario
                .leak
                .filter(|_| canary)
                .map(|leak| (room / leak * 1000.0).clamp(1.0, 1e13) as Millis),
        }
    }

    fn set(&self, revision: &Revision) -> Option<&Set> {
        [&self.stable, &self.canary]
            .into_iter()
            .find(|s| s.exists && s.revision == *revision)
    }

    fn canary_share(&self) -> f64 {
        let leads_to_canary = |backend: &Backend| match backend {
            Backend::Revision(revision) => *revision == self.canary.revision,
            Backend::Slot(slot) => self.selected.get(slot) == Some(&self.canary.revision),
        };
        let sum: u32 = self
            .written
            .iter()
            .filter(|(backend, _)| leads_to_canary(backend))
            .map(|(_, weight)| u32::from(*weight))
            .sum();
        f64::from(sum.min(100)) / 100.0
    }

    /// What the operator sees, but for evidence.
    pub fn observe(&self) -> Observed {
        let sets = || [&self.stable, &self.canary].into_iter().filter(|s| s.exists);
        let selection = |revision: &Revision| Selection {
            revision: revision.clone(),
            endpoints: self.set(revision).map_or(0, Set::ready),
        };
        Observed {
            revisions: sets().map(|s| (s.revision.clone(), s.view())).collect(),
            route: RouteView {
                exists: true,
                weights: self.written.clone(),
                preview: self.preview.clone(),
                acknowledged: self.acknowledged_at.is_none(),
                ..RouteView::default()
            },
            selected: self
                .selected
                .iter()
                .map(|(slot, revision)| (*slot, selection(revision)))
                .collect(),
            attempts: sets().map(|s| (s.revision.clone(), s.attempt)).collect(),
            ..Observed::default()
        }
    }

    /// What Prometheus knows of the blocks that are due.
    pub fn measure(&self, due: &Due) -> Measurement {
        let blocks = due.edges.windows(2).map(|edge| {
            let (start, end) = (edge[0].as_millisecond(), edge[1].as_millisecond());
            let slos = self.setup.counters.iter().enumerate().map(|(slo, counter)| {
                if let Counter::Route { sent } = counter {
                    return self.proxy.as_ref()?.block(slo, *sent, start, end);
                }
                let (canary, canary_pods) = self.canary.counts(slo, start, end)?;
                let (stable, stable_pods) = self.stable.counts(slo, start, end)?;
                let known_to = self.stable.known_to(start, end);
                let canary_late = known_to.and_then(|to| self.canary.counts(slo, to, end));
                Some(BlockCounts {
                    canary,
                    canary_late: canary_late.unwrap_or_default().0,
                    stable,
                    canary_pods,
                    stable_pods,
                    at_route: None,
                })
            });
            MeasuredBlock {
                start: edge[0],
                end: edge[1],
                slos: slos.collect(),
            }
        });
        let a_block = self.setup.rps * self.setup.plan.block.as_secs_f64();
        let history = self.before().into_iter().map(|ratio| History {
            rate: Some(self.setup.rps).filter(|rate| *rate > 0.0),
            budget_remaining: self.setup.budget_remaining,
            past: Past::steady(a_block, ratio, self.setup.known_correlation),
            falls: false,
        });
        Measurement {
            conditions: Vec::new(),
            connections: None,
            runtime: self.runtime(due),
            blocks: blocks.collect(),
            history: if due.want_history {
                history.collect()
            } else {
                Vec::new()
            },
        }
    }

    /// What the pods' runtimes tell of the blocks that are due: their memory. Nothing else is modelled.
    fn runtime(&self, due: &Due) -> Vec<RuntimeBlock> {
        if !due.want_conditions || self.setup.plan.guards.is_empty() {
            return Vec::new();
        }
        let leak = self.setup.scenario.leak.unwrap_or(0.0);
        let at_start = self.setup.environment.memory_at_start;
        due.edges
            .windows(2)
            .map(|edge| RuntimeBlock {
                canary: self.canary.runtime(edge[1], at_start, leak),
                stable: self.stable.runtime(edge[1], at_start, 0.0),
                ..RuntimeBlock::silent(edge[0], edge[1])
            })
            .collect()
    }

    /// Carries out one effect; `false` when it changes nothing here.
    pub fn apply(&mut self, effect: &Effect) -> bool {
        match effect {
            Effect::CreateRevision { revision } if self.canary.revision == *revision => {
                self.canary.exists = true;
                self.canary.created_at = self.now;
            }
            Effect::Scale {
                revision,
                replicas,
                attempt,
            } => self.scale(revision, *replicas, *attempt),
            Effect::Select { slot, revision } => {
                self.selected.insert(*slot, revision.clone());
            }
            Effect::SetRoute { weights, preview } => {
                self.written.clone_from(weights);
                self.preview.clone_from(preview);
                let environment = &self.setup.environment;
                let takes = with_spread(
                    &mut self.rng,
                    environment.acknowledge,
                    environment.acknowledge_spread,
                );
                self.acknowledged_at = Some(self.now + takes.max(1));
            }
            // Nothing is older than stable, nobody acts, and nobody deletes the service.
            Effect::CreateRevision { .. }
            | Effect::CreateRevisionService { .. }
            | Effect::DeleteRevision { .. }
            | Effect::ReleaseRoute
            | Effect::Share
            | Effect::Evict { .. }
            | Effect::HoldWorkload { .. }
            | Effect::WidenServices
            | Effect::FreeWorkload { .. }
            | Effect::RemoveFinalizer
            | Effect::RunNext(_)
            | Effect::EndRun { .. }
            | Effect::EndAction { .. } => return false,
        }
        true
    }

    fn scale(&mut self, revision: &Revision, replicas: u32, attempt: Option<u32>) {
        let set = if self.canary.revision == *revision {
            &mut self.canary
        } else {
            &mut self.stable
        };
        set.wanted = replicas;
        set.attempt = attempt.unwrap_or(set.attempt);
        let wanted = replicas as usize;
        set.pods.truncate(wanted);
        while set.pods.len() < wanted {
            let pod = Pod::created(
                &mut self.rng,
                &self.setup.environment,
                self.setup.measures.len(),
                self.now,
            );
            set.pods.push(pod);
        }
    }
}

impl Set {
    fn ready(&self) -> u32 {
        self.pods.iter().filter(|p| p.is_ready()).count() as u32
    }

    fn view(&self) -> RevisionView {
        let endpoints = self.pods.iter().filter(|p| p.is_endpoint()).count();
        let troubles = self
            .pods
            .iter()
            .enumerate()
            .filter_map(|(index, pod)| pod.trouble(&format!("pod {}", self.pod_name(index))));
        RevisionView {
            wanted: self.wanted,
            pods: self.pods.len() as u32,
            ready: self.ready(),
            young: 0,
            scaled_by: None,
            endpoints: endpoints as u32,
            has_service: true,
            created_at: Timestamp::from_millisecond(self.created_at).ok(),
            attempt: self.attempt,
            trouble: troubles.max_by_key(|t| (t.kind, t.restarts)),
            altered: false,
            crashes: self
                .pods
                .iter()
                .enumerate()
                .filter_map(|(index, pod)| pod.crashes(&format!("pod {}", self.pod_name(index))))
                .collect(),
            unready_since: Vec::new(),
        }
    }

    /// What the runtimes of its pods told up to a time.
    fn runtime(&self, end: Timestamp, at_start: f64, growth: f64) -> Vec<PodRuntime> {
        let to = end.as_millisecond();
        let from = to - millis(MEMORY_WINDOW);
        let pods = self.pods.iter().enumerate();
        pods.filter_map(|(index, pod)| {
            let sample = |(at, value)| {
                let at = Timestamp::from_millisecond(at).ok()?;
                Some(Sample { at, value })
            };
            Some(PodRuntime {
                pod: self.pod_name(index),
                since: Timestamp::from_millisecond(pod.since(to)?).ok()?,
                memory: pod
                    .memory((from, to), at_start, growth)
                    .into_iter()
                    .filter_map(sample)
                    .collect(),
                ..PodRuntime::default()
            })
        })
        .collect()
    }

    /// What scrapes say of one objective, in all and by pod; `None` when no pod was scraped. A revision without
    /// pods serves nothing.
    fn counts(&self, slo: usize, start: Millis, end: Millis) -> Option<(Counts, PodCounts)> {
        let scraped = self.pods.iter().any(|p| p.was_scraped(start, end));
        if !scraped && !self.pods.is_empty() {
            return None;
        }
        let (mut all, mut by_pod) = (Counts::default(), PodCounts::default());
        for (index, pod) in self.pods.iter().enumerate() {
            let growth = |counter| pod.growth(counter, start, end) as f64;
            let counts = Counts::new(growth(0), growth(slo + 1))?;
            all = all.plus(counts);
            by_pod.add(&self.pod_name(index), counts);
        }
        Some((all, by_pod))
    }

    /// All of its pods that were scraped in `(start, end]` were scraped up to here; `None` where none was.
    fn known_to(&self, start: Millis, end: Millis) -> Option<Millis> {
        self.pods
            .iter()
            .filter_map(|pod| pod.last_scrape(start, end))
            .min()
    }

    fn pod_name(&self, index: usize) -> String {
        format!("{}-{index}", self.revision)
    }
}
