//! Who meets the canary beside its weight: requests with certain headers, and copies of requests.

use super::Turn;
use super::doubt::is_open;
use super::waits::Wait;
use crate::group::{CANARY, STABLE};
use crate::observed::{Kept, Preview, ProblemKind};
use crate::plan::{Revision, RouteMode};
use crate::state::{Attempt, Stage};
use crate::step::{CanaryScale, HeaderMatch, HeaderValue, Mirror, Step};

/// What the steps so far ask the route for, beside the weight; whether the canary can carry it is another matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked<'a> {
    headers: Vec<(&'a str, &'a [HeaderMatch])>,
    mirror: Option<&'a Mirror>,
    /// The header of its group.
    group: Option<&'a str>,
}

/// A step about headers or copies counts once it is cleared, others have no say.
fn asked(attempt: &Attempt) -> Asked<'_> {
    let mut asked = Asked::default();
    if !matches!(attempt.stage, Stage::Stepping | Stage::Promoting)
        || is_open(attempt)
        || attempt.weight == 100
    {
        return asked;
    }
    let cleared = |index: u32| index < attempt.step || (index == attempt.step && attempt.is_cleared());
    for (_, step) in (0..).zip(&attempt.steps).filter(|(index, _)| cleared(*index)) {
        match step {
            Step::SetHeaderRoute { name, matches } => {
                asked.headers.retain(|(other, _)| other != name);
                if !matches.is_empty() {
                    asked.headers.push((name, matches));
                }
            }
            Step::SetMirror(mirror) => asked.mirror = Some(mirror).filter(|mirror| mirror.percent > 0),
            _ => {}
        }
    }
    asked.group = attempt.group_header.as_deref().filter(|_| attempt.weight > 0);
    asked
}

/// What the header of a group says.
fn says(header: &str, value: &str) -> Vec<HeaderMatch> {
    vec![HeaderMatch {
        header: header.to_owned(),
        value: HeaderValue::Exact(value.to_owned()),
    }]
}

/// Requests come to the canary by a header, or in copies.
pub(super) fn is_previewed(attempt: &Attempt) -> bool {
    asked(attempt) != Asked::default()
}

/// Requests come to the canary, in whatever way.
pub(super) fn is_used(attempt: &Attempt) -> bool {
    attempt.weight > 0 || is_previewed(attempt)
}

impl Turn<'_> {
    /// What the route should send to the canary beside its weight now: nothing that no pod would answer.
    pub(super) fn wanted_preview(&self) -> Option<Preview> {
        let attempt = self.attempt()?;
        let answers = self.seen.ready(&attempt.revision) > 0 && self.state.stable.is_some();
        if !answers || self.plan.route != RouteMode::Owned {
            return None;
        }
        let asked = asked(attempt);
        // Stable keeps what came by stable ones only as long as it has the pods for all of it.
        let stable = self.state.stable.as_ref();
        let keeps = |r: &&Revision| self.seen.ready(r) > 0 && !self.makes_room(attempt);
        let kept = asked.group.zip(stable.filter(keeps));
        let testers = asked.headers.iter().map(|(_, matches)| matches.to_vec());
        (asked != Asked::default()).then(|| Preview {
            revision: attempt.revision.clone(),
            headers: testers
                .chain(asked.group.map(|header| says(header, CANARY)))
                .collect(),
            mirror: asked.mirror.cloned(),
            kept: kept.map(|(header, revision)| Kept {
                revision: revision.clone(),
                headers: says(header, STABLE),
            }),
        })
    }

    /// The pods that the steps so far ask for, whatever the weight; with the weight that may come with them.
    pub(super) fn scaled_pods(&self, attempt: &Attempt) -> u32 {
        let so_far = attempt.steps.iter().take(attempt.step as usize + 1);
        let scale = so_far.rev().find_map(|step| match step {
            Step::SetCanaryScale(scale) => Some(*scale),
            _ => None,
        });
        let pods = match scale {
            Some(CanaryScale::Replicas(pods)) => pods.min(self.plan.replicas),
            Some(CanaryScale::Percent(percent)) => self.plan.part_of(percent.min(100)),
            Some(CanaryScale::MatchWeight(_)) | None => 0,
        };
        let begins = matches!(
            attempt.steps.get(attempt.step as usize),
            Some(Step::SetHeaderRoute { .. } | Step::SetMirror(_))
        );
        // Somebody has to answer.
        let least = u32::from((begins || is_previewed(attempt)) && self.plan.replicas > 0);
        pods.max(least)
    }

    /// A step about headers or copies: it is done when the router has acknowledged it.
    pub(super) fn previewing(&mut self, attempt: &Attempt) -> bool {
        let cleared = attempt.is_cleared();
        if !cleared {
            if attempt.paused.is_some() {
                return self.check_unready(attempt);
            }
            if let Some(wait) = self.preview_wait(attempt) {
                return self.check_deadline(attempt, &wait);
            }
            self.update(|a| a.cleared_step = Some(a.step));
            if let Some(step) = attempt.steps.get(attempt.step as usize) {
                self.note("PreviewChanged", format!("{step}, from here on"));
            }
            return true;
        }
        if let Some(wait) = self.preview_wait(attempt) {
            return self.check_deadline(attempt, &wait);
        }
        if is_used(attempt) {
            self.reached(attempt, attempt.weight);
        }
        self.next_step();
        true
    }

    /// What a step about headers or copies waits for.
    pub(super) fn preview_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if let Some(problem) = self.seen.problem(ProblemKind::Route) {
            return Some(Wait::World(problem.message.clone()));
        }
        if attempt.is_cleared() {
            let done = self.seen.route.acknowledged && self.seen.route.preview == self.wanted_preview();
            return (!done).then(|| Wait::World(self.route_wait()));
        }
        let needed = self.within_reach(attempt, self.scaled_pods(attempt));
        if self.reliable(attempt) < needed {
            return Some(Wait::World(self.pods_wait(attempt, needed)));
        }
        // Who is to meet it first must be watched over.
        attempt
            .exposed_since
            .is_none()
            .then(|| self.unwatched(attempt))
            .flatten()
    }
}
