//! The status that people and tools read: derived from the decision, never read back but for `state`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use molt_core::adoption::AdoptionStage;
use molt_core::analysis::{Burn, Counts};
use molt_core::decision::{ConditionView, Decision, Phase, SloReport};
use molt_core::guard::GuardState;
use molt_core::observed::{Backend, Observed};
use molt_core::plan::{Revision, RouteMode};
use molt_core::state::{Attempt, ConditionState, Stage, State};

use super::object::ServiceObject;
use crate::api::v1alpha1::{
    self as api, BurnStatus, CountsStatus, EvidenceStatus, GuardConditionStatus, GuardStatus, GuardsStatus,
    PythonServiceStatus, ReadinessStatus, RevisionStatus, SloStatus, StepStatus,
};
use crate::k8s::labels;

/// The status after a decision.
pub fn status(
    object: &ServiceObject,
    mode: RouteMode,
    seen: &Observed,
    decision: &Decision,
    readiness: Option<ReadinessStatus>,
    now: Timestamp,
) -> PythonServiceStatus {
    let state = &decision.state;
    let attempt = state.attempt.as_ref();
    let stable = state
        .stable
        .as_ref()
        .map(|r| revision_status(r, None, mode, seen));
    let canary = attempt
        .filter(|a| state.stable.as_ref() != Some(&a.revision))
        .map(|a| revision_status(&a.revision, Some(a), mode, seen));
    let (replicas, selector) = autoscaled(object, state, mode, seen);
    PythonServiceStatus {
        phase: Some(phase(decision.report.phase)),
        message: Some(decision.report.message.clone()),
        observed_generation: object.metadata.generation,
        replicas: Some(number(replicas)),
        selector: Some(selector),
        stable,
        canary,
        pinned_revision: state.pinned.as_ref().map(|pin| pin.revision.0.clone()),
        step: attempt.filter(|a| a.stage != Stage::Deploying).map(step),
        slos: (!decision.report.slos.is_empty()).then(|| decision.report.slos.iter().map(slo).collect()),
        guards: guards(&decision.report.guards, &decision.report.runtime),
        readiness,
        conditions: Some(conditions(object, &decision.report.conditions, now)),
        state: Some(Box::new(state.clone())),
    }
}

/// The pods that an autoscaler counts, and what selects them. While a Deployment's pods are replaced they are those of
/// both, by the Deployment's labels, which Molt's have as well: to the few that Molt has an autoscaler would ask for few.
fn autoscaled(object: &ServiceObject, state: &State, mode: RouteMode, seen: &Observed) -> (u32, String) {
    let serving = weighted(state, mode, seen);
    let pods = serving
        .iter()
        .map(|r| seen.revisions.get(*r).map_or(0, |v| v.pods))
        .sum();
    let adoption = state.adoption.as_ref();
    let taking = adoption.is_some_and(|a| a.stage == AdoptionStage::Taking);
    if let Some(view) = seen.workload.view().filter(|_| taking)
        && let Some(labels) = &view.selector
    {
        let terms: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        return (pods + view.pods, terms.join(","));
    }
    (pods, selector(object, &serving))
}

/// The revisions that carry the traffic: an autoscaler multiplies by their pods, so one that has none of it, a canary that
/// starts or the old revision in a bake, must not be among them. A weight that is about to be written counts as well: this is
/// written first, and pods that carry nothing yet mislead less than load that is missed. Those that are to serve, where
/// there is no weight at all.
fn weighted<'a>(state: &'a State, mode: RouteMode, seen: &Observed) -> Vec<&'a Revision> {
    let live: Vec<&Revision> = state
        .stable
        .iter()
        .chain(state.attempt.as_ref().map(|a| &a.revision))
        .collect();
    let tried = state.attempt.as_ref().map_or(0, |a| a.weight);
    let is_given = |revision: &Revision| match state.stable.as_ref() {
        Some(stable) if stable == revision => tried < 100,
        _ => tried > 0,
    };
    let carries = |revision: &&Revision| weight(revision, mode, seen) > 0 || is_given(revision);
    let weighted: Vec<&Revision> = live.iter().copied().filter(carries).collect();
    if weighted.is_empty() { live } else { weighted }
}

fn phase(phase: Phase) -> api::Phase {
    match phase {
        Phase::Initializing => api::Phase::Initializing,
        Phase::Healthy => api::Phase::Healthy,
        Phase::Progressing => api::Phase::Progressing,
        Phase::Paused => api::Phase::Paused,
        Phase::RollingBack => api::Phase::RollingBack,
        Phase::RolledBack => api::Phase::RolledBack,
        Phase::Degraded => api::Phase::Degraded,
    }
}

fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Selects the pods of the revisions that serve, as an autoscaler wants it.
fn selector(object: &ServiceObject, serving: &[&Revision]) -> String {
    let revisions: Vec<&str> = serving.iter().map(|r| r.0.as_str()).collect();
    format!(
        "{}={},{} in ({})",
        labels::SERVICE,
        object.key().name,
        labels::REVISION,
        revisions.join(",")
    )
}

fn revision_status(
    revision: &Revision,
    attempt: Option<&Attempt>,
    mode: RouteMode,
    seen: &Observed,
) -> RevisionStatus {
    let view = seen.revisions.get(revision).cloned().unwrap_or_default();
    RevisionStatus {
        revision: revision.0.clone(),
        replicas: number(view.wanted),
        ready: number(view.serving()),
        weight: i32::from(weight(revision, mode, seen)),
        attempt: attempt.map(|a| number(a.number)),
    }
}

/// The share of the traffic that the route gives to a revision.
pub fn weight(revision: &Revision, mode: RouteMode, seen: &Observed) -> u8 {
    seen.route
        .weights
        .iter()
        .filter(|(backend, _)| match (mode, backend) {
            (_, Backend::Revision(r)) => r == revision,
            (_, Backend::Slot(slot)) => seen.selected.get(slot).is_some_and(|s| s.revision == *revision),
        })
        .fold(0u8, |sum, (_, w)| sum.saturating_add(*w))
        .min(100)
}

fn step(attempt: &Attempt) -> StepStatus {
    StepStatus {
        index: number(attempt.step),
        total: i32::try_from(attempt.steps.len()).unwrap_or(i32::MAX),
        awaited: Some(number(attempt.awaited_step())),
        started_at: attempt.step_since,
    }
}

fn slo(report: &SloReport) -> SloStatus {
    SloStatus {
        name: report.name.clone(),
        budget_remaining: report.budget_remaining.map(|r| format!("{:.1}%", r * 100.0)),
        spent_by_rollout: spent(report.spent),
        verdict: format!("{:?}", report.verdict),
        evidence: evidence(report.ln_harm, report.ln_safe),
        burn: burn(report.burn),
        canary: counts(report.canary),
        stable: counts(report.stable),
    }
}

/// The guards, if there are any.
pub fn guards(states: &[ConditionState], runtime: &[GuardState]) -> Option<GuardsStatus> {
    let shown = GuardsStatus {
        conditions: states.iter().map(guard_condition).collect(),
        runtime: runtime.iter().map(guard).collect(),
    };
    (shown != GuardsStatus::default()).then_some(shown)
}

fn guard(state: &GuardState) -> GuardStatus {
    let verdict = match (&state.fired, &state.no_data) {
        (Some(_), _) => "Beyond",
        (None, Some(_)) => "NoData",
        (None, None) => "Within",
    };
    GuardStatus {
        name: state.guard.name().to_owned(),
        mode: format!("{:?}", state.mode),
        verdict: verdict.to_owned(),
        allowed: state.bound.clone(),
        canary: state.canary.clone(),
        stable: state.stable.clone(),
        message: state.fired.clone().or_else(|| state.no_data.clone()),
    }
}

fn guard_condition(state: &ConditionState) -> GuardConditionStatus {
    let verdict = match (&state.not_evaluated, &state.value) {
        (None, Some(_)) if state.last_met => "Met",
        (None, Some(_)) => "NotMet",
        _ => "NotEvaluated",
    };
    let failure = || state.job.as_ref().and_then(|job| job.failure.clone());
    GuardConditionStatus {
        name: state.name.clone(),
        mode: Some(format!("{:?}", state.mode)),
        success_condition: state.bound.clone(),
        verdict: verdict.to_owned(),
        value: state.value.clone(),
        message: state.not_evaluated.clone().or_else(failure),
        evaluated: number(state.evaluated),
        failed: number(state.failed),
        failure_limit: number(state.failure_limit),
    }
}

/// A share of the budget for people.
pub fn spent(share: Option<f64>) -> String {
    match share {
        None => "unknown".to_owned(),
        Some(share) if share > 0.0 && share < 0.000_1 => format!("{:.4}%", share * 100.0),
        Some(share) => format!("{:.2}%", share * 100.0),
    }
}

/// Evidence as factors for people.
pub fn evidence(ln_harm: f64, ln_safe: f64) -> EvidenceStatus {
    EvidenceStatus {
        harm: factor(ln_harm),
        safe: factor(ln_safe),
    }
}

/// Burn rates as decimal strings; `None` when none is known.
pub fn burn(burn: Burn) -> Option<BurnStatus> {
    let status = BurnStatus {
        canary: burn.canary.map(rate),
        stable: burn.stable.map(rate),
        attributable: burn.attributable.map(rate),
    };
    (status != BurnStatus::default()).then_some(status)
}

/// Two decimals below 100, none above: more of a count is noise.
fn rate(rate: f64) -> String {
    let decimals = if rate.abs() >= 100.0 { 0 } else { 2 };
    let text = format!("{rate:.decimals$}");
    // What rounds to nothing has no sign.
    if text == "-0.00" { "0.00".to_owned() } else { text }
}

fn factor(ln: f64) -> String {
    if ln > 1e6f64.ln() {
        return "1000000+".to_owned();
    }
    let factor = ln.exp();
    if factor >= 100.0 {
        format!("{factor:.0}")
    } else {
        format!("{factor:.2}")
    }
}

/// Whole requests.
pub fn counts(counts: Counts) -> CountsStatus {
    CountsStatus {
        total: counts.total().round() as i64,
        bad: counts.bad().round() as i64,
    }
}

/// The conditions; one keeps its time while its status stays.
fn conditions(object: &ServiceObject, views: &[ConditionView], now: Timestamp) -> Vec<Condition> {
    views
        .iter()
        .map(|view| {
            let status = if view.status { "True" } else { "False" };
            let before = object
                .conditions
                .iter()
                .find(|c| c.type_ == view.kind && c.status == status);
            Condition {
                type_: view.kind.to_owned(),
                status: status.to_owned(),
                reason: view.reason.clone(),
                message: view.message.clone(),
                observed_generation: object.metadata.generation,
                last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::object::tests::changed;
    use molt_core::adoption::{Sight, WorkloadView};
    use molt_core::observed::RevisionView;
    use serde_json::json;

    fn view(status: bool) -> ConditionView {
        ConditionView {
            kind: "Ready",
            status,
            reason: "Healthy".into(),
            message: "m".into(),
            fault: false,
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let then = "2026-01-01T00:00:00Z";
        let object = changed(|o| {
            o["status"] = json!({"conditions": [
                {"type": "Ready", "status": "True", "reason": "Old", "message": "", "lastTransitionTime": then}
            ]});
        });
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        assert_eq!(
            conditions(&object, &[view(true)], now)[0].last_transition_time.0,
            then.parse().unwrap()
        );
        assert_eq!(
            conditions(&object, &[view(false)], now)[0].last_transition_time.0,
            now
        );
    }

    #[test]
    fn an_autoscaler_counts_the_pods_that_carry_the_traffic() {
        let (stable, canary) = (Revision::from("0a"), Revision::from("0b"));
        let attempt: Attempt = serde_json::from_value(json!({
            "revision": "0b", "number": 1, "startedAt": "2026-01-01T00:00:00Z", "stage": {"name": "Stepping"},
            "since": "2026-01-01T00:00:00Z", "steps": [], "step": 0, "stepSince": "2026-01-01T00:00:00Z",
            "weight": 0, "measuredTo": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let mut state = State {
            stable: Some(stable.clone()),
            attempt: Some(attempt),
            ..State::default()
        };
        for (asked, weights, expected) in [
            (0, (100, 0), vec![&stable]),
            (50, (100, 0), vec![&stable, &canary]),
            (50, (50, 50), vec![&stable, &canary]),
            (100, (50, 50), vec![&stable, &canary]),
            (100, (0, 100), vec![&canary]),
            (0, (0, 100), vec![&stable, &canary]),
            (0, (0, 0), vec![&stable]),
        ] {
            state.attempt.as_mut().unwrap().weight = asked;
            let mut seen = Observed::default();
            seen.route.weights = [
                (Backend::Revision(stable.clone()), weights.0),
                (Backend::Revision(canary.clone()), weights.1),
            ]
            .into();
            assert_eq!(
                weighted(&state, RouteMode::Owned, &seen),
                expected,
                "{asked} {weights:?}"
            );
        }
    }

    #[test]
    fn in_a_takeover_an_autoscaler_counts_the_deployments_pods_as_well() {
        let state = |stage: &str| -> State {
            let adoption = json!({
                "workload": "shop", "uid": "d-1", "replicas": 20, "stage": stage,
                "movedAt": "2026-01-01T00:00:00Z", "seenReplicas": 18,
            });
            State {
                stable: Some("0a".into()),
                adoption: Some(serde_json::from_value(adoption).unwrap()),
                ..State::default()
            }
        };
        let mut seen = Observed::default();
        let ours = RevisionView {
            pods: 2,
            ..RevisionView::default()
        };
        seen.revisions.insert("0a".into(), ours);
        let terms = [("app", "shop"), ("tier", "web")];
        seen.workload = Sight::Seen(WorkloadView {
            pods: 18,
            selector: Some(terms.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..WorkloadView::default()
        });
        let object = changed(|_| ());
        let counted = |stage| autoscaled(&object, &state(stage), RouteMode::Owned, &seen);
        assert_eq!(counted("Taking"), (20, "app=shop,tier=web".to_owned()));
        let (pods, selector) = counted("Taken");
        assert!(
            pods == 2 && selector.contains(labels::REVISION),
            "{pods} {selector}"
        );
    }

    #[test]
    fn numbers_are_for_reading() {
        assert_eq!(factor(0.0), "1.00");
        assert_eq!(factor(500.0), "1000000+");
        assert_eq!(factor(f64::NEG_INFINITY), "0.00");
        assert_eq!(
            [0.0, -0.000_1, 0.125, 14.4, -3.25, 250.4, 1e9].map(rate),
            ["0.00", "0.00", "0.12", "14.40", "-3.25", "250", "1000000000"]
        );
        assert_eq!(burn(Burn::default()), None);
        assert_eq!(spent(None), "unknown");
        assert_eq!(spent(Some(0.02)), "2.00%");
        assert_eq!(spent(Some(0.000_012)), "0.0012%");
    }
}
