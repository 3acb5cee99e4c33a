//! The metrics of well-known instrumentations.
//!
//! Those of applications leave out probes and `/metrics`: they tell nothing of users, and a fast probe would
//! hide slow requests. A series without a handler (a path that matches no route) stays in.
//!
//! Those of proxies are of the proxy beside each pod, whose series carry the pod's name as the application's do,
//! so that revisions are told apart by their pods; or of the proxies of the route, whose series name its backends:
//! see [`super::at_route`].

use jiff::SignedDuration;

use super::selector::{MatchOp, Matcher, Selector};
use super::tasks;
use crate::api::v1alpha1::Preset;

/// What is timed, of those presets that time several things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Answers; of tasks their run.
    Run,
    /// How long a task waited in its queue.
    QueueWait,
}

/// A histogram of durations that a preset has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// The preset.
    pub preset: Preset,
    /// What it times.
    pub timing: Timing,
}

impl From<Preset> for Timed {
    fn from(preset: Preset) -> Self {
        Self {
            preset,
            timing: Timing::Run,
        }
    }
}

/// It counts tasks of workers, not requests.
pub fn counts_tasks(preset: Preset) -> bool {
    tasks::outcomes(preset).is_some()
}

/// Handlers that no user calls: the usual names of probes, with up to two underscores before them, behind the
/// usual path prefixes (`/api/v1/health`, `/health/live`), with or without a slash at either end.
pub const PROBES: &str = "/?((_?(api|internal|management|actuator|probes?|q|health|healthz)|v[0-9]+|-)/)*\
    _{0,2}(metrics|health|healthz|health[_-]?check|ready|readyz|readiness|live|livez|liveness|ping)/?";

/// Views of Django by their name, alone or behind a module or a namespace, that no user calls.
pub const PROBE_VIEWS: &str = "(.*[.:])?(_?(api|internal|management|actuator|probes?|q|health|healthz)[_-])*\
    _{0,2}(metrics|health|healthz|health[_-]?check|ready|readyz|readiness|live|livez|liveness|ping)";

/// What an instrumentation calls things.
struct Names {
    /// Counts requests, with their status.
    requests: &'static str,
    /// The histogram of durations, without the suffix of its series.
    durations: &'static str,
    /// How many milliseconds an edge of 1 of that histogram is.
    unit_millis: f64,
    /// The label that tells failures, and how its value then begins.
    failure: (&'static str, &'static str),
    /// What of both counts requests of users.
    of_users: &'static [(&'static str, MatchOp, &'static str)],
    /// The counter of requests that proxies of the route sent to a backend, answered or not, where they have one.
    sent: Option<&'static str>,
    /// What series of `requests` say of requests that nobody answered before the caller gave up: these are neither
    /// good nor bad, and are missed where they should have been.
    unanswered: Option<(&'static str, &'static str)>,
}

const SECONDS: f64 = 1000.0;
const MILLISECONDS: f64 = 1.0;

/// Of an application that counts by itself.
const APPLICATION: Names = Names {
    requests: "",
    durations: "",
    unit_millis: SECONDS,
    failure: ("status", "5"),
    of_users: &[],
    sent: None,
    unanswered: None,
};

const FASTAPI_INSTRUMENTATOR: Names = Names {
    requests: "http_requests_total",
    // Not the `highr` variant: it has no labels, so probes can't be left out.
    durations: "http_request_duration_seconds",
    of_users: &[("handler", MatchOp::NotRegex, PROBES)],
    ..APPLICATION
};

const OTEL: Names = Names {
    // The count of the duration histogram: the conventions have no separate counter.
    requests: "http_server_request_duration_seconds_count",
    durations: "http_server_request_duration_seconds",
    failure: ("http_response_status_code", "5"),
    of_users: &[("http_route", MatchOp::NotRegex, PROBES)],
    ..APPLICATION
};

/// What OpenTelemetry's instrumentations for Python count by unless `OTEL_SEMCONV_STABILITY_OPT_IN` says `http`.
const OTEL_PYTHON_DEFAULT: Names = Names {
    requests: "http_server_duration_milliseconds_count",
    durations: "http_server_duration_milliseconds",
    unit_millis: MILLISECONDS,
    failure: ("http_status_code", "5"),
    // The pattern of the route, in spite of its name.
    of_users: &[("http_target", MatchOp::NotRegex, PROBES)],
    ..APPLICATION
};

const STARLETTE_EXPORTER: Names = Names {
    requests: "starlette_requests_total",
    durations: "starlette_request_duration_seconds",
    failure: ("status_code", "5"),
    of_users: &[("path", MatchOp::NotRegex, PROBES)],
    ..APPLICATION
};

const DJANGO_PROMETHEUS: Names = Names {
    // Of its counters the one whose labels tell probes.
    requests: "django_http_responses_total_by_status_view_method_total",
    durations: "django_http_requests_latency_seconds_by_view_method",
    of_users: &[
        ("view", MatchOp::NotRegex, PROBE_VIEWS),
        ("view", MatchOp::NotEqual, "prometheus-django-metrics"),
    ],
    ..APPLICATION
};

const FLASK_EXPORTER: Names = Names {
    // Unlike `flask_http_request_total` it has the path, and unlike that beside
    // `flask_http_request_exceptions_total` it has each request once.
    requests: "flask_http_request_duration_seconds_count",
    durations: "flask_http_request_duration_seconds",
    of_users: &[("path", MatchOp::NotRegex, PROBES)],
    ..APPLICATION
};

const BENTOML: Names = Names {
    requests: "bentoml_service_request_total",
    durations: "bentoml_service_request_duration_seconds",
    failure: ("http_response_code", "5"),
    of_users: &[("endpoint", MatchOp::NotRegex, PROBES)],
    ..APPLICATION
};

/// What reaches the pod, as its own proxy sees it. The empty alternative lets series pass that have no such label:
/// `up` comes with the same query.
const ISTIO: Names = Names {
    requests: "istio_requests_total",
    durations: "istio_request_duration_milliseconds",
    unit_millis: MILLISECONDS,
    failure: ("response_code", "5"),
    of_users: &[("reporter", MatchOp::Regex, "(destination)?")],
    ..APPLICATION
};

const LINKERD: Names = Names {
    requests: "response_total",
    // To the first byte of the answer.
    durations: "response_latency_ms",
    unit_millis: MILLISECONDS,
    // Of gRPC, which answers errors with 200, too.
    failure: ("classification", "failure"),
    of_users: &[
        ("direction", MatchOp::Regex, "(inbound)?"),
        // Probes pass through the proxy, which knows them.
        ("route_name", MatchOp::NotEqual, "probe"),
    ],
    ..APPLICATION
};

/// Nothing but requests to the backends.
const ENVOY_GATEWAY: Names = Names {
    // By class, once for each request of a user, when its answer begins or the proxy gives up: retries are
    // counted elsewhere, and what the user gives up before any answer not at all.
    requests: "envoy_cluster_upstream_rq_xx",
    durations: "envoy_cluster_upstream_rq_time",
    unit_millis: MILLISECONDS,
    failure: ("envoy_response_code_class", "5"),
    sent: Some("envoy_cluster_upstream_rq_total"),
    ..APPLICATION
};

/// What leaves the gateway, or the caller's pod.
const ISTIO_GATEWAY: Names = Names {
    of_users: &[("reporter", MatchOp::Equal, "source")],
    unanswered: Some(("response_code", "0")),
    ..ISTIO
};

/// Nothing but requests to the backends.
const LINKERD_OUTBOUND: Names = Names {
    requests: "outbound_http_route_backend_response_statuses_total",
    durations: "outbound_http_route_backend_response_duration_seconds",
    failure: ("http_status", "5"),
    sent: Some("outbound_http_route_backend_requests_total"),
    ..APPLICATION
};

/// Of tasks of workers: how one ended is told by the metric, see [`tasks::outcomes`].
const TASKS: Names = Names {
    failure: ("__name__", ""),
    ..APPLICATION
};

const CELERY_EXPORTER: Names = Names {
    durations: "celery_task_runtime",
    ..TASKS
};

// The next two time nothing; validation has told.
const RQ_EXPORTER: Names = Names {
    durations: "rq_job_duration_seconds",
    ..TASKS
};

const ARQ: Names = Names {
    durations: "arq_job_duration_seconds",
    ..TASKS
};

fn names(preset: Preset) -> &'static Names {
    match preset {
        Preset::FastapiInstrumentator => &FASTAPI_INSTRUMENTATOR,
        Preset::StarletteExporter => &STARLETTE_EXPORTER,
        Preset::DjangoPrometheus => &DJANGO_PROMETHEUS,
        Preset::FlaskExporter => &FLASK_EXPORTER,
        Preset::Otel => &OTEL,
        Preset::OtelPythonDefault => &OTEL_PYTHON_DEFAULT,
        Preset::Bentoml => &BENTOML,
        Preset::Istio => &ISTIO,
        Preset::Linkerd => &LINKERD,
        Preset::EnvoyGateway => &ENVOY_GATEWAY,
        Preset::IstioGateway => &ISTIO_GATEWAY,
        Preset::LinkerdOutbound => &LINKERD_OUTBOUND,
        Preset::CeleryExporter => &CELERY_EXPORTER,
        Preset::RqExporter => &RQ_EXPORTER,
        Preset::Arq => &ARQ,
    }
}

fn selector(preset: Preset, name: &str) -> Selector {
    let of_users = names(preset).of_users.iter();
    let mut selector = Selector::named(name);
    selector
        .matchers
        .extend(of_users.map(|(label, op, value)| Matcher::new(*label, *op, *value)));
    selector
}

/// Series of any of these metrics.
pub fn named_as(names: &[&str]) -> Selector {
    Selector::named("").with(Matcher::new("__name__", MatchOp::Regex, names.join("|")))
}

/// The text as a pattern: names of ReplicaSets and routes may have dots, which would match any character.
pub fn escape_regex(text: &str) -> String {
    text.replace('.', "[.]")
}

/// Counts requests, with their status.
pub fn requests(preset: Preset) -> Selector {
    let names = names(preset);
    let selector = selector(preset, names.requests);
    match names.unanswered {
        Some((label, value)) => selector.with(Matcher::new(label, MatchOp::NotEqual, value)),
        None => selector,
    }
}

/// The counter of requests that proxies of the route sent to a backend, answered or not, where they have one.
pub fn sent(preset: Preset) -> Option<&'static str> {
    names(preset).sent
}

/// Of [`requests`], those that failed: `5xx` or `500`, for statuses may be grouped or not.
pub fn failed_requests(preset: Preset) -> Selector {
    let (label, value) = names(preset).failure;
    let pattern = match preset {
        Preset::LinkerdOutbound => format!("({value}.*)?"),
        _ => format!("{value}.*"),
    };
    requests(preset).with(Matcher::new(label, MatchOp::Regex, pattern))
}

/// Whether a series of [`requests`] counts failures; `label` looks a label up.
pub fn is_failure<'a>(preset: Preset, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    let (name, value) = names(preset).failure;
    match label(name).unwrap_or_default() {
        // Linkerd's proxy has no status for what ended in an error of its own, which `error` names.
        "" => preset == Preset::LinkerdOutbound,
        text => text.starts_with(value),
    }
}

/// Whether a series of [`requests`] counts those that were answered with 4xx.
pub fn is_client_error<'a>(preset: Preset, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    let name = match preset {
        Preset::Linkerd => "status_code",
        _ => names(preset).failure.0,
    };
    label(name).is_some_and(|status| status.starts_with('4'))
}

/// The label of [`requests`] with the pattern of the route; proxies have none.
pub fn route_label(preset: Preset) -> Option<&'static str> {
    let (label, ..) = names(preset).of_users.first()?;
    (!matches!(*label, "reporter" | "direction")).then_some(*label)
}

/// The histogram of durations, without the suffix of its series, in the unit of [`edge_pattern`].
pub fn durations(timed: impl Into<Timed>) -> Selector {
    let Timed { preset, timing } = timed.into();
    let name = match (preset, timing) {
        (Preset::CeleryExporter, Timing::QueueWait) => "celery_task_queue_wait_time",
        _ => names(preset).durations,
    };
    selector(preset, name)
}

fn unit_millis(timed: impl Into<Timed>) -> f64 {
    names(timed.into().preset).unit_millis
}

/// A duration in the unit of the histogram of durations.
pub fn in_unit(preset: impl Into<Timed>, duration: SignedDuration) -> f64 {
    duration.as_secs_f64() * 1000.0 / unit_millis(preset)
}

/// A pattern for the spellings of an edge: libraries and versions of Prometheus write `1`, `1.0` and `0.50`.
pub fn edge_pattern(preset: impl Into<Timed>, edge: SignedDuration) -> String {
    let millis = edge.as_millis();
    if unit_millis(preset) < 1000.0 {
        return format!("{millis}([.]0*)?");
    }
    let fraction = format!("{:03}", millis % 1000);
    match fraction.trim_end_matches('0') {
        "" => format!("{}([.]0*)?", millis / 1000),
        digits => {
            let whole = if millis < 1000 {
                "0?".to_owned()
            } else {
                (millis / 1000).to_string()
            };
            format!("{whole}[.]{digits}0*")
        }
    }
}

/// An edge in the form of `sli.threshold`; `None` for one that is no whole number of milliseconds.
pub fn edge_name(preset: impl Into<Timed>, le: &str) -> Option<(SignedDuration, String)> {
    let written = le.parse::<f64>().ok()? * unit_millis(preset);
    let millis = written.round();
    if !(1.0..=1e9).contains(&millis) || (millis - written).abs() > 1e-6 {
        return None;
    }
    let millis = millis as i64;
    let name = if millis % 1000 == 0 {
        format!("{}s", millis / 1000)
    } else {
        format!("{millis}ms")
    };
    Some((SignedDuration::from_millis(millis), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_leave_probes_out() {
        let text = failed_requests(Preset::FastapiInstrumentator).to_string();
        assert!(
            text.starts_with("http_requests_total{handler!~\"/?((_?("),
            "{text}"
        );
        assert!(text.ends_with("/?\",status=~\"5.*\"}"), "{text}");
        let text = requests(Preset::Otel).to_string();
        assert!(
            text.starts_with("http_server_request_duration_seconds_count{http_route!~"),
            "{text}"
        );
        assert_eq!(
            durations(Preset::Otel).name,
            "http_server_request_duration_seconds"
        );
    }

    /// Label sets as the libraries write them (django-prometheus 2.5, prometheus-flask-exporter 0.23,
    /// `starlette_exporter` 0.24, opentelemetry-instrumentation-fastapi 0.66b1, BentoML 1.4), after one request of a
    /// user, one that raised an error, and one of a probe.
    #[test]
    fn series_of_the_libraries_are_counted_by_status_and_without_probes() {
        let cases = [
            (
                Preset::StarletteExporter,
                "path",
                "status_code",
                ["/ok", "/bad", "/healthz"],
            ),
            (
                Preset::DjangoPrometheus,
                "view",
                "status",
                ["shop.views.ok", "bad", "shop.views.healthz"],
            ),
            (
                Preset::DjangoPrometheus,
                "view",
                "status",
                ["<unnamed view>", "bad", "probes:ready"],
            ),
            (
                Preset::DjangoPrometheus,
                "view",
                "status",
                ["checkout", "bad", "prometheus-django-metrics"],
            ),
            (
                Preset::FlaskExporter,
                "path",
                "status",
                ["/ok", "/bad", "/healthz"],
            ),
            (
                Preset::OtelPythonDefault,
                "http_target",
                "http_status_code",
                ["/items/{i}", "/bad", "/healthz"],
            ),
            (
                Preset::Bentoml,
                "endpoint",
                "http_response_code",
                ["/predict", "/bad", "/readyz"],
            ),
        ];
        for (preset, label, status, [ok, bad, probe]) in cases {
            let all = requests(preset);
            let counted = |value: &str| all.matchers.iter().all(|matcher| matches(matcher, label, value));
            assert!(counted(ok) && counted(bad) && counted(""), "{preset:?}");
            assert!(!counted(probe), "{preset:?} {probe}");
            for (code, failed) in [("200", false), ("404", false), ("500", true)] {
                assert_eq!(
                    is_failure(preset, &|l| (l == status).then_some(code)),
                    failed,
                    "{preset:?}"
                );
            }
        }
        let half = in_unit(Preset::OtelPythonDefault, SignedDuration::from_millis(500));
        assert!((half - 500.0).abs() < 1e-9, "{half}");
        assert_eq!(
            edge_pattern(Preset::OtelPythonDefault, SignedDuration::from_millis(500)),
            "500([.]0*)?"
        );
    }

    fn matches(matcher: &Matcher, label: &str, value: &str) -> bool {
        let value = if matcher.label == label { value } else { "" };
        let pattern = || regex::Regex::new(&format!("^(?:{})$", matcher.value)).unwrap();
        match matcher.op {
            MatchOp::Equal => value == matcher.value,
            MatchOp::NotEqual => value != matcher.value,
            MatchOp::Regex => pattern().is_match(value),
            MatchOp::NotRegex => !pattern().is_match(value),
        }
    }

    #[test]
    fn tasks_are_timed_as_they_run_and_as_they_wait() {
        let wait = Timed {
            preset: Preset::CeleryExporter,
            timing: Timing::QueueWait,
        };
        assert_eq!(durations(wait).name, "celery_task_queue_wait_time");
        assert_eq!(durations(Preset::CeleryExporter).name, "celery_task_runtime");
    }

    #[test]
    fn proxies_count_what_reaches_the_pod() {
        let text = failed_requests(Preset::Istio).to_string();
        assert_eq!(
            text,
            r#"istio_requests_total{reporter=~"(destination)?",response_code=~"5.*"}"#
        );
        let text = failed_requests(Preset::Linkerd).to_string();
        assert_eq!(
            text,
            r#"response_total{direction=~"(inbound)?",route_name!="probe",classification=~"failure.*"}"#
        );
    }

    #[test]
    fn proxies_of_the_route_count_what_they_send() {
        let text = |preset| failed_requests(preset).to_string();
        assert_eq!(
            text(Preset::EnvoyGateway),
            r#"envoy_cluster_upstream_rq_xx{envoy_response_code_class=~"5.*"}"#
        );
        assert_eq!(
            text(Preset::IstioGateway),
            r#"istio_requests_total{reporter="source",response_code!="0",response_code=~"5.*"}"#
        );
        assert_eq!(
            text(Preset::LinkerdOutbound),
            r#"outbound_http_route_backend_response_statuses_total{http_status=~"(5.*)?"}"#
        );
        // A proxy's own errors have no status.
        assert!(is_failure(Preset::LinkerdOutbound, &|label| match label {
            "http_status" => Some(""),
            _ => Some("RESPONSE_HEADERS_TIMEOUT"),
        }));
        assert!(!is_failure(Preset::EnvoyGateway, &|_| None));
    }

    #[test]
    fn grouped_and_exact_statuses_fail() {
        for (status, failed) in [
            ("5xx", true),
            ("500", true),
            ("503", true),
            ("4xx", false),
            ("200", false),
        ] {
            assert_eq!(
                is_failure(Preset::FastapiInstrumentator, &|l| (l == "status")
                    .then_some(status)),
                failed
            );
        }
        assert!(!is_failure(Preset::Otel, &|_| None));
    }

    #[test]
    fn edges_have_patterns_and_names() {
        let pattern = |millis| edge_pattern(Preset::Otel, SignedDuration::from_millis(millis));
        assert_eq!(pattern(1000), "1([.]0*)?");
        assert_eq!(pattern(500), "0?[.]50*");
        assert_eq!(pattern(250), "0?[.]250*");
        assert_eq!(pattern(5), "0?[.]0050*");
        assert_eq!(pattern(2500), "2[.]50*");
        assert_eq!(pattern(10_000), "10([.]0*)?");
        let name = |le| edge_name(Preset::Otel, le).map(|(_, name)| name);
        assert_eq!(
            edge_pattern(Preset::Istio, SignedDuration::from_millis(2500)),
            "2500([.]0*)?"
        );
        let millis = edge_name(Preset::Linkerd, "500").map(|(_, name)| name);
        assert_eq!(millis.as_deref(), Some("500ms"));
        assert_eq!(name("0.005").as_deref(), Some("5ms"));
        assert_eq!(name("0.1").as_deref(), Some("100ms"));
        assert_eq!(name("1.0").as_deref(), Some("1s"));
        assert_eq!(name("7.5").as_deref(), Some("7500ms"));
        for unusable in ["+Inf", "NaN", "x", "0", "0.0005", "-1"] {
            assert_eq!(name(unusable), None, "{unusable}");
        }
    }
}
