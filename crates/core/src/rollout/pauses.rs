//! Pauses, by people and by the spec: progress stops, judging does not.

use super::people::MOST_BY;
use super::{Turn, after};
use crate::plan::Step;
use crate::state::{BY_SPEC, Pause, Stage};

impl Turn<'_> {
    pub(super) fn pause(&mut self, by: &str) -> Result<String, String> {
        let now = self.now;
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
            Stage::Deploying => {
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
        });
        pause.person = Some(by.clone());
        self.note(
            "PausedByPerson",
            format!("paused {by}; the canary keeps {weight} % of the traffic, and harm still takes it back"),
        );
        Ok(format!(
            "the canary keeps {weight} % of the traffic until somebody resumes"
        ))
    }

    pub(super) fn resume(&mut self, by: &str) -> Result<String, String> {
        let Some(pause) = self.attempt().and_then(|a| a.paused.clone()) else {
            return Err("it is not paused by a person; nothing was changed".to_owned());
        };
        if pause.spec {
            return Err(format!("{BY_SPEC}; nothing was changed"));
        }
        self.go_on();
        self.note("ResumedByPerson", format!("resumed {by}"));
        Ok("the rollout goes on".to_owned())
    }

    /// The time that a pause took is no lack of progress.
    fn go_on(&mut self) {
        let deadline = after(self.now, self.plan.progress_deadline);
        self.update(|a| {
            a.paused = None;
            let waits = match a.stage {
                Stage::Stepping => !matches!(a.steps.get(a.step as usize), Some(Step::Dwell(_))),
                Stage::Promoting => true,
                _ => a.deadline.is_some(),
            };
            a.deadline = waits.then_some(deadline);
        });
    }

    /// Follows `spec.paused` while an attempt is under way.
    pub(super) fn follow_pause(&mut self) {
        let (now, by_spec) = (self.now, self.plan.paused);
        let Some(attempt) = self.attempt() else { return };
        let was = attempt.paused.as_ref().is_some_and(|pause| pause.spec);
        if by_spec == was || matches!(attempt.stage, Stage::Deploying | Stage::Withdrawing { .. }) {
            return;
        }
        let weight = attempt.weight;
        if by_spec {
            self.update(|a| {
                a.paused
                    .get_or_insert(Pause {
                        since: now,
                        person: None,
                        spec: true,
                    })
                    .spec = true;
            });
            let message = format!(
                "{BY_SPEC}; the canary keeps {weight} % of the traffic, and harm still takes it back"
            );
            self.note("PausedBySpec", message);
        } else if attempt
            .paused
            .as_ref()
            .is_some_and(|pause| pause.person.is_some())
        {
            self.update(|a| a.paused.iter_mut().for_each(|pause| pause.spec = false));
            self.note(
                "ResumedBySpec",
                "spec.paused is no longer true; a person has paused it too",
            );
        } else {
            self.go_on();
            self.note(
                "ResumedBySpec",
                "spec.paused is no longer true; the rollout goes on",
            );
        }
    }
}
