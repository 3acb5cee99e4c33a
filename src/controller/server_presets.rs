//! What a server needs in a pod and the user left out: time to end, a sleep before it, a place where its processes count
//! together. Pure.
//!
//! Nothing that the user wrote is changed, and nothing is added that could be written where it can't be seen: what an
//! `envFrom` may bring or a file of settings may say stays theirs. Only ReplicaSets that are made anew get it, so that an
//! upgrade of the operator changes no pod.

use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, LifecycleHandler, PodTemplateSpec, SleepAction, Volume,
    VolumeMount,
};
use regex::Regex;
use serde::Serialize;

use crate::api::v1alpha1::{Preset, PythonServiceSpec, Server};

/// How long a pod that goes still takes requests, while the gateway learns of it: seconds.
const SLEEP: i64 = 10;
/// How long gunicorn waits for requests by itself, and what others get: seconds.
const GRACEFUL: i64 = 30;
/// What a server that has ended still needs before it would be killed: seconds.
const SPARE: i64 = 5;
/// What Kubernetes grants where nothing is written: seconds.
const KUBERNETES_GRACE: i64 = 30;
/// Where the processes of one pod count together.
const METRICS_DIR: &str = "/run/molt/prometheus";
/// Its volume.
const METRICS_VOLUME: &str = "molt-prometheus";
const MULTIPROC: &str = "PROMETHEUS_MULTIPROC_DIR";
/// As older clients spell it.
const MULTIPROC_BEFORE: &str = "prometheus_multiproc_dir";
const CONCURRENCY: &str = "WEB_CONCURRENCY";
/// No more processes than this are asked for, however many processors there are.
const MOST_WORKERS: u32 = 16;

/// Options that set how many processes there are.
static WORKERS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:^|\s)(?:--workers|-w)(?:[ =]?(\d+))?"));
/// Options that name a file of gunicorn's settings.
static SETTINGS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:^|\s)(?:--config|-c)[ =]"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("it is a pattern, as every test of this file says")
}

/// One thing that is added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Addition {
    /// The field, from `spec.template` on.
    pub field: String,
    /// What it gets.
    pub value: String,
    /// Why.
    pub why: &'static str,
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.value)
    }
}

/// Adds to the spec's template what its server needs and the template leaves out, and says what. A workload that was taken
/// over, and a server that is `custom`, run as they are.
pub fn complete(template: &mut PodTemplateSpec, spec: &PythonServiceSpec) -> Vec<Addition> {
    let server = spec.runtime.server;
    let is_known = matches!(
        server,
        Server::Uvicorn | Server::Gunicorn | Server::Hypercorn | Server::Granian
    );
    if !is_known || spec.workload_ref.is_some() {
        return Vec::new();
    }
    let Some(pod) = template.spec.as_mut() else {
        return Vec::new();
    };
    let named = spec.runtime.container.as_deref();
    let at = named.map_or(Some(0), |name| pod.containers.iter().position(|c| c.name == name));
    let Some((at, app)) = at.and_then(|at| pod.containers.get_mut(at).map(|app| (at, app))) else {
        return Vec::new();
    };
    let mut added = Added {
        at: format!("spec.template.spec.containers[{at}]"),
        additions: Vec::new(),
    };
    let sleep = added.sleep(app, pod.termination_grace_period_seconds);
    let grace = match (pod.termination_grace_period_seconds, sleep) {
        (Some(grace), _) => grace,
        (None, Some(sleep)) => {
            let grace = sleep + GRACEFUL + SPARE;
            if grace > KUBERNETES_GRACE {
                pod.termination_grace_period_seconds = Some(grace);
                added.additions.push(Addition {
                    field: "spec.template.spec.terminationGracePeriodSeconds".to_owned(),
                    value: grace.to_string(),
                    why: "after the sleep the server has the time that requests under way need",
                });
            }
            grace.max(KUBERNETES_GRACE)
        }
        (None, None) => KUBERNETES_GRACE,
    };
    if let Some(sleep) = sleep {
        added.time_to_end(app, server, grace - sleep - SPARE);
    }
    if server == Server::Gunicorn {
        added.workers(app);
    }
    if counts_by_process(spec) && added.metrics(app, server) {
        pod.volumes.get_or_insert_default().push(Volume {
            name: METRICS_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
    }
    added.additions
}

/// Its metrics are those of the client for Python, which counts by process.
fn counts_by_process(spec: &PythonServiceSpec) -> bool {
    spec.slos.iter().any(|slo| {
        matches!(
            slo.sli.preset,
            Some(
                Preset::FastapiInstrumentator
                    | Preset::StarletteExporter
                    | Preset::DjangoPrometheus
                    | Preset::FlaskExporter
            )
        )
    })
}

/// What has been added so far.
struct Added {
    /// The path of the application's container.
    at: String,
    additions: Vec<Addition>,
}

impl Added {
    fn env(&mut self, app: &mut Container, name: &str, value: &str, why: &'static str) {
        app.env.get_or_insert_default().push(EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        });
        self.additions.push(Addition {
            field: format!("{}.env[name={name}]", self.at),
            value: value.to_owned(),
            why,
        });
    }

    /// How long the pod sleeps before its server is told to end; `None` where the user's own way does not say.
    fn sleep(&mut self, app: &mut Container, grace: Option<i64>) -> Option<i64> {
        let lifecycle = app.lifecycle.get_or_insert_default();
        if let Some(hook) = &lifecycle.pre_stop {
            return hook.sleep.as_ref().map(|sleep| sleep.seconds);
        }
        // At most a third of what the user grants: the rest is the server's.
        let seconds = SLEEP.min(grace.unwrap_or(i64::MAX) / 3);
        if seconds < 1 {
            return Some(0);
        }
        lifecycle.pre_stop = Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        });
        self.additions.push(Addition {
            field: format!("{}.lifecycle.preStop.sleep.seconds", self.at),
            value: seconds.to_string(),
            why: "the gateway learns that the pod goes before the server stops to listen",
        });
        Some(seconds)
    }

    /// A server that would wait for requests without end ends before it is killed.
    fn time_to_end(&mut self, app: &mut Container, server: Server, seconds: i64) {
        // gunicorn has 30 s of its own, and hypercorn no variable.
        let (option, variable) = match server {
            Server::Uvicorn => ("--timeout-graceful-shutdown", "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN"),
            Server::Granian => ("--workers-kill-timeout", "GRANIAN_WORKERS_KILL_TIMEOUT"),
            _ => return,
        };
        if seconds < SPARE || words(app).contains(option) || may_have(app, variable) {
            return;
        }
        let why = "requests that last longer than the pod may are ended in order, and not by a kill";
        self.env(app, variable, &seconds.to_string(), why);
    }

    /// As many processes as there are processors.
    fn workers(&mut self, app: &mut Container) {
        let words = words(app);
        let written = WORKERS.is_match(&words) || SETTINGS.is_match(&words);
        let Some(processors) = processors(app).filter(|n| *n > 1 && !written) else {
            return;
        };
        if may_have(app, CONCURRENCY) || may_have(app, "GUNICORN_CMD_ARGS") {
            return;
        }
        let why = "gunicorn runs one process otherwise, and one process uses one processor";
        self.env(app, CONCURRENCY, &processors.min(MOST_WORKERS).to_string(), why);
    }

    /// A directory in which several processes count together, where there are several.
    fn metrics(&mut self, app: &mut Container, server: Server) -> bool {
        let several = matches!(server, Server::Gunicorn | Server::Uvicorn) && processes(app) > 1;
        if !several || may_have(app, MULTIPROC) || may_have(app, MULTIPROC_BEFORE) {
            return false;
        }
        app.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: METRICS_VOLUME.to_owned(),
            mount_path: METRICS_DIR.to_owned(),
            ..VolumeMount::default()
        });
        let why = "a scrape meets any one of the processes otherwise, and its counters jump back and forth";
        self.env(app, MULTIPROC, METRICS_DIR, why);
        true
    }
}

/// The command, as one text.
fn words(app: &Container) -> String {
    let parts = app.command.iter().flatten().chain(app.args.iter().flatten());
    parts.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The container has the variable, or may have it from a ConfigMap or Secret.
fn may_have(app: &Container, name: &str) -> bool {
    !app.env_from.as_deref().unwrap_or_default().is_empty()
        || app.env.iter().flatten().any(|e| e.name == name)
}

/// How many processes serve, as far as the container says: by its command, or the variable.
fn processes(app: &Container) -> u32 {
    let words = words(app);
    if let Some(found) = WORKERS.captures(&words) {
        return found.get(1).and_then(|n| n.as_str().parse().ok()).unwrap_or(1);
    }
    let variable = app.env.iter().flatten().find(|e| e.name == CONCURRENCY);
    variable
        .and_then(|e| e.value.as_deref()?.parse().ok())
        .unwrap_or(1)
}

/// Whole processors that the container may use, by its limit.
fn processors(app: &Container) -> Option<u32> {
    let limit = app.resources.as_ref()?.limits.as_ref()?.get("cpu")?;
    match limit.0.strip_suffix('m') {
        Some(millis) => millis.parse::<u32>().ok().map(|millis| millis / 1000),
        None => limit.0.split('.').next().and_then(|whole| whole.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::object::tests::changed;

    /// What a spec with this server and container gets, and its pod's spec then.
    fn completed(server: &str, container: &Value, grace: Option<i64>) -> (Vec<String>, Value) {
        let object = changed(|object| {
            object["spec"]["runtime"] = json!({"server": server});
            let mut app = json!({"name": "app", "image": "checkout:1"});
            for (key, value) in container.as_object().into_iter().flatten() {
                app[key] = value.clone();
            }
            object["spec"]["template"]["spec"] = json!({"containers": [app]});
            if let Some(grace) = grace {
                object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(grace);
            }
            object["spec"]["slos"] = json!([{
                "name": "availability", "objective": "99.9",
                "sli": {"preset": "fastapi-instrumentator", "type": "availability"},
            }]);
        });
        let spec = object.spec.expect("it is valid");
        let mut template = spec.template.clone().expect("it has one");
        let added = complete(&mut template, &spec);
        let again = complete(&mut template.clone(), &spec);
        assert!(
            again.iter().all(|a| a.field.contains("terminationGrace")) || again.is_empty(),
            "{again:?}"
        );
        (
            added.iter().map(ToString::to_string).collect(),
            json!(template.spec),
        )
    }

    #[test]
    fn a_server_has_time_to_end_and_the_gateway_to_learn_of_it() {
        let (added, pod) = completed("uvicorn", &json!({}), None);
        assert_eq!(
            added,
            [
                "spec.template.spec.containers[0].lifecycle.preStop.sleep.seconds: 10",
                "spec.template.spec.terminationGracePeriodSeconds: 45",
                "spec.template.spec.containers[0].env[name=UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN]: 30",
            ]
        );
        assert_eq!(
            pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"],
            10
        );
        assert_eq!(pod["terminationGracePeriodSeconds"], 45);
        let (added, _) = completed("granian", &json!({}), Some(60));
        assert_eq!(
            added[1],
            "spec.template.spec.containers[0].env[name=GRANIAN_WORKERS_KILL_TIMEOUT]: 45"
        );
        let (added, _) = completed("hypercorn", &json!({}), Some(12));
        assert_eq!(
            added,
            ["spec.template.spec.containers[0].lifecycle.preStop.sleep.seconds: 4"]
        );
    }

    #[test]
    fn what_the_user_wrote_stays() {
        let own = json!({
            "command": ["uvicorn", "shop:app", "--timeout-graceful-shutdown", "7"],
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        });
        let (added, pod) = completed("uvicorn", &own, Some(20));
        assert_eq!(added, Vec::<String>::new());
        assert_eq!(pod["terminationGracePeriodSeconds"], 20);
        let own = json!({"lifecycle": {"preStop": {"exec": {"command": ["./bye"]}}}});
        assert_eq!(completed("uvicorn", &own, None).0, Vec::<String>::new());
        let elsewhere = json!({
            "envFrom": [{"configMapRef": {"name": "settings"}}],
            "command": ["gunicorn", "shop:app", "--workers", "4"],
        });
        let (added, _) = completed("gunicorn", &elsewhere, Some(45));
        assert_eq!(added.len(), 1, "{added:?}");
        assert_eq!(completed("custom", &json!({}), None).0, Vec::<String>::new());
        // A pod that may not wait ends at once.
        assert_eq!(completed("uvicorn", &json!({}), Some(0)).0, Vec::<String>::new());
    }

    #[test]
    fn several_processes_count_together() {
        let volume = |pod: &Value| pod["volumes"][0]["name"] == METRICS_VOLUME;
        for (server, command) in [
            ("gunicorn", json!(["gunicorn", "-w", "4", "shop:app"])),
            ("gunicorn", json!(["gunicorn", "-w4", "shop:app"])),
            (
                "uvicorn",
                json!(["sh", "-c", "exec uvicorn --workers=2 shop:app"]),
            ),
        ] {
            let (added, pod) = completed(server, &json!({"command": command}), None);
            let last = added.last().unwrap();
            assert!(
                last.ends_with("PROMETHEUS_MULTIPROC_DIR]: /run/molt/prometheus"),
                "{added:?}"
            );
            assert!(volume(&pod), "{pod}");
            assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], METRICS_DIR);
        }
        for container in [
            json!({"command": ["uvicorn", "shop:app"]}),
            json!({"command": ["uvicorn", "shop:app", "--workers", "1"]}),
            json!({"command": ["uvicorn", "shop:app", "--workers", "2"],
                "env": [{"name": "prometheus_multiproc_dir", "value": "/tmp"}]}),
        ] {
            let (_, pod) = completed("uvicorn", &container, None);
            assert!(!volume(&pod), "{pod}");
        }
    }

    #[test]
    fn gunicorn_gets_a_process_for_each_processor_unless_it_is_written() {
        let limited =
            |command: &[&str], cpu: &str| json!({"command": command, "resources": {"limits": {"cpu": cpu}}});
        let workers = |container: &Value| {
            let (added, _) = completed("gunicorn", container, None);
            let found = added
                .iter()
                .find_map(|a| a.split_once("env[name=WEB_CONCURRENCY]: "));
            found.map(|(_, n)| n.to_owned())
        };
        for (cpu, expected) in [
            ("4", Some("4")),
            ("2500m", Some("2")),
            ("1500m", None),
            ("3.9", Some("3")),
            ("64", Some("16")),
            ("x", None),
        ] {
            assert_eq!(
                workers(&limited(&["gunicorn", "shop:app"], cpu)).as_deref(),
                expected,
                "{cpu}"
            );
        }
        assert_eq!(workers(&limited(&["gunicorn", "-w", "2", "shop:app"], "4")), None);
        assert_eq!(
            workers(&limited(&["gunicorn", "-c", "conf.py", "shop:app"], "4")),
            None
        );
        assert_eq!(workers(&json!({})), None);
    }
}
