//! What the user sees: phase, sentence, conditions.

use super::Turn;
use super::database::PAST_CONTRACT;
use super::doubt::is_open;
use super::runs::STABLE_FAILED;
use crate::decision::{ConditionView, Phase, Report};
use crate::observed::{ProblemKind, TroubleKind};
use crate::plan::{Revision, Step};
use crate::state::{Attempt, Outcome, Stage};

impl Turn<'_> {
    pub(super) fn report(&self) -> Report {
        let (phase, message) = self.place();
        let (phase, message) = self.with_restart(phase, message);
        let (phase, message) = self.with_fleet(phase, message);
        Report {
            conditions: self.conditions(phase, &message),
            phase,
            message,
            transitions: self.transitions.clone(),
            verdicts: self.verdicts.clone(),
            slos: self.slo_reports(),
            guards: self.condition_reports(),
            runtime: self.guard_reports(),
        }
    }

    /// The phase, and where it is in one sentence.
    fn place(&self) -> (Phase, String) {
        if let Some(place) = self.adoption_place().filter(|_| self.attempt().is_none())
            && (!self.plan.deleting || self.gives_back())
        {
            return place;
        }
        if self.plan.deleting {
            return (Phase::Progressing, "the service is being deleted".to_owned());
        }
        if let Some(attempt) = self.attempt() {
            let (phase, message) = self.place_of(attempt);
            let message = self.with_edit(attempt, message);
            return match self.scaling_put_off() {
                Some(put_off) => (phase, format!("{put_off}; {message}")),
                None => (phase, message),
            };
        }
        let spec = self.seen.problem(ProblemKind::Spec);
        let Some(stable) = &self.state.stable else {
            return self.place_without_stable();
        };
        let ready = self.seen.ready(stable);
        let wanted = if self.by_runs() { 0 } else { self.plan.replicas };
        if wanted > 0 && ready == 0 {
            let why = self
                .trouble(stable)
                .map_or_else(String::new, |t| format!(": {t}"));
            return (
                Phase::Degraded,
                format!("no pod of stable revision {stable} is ready{why}"),
            );
        }
        let spec = spec.map(|problem| problem.message.clone());
        if let Some(message) = spec.or_else(|| self.past_contract()) {
            let on = if wanted == 0 {
                self.serving_text(stable)
            } else {
                format!("stable revision {stable} keeps serving")
            };
            let message = format!("{message}; {on}");
            return (Phase::Degraded, message);
        }
        if let Some(place) = self.place_of_refused(stable) {
            return place;
        }
        let next = self.wanted().filter(|r| r != stable);
        if let Some((pause, next)) = next.and_then(|next| Some((self.pause_of(&next)?, next))) {
            let message = format!("{pause}; revision {next} waits, {}", self.serving_text(stable));
            return (Phase::Paused, message);
        }
        if self.wanted().is_some_and(|r| r != *stable) && self.plan.replicas == 0 {
            let message = "scaled to zero: the new revision waits until replicas is above 0".to_owned();
            return (Phase::Progressing, message);
        }
        if let Some(place) = self.group_place(stable) {
            return place;
        }
        if let Some(problem) = self.first_blocking_problem() {
            return (Phase::Degraded, problem);
        }
        if ready < wanted {
            return (
                Phase::Progressing,
                format!("{ready} of {wanted} pods of stable revision {stable} are ready"),
            );
        }
        if self.by_runs() {
            let text = self.stable_runs_text(stable);
            let phase = if self.stable_fails() {
                Phase::Degraded
            } else {
                Phase::Healthy
            };
            return (phase, format!("{text}{}", self.pinned_text()));
        }
        if !self.route_is_as_wanted() {
            let why = self
                .seen
                .problem(ProblemKind::RouteStatus)
                .map_or_else(|| self.unacknowledged_text("the route"), |p| p.message.clone());
            return (Phase::Progressing, why);
        }
        if wanted == 0 {
            let message = format!(
                "revision {stable} is stable; scaled to zero: {}",
                self.nobody_text()
            );
            return (Phase::Healthy, message);
        }
        (
            Phase::Healthy,
            format!(
                "revision {stable} {} with {}{}{}{}",
                self.has_all_text(),
                pods(ready),
                self.pinned_text(),
                self.watch_text(),
                self.group_told()
            ),
        )
    }

    /// That stable serves, beside what does not move; nobody of a service that is scaled to zero.
    pub(super) fn serving_text(&self, stable: &Revision) -> String {
        if self.by_runs() {
            format!("stable revision {stable} has the next runs")
        } else if self.plan.replicas == 0 {
            format!(
                "stable revision {stable} is scaled to zero: {}",
                self.nobody_text()
            )
        } else {
            let does = if self.pulls() { "works" } else { "serves" };
            format!("stable revision {stable} {does}")
        }
    }

    /// That a person went back to what is stable.
    fn pinned_text(&self) -> String {
        let pin = self.state.pinned.as_ref();
        let pin = pin.filter(|pin| self.wanted().as_ref() == Some(&pin.revision));
        pin.map_or_else(String::new, |pin| {
            format!(
                "; a person went back to it: the spec's revision {} stays out until the template changes",
                pin.instead_of
            )
        })
    }

    /// The same while what is asked for was taken back.
    fn place_of_refused(&self, stable: &Revision) -> Option<(Phase, String)> {
        let refused = self.state.refused.as_ref();
        if let Some(refused) = refused.filter(|r| self.wanted().as_ref() == Some(r)) {
            let last = self.state.last.as_ref().filter(|l| l.revision == *refused);
            let why = last.map_or(
                "its record says so, and the status was lost since; `kubectl molt retry` tries it again",
                |l| l.message.as_str(),
            );
            return Some((
                Phase::RolledBack,
                format!(
                    "revision {refused} was taken back: {why}; {}",
                    self.serving_text(stable)
                ),
            ));
        }
        if let Some(why) = self.convicted_text(stable) {
            return Some((Phase::RolledBack, format!("{why}; {}", self.serving_text(stable))));
        }
        let place = self.group_place(stable);
        place.filter(|(phase, _)| *phase == Phase::RolledBack)
    }

    /// The same while no revision is stable and no attempt is under way.
    fn place_without_stable(&self) -> (Phase, String) {
        let spec = self.seen.problem(ProblemKind::Spec);
        match (spec, &self.state.last) {
            (Some(problem), _) => (Phase::Degraded, problem.message.clone()),
            (None, Some(last)) if last.ended_at_migrations() => (
                Phase::Degraded,
                format!(
                    "the first revision {} has no pods: {}",
                    last.revision, last.message
                ),
            ),
            (None, Some(last)) if self.by_runs() => (
                Phase::Degraded,
                format!(
                    "the first revision {} runs on, for there is no other, and was found wanting: {}; apply a corrected one, or `kubectl molt retry` to have it judged again",
                    last.revision, last.message
                ),
            ),
            (None, Some(last)) if self.state.refused.as_ref() == Some(&last.revision) => (
                Phase::Degraded,
                format!(
                    "the first revision {} serves, for there is no other, and was found wanting: {}; apply a corrected one, or `kubectl molt retry` to have it judged again",
                    last.revision, last.message
                ),
            ),
            (None, Some(last)) => (
                Phase::Degraded,
                format!(
                    "the first revision {} does not serve: {}",
                    last.revision, last.message
                ),
            ),
            (None, None) => (Phase::Initializing, "waiting for the first revision".to_owned()),
        }
    }

    fn place_of(&self, attempt: &Attempt) -> (Phase, String) {
        let revision = &attempt.revision;
        let at = self.at_text(attempt);
        let moves = matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Settling);
        if let Some(pause) = attempt.paused.as_ref().filter(|_| !moves) {
            return (Phase::Paused, format!("{at}: {}", pause.text()));
        }
        match &attempt.stage {
            Stage::Migrating => self.place_of_migrations(attempt),
            Stage::Deploying | Stage::Stepping | Stage::Promoting if self.by_runs() => {
                (self.phase_of_trial(), at)
            }
            Stage::Deploying => (Phase::Initializing, self.first_text(revision)),
            Stage::Stepping => {
                let waits = attempt.steps.get(attempt.step as usize) == Some(&Step::Pause {});
                let phase = if waits { Phase::Paused } else { Phase::Progressing };
                (phase, format!("{at}: {}", self.step_text(attempt)))
            }
            Stage::Promoting => {
                let what = self
                    .promotion_wait(attempt)
                    .map_or_else(|| "promoting".to_owned(), |w| w.text().to_owned());
                let place = if is_open(attempt) {
                    "the bake made it suspect, it is compared with stable again"
                } else {
                    "steps done"
                };
                (Phase::Progressing, format!("{at}, {place}: {what}"))
            }
            Stage::Baking { until } if self.state.stable.is_none() => {
                let whom = if self.plan.replicas == 0 {
                    format!("is scaled to zero: {}", self.nobody_text())
                } else {
                    self.has_all_text().to_owned()
                };
                let message = format!("the first revision {revision} {whom}; it is judged until {until:.0}");
                (Phase::Initializing, message)
            }
            Stage::Baking { until } if let Some(wait) = self.overdue_bake(attempt, *until) => (
                Phase::Progressing,
                format!("{at}: the bake was to end at {until:.0}: {}", wait.text()),
            ),
            Stage::Baking { until } => (
                Phase::Progressing,
                format!(
                    "{at}: bakes until {until:.0}, the old revision {}",
                    self.strength_text(attempt)
                ),
            ),
            Stage::Settling => (
                Phase::Progressing,
                format!("{at}: the route's names return to their places"),
            ),
            Stage::Held => {
                let last = attempt
                    .transitions
                    .iter()
                    .rev()
                    .find(|t| t.reason == "Inconclusive");
                let without = if self.by_runs() { "runs" } else { "traffic" };
                (
                    Phase::Paused,
                    format!(
                        "revision {revision} has no {without}: {}",
                        last.map_or("", |t| t.message.as_str())
                    ),
                )
            }
            Stage::Withdrawing { message, .. } => {
                let what = if self.by_runs() {
                    "the next runs are not its own".to_owned()
                } else if self.state.stable.is_some() {
                    format!("{} go back to stable", self.users())
                } else {
                    "its pods go, and there is no stable revision to go back to".to_owned()
                };
                (Phase::RollingBack, format!("{what}: {message}"))
            }
        }
    }

    /// Tells as well that the steps under way are no longer those of the spec.
    fn with_edit(&self, attempt: &Attempt, message: String) -> String {
        let runs_steps = matches!(attempt.stage, Stage::Stepping | Stage::Held) && !self.by_runs();
        let is_edited =
            attempt.at_once != self.plan.at_once || !are_those_of(&attempt.steps, &self.plan.steps);
        if !runs_steps || !is_edited || self.seen.problem(ProblemKind::Spec).is_some() {
            return message;
        }
        format!("{message}; spec.strategy was edited since it began: the change counts for the next attempt")
    }

    /// Where it is, before what it waits for.
    fn at_text(&self, attempt: &Attempt) -> String {
        let revision = &attempt.revision;
        if self.by_runs() {
            return self.trial_text(attempt);
        }
        let at = format!("revision {revision} at {} %", attempt.weight);
        let written = self.written_weight(attempt);
        let withstood = self.state.rival.is_some() || self.seen.problem(ProblemKind::Apply).is_some();
        let at = if withstood && written != attempt.weight && !self.divides_by_pods() {
            format!("{at} ({written} % in the route)")
        } else {
            at
        };
        match self.in_cluster_text(attempt) {
            Some(inside) => format!("{at}, {inside}"),
            None => at,
        }
    }

    /// What the first revision waits for.
    fn first_text(&self, revision: &Revision) -> String {
        let ready = self.seen.ready(revision);
        let why = self
            .trouble(revision)
            .map_or_else(String::new, |t| format!(": {t}"));
        let route = self
            .seen
            .problem(ProblemKind::Route)
            .or_else(|| self.seen.problem(ProblemKind::RouteStatus));
        match route {
            // Pods can't come of a write that is refused.
            _ if let Some(refused) = self.seen.problem(ProblemKind::Apply) => refused.message.clone(),
            Some(problem) if ready >= self.plan.replicas => problem.message.clone(),
            _ => format!(
                "{ready} of {} pods of the first revision {revision} are ready{why}",
                self.plan.replicas
            ),
        }
    }

    fn step_text(&self, attempt: &Attempt) -> String {
        let place = format!("step {} of {}", attempt.step + 1, attempt.steps.len());
        match attempt.steps.get(attempt.step as usize) {
            Some(Step::Pause {}) => {
                format!("{place}: waits for a person, `kubectl molt promote` goes on")
            }
            Some(step @ Step::SetCanaryScale(_)) => {
                let needed = self.within_reach(attempt, self.canary_pods(attempt));
                format!("{place}, {step}: {}", self.pods_wait(attempt, needed))
            }
            Some(step @ (Step::SetHeaderRoute { .. } | Step::SetMirror(_))) => {
                let wait = self.preview_wait(attempt);
                let wait = wait.map_or_else(String::new, |w| format!(": {}", w.text()));
                format!("{place}, {step}{wait}")
            }
            Some(Step::Dwell(seconds)) => {
                let requests: f64 = self
                    .views(attempt)
                    .first()
                    .map_or(0.0, |v| v.evidence.canary().total());
                format!("{place}, dwells {seconds} s; {requests:.0} requests so far")
            }
            Some(Step::SetWeight(weight)) => {
                let wait = self
                    .step_wait(attempt, *weight)
                    .map_or_else(String::new, |w| format!(": {}", w.text()));
                format!("{place}, to {weight} %{wait}")
            }
            None => place,
        }
    }

    fn trouble(&self, revision: &Revision) -> Option<&str> {
        self.seen
            .revisions
            .get(revision)?
            .trouble
            .as_ref()
            .map(|t| t.message.as_str())
    }

    /// A problem that keeps the service from its wanted form while nothing moves.
    fn first_blocking_problem(&self) -> Option<String> {
        [ProblemKind::Route, ProblemKind::Apply]
            .into_iter()
            .find_map(|kind| self.seen.problem(kind))
            .map(|problem| problem.message.clone())
    }

    fn slo_reports(&self) -> Vec<crate::decision::SloReport> {
        if let Some(attempt) = self.attempt() {
            return self
                .plan
                .slos
                .iter()
                .filter_map(|slo| {
                    let entry = attempt.evidence.iter().find(|e| e.is_of(slo))?;
                    Some(self.slo_report(attempt, slo, entry))
                })
                .collect();
        }
        Vec::new()
    }

    /// The full set of conditions, in a fixed order.
    fn conditions(&self, phase: Phase, message: &str) -> Vec<ConditionView> {
        let mut conditions = self.kstatus(phase, message);
        conditions.push(self.about("SpecValid", "Valid", "the spec is valid", &[ProblemKind::Spec]));
        conditions.push(self.route_ready());
        conditions.push(self.about(
            "MetricsAvailable",
            "Readable",
            "no reading of the metrics has failed",
            &[ProblemKind::Metrics],
        ));
        let unsound = self.attempt().and_then(|attempt| self.unsound(attempt));
        conditions.push(ConditionView {
            kind: "EvidenceSound",
            status: unsound.is_none(),
            reason: unsound.as_ref().map_or("Sound", |(reason, _)| *reason).to_owned(),
            fault: unsound.is_some(),
            message: unsound.map_or_else(
                || "nothing keeps the evidence from being used".to_owned(),
                |(_, what)| what,
            ),
        });
        conditions.push(self.applied());
        conditions.push(self.canary_ready());
        conditions.extend(self.workload_taken());
        conditions.extend(self.group_condition());
        conditions.extend(self.migrated());
        conditions
    }

    /// `Ready`, `Reconciling` and `Stalled`, as kstatus reads them.
    fn kstatus(&self, phase: Phase, message: &str) -> Vec<ConditionView> {
        let moving = matches!(
            phase,
            Phase::Initializing | Phase::Progressing | Phase::RollingBack
        );
        let stalled = matches!(phase, Phase::RolledBack | Phase::Degraded);
        let reason = match (phase, &self.state.last) {
            (Phase::Degraded, _) if let Some(fault) = self.adoption_fault() => fault.to_owned(),
            (phase, _) if let Some(reason) = self.group_reason(phase) => reason.to_owned(),
            (Phase::RolledBack, _) if self.convicted().is_some() => "WatchBreached".to_owned(),
            (Phase::RolledBack, Some(last)) => last.reason.clone(),
            (Phase::Degraded, Some(last)) if self.state.stable.is_none() && self.seen.problems.is_empty() => {
                last.reason.clone()
            }
            (Phase::Degraded, _) => self.degraded_reason(),
            _ => format!("{phase:?}"),
        };
        let view = |kind, status, fault| ConditionView {
            kind,
            status,
            reason: reason.clone(),
            message: message.to_owned(),
            fault,
        };
        // A pause for a person is no reason to let a delivery tool wait for days: stable serves.
        let waits = phase == Phase::Paused;
        let mut paused = view("Paused", waits, waits);
        if waits && let Some(reason) = self.pause_reason() {
            reason.clone_into(&mut paused.reason);
        }
        if self.seen.fleet_paused.is_some() {
            "FleetPaused".clone_into(&mut paused.reason);
            paused.status = true;
        }
        vec![
            view(
                "Ready",
                phase == Phase::Healthy || (waits && !self.plan.strict_paused),
                false,
            ),
            view("Reconciling", moving || (waits && self.plan.strict_paused), false),
            view("Stalled", stalled, stalled),
            paused,
        ]
    }

    /// Whose word it waits for, and why; `None` where the reason that all of kstatus' conditions have says it.
    fn pause_reason(&self) -> Option<&'static str> {
        let Some(attempt) = self.attempt() else {
            let by_spec = self.plan.paused && self.group_reason(Phase::Paused).is_none();
            return by_spec.then_some("PausedBySpec");
        };
        match (&attempt.paused, &attempt.stage) {
            (Some(pause), _) if pause.person.is_some() => Some("PausedByPerson"),
            (Some(pause), _) if pause.spec => Some("PausedBySpec"),
            (Some(_), _) => Some("PausedByFleet"),
            (None, Stage::Stepping) => Some("StepWaits"),
            (None, Stage::Held) if self.by_runs() => Some("BothRunsFailed"),
            (None, Stage::Held) => Some("Inconclusive"),
            (None, _) => None,
        }
    }

    fn degraded_reason(&self) -> String {
        if self.past_contract().is_some() {
            return PAST_CONTRACT.to_owned();
        }
        self.seen
            .problems
            .iter()
            .find(|p| !matches!(p.kind, ProblemKind::Metrics | ProblemKind::RouteStatus))
            .map_or_else(
                || {
                    let why = if self.stable_fails() {
                        STABLE_FAILED
                    } else {
                        "StableUnavailable"
                    };
                    why.to_owned()
                },
                |p| p.reason.clone(),
            )
    }

    /// A condition that is true unless there is a problem of one of the kinds.
    fn about(
        &self,
        kind: &'static str,
        good_reason: &str,
        good_message: &str,
        kinds: &[ProblemKind],
    ) -> ConditionView {
        match kinds.iter().find_map(|k| self.seen.problem(*k)) {
            Some(problem) => ConditionView {
                kind,
                status: false,
                reason: problem.reason.clone(),
                message: problem.message.clone(),
                fault: true,
            },
            None => ConditionView {
                kind,
                status: true,
                reason: good_reason.to_owned(),
                message: good_message.to_owned(),
                fault: false,
            },
        }
    }

    fn applied(&self) -> ConditionView {
        let taken = "the API server took every write";
        let about = self.about("Applied", "Applied", taken, &[ProblemKind::Apply]);
        match self.scaler_text().filter(|_| about.status) {
            Some(message) => ConditionView {
                status: false,
                reason: "ReplicasOverwritten".to_owned(),
                message,
                fault: true,
                ..about
            },
            None => about,
        }
    }

    fn route_ready(&self) -> ConditionView {
        let about = self.about(
            "RouteReady",
            "Acknowledged",
            "the route carries the wanted weights",
            &[ProblemKind::Route, ProblemKind::RouteStatus],
        );
        match self.rival_text().filter(|_| about.status) {
            Some(message) => ConditionView {
                status: false,
                reason: "WeightsWrittenBack".to_owned(),
                message,
                fault: true,
                ..about
            },
            // The route comes with the first pods that serve, and a service by pods needs none.
            None if about.status && !self.seen.route.acknowledged && self.has_no_route_yet() => ConditionView {
                status: false,
                reason: "NoRouteYet".to_owned(),
                message: "there is nobody to lead users to yet: they are let in once pods of the first revision are ready"
                    .to_owned(),
                ..about
            },
            // True of every change for a moment, so it is no fault.
            None if about.status && !self.seen.route.acknowledged => ConditionView {
                status: false,
                reason: "RoutePending".to_owned(),
                message: "the router has not acknowledged the route in its present form yet".to_owned(),
                ..about
            },
            None => about,
        }
    }

    /// Nothing is routed to before the first pods serve.
    fn has_no_route_yet(&self) -> bool {
        let by_first = self
            .attempt()
            .is_none_or(|a| matches!(a.stage, Stage::Migrating | Stage::Deploying));
        self.state.stable.is_none() && by_first && self.seen.route.weights.is_empty()
    }

    fn canary_ready(&self) -> ConditionView {
        let view = |status, reason: &str, message: String, fault| ConditionView {
            kind: "CanaryReady",
            status,
            reason: reason.to_owned(),
            message,
            fault,
        };
        let Some(attempt) = self.attempt() else {
            return match &self.state.last {
                Some(last) if last.outcome != Outcome::Promoted => view(
                    true,
                    "NoCanary",
                    format!("no attempt is under way; the last one ended {:?}", last.outcome),
                    false,
                ),
                _ => view(true, "NoCanary", "no attempt is under way".to_owned(), false),
            };
        };
        let trouble = self
            .seen
            .revisions
            .get(&attempt.revision)
            .and_then(|v| v.trouble.as_ref());
        if let Some(trouble) = trouble {
            let reason = match trouble.kind {
                TroubleKind::NotReady => "PodsNotReady",
                TroubleKind::CreateFailed => "PodCreationFailed",
                TroubleKind::Unschedulable => "Unschedulable",
                TroubleKind::ImagePull => "ImagePullFailed",
                TroubleKind::NotCreated => "ContainerNotCreated",
                TroubleKind::BadContainer => "CannotStart",
                TroubleKind::CrashLoop => "Crashing",
            };
            // A container that starts is no fault, and one that never gets ready meets a deadline.
            let fault = trouble.kind != TroubleKind::NotReady;
            return view(false, reason, trouble.message.clone(), fault);
        }
        if self.by_runs() {
            return match self.waiting_run(attempt) {
                Some(why) => view(false, "RunWaits", why, false),
                None => view(
                    true,
                    "PodsReady",
                    "no pod of its runs is kept from starting".to_owned(),
                    false,
                ),
            };
        }
        let ready = self.seen.ready(&attempt.revision);
        let wanted = self.seen.revisions.get(&attempt.revision).map_or(0, |v| v.wanted);
        if ready < wanted {
            return view(
                false,
                "PodsNotReady",
                format!("{ready} of {wanted} pods are ready"),
                false,
            );
        }
        view(true, "PodsReady", pods_are_ready(ready), false)
    }
}

/// Steps under way are those of the spec, but for a smaller one with its dwell that a low budget had put before them.
fn are_those_of(steps: &[Step], spec: &[Step]) -> bool {
    let without = |at: usize| steps[..at] == spec[..at] && steps[at + 2..] == spec[at..];
    steps == spec || (steps.len() == spec.len() + 2 && (0..=spec.len()).any(without))
}

fn pods(count: u32) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} pod{plural}")
}

/// How many pods are ready, in words.
pub(super) fn pods_are_ready(count: u32) -> String {
    let are = if count == 1 { "is" } else { "are" };
    format!("{} {are} ready", pods(count))
}
