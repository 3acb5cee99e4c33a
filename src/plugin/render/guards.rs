//! The table of thresholds.

use molt_core::state::State;

use crate::api::v1alpha1::{GuardConditionStatus, GuardsStatus, PythonServiceStatus};
use crate::controller::status::guards;
use crate::plugin::text::{Style, columns};

/// One line for each threshold; while nothing runs, what the last attempt found.
pub(in crate::plugin) fn table(status: &PythonServiceStatus, state: &State, style: Style) -> String {
    let ended = || {
        let last = state.last.as_ref().filter(|_| state.attempt.is_none())?;
        guards(&last.conditions)
    };
    let shown = status.guards.clone().or_else(ended);
    shown.map_or_else(String::new, |shown| rows(&shown, style))
}

/// One line for each threshold.
pub(in crate::plugin) fn rows(shown: &GuardsStatus, style: Style) -> String {
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
        "NotMet" => style.bad("NotMet"),
        other => style.busy(other),
    };
    vec![
        condition.name.clone(),
        verdict,
        condition.value.clone().unwrap_or_else(|| "-".to_owned()),
        condition.success_condition.clone(),
        format!(
            "{} of {}, {} may",
            condition.failed, condition.evaluated, condition.failure_limit
        ),
        condition.message.clone().unwrap_or_default(),
    ]
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
            guards: guards(&conditions),
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
        assert_eq!(
            table(&PythonServiceStatus::default(), &State::default(), Style::PLAIN),
            ""
        );
    }
}
