//! The state machine driven by recorded counts.
//!
//! The world is as kind as can be: the attempt begins with the canary's first request, its pods are ready then, the router
//! knows them and acknowledges at once, and what was counted is what was recorded, whatever weight the machine asks for.
//! So evidence and verdicts are those of the recorded counts, and the rest of the timeline is what the machine would have
//! done by them.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use molt_core::analysis::Past;
use molt_core::decision::Effect;
use molt_core::observed::{
    Backend, BlockCounts, History, MeasuredBlock, Measurement, Observed, Preview, RevisionView, RouteView,
    Selection, Slot, Weights,
};
use molt_core::plan::{OnShareMismatch, Plan, Revision, RouteMode};
use molt_core::rollout::{Due, decide, measurement_due};
use serde::Serialize;

use crate::person;
use crate::pods::Millis;
use crate::run::{End, Machine, Outcome, ceil};
use crate::setup::{Invalid, check_plan, short};
use crate::timeline::{Timeline, at};
use crate::world::STABLE;

mod recording;

pub use recording::{BadLine, RecordedBlock, Recording};

/// More turns than the machine needs at one moment; a bound, so that a mistake can't hang a replay.
const MOST_TURNS: usize = 64;
/// How long after the recording the machine may still draw conclusions from it.
const AFTERMATH: Millis = 2_000;

/// What the machine made of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// What happened: one entry for each block and objective that was judged.
    #[serde(flatten)]
    pub timeline: Timeline,
    /// How it ended. A recording that ends before the rollout does is inconclusive.
    pub outcome: Outcome,
    /// Why: one `CamelCase` word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When the attempt begins, in seconds since the recording's start.
    pub begin: f64,
    /// Blocks that were recorded before: the canary had no request yet.
    pub skipped_blocks: usize,
    /// Blocks that were recorded after the end.
    pub unused_blocks: usize,
}

/// Drives the state machine by a recording of this plan's objectives.
///
/// `rps` is the rate of requests that history knows; without it, what is spent of an error budget is
/// estimated from the recording itself.
pub fn replay(plan: &Plan, recording: &Recording, rps: Option<f64>) -> Result<Replay, Invalid> {
    check_plan(plan)?;
    if let Some(rps) = rps.filter(|rps| !(rps.is_finite() && *rps > 0.0)) {
        let reason = format!("{} is no rate of requests: write a number above 0", short(rps));
        return Err(Invalid::new("rps", reason));
    }
    // Evidence lies on the grid of the recording, not on the plan's, and what was recorded does not follow the
    // weights that are asked for here.
    let mut plan = plan.clone();
    // What was recorded does not tell which pods there were.
    if plan.route.is_by_pods() {
        plan.route = RouteMode::Owned;
    }
    plan.on_share_mismatch = OnShareMismatch::Ignore;
    plan.block = SignedDuration::from_millis(recording.step());
    let mut player = Player {
        stage: Stage::new(&plan),
        machine: Machine::new(),
        timeline: Timeline::default(),
        wake_at: None,
        doing: String::new(),
        // Where nothing is known of the time before, requests are independent until they show that they are not.
        history: (0..plan.slos.len())
            .map(|slo| {
                let known = recording.history().get(slo).copied().unwrap_or(History {
                    past: Past {
                        correlation: Some(0.0),
                        ..Past::default()
                    },
                    ..History::default()
                });
                History {
                    rate: rps.or(known.rate),
                    ..known
                }
            })
            .collect(),
        plan: &plan,
    };
    Ok(player.play(recording))
}

struct Player<'a> {
    plan: &'a Plan,
    stage: Stage,
    machine: Machine,
    timeline: Timeline,
    wake_at: Option<Millis>,
    /// The machine's own words for where it is.
    doing: String,
    history: Vec<History>,
}

impl Player<'_> {
    fn play(&mut self, recording: &Recording) -> Replay {
        let blocks = recording.blocks();
        let last = blocks.last().map_or(0, |block| block.end);
        let mut used = 0;
        let mut now = recording.begin();
        let end = loop {
            let due = blocks.get(used).filter(|block| block.end <= now);
            used += usize::from(due.is_some());
            self.settle(now, due);
            if let Some(end) = self.machine.end() {
                break end;
            }
            let next = [self.wake_at, blocks.get(used).map(|block| block.end)];
            let next = next.into_iter().flatten().min();
            match next.filter(|next| *next <= last + recording.step() + AFTERMATH) {
                Some(next) => now = next.max(now + 1),
                None => break self.recording_ended(last),
            }
        };
        Replay {
            timeline: std::mem::take(&mut self.timeline),
            outcome: end.outcome,
            reason: end.reason,
            message: end.message,
            begin: recording.begin() as f64 / 1000.0,
            skipped_blocks: recording.before(),
            unused_blocks: blocks.len() - used,
        }
    }

    /// Decides at one moment until nothing is left to do in it.
    fn settle(&mut self, now: Millis, block: Option<&RecordedBlock>) {
        let mut measurement = block.map(|block| Measurement {
            blocks: vec![MeasuredBlock {
                start: at(block.start),
                end: at(block.end),
                slos: block.slos.clone(),
            }],
            history: self.history.clone(),
            conditions: Vec::new(),
            connections: None,
            runtime: Vec::new(),
        });
        for _ in 0..MOST_TURNS {
            self.know_endpoints();
            let (asks, comes) = person::asks(&self.machine.state, now);
            let mut seen = self.stage.observe(self.plan);
            seen.actions = asks;
            let first_look = measurement_due(self.plan, &self.machine.state, at(now))
                .filter(|due| due.want_history && measurement.is_none())
                .map(|due| self.first_look(&due));
            seen.measurement = measurement.take().or(first_look);
            let decision = decide(self.plan, &self.machine.state, &seen, at(now));
            self.timeline.note(&decision, now);
            self.doing.clone_from(&decision.report.message);
            self.wake_at = [decision.wake_at.map(ceil), comes].into_iter().flatten().min();
            let changed = decision
                .effects
                .iter()
                .fold(false, |changed, effect| self.stage.apply(effect) | changed);
            self.machine.take(decision, now);
            if !changed {
                break;
            }
        }
    }

    /// This router has no address to learn: whatever serves has been an endpoint for long. Else the first weight would
    /// begin within the first block, which would be no evidence.
    fn know_endpoints(&mut self) {
        if let Some(attempt) = &mut self.machine.state.attempt {
            attempt.endpoints = None;
        }
    }

    /// What shows, before users are on the canary, that its metrics can be read.
    fn first_look(&self, due: &Due) -> Measurement {
        let blocks = due.edges.windows(2).map(|edge| MeasuredBlock {
            start: edge[0],
            end: edge[1],
            slos: vec![Some(BlockCounts::default()); self.plan.slos.len()],
        });
        let exposed = self.machine.state.attempt.as_ref();
        Measurement {
            conditions: Vec::new(),
            connections: None,
            runtime: Vec::new(),
            // Later, only what was recorded counts.
            blocks: if exposed.is_some_and(|a| a.exposed_since.is_none()) {
                blocks.collect()
            } else {
                Vec::new()
            },
            history: self.history.clone(),
        }
    }

    fn recording_ended(&self, last: Millis) -> End {
        End {
            outcome: Outcome::Inconclusive,
            reason: "RecordingEnded".to_owned(),
            message: format!(
                "the recording ends after {} s, before the rollout does: {}",
                last as f64 / 1000.0,
                self.doing
            ),
        }
    }
}

/// A world that does at once what it is told.
struct Stage {
    pods: BTreeMap<Revision, RevisionView>,
    weights: Weights,
    preview: Option<Preview>,
    selected: BTreeMap<Slot, Revision>,
}

impl Stage {
    fn new(plan: &Plan) -> Self {
        let stable = Revision::from(STABLE);
        let mut pods = BTreeMap::new();
        pods.insert(stable.clone(), view(plan.replicas));
        let (backend, slots) = match plan.route {
            RouteMode::Adopted => (
                Backend::Slot(Slot::Stable),
                vec![Slot::InCluster, Slot::Stable, Slot::Canary],
            ),
            _ => (Backend::Revision(stable.clone()), vec![Slot::InCluster]),
        };
        Self {
            pods,
            weights: [(backend, 100)].into_iter().collect(),
            preview: None,
            selected: slots.into_iter().map(|slot| (slot, stable.clone())).collect(),
        }
    }

    fn observe(&self, plan: &Plan) -> Observed {
        let ready = |revision: &Revision| self.pods.get(revision).map_or(0, |view| view.wanted);
        let mut revisions = self.pods.clone();
        for (revision, view) in &mut revisions {
            view.ready = ready(revision);
            view.endpoints = view.ready;
        }
        let mut weights = self.weights.clone();
        if plan.route == RouteMode::Adopted {
            weights.entry(Backend::Slot(Slot::Canary)).or_insert(0);
        }
        let selection = |revision: &Revision| Selection {
            revision: revision.clone(),
            endpoints: ready(revision),
        };
        Observed {
            revisions,
            route: RouteView {
                exists: true,
                weights,
                preview: self.preview.clone(),
                acknowledged: true,
                ..RouteView::default()
            },
            selected: self.selected.iter().map(|(s, r)| (*s, selection(r))).collect(),
            ..Observed::default()
        }
    }

    /// Carries out one effect; `false` when it changes nothing here.
    fn apply(&mut self, effect: &Effect) -> bool {
        match effect {
            Effect::CreateRevision { revision } => {
                self.pods.entry(revision.clone()).or_insert_with(|| view(0));
            }
            Effect::Scale {
                revision,
                replicas,
                attempt,
            } => {
                let Some(view) = self.pods.get_mut(revision) else {
                    return false;
                };
                (view.wanted, view.pods) = (*replicas, *replicas);
                view.attempt = attempt.unwrap_or(view.attempt);
            }
            Effect::Select { slot, revision } => {
                self.selected.insert(*slot, revision.clone());
            }
            Effect::SetRoute { weights, preview } => {
                self.weights.clone_from(weights);
                self.preview.clone_from(preview);
            }
            Effect::CreateRevisionService { .. }
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
}

fn view(pods: u32) -> RevisionView {
    RevisionView {
        wanted: pods,
        pods,
        has_service: true,
        ..RevisionView::default()
    }
}
