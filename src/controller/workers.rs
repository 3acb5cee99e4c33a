//! Workers: services that nobody calls. What is the same for every edge: which services are some, and what their pods
//! get that the user left out. Pure.

use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};
use serde_json::Value;

use crate::api::v1alpha1::{PythonServiceSpec, ServiceKind};

/// The time that a worker has to finish what it has begun, in seconds, where the template says nothing. Kubernetes' own
/// 30 would cut every task that takes longer.
pub const GRACE: i64 = 600;
/// The variable that has the queues, comma-separated.
pub const QUEUES: &str = "MOLT_QUEUES";

/// Nobody calls it.
pub fn are_meant(spec: &PythonServiceSpec) -> bool {
    spec.port.is_none() && spec.traffic.is_none() && spec.kind != Some(ServiceKind::Job)
}

/// The same of a spec as it was written, readable or not: whether only one pod may run; `None` where the service is
/// called. What has lost its port by a mistake is not taken for workers.
pub fn of_written(spec: &Value) -> Option<bool> {
    let has = |pointer: &str| spec.pointer(pointer).is_some_and(|value| !value.is_null());
    let server = spec.pointer("/runtime/server").and_then(Value::as_str);
    let said = has("/exposure") || server.is_some_and(|s| ["celery", "rq", "arq", "custom"].contains(&s));
    let called = has("/port") || has("/traffic");
    (said && !called).then(|| has("/exposure/singleton"))
}

/// Whether the template leaves the time to finish to Molt.
pub fn grace_is_left_out(spec: &PythonServiceSpec) -> bool {
    let pod = spec.template.as_ref().and_then(|template| template.spec.as_ref());
    are_meant(spec) && pod.is_some_and(|pod| pod.termination_grace_period_seconds.is_none())
}

/// The template of a service with what its workers need and the user left out.
#[must_use]
pub fn complete(spec: &PythonServiceSpec, template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let Some(pod) = template.spec.as_mut().filter(|_| are_meant(spec)) else {
        return template;
    };
    pod.termination_grace_period_seconds.get_or_insert(GRACE);
    let named = spec.runtime.container.as_deref();
    let place = named.and_then(|name| pod.containers.iter().position(|c| c.name == name));
    let application = pod.containers.get_mut(place.unwrap_or(0));
    let (Some(queues), Some(application)) = (&spec.runtime.queues, application) else {
        return template;
    };
    let variables = application.env.get_or_insert_default();
    if !variables.iter().any(|variable| variable.name == QUEUES) {
        // First, so that the user's own can refer to it.
        let queues = EnvVar {
            name: QUEUES.to_owned(),
            value: Some(queues.join(",")),
            ..EnvVar::default()
        };
        variables.insert(0, queues);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(change: impl FnOnce(&mut Value)) -> PythonServiceSpec {
        let mut spec = json!({
            "runtime": {"server": "celery", "queues": ["default", "mail"]},
            "template": {"spec": {"containers": [{"name": "app", "image": "shop:1"}]}},
            "slos": [],
        });
        change(&mut spec);
        serde_json::from_value(spec).unwrap()
    }

    fn completed(spec: &PythonServiceSpec) -> Value {
        serde_json::to_value(complete(spec, spec.template.as_ref().unwrap())).unwrap()
    }

    #[test]
    fn workers_get_time_to_finish_and_their_queues() {
        let plain = spec(|_| ());
        assert!(grace_is_left_out(&plain));
        let pod = &completed(&plain)["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], GRACE);
        assert_eq!(
            pod["containers"][0]["env"],
            json!([{"name": "MOLT_QUEUES", "value": "default,mail"}])
        );
    }

    #[test]
    fn what_the_user_wrote_stays() {
        let own = spec(|s| {
            s["template"]["spec"]["terminationGracePeriodSeconds"] = json!(60);
            s["template"]["spec"]["containers"][0]["env"] = json!([{"name": "MOLT_QUEUES", "value": "own"}]);
        });
        assert!(!grace_is_left_out(&own));
        assert_eq!(completed(&own), serde_json::to_value(&own.template).unwrap());
        // What is called is none of this module's business.
        let web = spec(|s| {
            s["port"] = json!(8000);
            s["traffic"] = json!({"none": {}});
        });
        assert_eq!(completed(&web), serde_json::to_value(&web.template).unwrap());
    }

    #[test]
    fn the_application_is_the_container_that_is_named() {
        let two = spec(|s| {
            s["runtime"]["container"] = json!("work");
            s["template"]["spec"]["containers"] = json!([{"name": "proxy"}, {"name": "work"}]);
        });
        let containers = &completed(&two)["spec"]["containers"];
        assert!(containers[0]["env"].is_null() && containers[1]["env"][0]["name"] == "MOLT_QUEUES");
    }

    #[test]
    fn what_has_lost_its_port_is_no_worker() {
        for (spec, is) in [
            (json!({"runtime": {"server": "celery"}}), Some(false)),
            (
                json!({"runtime": {"server": "rq"}, "exposure": {"singleton": {}}}),
                Some(true),
            ),
            (
                json!({"runtime": {"server": "uvicorn"}, "traffic": {"none": {}}}),
                None,
            ),
            (json!({"runtime": {"server": "uvicorn"}}), None),
            (json!({"runtime": {"server": "celery"}, "port": 8000}), None),
            (json!(null), None),
        ] {
            assert_eq!(of_written(&spec), is, "{spec}");
        }
    }
}
