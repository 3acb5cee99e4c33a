//! One rollout.

use jiff::Timestamp;
use molt_core::decision::Decision;
use molt_core::plan::{Plan, Step};
use molt_core::rollout::{decide, measurement_due};
use molt_core::state::{self, Stage, State};
use serde::Serialize;

use crate::person;
use crate::pods::{Millis, millis};
use crate::setup::Setup;
use crate::timeline::{Timeline, at};
use crate::world::{STABLE, Users, World};

/// How long a watch takes to bring back what was changed.
const WATCH_LAG: Millis = 100;
/// Beyond all waits of the plan, the longest that a rollout is followed.
const PATIENCE: Millis = 4 * 3_600_000;

/// How a simulated rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Outcome {
    /// The revision is stable.
    Promoted,
    /// Users are back at the old one.
    RolledBack,
    /// Neither harm nor safety could be shown: it waits for a person, or went back by policy.
    Inconclusive,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Promoted, Self::RolledBack, Self::Inconclusive];
}

/// What users had of one revision, from the start of the attempt to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// Requests that were sent to it.
    pub requests: u64,
    /// Those that failed: answered with an error, never answered, or refused.
    pub failed: u64,
}

impl From<Users> for Arm {
    fn from(users: Users) -> Self {
        Self {
            requests: users.requests,
            failed: users.failed,
        }
    }
}

/// How one rollout ended, and at which cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The seed that it can be repeated with.
    pub seed: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why: one `CamelCase` word of the state machine.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// Seconds from the canary's first request to the decision: to take its traffic away, or to give it all
    /// of it. `None` if it had no request before.
    pub decide_seconds: Option<f64>,
    /// Seconds in which the router sent users to the canary, the bake included.
    pub canary_exposure_seconds: f64,
    /// What users had of the canary.
    pub canary: Arm,
    /// What users had of stable.
    pub stable: Arm,
    /// Share of the window's error budget, in percent, that went to bad events at the canary beyond those
    /// that stable would have had: of the objective that lost most, as they were and not as they were
    /// measured.
    pub budget_spent_percent: f64,
    /// What the scenario had for later than the end, such as `errors@10m`: this rollout shows nothing of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_begun: Vec<String>,
}

/// One rollout, with what happened in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// How it ended.
    #[serde(flatten)]
    pub summary: Summary,
    /// What happened.
    #[serde(flatten)]
    pub timeline: Timeline,
}

/// Simulates one rollout. The same setup and seed give the same run.
pub fn run(setup: &Setup, seed: u64) -> Run {
    let mut timeline = Timeline::default();
    let summary = follow(setup, seed, |decision, now| timeline.note(decision, now));
    Run { summary, timeline }
}

/// Simulates one rollout, shows every turn and its time, and says how it ended.
pub(crate) fn follow(setup: &Setup, seed: u64, mut each: impl FnMut(&Decision, Millis)) -> Summary {
    let mut world = World::new(setup, seed);
    let mut machine = Machine::new();
    let horizon = horizon(&setup.plan);
    let mut doing = String::new();
    let end = loop {
        let now = world.now();
        let (asks, comes) = person::asks(&machine.state, now);
        let mut observed = world.observe();
        observed.actions = asks;
        observed.measurement =
            measurement_due(&setup.plan, &machine.state, at(now)).map(|due| world.measure(&due));
        let decision = decide(&setup.plan, &machine.state, &observed, at(now));
        each(&decision, now);
        doing.clone_from(&decision.report.message);
        let changed = decision
            .effects
            .iter()
            .fold(false, |changed, effect| world.apply(effect) | changed);
        let wake_at = decision.wake_at;
        machine.take(decision, now);
        if let Some(end) = machine.end()
            && !world.is_exposed_against(end.outcome)
        {
            break end;
        }
        let next = [
            wake_at.map(ceil),
            world.next_change(),
            comes,
            changed.then_some(now + WATCH_LAG),
        ];
        match next.into_iter().flatten().min() {
            Some(next) if next <= horizon => {
                // Changes of the world come one at a time.
                world.advance(next.max(now + 1));
            }
            _ => break End::unfinished(horizon, &doing),
        }
    };
    summary(setup, seed, &world, &machine, end)
}

impl World<'_> {
    /// Users are still sent to a canary that they are to be taken from.
    fn is_exposed_against(&self, outcome: Outcome) -> bool {
        outcome != Outcome::Promoted && self.is_exposed()
    }
}

fn summary(setup: &Setup, seed: u64, world: &World<'_>, machine: &Machine, end: End) -> Summary {
    let decided = machine.turned_back.or(machine.promoted);
    let spent = setup.plan.slos.iter().zip(&world.attributable).map(|(slo, bad)| {
        let requests = slo.objective.expected_requests(setup.rps);
        slo.objective.share_spent(bad.max(0.0), requests).unwrap_or(0.0)
    });
    Summary {
        seed,
        outcome: end.outcome,
        reason: end.reason,
        message: end.message,
        decide_seconds: world
            .first_request
            .zip(decided)
            .filter(|(first, decided)| first <= decided)
            .map(|(first, decided)| (decided - first) as f64 / 1000.0),
        canary_exposure_seconds: world.exposed as f64 / 1000.0,
        canary: world.users_of_canary.into(),
        stable: world.users_of_stable.into(),
        budget_spent_percent: spent.fold(0.0, f64::max) * 100.0,
        not_begun: world.not_begun(),
    }
}

/// The state machine's memory, and the times that matter of it.
pub(crate) struct Machine {
    pub state: State,
    /// When all traffic was asked for.
    promoted: Option<Millis>,
    /// When the traffic was taken away.
    turned_back: Option<Millis>,
    last: Option<(String, String)>,
}

/// The reason of a rollout that had not ended when it was followed no longer.
pub const UNFINISHED: &str = "Unfinished";

/// How and why a rollout ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub outcome: Outcome,
    pub reason: String,
    pub message: String,
}

impl End {
    /// Followed for so long, when the machine said of itself what it was `doing`.
    pub fn unfinished(horizon: Millis, doing: &str) -> Self {
        let hours = horizon as f64 / 3_600_000.0;
        Self {
            outcome: Outcome::Inconclusive,
            reason: UNFINISHED.to_owned(),
            message: format!(
                "the rollout was still under way after {hours:.1} h, the longest that it is followed here (its pauses, its bake, a progress deadline for each step, and four hours): {doing}"
            ),
        }
    }
}

impl Machine {
    /// A service whose stable revision has been there for long.
    pub fn new() -> Self {
        Self {
            state: State {
                stable: Some(STABLE.into()),
                ..State::default()
            },
            promoted: None,
            turned_back: None,
            last: None,
        }
    }

    /// Remembers what was decided at `now`.
    pub fn take(&mut self, decision: Decision, now: Millis) {
        self.state = decision.state;
        if let Some(told) = decision.report.transitions.last() {
            self.last = Some((told.reason.clone(), told.message.clone()));
        }
        let attempt = self.state.attempt.as_ref();
        let back = attempt.is_some_and(|a| matches!(a.stage, Stage::Withdrawing { .. } | Stage::Held))
            || self
                .state
                .last
                .as_ref()
                .is_some_and(|l| l.outcome != state::Outcome::Promoted);
        if back {
            self.turned_back.get_or_insert(now);
        } else if attempt.is_none_or(|a| a.weight == 100) {
            self.promoted.get_or_insert(now);
        }
    }

    /// How it ended, once it has; a rollout that waits for a person has ended too.
    pub fn end(&self) -> Option<End> {
        if let Some(last) = &self.state.last {
            let outcome = match last.outcome {
                state::Outcome::Promoted => Outcome::Promoted,
                state::Outcome::RolledBack => Outcome::RolledBack,
                _ => Outcome::Inconclusive,
            };
            return Some(End {
                outcome,
                reason: last.reason.clone(),
                message: last.message.clone(),
            });
        }
        let held = self
            .state
            .attempt
            .as_ref()
            .is_some_and(|a| a.stage == Stage::Held);
        held.then(|| {
            let (reason, message) = self.last.clone().unwrap_or_default();
            End {
                outcome: Outcome::Inconclusive,
                reason,
                message,
            }
        })
    }
}

/// How long a rollout of this plan can take at most.
fn horizon(plan: &Plan) -> Millis {
    let dwells: i64 = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::Dwell(seconds) => i64::from(*seconds) * 1000,
            _ => 0,
        })
        .sum();
    let waits = millis(plan.progress_deadline)
        .saturating_mul(i64::try_from(plan.steps.len()).map_or(i64::MAX, |n| n.saturating_add(4)));
    [dwells, waits, millis(plan.bake), PATIENCE]
        .into_iter()
        .fold(0, i64::saturating_add)
}

/// The first whole millisecond that is not before.
pub(crate) fn ceil(time: Timestamp) -> Millis {
    let floor = time.as_millisecond();
    floor + i64::from(time.subsec_nanosecond().rem_euclid(1_000_000) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Measure;
    use molt_core::decision::Effect;
    use molt_core::plan::RouteMode;

    #[test]
    fn weights_always_sum_to_a_hundred() {
        for (route, scenario) in [
            (RouteMode::Owned, "good"),
            (RouteMode::Adopted, "good"),
            (RouteMode::Owned, "errors=30%"),
            (RouteMode::Adopted, "crash@20s"),
        ] {
            let mut plan = crate::study::tests::plan("availability");
            plan.route = route;
            let (baseline, canary) = ("errors=0.1%".parse().unwrap(), scenario.parse().unwrap());
            let setup = Setup::new(plan, vec![Measure::Errors], baseline, canary, 50.0).unwrap();
            let mut changes = 0;
            follow(&setup, 3, |decision, _| {
                for effect in &decision.effects {
                    if let Effect::SetRoute { weights, .. } = effect {
                        changes += 1;
                        let sum: u32 = weights.values().map(|w| u32::from(*w)).sum();
                        assert_eq!(sum, 100, "{weights:?}");
                    }
                }
            });
            assert!(changes > 1, "{route:?} {scenario}");
        }
    }
}
