//! What has been seen of a service since somebody began to look, and how they look at it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::Timestamp;
use molt_core::analysis::Counts;
use molt_core::plan::Revision;
use molt_core::state::{Attempt, Ended, State, Transition};

use super::feed::News;
use crate::api::v1alpha1::{CountsStatus, PythonService, RecordedSlo, RolloutRecord, SloStatus};

/// Blocks that are kept; the oldest give way.
const MOST_BLOCKS: usize = 4_000;

/// Everything that a screen shows.
#[derive(Clone, Debug)]
pub struct Model {
    /// The service, as it was told last.
    pub service: PythonService,
    /// The time.
    pub now: Timestamp,
    /// Since when the API server has given no answer, and why.
    pub lost: Option<(Timestamp, String)>,
    /// The objective that is looked at: its place.
    pub objective: usize,
    /// Lines of the events that were scrolled past.
    pub scrolled: u16,
    /// Whose blocks they are.
    attempt: Option<(Revision, u32)>,
    /// Where its objectives stood when it was told of them last.
    slos: Vec<SloStatus>,
    /// What was counted, by objective and end of the block.
    blocks: BTreeMap<(String, Timestamp), Block>,
}

/// What was counted in one block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Block {
    /// The share of bad requests to the canary, in percent; absent where there were none.
    pub canary: Option<f64>,
    /// Of those to stable.
    pub stable: Option<f64>,
    /// The canary's weight, in percent.
    pub weight: i32,
}

/// What a person can ask a screen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The next objective.
    Next,
    /// The one before.
    Previous,
    /// Older events.
    Down,
    /// Newer ones.
    Up,
    /// The newest.
    Top,
}

impl Model {
    /// A view that begins.
    pub fn new(service: PythonService, now: Timestamp) -> Self {
        let mut model = Self {
            service: service.clone(),
            now,
            lost: None,
            objective: 0,
            scrolled: 0,
            attempt: None,
            slos: Vec::new(),
            blocks: BTreeMap::new(),
        };
        model.update(service);
        model
    }

    /// Takes in what was told; breaks off once the service is gone.
    pub fn learn(&mut self, news: News, now: Timestamp) -> ControlFlow<()> {
        match news {
            News::Service(service) => {
                self.lost = None;
                self.update(*service);
            }
            News::Record(record) => self.remember(&record),
            News::Lost(why) => {
                let since = self.lost.as_ref().map_or(now, |(since, _)| *since);
                self.lost = Some((since, why));
            }
            News::Deleted => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Does what a person asks for.
    pub fn press(&mut self, key: Key) {
        let objectives = self.objectives().max(1);
        match key {
            Key::Next => self.objective = (self.objective + 1) % objectives,
            Key::Previous => self.objective = (self.objective + objectives - 1) % objectives,
            Key::Down => self.scrolled = self.scrolled.saturating_add(1).min(self.most_scrolled()),
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::Top => self.scrolled = 0,
        }
    }

    /// The state that the status holds.
    pub fn state(&self) -> Option<&State> {
        self.service.status.as_ref()?.state.as_deref()
    }

    /// The attempt under way.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.state()?.attempt.as_ref()
    }

    /// The attempt that ended last, while none is under way: what happened is what somebody looks for then.
    pub fn last(&self) -> Option<&Ended> {
        let state = self.state()?;
        state.last.as_ref().filter(|_| state.attempt.is_none())
    }

    /// From when to when the attempt that is shown ran.
    pub fn time(&self) -> Option<(Timestamp, Timestamp)> {
        let running = self.attempt().map(|attempt| (attempt.started_at, self.now));
        running.or_else(|| self.last().map(|last| (last.started_at, last.ended_at)))
    }

    /// What happened in the attempt that is shown, the oldest first.
    pub fn transitions(&self) -> &[Transition] {
        let running = self.attempt().map(|attempt| attempt.transitions.as_slice());
        running
            .or_else(|| self.last().map(|last| last.transitions.as_slice()))
            .unwrap_or_default()
    }

    /// The objectives of the attempt that is shown.
    pub fn slos(&self) -> &[SloStatus] {
        &self.slos
    }

    /// The blocks of an objective, the oldest first.
    pub fn blocks(&self, objective: &str) -> impl Iterator<Item = (Timestamp, Block)> {
        self.blocks
            .iter()
            .filter(move |((name, _), _)| name == objective)
            .map(|((_, at), block)| (*at, *block))
    }

    fn objectives(&self) -> usize {
        self.slos.len()
    }

    fn most_scrolled(&self) -> u16 {
        let told = self.transitions().len();
        u16::try_from(told.saturating_sub(1)).unwrap_or(u16::MAX)
    }

    fn begin(&mut self, attempt: (Revision, u32)) {
        if self.attempt.as_ref() != Some(&attempt) {
            self.blocks.clear();
            self.slos.clear();
            self.scrolled = 0;
            self.attempt = Some(attempt);
        }
    }

    fn update(&mut self, service: PythonService) {
        self.service = service;
        let Some(attempt) = self.attempt().cloned() else {
            if let Some(ended) = self.last().map(|last| (last.revision.clone(), last.number)) {
                self.begin(ended);
            }
            return;
        };
        self.begin((attempt.revision, attempt.number));
        let status = self.service.status.as_ref();
        self.slos = status.and_then(|s| s.slos.clone()).unwrap_or_default();
        for slo in attempt.evidence {
            if let Some(newest) = slo.newest {
                let block = Block {
                    canary: share(&plain(newest.canary)),
                    stable: share(&plain(newest.stable)),
                    weight: i32::from(newest.weight),
                };
                // The newest stands until users are on the canary again: it is one block.
                if self.blocks(&slo.name).last().map(|(_, last)| last) != Some(block) {
                    self.blocks.insert((slo.name, slo.measured_to), block);
                }
            }
        }
        while self.blocks.len() > MOST_BLOCKS {
            let oldest = self.blocks.keys().min_by_key(|(_, at)| *at).cloned();
            oldest.and_then(|key| self.blocks.remove(&key));
        }
        self.objective = self.objective.min(self.objectives().saturating_sub(1));
    }

    /// What a record tells of the time before; of verdicts that it thinned out, the rest.
    fn remember(&mut self, record: &RolloutRecord) {
        let number = u32::try_from(record.spec.attempt).unwrap_or(0);
        self.begin((Revision(record.spec.revision.clone()), number));
        if self.slos.is_empty() {
            let slos = record.status.iter().flat_map(|status| &status.slos);
            self.slos = slos.map(recorded).collect();
        }
        for verdict in record.status.iter().flat_map(|status| &status.verdicts) {
            let block = Block {
                canary: share(&verdict.canary),
                stable: share(&verdict.stable),
                weight: verdict.weight,
            };
            self.blocks.insert((verdict.slo.clone(), verdict.at), block);
        }
    }
}

/// An objective of an attempt that has ended, as its record has it.
fn recorded(slo: &RecordedSlo) -> SloStatus {
    SloStatus {
        name: slo.name.clone(),
        budget_remaining: None,
        spent_by_rollout: slo.spent_by_rollout.clone(),
        verdict: String::new(),
        evidence: slo.evidence.clone(),
        burn: None,
        canary: slo.canary.clone(),
        stable: slo.stable.clone(),
    }
}

fn plain(counts: Counts) -> CountsStatus {
    CountsStatus {
        total: counts.total().round() as i64,
        bad: counts.bad().round() as i64,
    }
}

/// The share of bad ones in percent.
fn share(counts: &CountsStatus) -> Option<f64> {
    (counts.total > 0).then(|| counts.bad as f64 / counts.total as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::progressing;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-03-01T02:03:22Z".parse().unwrap()
    }

    fn record(revision: &str) -> News {
        let verdict = json!({
            "at": "2026-03-01T02:03:00Z", "step": 1, "weight": 25, "slo": "availability",
            "canary": {"total": 100, "bad": 2}, "stable": {"total": 0, "bad": 0},
            "evidence": {"harm": "1.0", "safe": "1.0"}, "margin": "0.001", "spent": "0.1%", "verdict": "Continue",
        });
        let record = json!({
            "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord", "metadata": {"name": "checkout-1"},
            "spec": {"service": "checkout", "revision": revision, "attempt": 1, "startedAt": "2026-03-01T02:00:00Z"},
            "status": {"verdicts": [verdict]},
        });
        News::Record(Box::new(serde_json::from_value(record).unwrap()))
    }

    #[test]
    fn blocks_are_those_of_the_attempt_under_way() {
        let mut model = Model::new(progressing(), now());
        assert!(model.learn(record("7d9f8c0000"), now()).is_continue());
        let block = Block {
            canary: Some(2.0),
            stable: None,
            weight: 25,
        };
        assert_eq!(
            model.blocks("availability").map(|(_, b)| b).collect::<Vec<_>>(),
            [block]
        );
        assert_eq!(model.blocks("latency").count(), 0);
        let mut other = progressing();
        let status = other.status.as_mut().unwrap();
        status.state.as_mut().unwrap().attempt.as_mut().unwrap().number = 2;
        assert!(model.learn(News::Service(Box::new(other)), now()).is_continue());
        assert_eq!(model.blocks("availability").count(), 0);
    }

    #[test]
    fn a_loss_lasts_from_its_first_word_until_the_service_is_told_again() {
        let mut model = Model::new(progressing(), now());
        let later = now() + std::time::Duration::from_secs(9);
        let lost = |why: &str| News::Lost(why.to_owned());
        assert!(model.learn(lost("refused"), now()).is_continue());
        assert!(model.learn(lost("refused again"), later).is_continue());
        assert_eq!(model.lost, Some((now(), "refused again".to_owned())));
        assert!(
            model
                .learn(News::Service(Box::new(progressing())), later)
                .is_continue()
        );
        assert_eq!(model.lost, None);
        assert!(model.learn(News::Deleted, later).is_break());
    }

    #[test]
    fn keys_stay_within_what_there_is() {
        let mut model = Model::new(progressing(), now());
        model.press(Key::Next);
        assert_eq!(model.objective, 0, "there is one");
        for _ in 0..9 {
            model.press(Key::Down);
        }
        assert_eq!(model.scrolled, 1, "there are two events");
        model.press(Key::Top);
        assert_eq!(model.scrolled, 0);
        model.service.status = None;
        for key in [Key::Next, Key::Previous, Key::Down, Key::Up] {
            model.press(key);
        }
        assert_eq!((model.objective, model.scrolled), (0, 0));
    }
}
