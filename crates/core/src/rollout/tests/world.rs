//! A world as small as it can be: ReplicaSets whose pods become ready a while after they are asked for, a
//! router that acknowledges late, a Prometheus that counts what the weights imply.

use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

use super::workload::Workload;
use crate::analysis::{AtRoute, Counts, Limits, Objective, Past};
use crate::decision::{Decision, Effect, JobEffect, Phase};
use crate::group::Peer;
use crate::guard::RuntimeBlock;
use crate::migration::{MigrationPhase, MigrationReport};
use crate::observed::{
    Action, ActionView, Backend, BlockCounts, ConditionReading, ConnectionsReading, Crashes, History, JobKey,
    JobPhase, MeasuredBlock, Measurement, Observed, PodView, Preview, Problem, ProblemKind, RevisionView,
    RouteView, RulesOwners, RunsView, Selection, Slot, StablePods, Trouble,
};
use crate::plan::{
    BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, Revision, Room, RouteMode, RunsPlan, SloPlan,
    Step,
};
use crate::rollout::{decide, measurement_due};
use crate::state::State;

pub fn plan(revision: &str) -> Plan {
    let window = SignedDuration::from_hours(30 * 24);
    Plan {
        revision: Some(revision.into()),
        deleting: false,
        replicas: 4,
        room: Room::default(),
        steps: vec![
            Step::SetWeight(10),
            Step::Dwell(20),
            Step::SetWeight(50),
            Step::Dwell(20),
        ],
        at_once: false,
        bake: SignedDuration::from_secs(20),
        watch: SignedDuration::ZERO,
        scale_down_delay: SignedDuration::from_secs(10),
        abort_scale_down_delay: SignedDuration::from_secs(10),
        drain: SignedDuration::from_secs(10),
        progress_deadline: SignedDuration::from_secs(180),
        paused: false,
        strict_paused: false,
        rollback_window: 0,
        workload: None,
        group: None,
        revision_history_limit: 2,
        route: RouteMode::Owned,
        runs: RunsPlan::default(),
        shared_in_cluster: false,
        sticky: false,
        slos: vec![SloPlan {
            name: "availability".into(),
            objective: Objective::parse("99.9", window).unwrap(),
            question: "q1".into(),
        }],
        basis: "b1".into(),
        migrations: None,
        conditions: Vec::new(),
        guards: Vec::new(),
        limits: Limits::default(),
        on_inconclusive: OnInconclusive::Pause,
        budget_exhausted: BudgetExhausted::Slow,
        on_share_mismatch: OnShareMismatch::Hold,
        block: SignedDuration::from_secs(10),
    }
}

#[derive(Clone, Debug, Default)]
pub struct Set {
    pub wanted: u32,
    pub ready: u32,
    /// When each of its pods was created, the oldest first; those that are ready come first.
    pub births: Vec<(String, Timestamp)>,
    pub attempt: u32,
    pub service: bool,
    pub created_at: Option<Timestamp>,
    /// Pods of it never become ready.
    pub broken: Option<Trouble>,
    /// Somebody has changed its template.
    pub altered: bool,
    /// Who wrote `wanted` last, if not Molt.
    pub scaled_by: Option<String>,
    /// When each of the pods that are ready became it, the oldest first.
    pub ready_since: Vec<Timestamp>,
    /// When the runs of a container of it ended.
    pub crashes: Vec<Timestamp>,
    /// Which of these were kills for want of memory.
    pub kills: Vec<Timestamp>,
    /// Since when pods of it that go on running are no longer ready.
    pub unready_since: Vec<Timestamp>,
    /// Pods beyond those wanted that do not end, for their node is dead.
    pub stuck: u32,
    /// Pods that are no longer wanted are there until then.
    pub lingers_until: Option<Timestamp>,
}

// Each flag is a fault of its own that a test switches.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
pub struct World {
    pub now: Timestamp,
    /// The latest time that the operator's clock has ever shown.
    pub latest: Timestamp,
    /// The time of Prometheus and of everybody else.
    pub true_now: Timestamp,
    pub plan: Plan,
    /// How long a pod must have been ready to count.
    pub min_ready: i64,
    /// `spec.replicas` is absent: the ReplicaSet of stable and the state tell how strong the service is.
    pub unsaid_replicas: bool,
    /// How long a pod that is no longer wanted is there, in seconds.
    pub linger: i64,
    pub state: State,
    pub sets: BTreeMap<Revision, Set>,
    pub weights: BTreeMap<Backend, u8>,
    pub preview: Option<Preview>,
    /// The service of the service's own name leads to the pods of every revision.
    pub shared: bool,
    pub route_exists: bool,
    pub acknowledged: bool,
    /// Who wrote the route's weights last, if not Molt.
    pub written_by: Option<String>,
    /// When.
    pub written_at: Timestamp,
    /// How often Molt wrote them.
    pub weight_writes: u32,
    pub advice: BTreeMap<String, String>,
    pub selected: BTreeMap<Slot, Revision>,
    pub actions: Vec<ActionView>,
    pub ended_actions: Vec<(String, bool)>,
    pub gone: bool,
    /// Requests per second, for both revisions together.
    pub rps: f64,
    /// Share of bad answers by revision.
    pub bad: BTreeMap<Revision, f64>,
    /// The share of requests that a revision completes, 1 where nothing is said.
    pub answers: BTreeMap<Revision, f64>,
    /// The share of the error budget that history says is left.
    pub budget_remaining: f64,
    /// What a database says of its connections: how many others have, how many each pod opens, and its limit.
    pub database: Option<Result<(u32, u32, u32), String>>,
    /// What stable served before the attempt.
    pub past: Counts,
    /// Its counters fell again and again in that time.
    pub stable_falls: bool,
    /// Requests are counted at the route, also when they are sent.
    pub at_route: bool,
    /// Prometheus can't be read.
    pub blind: bool,
    /// The objective with this index can't be read.
    pub unread: Option<usize>,
    /// What each threshold's query gives.
    pub conditions: Vec<Result<f64, String>>,
    /// What the runtimes tell of a block; nobody tells anything if absent.
    pub runtime: Option<fn(Timestamp, Timestamp) -> RuntimeBlock>,
    /// The Jobs that there are, or were refused.
    pub jobs: BTreeMap<JobKey, JobPhase>,
    /// What becomes of each Job that is created.
    pub job_fate: JobPhase,
    /// What becomes of the Jobs of migrations, and what they report.
    pub migrations: BTreeMap<MigrationPhase, (JobPhase, Option<MigrationReport>)>,
    /// How long the pod of a migration runs on once its Job is deleted, in seconds.
    pub job_linger: i64,
    /// Such pods, and when each has ended.
    pub leaving: Vec<(String, Timestamp)>,
    /// Every Job that was created, in order.
    pub created_jobs: Vec<JobKey>,
    /// The router acknowledges nothing.
    pub deaf: bool,
    /// A disruption budget refuses every eviction.
    pub guarded: bool,
    /// Who has paused the fleet.
    pub fleet: Option<String>,
    /// What the records say was taken back.
    pub tried: BTreeSet<Revision>,
    /// The other services of its group.
    pub peers: Vec<Peer>,
    /// The Deployment that is taken over.
    pub workload: Workload,
    /// Pods that were evicted, in order.
    pub evicted: Vec<String>,
    /// Pods that were created so far.
    pub created_pods: u32,
    /// At each decision of the attempt under way: when, and the canary's endpoints behind the route's name for it.
    pub looks: Vec<(Timestamp, u32)>,
    /// Which attempt these are of.
    looked_at: Option<(Revision, u32)>,
    /// Every fractional request that was not yet counted, by revision: (total, bad).
    rest: BTreeMap<Revision, (f64, f64)>,
    pub last: Option<Decision>,
    pub phases: Vec<Phase>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            latest: Timestamp::from_second(1_800_000_000).unwrap(),
            true_now: Timestamp::from_second(1_800_000_000).unwrap(),
            plan,
            min_ready: 0,
            unsaid_replicas: false,
            linger: 0,
            state: State::default(),
            sets: BTreeMap::new(),
            weights: BTreeMap::new(),
            preview: None,
            shared: false,
            route_exists: false,
            acknowledged: false,
            written_by: None,
            written_at: Timestamp::UNIX_EPOCH,
            weight_writes: 0,
            advice: BTreeMap::new(),
            selected: BTreeMap::new(),
            actions: Vec::new(),
            ended_actions: Vec::new(),
            gone: false,
            rps: 40.0,
            bad: BTreeMap::new(),
            answers: BTreeMap::new(),
            budget_remaining: 0.9,
            database: None,
            stable_falls: false,
            past: Counts::default(),
            at_route: false,
            blind: false,
            unread: None,
            conditions: Vec::new(),
            runtime: None,
            jobs: BTreeMap::new(),
            job_fate: JobPhase::Succeeded,
            migrations: BTreeMap::new(),
            job_linger: 0,
            leaving: Vec::new(),
            created_jobs: Vec::new(),
            deaf: false,
            guarded: false,
            fleet: None,
            tried: BTreeSet::new(),
            peers: Vec::new(),
            workload: Workload::default(),
            evicted: Vec::new(),
            created_pods: 0,
            looks: Vec::new(),
            looked_at: None,
            rest: BTreeMap::new(),
            last: None,
            phases: Vec::new(),
        }
    }

    /// A world in which `v1` is stable behind a route of the user's.
    pub fn with_users_route() -> Self {
        let mut world = Self::new(plan("v1"));
        world.plan.route = RouteMode::Adopted;
        world.route_exists = true;
        world.write_weights("person", 0);
        world.run(60);
        assert_eq!(world.phase(), Phase::Healthy);
        world
    }

    /// A world in which `v1` is stable.
    pub fn with_stable() -> Self {
        let mut world = Self::new(plan("v1"));
        world.run(60);
        assert_eq!(world.phase(), Phase::Healthy);
        world
    }

    pub fn update(&mut self, revision: &str) {
        self.plan.revision = Some(revision.into());
    }

    pub fn act(&mut self, uid: &str, action: Action) {
        self.actions.push(ActionView {
            uid: uid.into(),
            name: uid.into(),
            action,
            revision: None,
            attempt: None,
            step: None,
            to_revision: None,
            gate: None,
            reason: String::new(),
            requested_by: "oncall".into(),
            created_at: Some(self.true_now),
        });
    }

    pub fn phase(&self) -> Phase {
        self.last.as_ref().map_or(Phase::Initializing, |d| d.report.phase)
    }

    pub fn weight(&self, revision: &str) -> u8 {
        self.weights
            .get(&Backend::Revision(revision.into()))
            .copied()
            .unwrap_or(0)
    }

    /// Ready pods that have not been so for long enough.
    fn young(&self, set: &Set) -> u32 {
        let young = |since: &&Timestamp| self.true_now.duration_since(**since).as_secs() < self.min_ready;
        let ready = set.ready_since.iter().take(set.ready as usize);
        u32::try_from(ready.filter(young).count()).unwrap()
    }

    pub fn endpoints(&self, revision: &Revision) -> u32 {
        self.sets
            .get(revision)
            .map_or(0, |s| if s.service { s.ready } else { 0 })
    }

    /// Without a router, pods are what divides the traffic.
    fn divide_by_pods(&mut self) {
        let leads = |world: &Self, revision: &Revision| {
            world.plan.route.pulls() || world.shared || world.selected.get(&Slot::InCluster) == Some(revision)
        };
        let behind: Vec<(Revision, u32)> = self
            .sets
            .keys()
            .filter(|revision| leads(self, revision))
            .map(|revision| (revision.clone(), self.endpoints(revision)))
            .collect();
        let all: u32 = behind.iter().map(|(_, pods)| pods).sum();
        self.route_exists = self.shared || self.selected.contains_key(&Slot::InCluster);
        if self.plan.route.pulls() {
            self.route_exists = !self.sets.is_empty();
            self.acknowledged = true;
        }
        self.weights = behind
            .into_iter()
            .filter(|(_, pods)| *pods > 0)
            .map(|(revision, pods)| {
                (
                    Backend::Revision(revision),
                    u8::try_from(pods * 100 / all).unwrap(),
                )
            })
            .collect();
    }

    pub fn observe(&mut self) -> Observed {
        if self.plan.route.is_by_pods() {
            self.divide_by_pods();
        }
        let revisions = self
            .sets
            .iter()
            .map(|(revision, set)| {
                let view = RevisionView {
                    wanted: set.wanted,
                    pods: set.wanted.max(set.ready) + set.stuck,
                    ready: set.ready,
                    young: self.young(set),
                    scaled_by: set.scaled_by.clone(),
                    endpoints: self.endpoints(revision),
                    has_service: set.service,
                    created_at: set.created_at,
                    attempt: set.attempt,
                    trouble: set.broken.clone().filter(|_| set.wanted > 0),
                    altered: set.altered,
                    crashes: vec![Crashes {
                        message: "pod v2-abcde, container app: ended with exit code 1".into(),
                        ends: set.crashes.clone(),
                        out_of_memory: set.kills.clone(),
                    }],
                    unready_since: set.unready_since.clone(),
                };
                (revision.clone(), view)
            })
            .collect();
        let selected = self
            .selected
            .iter()
            .map(|(slot, r)| {
                (
                    *slot,
                    Selection {
                        revision: r.clone(),
                        endpoints: self.sets.get(r).map_or(0, |s| s.ready),
                    },
                )
            })
            .collect();
        let mut problems = Vec::new();
        if self.blind {
            problems.push(Problem {
                kind: ProblemKind::Metrics,
                reason: "PrometheusUnreachable".into(),
                message: "Prometheus is unreachable".into(),
            });
        }
        Observed {
            revisions,
            runs: RunsView::default(),
            route: RouteView {
                exists: self.route_exists,
                weights: self.weights.clone(),
                preview: self.preview.clone(),
                acknowledged: self.acknowledged,
                rules: RulesOwners {
                    ours: self.written_by.is_none() && self.weight_writes > 0,
                    other: self.written_by.clone(),
                    other_at: self.written_by.as_ref().map(|_| self.written_at),
                    advice: self.advice.clone(),
                },
            },
            selected,
            shared: self.shared,
            measurement: self.measure(),
            stable_pods: self.stable_pods(),
            peers: self.peers.clone(),
            fleet_paused: self.fleet.clone(),
            actions: self.actions.clone(),
            attempts: self.sets.iter().map(|(r, s)| (r.clone(), s.attempt)).collect(),
            tried: self.tried.clone(),
            jobs: self.jobs.clone(),
            reports: self.reports(),
            leaving_migrations: self.leaving.iter().map(|(name, _)| name.clone()).collect(),
            workload: self.workload.sight(self.state.stable.as_ref()),
            name_taken: false,
            problems,
        }
    }

    /// What comes to a revision beside its weight, as a part of all requests: a twentieth has the headers.
    fn previewed(&self, revision: &Revision) -> f64 {
        let preview = self.preview.as_ref().filter(|p| p.revision == *revision);
        preview.map_or(0.0, |preview| {
            let copies = preview.mirror.as_ref().map_or(0, |mirror| mirror.percent);
            f64::from(copies) / 100.0 + if preview.headers.is_empty() { 0.0 } else { 0.05 }
        })
    }

    /// What the Jobs of migrations that have ended wrote down.
    fn reports(&self) -> BTreeMap<JobKey, MigrationReport> {
        let ended = self.jobs.iter().filter(|(_, phase)| phase.has_ended());
        let report = |key: &JobKey| {
            self.migrations
                .get(&MigrationPhase::of(&key.condition)?)?
                .1
                .clone()
        };
        ended
            .filter_map(|(key, _)| Some((key.clone(), report(key)?)))
            .collect()
    }

    fn stable_pods(&self) -> Option<StablePods> {
        let set = self.sets.get(self.state.stable.as_ref()?)?;
        let pods = set
            .births
            .iter()
            .enumerate()
            .map(|(n, (name, created_at))| PodView {
                name: name.clone(),
                uid: name.clone(),
                created_at: *created_at,
                ready: n < set.ready as usize,
                leaving: false,
            });
        Some(StablePods {
            pods: pods.collect(),
            refused: self.guarded.then(|| "a disruption budget forbids it".to_owned()),
        })
    }

    fn measure(&mut self) -> Option<Measurement> {
        let due = measurement_due(&self.plan, &self.state, self.now)?;
        if self.blind {
            return None;
        }
        let (judged, beside) = self.state.counted();
        let canary = judged.cloned()?;
        let stable = beside.cloned().unwrap_or_else(|| "none".into());
        let place = if self.state.attempt.is_some() {
            Slot::Canary
        } else {
            Slot::Stable
        };
        let share = f64::from(
            self.weights
                .iter()
                .filter(|(b, _)| **b == Backend::Slot(place) || **b == Backend::Revision(canary.clone()))
                .map(|(_, w)| *w)
                .sum::<u8>(),
        ) / 100.0;
        // A pod that does not run is not scraped, so nothing can be said of it.
        let of_canary = self.sets.get(&canary);
        // Workers that there are none of have done nothing.
        let idle = self.plan.route.pulls() && of_canary.is_none_or(|s| s.wanted == 0 && s.ready == 0);
        let scraped = share > 0.0 || idle || of_canary.is_some_and(|s| s.ready > 0);
        let slos = self.plan.slos.len();
        let blocks = due
            .edges
            .windows(2)
            .map(|edge| {
                let seconds = edge[1].duration_since(edge[0]).as_secs_f64();
                let aside = self.previewed(&canary);
                let canary = self.count(&canary, self.rps * (share + aside) * seconds);
                let stable = self.count(&stable, self.rps * (1.0 - share) * seconds);
                let sent = Some((self.rps * share * seconds, self.rps * (1.0 - share) * seconds));
                let at_route = self.at_route.then_some(AtRoute { sent });
                MeasuredBlock {
                    start: edge[0],
                    end: edge[1],
                    slos: (0..slos)
                        .map(|i| {
                            let past = edge[1] <= self.true_now;
                            (scraped && past && self.unread != Some(i)).then_some(BlockCounts {
                                canary,
                                stable,
                                at_route,
                                ..BlockCounts::default()
                            })
                        })
                        .collect(),
                }
            })
            .collect();
        let history = if due.want_history {
            vec![
                History {
                    rate: Some(self.rps),
                    budget_remaining: Some(self.budget_remaining),
                    past: Past {
                        correlation: Some(0.0),
                        served: self.past,
                        flow: Past::steady(self.rps * self.plan.block.as_secs_f64(), 0.0, None).flow,
                    },
                    falls: self.stable_falls,
                };
                slos
            ]
        } else {
            Vec::new()
        };
        let at = *due.edges.last()?;
        let conditions = self.conditions.iter().filter(|_| due.want_conditions);
        let conditions = conditions
            .map(|value| ConditionReading {
                at,
                value: value.clone(),
            })
            .collect();
        let runtime = due.edges.windows(2).filter(|_| due.want_conditions);
        let runtime = runtime.filter_map(|edge| Some(self.runtime?(edge[0], edge[1])));
        Some(Measurement {
            blocks,
            history,
            conditions,
            runtime: runtime.collect(),
            connections: self.database.clone().map(|said| {
                let ready: u32 = self.sets.values().map(|set| set.ready).sum();
                said.map(|(others, each, limit)| ConnectionsReading {
                    used: others + each * ready,
                    limit,
                })
            }),
        })
    }

    /// Whole requests; the rest waits for the next block.
    fn count(&mut self, revision: &Revision, requests: f64) -> Counts {
        let bad = self.bad.get(revision).copied().unwrap_or(0.0);
        let requests = requests * self.answers.get(revision).copied().unwrap_or(1.0);
        let rest = self.rest.entry(revision.clone()).or_default();
        rest.0 += requests;
        rest.1 += requests * bad;
        let (total, failed) = (rest.0.floor(), rest.1.floor());
        rest.0 -= total;
        rest.1 -= failed;
        Counts::new(total, failed).unwrap()
    }

    /// One decision; the first `limit` effects are carried out, as if the operator crashed after them.
    pub fn turn(&mut self, limit: usize) -> Decision {
        if self.unsaid_replicas {
            let stable = self.state.stable.as_ref().and_then(|r| self.sets.get(r));
            let known = self.state.strength_beside(stable.map(|set| set.wanted));
            self.plan.replicas = known.filter(|n| *n > 0).unwrap_or(1);
        }
        let seen = self.observe();
        let decision = decide(&self.plan, &self.state, &seen, self.now);
        self.state = decision.state.clone();
        self.note_look(&seen);
        for effect in decision.effects.iter().take(limit) {
            self.apply(effect);
        }
        for effect in decision.jobs.iter().take(limit) {
            self.apply_job(effect);
        }
        self.last = Some(decision.clone());
        if self.phases.last() != Some(&decision.report.phase) {
            self.phases.push(decision.report.phase);
        }
        decision
    }

    fn note_look(&mut self, seen: &Observed) {
        let attempt = self.state.attempt.as_ref();
        let attempt = attempt.map(|a| (a.revision.clone(), a.number));
        if self.looked_at != attempt {
            self.looks.clear();
            self.looked_at.clone_from(&attempt);
        }
        let Some((revision, _)) = attempt else { return };
        let named =
            self.plan.route != RouteMode::Adopted || self.selected.get(&Slot::Canary) == Some(&revision);
        let pods = if named { seen.ready(&revision) } else { 0 };
        // What was there when it began is known.
        let at = if self.looks.is_empty() {
            Timestamp::MIN
        } else {
            self.now
        };
        self.looks.push((at, pods));
    }

    /// The canary's pods that have been endpoints for so long, by the operator's clock.
    pub fn settled_endpoints(&self, time: SignedDuration) -> u32 {
        let mut most = 0;
        for (index, (since, pods)) in self.looks.iter().enumerate() {
            let later = &self.looks[index..];
            let lasted = *since == Timestamp::MIN || later.iter().any(|(at, _)| *at >= *since + time);
            let least = later.iter().map(|(_, pods)| *pods).min().unwrap_or(*pods);
            if lasted {
                most = most.max(least);
            }
        }
        most
    }

    /// Lives for so many seconds, a decision in each.
    pub fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.live(1);
            self.turn(usize::MAX);
        }
    }

    /// Lives until a phase is reached, for at most so many seconds; says whether it was.
    pub fn run_until(&mut self, phase: Phase, seconds: u32) -> bool {
        (0..seconds).any(|_| {
            self.run(1);
            self.phase() == phase
        })
    }

    /// Another field manager writes the weights of a user's route.
    pub fn write_weights(&mut self, manager: &str, canary: u8) {
        self.weights = [
            (Backend::Slot(Slot::Stable), 100 - canary),
            (Backend::Slot(Slot::Canary), canary),
        ]
        .into();
        self.written_by = Some(manager.into());
        self.written_at = self.true_now;
        self.acknowledged = false;
    }

    /// A person takes the canary's weight down by `kubectl patch`.
    pub fn lower(&mut self, canary: u8) {
        if self.plan.route == RouteMode::Adopted {
            self.write_weights("kubectl-patch", canary);
            return;
        }
        let (Some(stable), Some(attempt)) = (&self.state.stable, &self.state.attempt) else {
            return;
        };
        let stable = Backend::Revision(stable.clone());
        let tried = Backend::Revision(attempt.revision.clone());
        if self.weights.get(&tried).is_none_or(|has| *has <= canary) {
            return;
        }
        self.weights = [(stable, 100 - canary), (tried, canary)].into();
        self.written_by = Some("kubectl-patch".into());
        self.written_at = self.true_now;
        self.acknowledged = false;
    }

    /// The weight that a user's route gives to `<service>-canary`.
    pub fn canary_weight(&self) -> u8 {
        self.weights
            .get(&Backend::Slot(Slot::Canary))
            .copied()
            .unwrap_or(0)
    }

    /// The clock of the operator's host is set.
    pub fn set_clock(&mut self, minutes: i16) {
        let by = SignedDuration::from_mins(minutes.into());
        self.now = self.now.checked_add(by).unwrap();
        self.latest = self.latest.max(self.now);
    }

    /// Time passes: pods become ready, the router acknowledges.
    pub fn live(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self.latest = self.latest.max(self.now);
        self.true_now = self
            .true_now
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap();
        for (revision, set) in &mut self.sets {
            while set.births.len() < set.wanted as usize {
                self.created_pods += 1;
                let name = format!("{revision}-{}", self.created_pods);
                set.births.push((name, self.true_now));
            }
            let lingers = set.lingers_until.is_some_and(|until| self.true_now < until);
            if !lingers && set.lingers_until.take().is_some() {
                set.births.truncate(set.wanted as usize);
            }
            if set.broken.is_some() || (set.ready > set.wanted && !lingers) {
                set.ready = set.ready.min(set.wanted);
                if set.broken.is_some() {
                    set.ready = 0;
                }
            } else if set.ready < set.wanted {
                set.ready += 1;
            }
            set.ready_since.truncate(set.ready as usize);
            set.ready_since.resize(set.ready as usize, self.true_now);
        }
        for _ in 0..seconds {
            self.workload.live();
        }
        let now = self.true_now;
        self.leaving.retain(|(_, until)| now < *until);
        if self.route_exists && !self.deaf {
            self.acknowledged = true;
        }
        for (key, job) in self
            .jobs
            .iter_mut()
            .filter(|(_, job)| **job == JobPhase::Waiting(None))
        {
            let of_migration =
                MigrationPhase::of(&key.condition).and_then(|phase| self.migrations.get(&phase));
            *job = match of_migration.map_or(&self.job_fate, |(fate, _)| fate) {
                JobPhase::Running { .. } => JobPhase::Running { since: self.now },
                fate => fate.clone(),
            };
        }
    }

    fn apply_job(&mut self, effect: &JobEffect) {
        match effect {
            JobEffect::Start { key, .. } | JobEffect::StartMigration { key, .. } => {
                if let JobPhase::Refused(_) = self.job_fate {
                    self.jobs.insert(key.clone(), self.job_fate.clone());
                } else {
                    self.created_jobs.push(key.clone());
                    self.jobs.insert(key.clone(), JobPhase::Waiting(None));
                }
            }
            JobEffect::Delete(key) => self.delete_job(key),
        }
    }

    /// A Job is deleted, by whomever; the pod of a migration has its grace period.
    pub fn delete_job(&mut self, key: &JobKey) {
        let under_way = self.jobs.remove(key).is_some_and(|phase| phase.is_under_way());
        if under_way && self.job_linger > 0 && MigrationPhase::of(&key.condition).is_some() {
            let until = self.true_now + SignedDuration::from_secs(self.job_linger);
            let pod = format!("pod {}-{}", key.condition, key.run);
            self.leaving.push((pod, until));
        }
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::CreateRevision { revision } => {
                let set = Set {
                    created_at: Some(self.now),
                    service: true,
                    ..Set::default()
                };
                self.sets.entry(revision.clone()).or_insert(set);
            }
            Effect::CreateRevisionService { revision } => {
                if let Some(set) = self.sets.get_mut(revision) {
                    set.service = true;
                }
            }
            Effect::Scale {
                revision,
                replicas,
                attempt,
            } => {
                let until = self.true_now + SignedDuration::from_secs(self.linger);
                let set = self.sets.get_mut(revision).expect("only what exists is scaled");
                set.wanted = *replicas;
                set.scaled_by = None;
                if self.linger > 0 && set.ready > *replicas {
                    set.lingers_until = Some(until);
                } else {
                    set.ready = set.ready.min(*replicas);
                    set.births.truncate(*replicas as usize);
                }
                set.attempt = attempt.unwrap_or(set.attempt);
            }
            Effect::Select { slot, revision } => {
                self.selected.insert(*slot, revision.clone());
                if *slot == Slot::InCluster {
                    self.shared = false;
                    self.acknowledged &= self.plan.route != RouteMode::Shares;
                }
            }
            Effect::Share => {
                self.selected.remove(&Slot::InCluster);
                self.shared = true;
                self.acknowledged &= self.plan.route != RouteMode::Shares;
            }
            Effect::SetRoute { weights, preview } => {
                self.weights.clone_from(weights);
                self.preview.clone_from(preview);
                self.weight_writes += 1;
                self.written_by = None;
                self.route_exists = true;
                self.acknowledged = false;
            }
            Effect::Evict { pod, .. } => {
                let sets = self.sets.values_mut().filter(|_| !self.guarded);
                for set in sets {
                    let Some(place) = set.births.iter().position(|(name, _)| name == pod) else {
                        continue;
                    };
                    set.births.remove(place);
                    set.ready -= u32::from(place < set.ready as usize);
                    self.evicted.push(pod.clone());
                }
            }
            Effect::DeleteRevision { revision } => {
                self.sets.remove(revision);
            }
            Effect::HoldWorkload {
                replicas,
                paused,
                former,
                ..
            } => self.workload.hold(*replicas, *paused, *former),
            Effect::WidenServices => self.workload.widened = true,
            Effect::FreeWorkload { .. } => self.workload.held = None,
            Effect::RunNext(_) | Effect::EndRun { .. } => panic!("nothing runs by a schedule here"),
            Effect::ReleaseRoute => {}
            Effect::RemoveFinalizer => self.gone = true,
            Effect::EndAction { name, applied, .. } => {
                self.actions.retain(|a| a.name != *name);
                self.ended_actions.push((name.clone(), *applied));
            }
        }
    }
}
