//! What workers can be asked for, and what they can't.

use molt_core::plan::{Plan, RouteMode};
use molt_core::step::Step;

use super::FieldError;
use crate::api::v1alpha1::{self as api, PythonServiceSpec, Server};
use crate::controller::workers::are_meant;
use crate::metric_sources::presets;
use crate::traffic::RouteSpec;

/// How the revisions of workers are exposed; `None` where the service is called.
pub(super) fn resolve(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) -> Option<RouteSpec> {
    check_place(spec, errors);
    if !are_meant(spec) {
        return None;
    }
    let unset = api::Exposure {
        replicas: Some(api::ByReplicas {}),
        ..api::Exposure::default()
    };
    let path = "spec.exposure";
    let exposure = spec.exposure.as_ref().unwrap_or(&unset);
    let set = [
        ("replicas", exposure.replicas.is_some()),
        ("queue", exposure.queue.is_some()),
        ("singleton", exposure.singleton.is_some()),
        ("runs", exposure.runs.is_some()),
    ];
    let set: Vec<&str> = set
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    if set.len() != 1 {
        let has = match set.as_slice() {
            [] => "has none of replicas, queue and singleton".to_owned(),
            set => format!("has {}", set.join(" and ")),
        };
        let message = format!(
            "{has}: write replicas: {{}} where each pod takes work from the same queues, or singleton: {{}} where only one may run"
        );
        errors.push(FieldError::new(path, message));
    }
    if exposure.queue.is_some() {
        let message = "is not in this version: what is promoted has to be the ReplicaSet that was tested, and its pods would have to change their queue for that; write replicas: {}, or run a second PythonService for that queue";
        errors.push(FieldError::new(format!("{path}.queue"), message));
    }
    check_fields(spec, errors);
    check_queues(spec, errors);
    let singleton = exposure.singleton.is_some();
    if singleton {
        check_singleton(spec, errors);
    }
    Some(RouteSpec::Workers { singleton })
}

/// A server that is called has a port and traffic, and one that takes its work from a queue has neither.
fn check_place(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let pulls = matches!(spec.runtime.server, Server::Celery | Server::Rq | Server::Arq);
    let serves = !pulls && spec.runtime.server != Server::Custom;
    let message = match (spec.port.is_some(), spec.traffic.is_some()) {
        (true, false) => Some((
            "spec.traffic",
            "is missing beside spec.port: say how traffic reaches the service, or leave both out for workers, which take their work from a queue",
        )),
        (false, true) => Some((
            "spec.port",
            "is missing beside spec.traffic: write the serving port, or leave both out for workers, which take their work from a queue",
        )),
        (true, true) if pulls => Some((
            "spec.port",
            "is of what is called, and spec.runtime.server takes its work from a queue: leave spec.port and spec.traffic out",
        )),
        (false, false) if serves => Some((
            "spec.port",
            "is missing: spec.runtime.server serves requests, so write spec.port and spec.traffic",
        )),
        _ => None,
    };
    errors.extend(message.map(|(field, message)| FieldError::new(field, message)));
    if spec.exposure.is_some() && !are_meant(spec) {
        let message = "is of workers, which have neither port nor traffic: leave it out; of what is called, spec.traffic says who gets it";
        errors.push(FieldError::new("spec.exposure", message));
    }
    if spec.runtime.queues.is_some() && !are_meant(spec) {
        let message = "are of workers, which have neither port nor traffic: leave them out";
        errors.push(FieldError::new("spec.runtime.queues", message));
    }
}

/// Fields that say something about requests.
fn check_fields(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let canary = spec.strategy.as_ref().and_then(|s| s.canary.as_ref());
    let warm_up = spec.runtime.warm_up.as_ref();
    let fields = [
        (
            "spec.workloadRef",
            spec.workload_ref.is_some(),
            "can't be taken over yet where nobody calls it: write its pod template into spec.template, and scale the Deployment down yourself",
        ),
        (
            "spec.protocol",
            spec.protocol.is_some(),
            "is spoken at a port, and workers have none: leave it out",
        ),
        (
            "spec.serviceMetadata",
            spec.service_metadata.is_some(),
            "is of Services, and workers have none: leave it out",
        ),
        (
            "spec.drain",
            spec.drain.is_some(),
            "is of connections, and workers have none: leave it out; how long they may finish what they have begun is the template's terminationGracePeriodSeconds",
        ),
        (
            "spec.runtime.warmUp.requests",
            warm_up.is_some_and(|w| w.requests.is_some()),
            "can't be sent to workers: write a duration",
        ),
        (
            "spec.strategy.blueGreen",
            spec.strategy.as_ref().is_some_and(|s| s.blue_green.is_some()),
            "can't be had of workers: they work as soon as they run, so none can wait for its turn; use strategy.canary, or exposure.singleton where only one may run",
        ),
        (
            "spec.strategy.canary.stableDuringCanary",
            canary.is_some_and(|c| c.stable_during_canary == Some(api::StableDuringCanary::Scale)),
            "is Scale where pods divide the work, so that pods taken from stable would raise the canary's part: leave it out",
        ),
    ];
    for (field, is_set, message) in fields {
        if is_set {
            errors.push(FieldError::new(field, message));
        }
    }
}

fn check_queues(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let path = "spec.runtime.queues";
    let Some(queues) = &spec.runtime.queues else {
        return;
    };
    if queues.is_empty() {
        errors.push(FieldError::new(
            path,
            "is empty: name the queues, or leave it out",
        ));
    }
    for (index, queue) in queues.iter().enumerate() {
        if queue.is_empty() || queue.contains(|c: char| c == ',' || c.is_whitespace()) {
            let message = format!("{queue:?} is no name of a queue: write it without blanks and commas");
            errors.push(FieldError::new(format!("{path}[{index}]"), message));
        }
    }
}

fn check_singleton(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    if let Some(replicas) = spec.replicas.filter(|n| *n > 1) {
        let message = format!(
            "{replicas} pods can't run where only one may (spec.exposure.singleton): write 1, or leave it out"
        );
        errors.push(FieldError::new("spec.replicas", message));
    }
    let canary = spec.strategy.as_ref().and_then(|s| s.canary.as_ref());
    if canary.is_some_and(|canary| canary.steps.is_some()) {
        let message = "have no meaning where only one pod may run (spec.exposure.singleton): leave them out";
        errors.push(FieldError::new("spec.strategy.canary.steps", message));
    }
    let conditions = spec.guards.iter().flat_map(|g| g.conditions.iter().flatten());
    for (index, _) in conditions
        .enumerate()
        .filter(|(_, condition)| condition.job.is_some())
    {
        let message = "tries a revision before it has all the work, and of what may run only once nothing is there to be tried: leave it out";
        errors.push(FieldError::new(
            format!("spec.guards.conditions[{index}].job"),
            message,
        ));
    }
}

/// Steps that workers can't take, and those of what may run only once: none.
pub(super) fn fit(route: RouteMode, steps: &mut Vec<Step>, errors: &mut Vec<FieldError>) {
    if !route.pulls() {
        return;
    }
    if route == RouteMode::Singleton {
        steps.clear();
        return;
    }
    if let Some(step) = steps.iter().find(|step| matches!(step, Step::SetCanaryScale(_))) {
        let message = format!(
            "asks for a {step}, and workers work as soon as they run, so that their number is the canary's part: write setWeight"
        );
        errors.push(FieldError::new("spec.strategy", message));
    }
}

/// What of a plan is another one where only one pod may run.
pub(super) fn limit(plan: &mut Plan) {
    if plan.route == RouteMode::Singleton {
        plan.at_once = true;
        plan.replicas = plan.replicas.min(1);
    }
}

/// Objectives that there must be: of what may run only once nothing can be compared anyway.
pub(super) fn least_slos(spec: &PythonServiceSpec) -> usize {
    let exposure = spec.exposure.as_ref().filter(|_| are_meant(spec));
    usize::from(exposure.is_none_or(|exposure| exposure.singleton.is_none()))
}

/// Objectives count what the service does: tasks or requests.
pub(super) fn check_slos(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let workers = are_meant(spec);
    for (index, slo) in spec.slos.iter().enumerate() {
        let Some(preset) = slo.sli.preset else { continue };
        let message = match (presets::counts_tasks(preset), workers) {
            (true, false) => {
                "counts tasks of workers, and this service is called: choose a preset that counts requests, or counters"
            }
            (false, true) => {
                "counts requests, and workers get none: choose celery-exporter, rq-exporter or arq, or counters"
            }
            _ => continue,
        };
        errors.push(FieldError::new(format!("spec.slos[{index}].sli.preset"), message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::object::tests::changed;
    use crate::controller::validate::{Defaults, Known, Validated, validate};

    /// Workers that can be used, changed.
    fn given(change: impl FnOnce(&mut Value)) -> Validated {
        let object = changed(|o| {
            let spec = o["spec"].as_object_mut().unwrap();
            for called in ["port", "traffic", "protocol", "drain", "strategy", "maxSurge"] {
                spec.remove(called);
            }
            spec.insert("runtime".into(), json!({"server": "celery"}));
            let sli = json!({"preset": "celery-exporter", "type": "availability"});
            spec.insert(
                "slos".into(),
                json!([{"name": "success", "objective": "99", "sli": sli}]),
            );
            change(&mut o["spec"]);
        });
        let defaults = Defaults {
            prometheus_address: Some("http://prometheus:9090".into()),
            ..Defaults::default()
        };
        validate(&object, &defaults, Known::default())
    }

    fn said(change: impl FnOnce(&mut Value)) -> Vec<String> {
        given(change).errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn workers_have_no_route_and_their_share_is_that_of_their_pods() {
        let plain = given(|_| ());
        assert_eq!(plain.errors, []);
        assert_eq!(plain.plan.route, RouteMode::Workers);
        assert_eq!(plain.route, RouteSpec::Workers { singleton: false });
        assert!(plain.plan.revision.is_some() && !plain.plan.steps.is_empty());
    }

    #[test]
    fn of_a_scheduler_one_pod_runs_without_steps_and_objectives() {
        let alone = given(|s| {
            s["exposure"] = json!({"singleton": {}});
            for field in ["slos", "replicas"] {
                s.as_object_mut().unwrap().remove(field);
            }
        });
        assert_eq!(alone.errors, []);
        let plan = alone.plan;
        assert_eq!((plan.route, plan.replicas), (RouteMode::Singleton, 1));
        assert!(plan.at_once && plan.steps.is_empty() && plan.slos.is_empty());
    }

    #[test]
    fn what_workers_can_not_be_says_why_and_what_to_write() {
        let exposure = |e: Value| move |s: &mut Value| s["exposure"] = e;
        let cases: Vec<(Vec<String>, &str)> = vec![
            (
                said(|s| s["port"] = json!(8000)),
                "spec.traffic: is missing beside spec.port",
            ),
            (
                said(|s| {
                    s["port"] = json!(8000);
                    s["traffic"] = json!({"none": {}});
                }),
                "spec.port: is of what is called",
            ),
            (
                said(|s| s["runtime"]["server"] = json!("granian")),
                "spec.port: is missing: spec.runtime.server serves requests",
            ),
            (
                said(exposure(json!({}))),
                "spec.exposure: has none of replicas, queue and singleton",
            ),
            (
                said(exposure(json!({"replicas": {}, "singleton": {}}))),
                "spec.exposure: has replicas and singleton",
            ),
            (
                said(exposure(json!({"queue": {"name": "a"}}))),
                "spec.exposure.queue: is not in this version",
            ),
            (
                said(|s| s["runtime"]["queues"] = json!(["a,b"])),
                "spec.runtime.queues[0]: \"a,b\" is no name of a queue",
            ),
            (
                said(|s| s["strategy"] = json!({"blueGreen": {}})),
                "spec.strategy.blueGreen: can't be had of workers",
            ),
            (
                said(|s| {
                    let scale = json!([{"setCanaryScale": {"replicas": 1}}, {"setWeight": 50}]);
                    s["strategy"] = json!({"canary": {"steps": scale}});
                }),
                "spec.strategy: asks for a canary scale 1",
            ),
            (
                said(|s| s["maxSurge"] = json!(1)),
                "spec.maxSurge: leaves no room for workers",
            ),
            (
                said(|s| s["drain"] = json!({"timeout": "5s"})),
                "spec.drain: is of connections",
            ),
            (
                said(|s| s["slos"][0]["sli"]["preset"] = json!("otel")),
                "spec.slos[0].sli.preset: counts requests, and workers get none",
            ),
            (
                said(|s| {
                    s["slos"][0]["sli"] =
                        json!({"preset": "rq-exporter", "type": "runtime", "threshold": "1s"});
                }),
                "spec.slos[0].sli.type: is timed by celery-exporter alone",
            ),
            (said(|s| s["slos"] = json!([])), "spec.slos: has 0 objectives"),
            (
                said(|s| {
                    s["exposure"] = json!({"singleton": {}});
                    s["replicas"] = json!(2);
                }),
                "spec.replicas: 2 pods can't run where only one may",
            ),
        ];
        for (errors, expected) in cases {
            assert!(
                errors.iter().any(|e| e.starts_with(expected)),
                "{expected}: {errors:?}"
            );
        }
    }

    #[test]
    fn what_is_called_has_nothing_of_workers() {
        let errors = |change: fn(&mut Value)| {
            let object = changed(|o| change(&mut o["spec"]));
            let errors = validate(&object, &Defaults::default(), Known::default()).errors;
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let exposed = errors(|s| s["exposure"] = json!({"replicas": {}}));
        assert!(
            exposed
                .iter()
                .any(|e| e.starts_with("spec.exposure: is of workers")),
            "{exposed:?}"
        );
        let tasks =
            errors(|s| s["slos"][0]["sli"] = json!({"preset": "celery-exporter", "type": "availability"}));
        assert!(
            tasks
                .iter()
                .any(|e| e.starts_with("spec.slos[0].sli.preset: counts tasks of workers")),
            "{tasks:?}"
        );
    }
}
