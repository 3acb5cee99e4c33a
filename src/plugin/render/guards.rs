//! The tables of thresholds and of guards of the runtime.

use molt_core::state::State;

use crate::api::v1alpha1::{GuardConditionStatus, GuardStatus, GuardsStatus, PythonServiceStatus};
use crate::controller::status::guards;
use crate::plugin::text::{Style, columns};

/// One line for each threshold and guard; while nothing runs, what the last attempt found.
pub(in crate::plugin) fn table(status: &PythonServiceStatus, state: &State, style: Style) -> String {
    let ended = || {
        let last = state.last.as_ref().filter(|_| state.attempt.is_none())?;
        guards(&last.conditions, &last.guards)
    };
    let shown = status.guards.clone().or_else(ended);
    shown.map_or_else(String::new, |shown| rows(&shown, style))
}

/// One line for each threshold, and for each guard that something was measured for; the others are named.
pub(in crate::plugin) fn rows(shown: &GuardsStatus, style: Style) -> String {
    let (silent, told): (Vec<_>, Vec<_>) = shown.runtime.iter().partition(|g| g.verdict == "NoData");
    let mut text = String::new();
    if !shown.conditions.is_empty() {
        text += &conditions(shown, style);
    }
    if !told.is_empty() {
        text += &runtime(&told, style);
    }
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(|guard| guard.name.as_str()).collect();
        let line = format!("guards without data: {}", names.join(", "));
        text += &style.dim(&line);
        text.push('\n');
    }
    text
}

fn runtime(told: &[&GuardStatus], style: Style) -> String {
    let head = ["guard", "", "canary", "stable", "allowed", ""];
    let mut rows = vec![head.map(|t| style.dim(t)).to_vec()];
    rows.extend(told.iter().map(|guard| {
        let verdict = match (guard.verdict.as_str(), guard.mode.as_str()) {
            ("Within", _) => style.good("Within"),
            ("Beyond", "Rollback") => style.bad("Beyond"),
            (other, _) => style.busy(other),
        };
        let number = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            guard.name.clone(),
            verdict,
            number(&guard.canary),
            number(&guard.stable),
            guard.allowed.clone(),
            guard.message.clone().unwrap_or_default(),
        ]
    }));
    columns(&rows, "  ")
}

fn conditions(shown: &GuardsStatus, style: Style) -> String {
    let mut rows = vec![
        ["condition", "", "value", "wanted", "failed", ""]
            .map(|t| style.dim(t))
            .to_vec(),
    ];
    rows.extend(shown.conditions.iter().map(|condition| row(condition, style)));
    columns(&rows, "  ")
}

fn row(condition: &GuardConditionStatus, style: Style) -> Vec<String> {
    let verdict = match condition.verdict.as_str() {
        "Met" => style.good("Met"),
        "NotMet" if only_warns(condition) => style.busy("NotMet"),
        "NotMet" => style.bad("NotMet"),
        other => style.busy(other),
    };
    vec![
        condition.name.clone(),
        verdict,
        condition.value.clone().unwrap_or_else(|| "-".to_owned()),
        condition.success_condition.clone(),
        if only_warns(condition) {
            format!("{} of {}, only warns", condition.failed, condition.evaluated)
        } else {
            format!(
                "{} of {}, {} may",
                condition.failed, condition.evaluated, condition.failure_limit
            )
        },
        condition.message.clone().unwrap_or_default(),
    ]
}

fn only_warns(condition: &GuardConditionStatus) -> bool {
    condition.mode.as_deref() == Some("Warn")
}

#[cfg(test)]
mod tests {
    use molt_core::state::ConditionState;

    use super::*;

    #[test]
    fn each_threshold_has_a_line_with_its_value_its_bound_and_its_failures() {
        let state = |name: &str, value: Option<&str>, why: Option<&str>| ConditionState {
            name: name.into(),
            bound: "value < 0.8".into(),
            failure_limit: 2,
            failed: 1,
            evaluated: 4,
            value: value.map(Into::into),
            not_evaluated: why.map(Into::into),
            ..ConditionState::default()
        };
        let conditions = [
            state("latency", Some("1.2"), None),
            state("queue", None, Some("the value is NaN")),
        ];
        let status = PythonServiceStatus {
            guards: guards(&conditions, &[]),
            ..PythonServiceStatus::default()
        };
        let text = table(&status, &State::default(), Style::PLAIN);
        for part in [
            "latency",
            "NotMet",
            "1.2",
            "value < 0.8",
            "1 of 4, 2 may",
            "NotEvaluated",
            "the value is NaN",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let guard = |name: &str, verdict: &str, value: Option<&str>| GuardStatus {
            name: name.into(),
            mode: "Rollback".into(),
            verdict: verdict.into(),
            allowed: "64.0 MiB an hour more than stable".into(),
            canary: value.map(Into::into),
            stable: value.map(Into::into),
            message: None,
        };
        let status = PythonServiceStatus {
            guards: Some(GuardsStatus {
                conditions: Vec::new(),
                runtime: vec![
                    guard("memoryGrowth", "Within", Some("3.2 MiB an hour")),
                    guard("eventLoopLag", "NoData", None),
                ],
            }),
            ..PythonServiceStatus::default()
        };
        let text = table(&status, &State::default(), Style::PLAIN);
        for part in [
            "memoryGrowth",
            "Within",
            "3.2 MiB",
            "guards without data: eventLoopLag",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("condition"), "{text}");
        assert_eq!(
            table(&PythonServiceStatus::default(), &State::default(), Style::PLAIN),
            ""
        );
    }
}
