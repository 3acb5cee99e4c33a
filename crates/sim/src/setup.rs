//! What is simulated.

use jiff::SignedDuration;
use molt_core::plan::{Plan, RouteMode};
use thiserror::Error;

use crate::scenario::{Baseline, Scenario};

/// The most requests per second that are simulated.
const MOST_RPS: f64 = 1e6;
/// The most pods that are simulated.
const MOST_REPLICAS: u32 = 1000;

/// What an objective of the plan counts as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Requests that fail.
    Errors,
    /// Requests that take longer than this.
    SlowerThan(SignedDuration),
}

/// Who counts the requests of an objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counter {
    /// The pods, those that they complete.
    #[default]
    Pods,
    /// The proxies of the route, those that are answered.
    Route {
        /// They count also those that they send.
        sent: bool,
    },
}

/// The cluster around the rollout. Every pod of a revision starts alike, and every scrape succeeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Environment {
    /// Time from the creation of a pod, or the restart of its container, until it is ready and an endpoint.
    pub start_up: SignedDuration,
    /// It takes up to so much longer, evenly distributed.
    pub start_up_spread: SignedDuration,
    /// Time from a change of weights until the router has acknowledged it; it is in force from then on.
    pub acknowledge: SignedDuration,
    /// It takes up to so much longer, evenly distributed.
    pub acknowledge_spread: SignedDuration,
    /// How long a pod whose process has ended still gets requests, which fail.
    pub endpoint_lag: SignedDuration,
    /// Time between two scrapes of a pod.
    pub scrape_interval: SignedDuration,
    /// Memory of a pod that has just started, in bytes.
    pub memory_at_start: f64,
    /// Memory at which a pod is killed, in bytes.
    pub memory_limit: f64,
}

impl Environment {
    /// Pods that are ready after 4 to 8 s, a router that acknowledges after 0.5 to 1.5 s, 1 s until an
    /// endpoint is gone, 128 MiB of memory at the start and a limit of 512 MiB; two scrapes in a block.
    pub fn of(plan: &Plan) -> Self {
        Self {
            start_up: SignedDuration::from_secs(4),
            start_up_spread: SignedDuration::from_secs(4),
            acknowledge: SignedDuration::from_millis(500),
            acknowledge_spread: SignedDuration::from_secs(1),
            endpoint_lag: SignedDuration::from_secs(1),
            scrape_interval: plan.block / 2,
            memory_at_start: 128.0 * 1024.0 * 1024.0,
            memory_limit: 512.0 * 1024.0 * 1024.0,
        }
    }
}

/// How bad requests come in clusters, in both revisions alike: what a comparison must not take for harm. The
/// default is that each fails by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clusters {
    /// Correlation `ρ` of requests to the same revision within a stretch as long as a block, from 0 and below
    /// 1: its share `p` of errors is drawn anew for each stretch, from the beta distribution with the mean `p`
    /// and the variance `ρ·p·(1 − p)`.
    pub correlation: f64,
    /// A caller who sticks to one pod of one revision.
    pub tenant: Option<Tenant>,
    /// One pod, of either revision by chance, has so many times as many errors and slow answers.
    pub sick_pod: Option<f64>,
}

/// A caller whose requests fail wherever they go, and all go to the same pod: by chance one of the canary's, once
/// its share of the traffic has come so far, else one of stable's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tenant {
    /// Share of all requests, 0 to 1.
    pub share: f64,
    /// Share of them that fail, 0 to 1.
    pub errors: f64,
}

/// Why a setup can't be simulated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The part of the setup.
    pub field: &'static str,
    /// What is wrong with it, and how to put it right.
    pub reason: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field,
            reason: reason.into(),
        }
    }
}

/// One rollout to simulate: the plan's revision beside a stable one that serves already.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The plan, with a revision.
    pub plan: Plan,
    /// What each objective of the plan counts as bad, in the plan's order.
    pub measures: Vec<Measure>,
    /// Who counts its requests, in the plan's order.
    pub counters: Vec<Counter>,
    /// What stable does.
    pub baseline: Baseline,
    /// What the canary does, and what happens to both.
    pub scenario: Scenario,
    /// Requests per second to the service: independent, so that their number has Poisson's distribution.
    /// History knows the same rate.
    pub rps: f64,
    /// Share of each objective's error budget that is left at the start; `None`: unknown.
    pub budget_remaining: Option<f64>,
    /// How requests correlate within a block, as history tells it, 0 to 1; `None`: unknown. What is true is said
    /// by the [`clusters`](Self::clusters).
    pub known_correlation: Option<f64>,
    /// How they do correlate.
    pub clusters: Clusters,
    /// The cluster.
    pub environment: Environment,
}

impl Setup {
    /// A rollout in the usual environment, with the whole error budget left, independent requests that the pods
    /// count, and a history that knows so.
    pub fn new(
        mut plan: Plan,
        measures: Vec<Measure>,
        baseline: Baseline,
        scenario: Scenario,
        rps: f64,
    ) -> Result<Self, Invalid> {
        // Its pods are not modelled as what divides the traffic: the weights are taken as if a router did.
        if plan.route.is_by_pods() {
            plan.route = RouteMode::Owned;
        }
        let environment = Environment::of(&plan);
        let setup = Self {
            plan,
            counters: vec![Counter::Pods; measures.len()],
            measures,
            baseline,
            scenario,
            rps,
            budget_remaining: Some(1.0),
            known_correlation: Some(0.0),
            clusters: Clusters::default(),
            environment,
        };
        setup.check()?;
        Ok(setup)
    }

    /// What the scenario does that no objective counts, in its own words: whoever simulates it learns nothing of it.
    pub fn uncounted(&self) -> Vec<&'static str> {
        let errors = self.measures.contains(&Measure::Errors);
        let slow = self.measures.iter().any(|m| matches!(m, Measure::SlowerThan(_)));
        let does = [
            ("errors", self.scenario.errors.is_some(), errors),
            (
                "incident",
                self.scenario.incidents.iter().next().is_some(),
                errors,
            ),
            ("latency", self.scenario.latency.is_some(), slow),
        ];
        let uncounted = does.into_iter().filter(|(_, does, counted)| *does && !counted);
        uncounted.map(|(name, ..)| name).collect()
    }

    /// Whether it can be simulated, after fields were changed.
    pub fn check(&self) -> Result<(), Invalid> {
        check_plan(&self.plan)?;
        if self.measures.len() != self.plan.slos.len() {
            let (measures, slos) = (self.measures.len(), self.plan.slos.len());
            let reason = format!("{measures} measures for {slos} objectives: give one for each");
            return Err(Invalid::new("measures", reason));
        }
        if self.counters.len() != self.measures.len() {
            let (counters, slos) = (self.counters.len(), self.plan.slos.len());
            let reason = format!("{counters} counters for {slos} objectives: give one for each");
            return Err(Invalid::new("counters", reason));
        }
        if self.plan.replicas > MOST_REPLICAS {
            let reason = format!(
                "{} pods are more than are simulated: write 1 to {MOST_REPLICAS}",
                self.plan.replicas
            );
            return Err(Invalid::new("spec.replicas", reason));
        }
        if !(self.rps >= 0.0 && self.rps <= MOST_RPS) {
            let reason = format!(
                "{} is no rate of requests: write 0 to {MOST_RPS}",
                short(self.rps)
            );
            return Err(Invalid::new("rps", reason));
        }
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let tenant = self.clusters.tenant.unwrap_or(Tenant {
            share: 0.0,
            errors: 0.0,
        });
        let clusters = (0.0..1.0).contains(&self.clusters.correlation)
            && share(tenant.share)
            && share(tenant.errors)
            && self.clusters.sick_pod.is_none_or(|times| times >= 0.0);
        if !clusters {
            let reason = "has a share outside 0 to 1: write none for what there is not";
            return Err(Invalid::new("clusters", reason));
        }
        if self.environment.scrape_interval < SignedDuration::from_millis(1) {
            return Err(Invalid::new("scrape interval", "is shorter than a millisecond"));
        }
        Ok(())
    }
}

/// What both a simulation and a replay need of a plan.
pub(crate) fn check_plan(plan: &Plan) -> Result<(), Invalid> {
    if plan.revision.is_none() || plan.deleting {
        return Err(Invalid::new(
            "spec",
            "asks for no revision: put right what is wrong with it",
        ));
    }
    if plan.replicas == 0 {
        let reason = "0 pods make no rollout: write 1 or more";
        return Err(Invalid::new("spec.replicas", reason));
    }
    if plan.slos.is_empty() {
        return Err(Invalid::new(
            "spec.slos",
            "is empty: without an objective nothing is decided",
        ));
    }
    Ok(())
}

/// A number for people: one of more than fifteen digits by its power of ten.
pub(crate) fn short(number: f64) -> String {
    if number.abs() < 1e15 {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}
