use super::*;
use crate::controller::object::tests::changed;
use molt_core::plan::Revision;

fn key(phase: MigrationPhase) -> JobKey {
    JobKey {
        revision: Revision::from("694e87771d"),
        attempt: 2,
        condition: phase.condition().into(),
        digest: "0123456789".into(),
        run: 1,
    }
}

fn rendered(phase: MigrationPhase, template: &Value, gate: &Value, container: Option<&str>) -> Value {
    let owner = Owner::of(&changed(|_| ()));
    let gate: MigrationGate = serde_json::from_value(gate.clone()).unwrap();
    let template: PodTemplateSpec = serde_json::from_value(template.clone()).unwrap();
    let run = Run {
        key: &key(phase),
        phase,
        at_most: SignedDuration::from_secs(660),
        stop_before: Some("m3"),
        target: &["m1".to_owned()],
    };
    render(&owner, &run, &gate, &template, container)
}

fn template() -> Value {
    let probe = json!({"tcpSocket": {"port": 8000}});
    json!({
        "metadata": {
            "labels": {"app": "checkout", "molt.dev/service": "checkout", "molt.dev/revision": "694e87771d"},
            "annotations": {"prometheus.io/scrape": "true", "vault": "yes"},
        },
        "spec": {
            "serviceAccountName": "shop",
            "imagePullSecrets": [{"name": "registry"}],
            "securityContext": {"runAsNonRoot": true},
            "volumes": [{"name": "tls", "secret": {"secretName": "db"}}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "affinity": {"podAntiAffinity": {}, "nodeAffinity": {}},
            "nodeSelector": {"disk": "ssd"},
            "readinessGates": [{"conditionType": "ready"}],
            "hostname": "one",
            "restartPolicy": "Always",
            "initContainers": [
                {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "ports": [{"containerPort": 5432}]},
                {"name": "migrate", "image": "checkout:2"},
            ],
            "containers": [
                {"name": "nginx", "image": "nginx:1"},
                {
                    "name": "app", "image": "checkout:2", "command": ["uvicorn"], "args": ["main:app"], "workingDir": "/srv",
                    "env": [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}],
                    "envFrom": [{"configMapRef": {"name": "settings"}}],
                    "ports": [{"containerPort": 8000}], "readinessProbe": probe, "livenessProbe": probe, "startupProbe": probe,
                    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                    "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
                    "resources": {"requests": {"cpu": "1"}},
                    "securityContext": {"readOnlyRootFilesystem": true},
                },
            ],
        },
    })
}

#[test]
fn it_has_what_the_application_needs_and_nothing_by_which_others_find_it() {
    let job = rendered(
        MigrationPhase::Apply,
        &template(),
        &json!({"tool": "alembic"}),
        Some("app"),
    );
    let pod = &job["spec"]["template"];
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"molt.dev/job-of": "checkout", "molt.dev/condition": "migration.apply"})
    );
    assert_eq!(pod["metadata"]["annotations"], json!({"vault": "yes"}));
    let spec = &pod["spec"];
    for field in [
        "serviceAccountName",
        "imagePullSecrets",
        "securityContext",
        "volumes",
        "nodeSelector",
    ] {
        assert_eq!(spec[field], template()["spec"][field], "{field}");
    }
    assert_eq!(spec["restartPolicy"], "Never");
    for field in ["topologySpreadConstraints", "readinessGates", "hostname"] {
        assert_eq!(spec[field], Value::Null, "{field}");
    }
    assert_eq!(spec["affinity"], json!({"nodeAffinity": {}}));
    assert_eq!(
        spec["initContainers"],
        json!([{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}])
    );
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    let container = &spec["containers"][0];
    for field in [
        "name",
        "image",
        "envFrom",
        "volumeMounts",
        "resources",
        "securityContext",
        "workingDir",
    ] {
        assert_eq!(
            container[field],
            template()["spec"]["containers"][1][field],
            "{field}"
        );
    }
    for field in [
        "args",
        "ports",
        "readinessProbe",
        "livenessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        assert_eq!(container[field], Value::Null, "{field}");
    }
    assert_eq!(container["command"][0], "python3");
    assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
    let env = container["env"].as_array().unwrap();
    assert_eq!(env.last().unwrap()["name"], "DATABASE_URL");
    let what: Value = serde_json::from_str(env[0]["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        what,
        json!({
            "phase": "Apply", "tool": "alembic", "service": "shop/checkout", "revision": "694e87771d", "attempt": 2,
            "timeout": 300.0, "lockTimeout": 5.0, "stopBefore": "m3", "target": ["m1"],
        })
    );
    assert_eq!(
        (
            &job["spec"]["backoffLimit"],
            &job["spec"]["activeDeadlineSeconds"]
        ),
        (&json!(0), &json!(660))
    );
    assert_eq!(job["metadata"]["labels"]["molt.dev/condition"], "migration.apply");
}

#[test]
fn commands_of_ones_own_are_run_as_they_are_written() {
    let gate = json!({
        "tool": "custom", "workingDir": "/app", "timeout": "20s", "lockTimeout": "1s",
        "custom": {"check": ["./check"], "apply": ["./migrate", "-v"], "rollback": ["./back"]},
    });
    for (phase, command) in [
        (MigrationPhase::Check, json!(["./check"])),
        (MigrationPhase::Apply, json!(["./migrate", "-v"])),
        (MigrationPhase::Contract, json!(["./migrate", "-v"])),
        (MigrationPhase::Downgrade, json!(["./back"])),
    ] {
        let job = rendered(phase, &template(), &gate, None);
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            (&container["name"], &container["command"]),
            (&json!("nginx"), &command)
        );
        assert_eq!(container["workingDir"], "/app");
        let what: Value = serde_json::from_str(container["env"][0]["value"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&what["timeout"], &what["lockTimeout"]),
            (&json!(20.0), &json!(1.0))
        );
    }
}

#[test]
fn its_pod_ends_soon_however_long_the_applications_may_take() {
    for (written, grace) in [(Value::Null, 10), (json!(3600), 10), (json!(3), 3)] {
        let mut template = template();
        template["spec"]["terminationGracePeriodSeconds"] = written.clone();
        let job = rendered(
            MigrationPhase::Apply,
            &template,
            &json!({"tool": "alembic"}),
            None,
        );
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], json!(grace), "{written}");
    }
}
