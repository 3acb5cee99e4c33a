//! How many pods a rollout may hold, and when one of them counts.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use molt_core::plan::{Room, RouteMode, Surge};

use super::FieldError;
use super::fields::in_range;
use crate::api::v1alpha1::{PythonServiceSpec, StableDuringCanary};

/// The room that a spec gives a rollout.
pub(super) fn resolve(spec: &PythonServiceSpec, route: RouteMode, errors: &mut Vec<FieldError>) -> Room {
    let strategy = spec.strategy.as_ref();
    let canary = strategy.and_then(|s| s.canary.as_ref());
    let at_once = strategy.is_some_and(|s| s.blue_green.is_some());
    let stable_scales = canary.and_then(|c| c.stable_during_canary) == Some(StableDuringCanary::Scale);
    let max_surge = spec.max_surge.as_ref().and_then(|written| {
        let surge = surge(written);
        if surge.is_none() {
            let written = match written {
                IntOrString::Int(pods) => pods.to_string(),
                IntOrString::String(text) => format!("{text:?}"),
            };
            let message = format!(
                "{written} can't be used: write a number of pods of at least 1, or a percentage from \"1%\" to \"100%\"; with none nothing could be replaced"
            );
            errors.push(FieldError::new("spec.maxSurge", message));
        }
        surge
    });
    let all_again = max_surge.is_none_or(|surge| surge == Surge::Percent(100));
    if at_once && !all_again {
        let message = "leaves no room for blueGreen, where both revisions have all of their pods: leave it out, write \"100%\", or use strategy.canary";
        errors.push(FieldError::new("spec.maxSurge", message));
    }
    if matches!(route, RouteMode::Workers | RouteMode::Singleton) && !all_again {
        let message = "leaves no room for workers, of which stable keeps all until the canary has as many: leave it out, or write \"100%\"";
        errors.push(FieldError::new("spec.maxSurge", message));
    }
    if route == RouteMode::Shares && !all_again {
        let message = "leaves no room where pods divide the traffic (spec.traffic.none), for stable keeps its own until the end of the bake: leave it out, write \"100%\", or use a route";
        errors.push(FieldError::new("spec.maxSurge", message));
    }
    if route == RouteMode::Shares && stable_scales {
        let message = "is Scale where pods divide the traffic (spec.traffic.none), so that pods taken from stable would raise the canary's part: leave it out, or use a route";
        errors.push(FieldError::new(
            "spec.strategy.canary.stableDuringCanary",
            message,
        ));
    }
    Room {
        max_surge,
        stable_scales,
        connections: None,
    }
}

fn surge(written: &IntOrString) -> Option<Surge> {
    match written {
        IntOrString::Int(pods) => u32::try_from(*pods)
            .ok()
            .filter(|pods| *pods > 0)
            .map(Surge::Pods),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%')?.parse().ok()?;
            (1..=100).contains(&percent).then_some(Surge::Percent(percent))
        }
    }
}

/// A pod has to count before there is no time left to wait for it.
pub(super) fn check_ready(
    spec: &PythonServiceSpec,
    progress_deadline: SignedDuration,
    errors: &mut Vec<FieldError>,
) {
    let field = "spec.minReadySeconds";
    let seconds: i32 = in_range(errors, field, spec.min_ready_seconds, 0..=i32::MAX, 0);
    if i64::from(seconds) >= progress_deadline.as_secs() && seconds > 0 {
        let message = format!(
            "{seconds} is not less than spec.progressDeadline, {} s: no pod would ever count in time; write less, or a longer deadline",
            progress_deadline.as_secs()
        );
        errors.push(FieldError::new(field, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::object::tests::changed;
    use crate::controller::validate::{Defaults, Known, Validated, validate};

    fn result(change: impl FnOnce(&mut Value)) -> Validated {
        validate(&changed(change), &Defaults::default(), Known::default())
    }

    fn said(change: impl FnOnce(&mut Value)) -> String {
        let errors = result(change).errors;
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn room_is_a_number_or_a_percentage() {
        assert_eq!(result(|_| ()).plan.room, Room::default());
        for (written, surge, of_eight) in [
            (json!(3), Surge::Pods(3), 3),
            (json!("25%"), Surge::Percent(25), 2),
            (json!("1%"), Surge::Percent(1), 1),
            (json!("100%"), Surge::Percent(100), 8),
        ] {
            let validated = result(|o| o["spec"]["maxSurge"] = written);
            assert_eq!(validated.errors, []);
            assert_eq!(validated.plan.room.max_surge, Some(surge));
            assert_eq!(surge.of(8), of_eight);
        }
        for wrong in [
            json!(0),
            json!(-1),
            json!("0%"),
            json!("101%"),
            json!("3"),
            json!("a%"),
        ] {
            let said = said(|o| o["spec"]["maxSurge"] = wrong.clone());
            assert!(
                said.starts_with("spec.maxSurge: ") && said.contains("a number of pods of at least 1"),
                "{wrong}: {said}"
            );
        }
    }

    #[test]
    fn what_needs_all_pods_twice_takes_no_less() {
        let blue_green = |o: &mut Value, surge: Value| {
            o["spec"]["strategy"] = json!({"blueGreen": {}});
            o["spec"]["maxSurge"] = surge;
        };
        assert!(said(|o| blue_green(o, json!(1))).contains("leaves no room for blueGreen"));
        assert_eq!(said(|o| blue_green(o, json!("100%"))), "");
        let no_router = |o: &mut Value| {
            o["spec"]["traffic"] = json!({"none": {}});
            o["spec"]["strategy"] = json!({"canary": {"stableDuringCanary": "Scale"}});
            o["spec"]["maxSurge"] = json!("50%");
        };
        let said = said(no_router);
        for field in ["spec.maxSurge: ", "spec.strategy.canary.stableDuringCanary: "] {
            assert!(said.contains(field), "{said}");
        }
    }

    #[test]
    fn a_pod_has_to_count_before_the_deadline() {
        assert_eq!(said(|o| o["spec"]["minReadySeconds"] = json!(599)), "");
        let said = said(|o| o["spec"]["minReadySeconds"] = json!(600));
        assert!(
            said.contains("600 is not less than spec.progressDeadline, 600 s"),
            "{said}"
        );
    }

    #[test]
    fn stable_scales_where_it_is_asked_to() {
        let scales = |value: &str| {
            let value = value.to_owned();
            result(|o| o["spec"]["strategy"] = json!({"canary": {"stableDuringCanary": value}}))
        };
        assert!(scales("Scale").plan.room.stable_scales);
        assert!(!scales("Keep").plan.room.stable_scales);
    }
}
