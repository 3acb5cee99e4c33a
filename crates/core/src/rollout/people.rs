//! What people ask for: each action is applied once, or expires with a reason.

use super::attempt::End;
use super::{Turn, after};
use crate::decision::Effect;
use crate::observed::{Action, ActionView};
use crate::plan::{Revision, RouteMode, Step};
use crate::state::{BY_SPEC, MAX_ACTIONS, Outcome, Pause, Pin, Stage};

/// At most so many characters of who asks and why are kept in the state.
const MOST_BY: usize = 300;

impl Turn<'_> {
    /// Handles what people asked for, each action once, `Abort` before all others.
    pub(super) fn heed_actions(&mut self) {
        let mut actions: Vec<&ActionView> = self.seen.actions.iter().collect();
        actions.sort_by_key(|a| a.action != Action::Abort);
        for action in actions {
            // A late watch may show it once more: what it was answered stands.
            let outcome = if self.state.actions.contains(&action.uid) {
                Ok("applied".to_owned())
            } else if self.state.expired_actions.contains(&action.uid) {
                Err("it had expired already; nothing was changed".to_owned())
            } else {
                let outcome = self.heed(action);
                let handled = match outcome {
                    Ok(_) => &mut self.state.actions,
                    Err(_) => &mut self.state.expired_actions,
                };
                if handled.len() >= MAX_ACTIONS {
                    handled.remove(0);
                }
                handled.push(action.uid.clone());
                outcome
            };
            let applied = outcome.is_ok();
            let message = outcome.unwrap_or_else(|why| why);
            self.ended_actions.push(Effect::EndAction {
                name: action.name.clone(),
                applied,
                message,
            });
        }
    }

    /// Applies one action, or says why it has expired.
    fn heed(&mut self, action: &ActionView) -> Result<String, String> {
        let why = if action.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", action.reason)
        };
        let by = format!("by {}{why}", action.requested_by);
        match action.action {
            Action::Retry => return self.retry(action, &by),
            Action::Undo => return self.undo(action, &by),
            _ => {}
        }
        let Some(attempt) = self.attempt() else {
            return Err("no attempt is under way; nothing was changed".to_owned());
        };
        let (revision, number) = (attempt.revision.clone(), attempt.number);
        if action.revision.as_ref().is_some_and(|r| *r != revision)
            || action.attempt.is_some_and(|n| n != number)
        {
            return Err(format!(
                "it was meant for another revision or attempt; attempt {number} at revision {revision} is under way; nothing was changed"
            ));
        }
        match action.action {
            Action::Abort => self.abort(&by),
            Action::Promote => self.promote(&by),
            Action::PromoteFull => self.promote_full(&by),
            Action::Pause => self.pause(&by),
            Action::Resume => self.resume(&by),
            Action::Override => self.override_by(&by),
            Action::Retry | Action::Undo => Err("it is handled without an attempt".to_owned()),
        }
    }

    fn abort(&mut self, by: &str) -> Result<String, String> {
        let Some(attempt) = self.attempt() else {
            return Err("no attempt is under way".to_owned());
        };
        if matches!(attempt.stage, Stage::Withdrawing { .. }) {
            return Ok("users were on their way back to stable already".to_owned());
        }
        if self.state.stable.is_none() {
            return Err("this is the first revision: there is no stable one to go back to".to_owned());
        }
        let revision = attempt.revision.clone();
        if attempt.stage == Stage::Settling && self.plan.route == RouteMode::Adopted {
            // Both fixed names may select the new revision by now; the state still knows the old one.
            self.note(
                "SettlingAborted",
                "the fixed-name services go back to the old revision",
            );
        }
        self.withdraw(End::new(
            Outcome::Aborted,
            "AbortedByPerson",
            format!("aborted {by}"),
        ));
        Ok(format!("revision {revision} is being withdrawn"))
    }

    /// Past the current pause or wait for evidence: one wait, not all.
    fn promote(&mut self, by: &str) -> Result<String, String> {
        let now = self.now;
        let deadline = after(now, self.plan.progress_deadline);
        let Some(attempt) = &mut self.state.attempt else {
            return Err("no attempt is under way".to_owned());
        };
        if let Some(pause) = &attempt.paused {
            return Err(format!("{}: resume it first; nothing was changed", pause.text()));
        }
        let step = attempt.step;
        let message = match attempt.stage {
            Stage::Stepping if matches!(attempt.steps.get(step as usize), Some(Step::Dwell(_))) => {
                attempt.step += 1;
                attempt.step_since = now;
                attempt.deadline = Some(deadline);
                format!("past the pause of step {}", step + 1)
            }
            Stage::Stepping | Stage::Promoting if attempt.cleared_step != Some(step) => {
                attempt.cleared_step = Some(step);
                attempt.deadline = Some(deadline);
                "past the wait for evidence".to_owned()
            }
            Stage::Held => {
                attempt.stage = if (step as usize) < attempt.steps.len() {
                    Stage::Stepping
                } else {
                    Stage::Promoting
                };
                attempt.since = now;
                attempt.hold = None;
                attempt.cleared_step = Some(step);
                attempt.deadline = Some(deadline);
                // What came before the hold has been counted, the hold itself counts for nothing.
                attempt.measured_to = now;
                attempt.evidence.iter_mut().for_each(|e| e.measured_to = now);
                "on from the hold, without evidence for this step".to_owned()
            }
            _ => return Err("it waits for no person and no evidence now; nothing was changed".to_owned()),
        };
        self.note("PromotedByPerson", format!("{message} {by}"));
        Ok(message)
    }

    /// All the way: past every step, pause and wait for evidence that is left, to full traffic and its bake. Harm still
    /// rolls back.
    fn promote_full(&mut self, by: &str) -> Result<String, String> {
        let now = self.now;
        let deadline = after(now, self.plan.progress_deadline);
        let Some(attempt) = &mut self.state.attempt else {
            return Err("no attempt is under way".to_owned());
        };
        if let Some(pause) = attempt.paused.as_ref().filter(|pause| pause.spec) {
            return Err(format!("{}; nothing was changed", pause.text()));
        }
        match attempt.stage {
            Stage::Stepping | Stage::Promoting => {}
            Stage::Held => {
                // What came before the hold has been counted, the hold itself counts for nothing.
                attempt.measured_to = now;
                attempt.evidence.iter_mut().for_each(|e| e.measured_to = now);
            }
            Stage::Deploying => {
                return Err("this is the first revision: it has no steps; nothing was changed".to_owned());
            }
            Stage::Baking { .. } | Stage::Settling => {
                return Err(
                    "all users are on it already, and the bake takes its time; nothing was changed"
                        .to_owned(),
                );
            }
            Stage::Withdrawing { .. } => {
                return Err("users are on their way back to stable; nothing was changed".to_owned());
            }
        }
        attempt.stage = Stage::Promoting;
        attempt.since = now;
        attempt.step = u32::try_from(attempt.steps.len()).unwrap_or(u32::MAX);
        attempt.step_since = now;
        attempt.cleared_step = Some(attempt.step);
        attempt.hold = None;
        attempt.patience = None;
        attempt.paused = None;
        attempt.deadline = Some(deadline);
        let message = "past all steps and waits, to full traffic";
        self.note("PromotedByPerson", format!("{message} {by}"));
        Ok(message.to_owned())
    }

    /// Tries a revision again that was taken back.
    fn retry(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        if let Some(attempt) = self.attempt() {
            let (number, revision) = (attempt.number, &attempt.revision);
            return Err(format!(
                "attempt {number} at revision {revision} is under way; nothing was changed"
            ));
        }
        let Some(refused) = self.state.refused.clone() else {
            return Err(
                "no revision is refused, so there is none to try again; nothing was changed".to_owned(),
            );
        };
        let last = self.state.last.as_ref().filter(|last| last.revision == refused);
        let number = last.map(|last| last.number);
        if action.revision.as_ref().is_some_and(|r| *r != refused)
            || (action.attempt.is_some() && number.is_some() && action.attempt != number)
        {
            return Err(format!(
                "it was meant for another revision or attempt; revision {refused} is the one that is refused; nothing was changed"
            ));
        }
        if self.plan.paused {
            return Err(format!("{BY_SPEC}; nothing was changed"));
        }
        self.state.refused = None;
        self.note(
            "RetriedByPerson",
            format!("revision {refused} is tried again {by}"),
        );
        Ok(format!("revision {refused} is tried again"))
    }

    /// Back to a revision that is not the spec's: it stays so, whatever is re-applied, until the spec goes on.
    fn undo(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        if let Some(attempt) = self.attempt() {
            let (number, revision) = (attempt.number, &attempt.revision);
            return Err(format!(
                "attempt {number} at revision {revision} is under way: abort takes users back to stable; nothing was changed"
            ));
        }
        let (Some(stable), Some(spec)) = (self.state.stable.clone(), self.plan.revision.clone()) else {
            return Err(
                "there is no stable revision, or no spec that can be used; nothing was changed".to_owned(),
            );
        };
        if action.revision.as_ref().is_some_and(|r| *r != stable) {
            return Err(format!(
                "it was meant for another revision; stable is {stable}; nothing was changed"
            ));
        }
        let usable = |r: &Revision| self.seen.revisions.get(r).is_some_and(|view| !view.altered);
        let before = || self.state.served.iter().find(|r| usable(r)).cloned();
        let Some(target) = action.to_revision.clone().or_else(before) else {
            return Err("no earlier revision is known: name one; nothing was changed".to_owned());
        };
        if target == stable {
            return Err(format!(
                "revision {target} is stable already; nothing was changed"
            ));
        }
        if !usable(&target) {
            let kept: Vec<&str> = self
                .seen
                .revisions
                .keys()
                .filter(|r| usable(r))
                .map(|r| r.0.as_str())
                .collect();
            return Err(format!(
                "there is no ReplicaSet of revision {target} any more; kept are {}; nothing was changed",
                kept.join(", ")
            ));
        }
        if self.plan.paused {
            return Err(format!("{BY_SPEC}; nothing was changed"));
        }
        self.state.refused = None;
        self.state.pinned = (target != spec).then(|| Pin {
            revision: target.clone(),
            instead_of: spec,
        });
        self.note(
            "UndoneByPerson",
            format!("back from revision {stable} to {target} {by}"),
        );
        Ok(format!("back to revision {target}"))
    }

    fn pause(&mut self, by: &str) -> Result<String, String> {
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

    fn resume(&mut self, by: &str) -> Result<String, String> {
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

    /// A spent budget or an incident of both no longer keeps this attempt waiting.
    fn override_by(&mut self, by: &str) -> Result<String, String> {
        let Some(attempt) = self.attempt() else {
            return Err("no attempt is under way".to_owned());
        };
        if attempt.overridden.is_some() {
            return Ok("it was overridden already".to_owned());
        }
        let incident = attempt.incident_since.is_some();
        if !incident && self.exhausted(attempt).is_none() {
            return Err(
                "no spent error budget and no incident of both revisions keeps it waiting; nothing was changed"
                    .to_owned(),
            );
        }
        let deadline = after(self.now, self.plan.progress_deadline);
        let by: String = by.chars().take(MOST_BY).collect();
        self.update(|a| {
            a.overridden = Some(by.clone());
            if a.incident_since.take().is_some() {
                a.evidence.iter_mut().for_each(|e| e.evidence.incident_is_over());
            }
            a.deadline = a.deadline.map(|d| d.max(deadline));
        });
        let message =
            "neither a spent error budget nor an incident of both keeps this attempt waiting any longer";
        self.note("OverriddenByPerson", format!("{message}, {by}"));
        Ok(message.to_owned())
    }
}
