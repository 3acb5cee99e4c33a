//! Pauses, by people, by the spec and of the whole fleet: progress stops, judging does not.

use super::Turn;
use super::people::MOST_BY;
use crate::decision::Phase;
use crate::plan::{Revision, Step};
use crate::state::{Attempt, BY_SPEC, Pause, Stage, by_fleet};

impl Turn<'_> {
    pub(super) fn pause(&mut self, by: &str) -> Result<String, String> {
        let now = self.now;
        let first = self.state.stable.is_none();
        let Some(attempt) = &mut self.state.attempt else {
            return Err("no attempt is under way".to_owned());
        };
        match &attempt.stage {
            Stage::Withdrawing { .. } => {
                return Err(
                    "users are on their way back to stable, which nothing stops; nothing was changed"
                        .to_owned(),
                );
            }
            _ if first => {
                return Err(
                    "this is the first revision: nobody is served without it; nothing was changed".to_owned(),
                );
            }
            _ => {}
        }
        if attempt
            .paused
            .as_ref()
            .is_some_and(|pause| pause.person.is_some())
        {
            return Ok("it was paused already".to_owned());
        }
        let by: String = by.chars().take(MOST_BY).collect();
        let weight = attempt.weight;
        let pause = attempt.paused.get_or_insert(Pause {
            since: now,
            person: None,
            spec: false,
            fleet: None,
        });
        pause.person = Some(by.clone());
        let kept = self.kept_while_paused(weight);
        self.note("PausedByPerson", format!("paused {by}; {kept}"));
        if self.by_runs() {
            return Ok("the next runs are stable's until somebody resumes".to_owned());
        }
        Ok(format!(
            "the canary keeps {weight} % of the traffic until somebody resumes"
        ))
    }

    pub(super) fn resume(&mut self, by: &str) -> Result<String, String> {
        let Some(pause) = self.attempt().and_then(|a| a.paused.clone()) else {
            return Err("it is not paused by a person; nothing was changed".to_owned());
        };
        if let Some(standing) = pause.standing() {
            return Err(format!("{standing}; nothing was changed"));
        }
        self.go_on();
        self.note("ResumedByPerson", format!("resumed {by}"));
        Ok("the rollout goes on".to_owned())
    }

    /// The time that a pause took is no lack of progress.
    fn go_on(&mut self) {
        let deadline = self.progress_until();
        self.update(|a| {
            a.paused = None;
            let waits = match a.stage {
                Stage::Stepping => !a.steps.get(a.step as usize).is_some_and(Step::lasts),
                Stage::Promoting => true,
                _ => a.deadline.is_some(),
            };
            a.deadline = waits.then_some(deadline);
        });
    }

    /// Why no new attempt at a revision begins now, if it is paused. A pause of the fleet does not stop a way back to
    /// what served before.
    pub(super) fn pause_of(&self, revision: &Revision) -> Option<String> {
        let fleet = self
            .seen
            .fleet_paused
            .as_ref()
            .filter(|_| !self.is_known(revision));
        let spec = self.plan.paused && !self.is_refuge(revision);
        let spec = spec.then(|| BY_SPEC.to_owned());
        spec.or_else(|| fleet.map(|by| by_fleet(by)))
    }

    /// The spec's pause, or the fleet's: whatever it is that would go on.
    pub(super) fn standing_pause(&self) -> Option<String> {
        let fleet = self.seen.fleet_paused.as_deref().map(by_fleet);
        self.plan.paused.then(|| BY_SPEC.to_owned()).or(fleet)
    }

    /// Follows `spec.paused` and a pause of the fleet while an attempt is under way.
    pub(super) fn follow_pause(&mut self) {
        let now = self.now;
        let Some(attempt) = self.attempt() else { return };
        // Nobody else serves beside a first revision: to judge it changes nothing for anybody.
        if self.state.stable.is_none() || matches!(attempt.stage, Stage::Withdrawing { .. }) {
            return;
        }
        let before = attempt.paused.clone();
        let was_spec = before.as_ref().is_some_and(|pause| pause.spec);
        let was_fleet = before.as_ref().and_then(|pause| pause.fleet.clone());
        // Harm takes users back whatever is paused.
        let spec = self.plan.paused && !self.is_refuge(&attempt.revision);
        let short = |by: &String| by.chars().take(MOST_BY).collect::<String>();
        let fleet = self
            .seen
            .fleet_paused
            .as_ref()
            .map(short)
            .filter(|_| !goes_back(attempt));
        if (spec, &fleet) == (was_spec, &was_fleet) {
            return;
        }
        let weight = attempt.weight;
        let pause = Pause {
            since: before.as_ref().map_or(now, |pause| pause.since),
            person: before.and_then(|pause| pause.person),
            spec,
            fleet: fleet.clone(),
        };
        let still = pause.text();
        if still.is_empty() {
            self.go_on();
        } else {
            self.update(|a| a.paused = Some(pause));
        }
        let kept = format!("; {}", self.kept_while_paused(weight));
        let on = if still.is_empty() {
            "; the rollout goes on".to_owned()
        } else {
            format!("; still {still}")
        };
        if spec && !was_spec {
            self.note("PausedBySpec", format!("{BY_SPEC}{kept}"));
        } else if !spec && was_spec {
            self.note("ResumedBySpec", format!("spec.paused is no longer true{on}"));
        }
        match (&was_fleet, &fleet) {
            (None, Some(by)) => self.note("PausedByFleet", format!("{}{kept}", by_fleet(by))),
            (Some(_), None) => self.note("ResumedByFleet", format!("the fleet is no longer paused{on}")),
            _ => {}
        }
    }

    /// What goes on in spite of a pause, in words.
    fn kept_while_paused(&self, weight: u8) -> String {
        if self.by_runs() {
            return "the next runs are stable's, and what runs is judged all the same".to_owned();
        }
        format!("the canary keeps {weight} % of the traffic, and harm still takes it back")
    }

    /// What is told of a service while the fleet is paused, whatever else is to be told of it.
    pub(super) fn with_fleet(&self, phase: Phase, message: String) -> (Phase, String) {
        match &self.seen.fleet_paused {
            Some(by) if !message.contains(by.as_str()) => (phase, format!("{message}; {}", by_fleet(by))),
            _ => (phase, message),
        }
    }
}

/// It leads back to a revision that served all users before.
pub(super) fn goes_back(attempt: &Attempt) -> bool {
    let first = attempt.transitions.first();
    first.is_some_and(|t| t.reason == "RollbackStarted")
}
