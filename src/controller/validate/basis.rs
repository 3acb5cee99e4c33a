//! Digests by which the core sees that what a verdict depends on was changed. They are taken from what was
//! written: filling in defaults in another way must not look like a correction.

use serde_json::json;

use crate::api::v1alpha1::PythonServiceSpec;
use crate::controller::revision::digest;
use crate::metric_sources::PrometheusSource;

/// All that a verdict depends on: objectives, where and how they are measured, limits, policy.
pub fn basis(spec: &PythonServiceSpec, source: Option<&PrometheusSource>) -> String {
    digest(&json!({
        "slos": spec.slos,
        "metrics": spec.metrics,
        "analysis": spec.analysis,
        // The operator's own, where the spec leaves it open.
        "address": source.map(|s| &s.address),
    }))
}

/// What is asked for one objective. Where it is asked, and how often, changes nothing about the answer.
pub fn question(spec: &PythonServiceSpec, slo: &str) -> String {
    let prometheus = spec.metrics.as_ref().map(|m| &m.prometheus);
    digest(&json!({
        "slo": spec.slos.iter().find(|s| s.name == slo),
        "podLabel": prometheus.and_then(|p| p.pod_label.as_ref()),
        "namespaceLabel": prometheus.and_then(|p| p.namespace_label.as_ref()),
        "matchers": prometheus.and_then(|p| p.matchers.as_ref()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::object::tests::changed;
    use serde_json::Value;

    fn of(change: impl FnOnce(&mut Value)) -> (String, String) {
        let spec = changed(|o| change(&mut o["spec"])).spec.unwrap();
        let source =
            PrometheusSource::parse(spec.metrics.as_ref().map(|m| &m.prometheus), "http://own:9090").ok();
        (basis(&spec, source.as_ref()), question(&spec, "availability"))
    }

    #[test]
    fn what_a_verdict_depends_on_counts_and_nothing_else() {
        let plain = of(|_| ());
        assert_eq!(plain.0.len(), 10);
        for (field, value) in [
            ("replicas", json!(9)),
            ("progressDeadline", json!("20m")),
            ("strategy", json!({"canary": {"bake": "1m"}})),
        ] {
            assert_eq!(of(|s| s[field] = value), plain, "{field}");
        }
        let address = of(|s| s["metrics"]["prometheus"]["address"] = json!("http://other:9090"));
        assert_ne!(address.0, plain.0);
        assert_eq!(address.1, plain.1, "another place to ask is the same question");
        let policy = of(|s| s["analysis"] = json!({"onInconclusive": "Rollback"}));
        assert!(policy.0 != plain.0 && policy.1 == plain.1);
        for (pointer, value) in [
            ("/slos/0/objective", json!("99")),
            ("/slos/0/sli/preset", json!("otel")),
            ("/metrics/prometheus/podLabel", json!("kubernetes_pod_name")),
        ] {
            let set = |s: &mut Value| match s.pointer_mut(pointer) {
                Some(field) => *field = value.clone(),
                None => s["metrics"]["prometheus"]["podLabel"] = value.clone(),
            };
            let other = of(set);
            assert!(other.0 != plain.0 && other.1 != plain.1, "{pointer}");
        }
    }
}
